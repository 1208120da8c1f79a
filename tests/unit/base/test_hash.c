#include "cmocka_all.h"

#include "crypto/hash.h"

#include <pthread.h>
#include <string.h>

static void assert_hash(const guint8 *actual, const char *expected)
{
    char hex[2 * HASH_BYTES + 1];
    for (gsize i = 0; i < HASH_BYTES; i++)
        g_snprintf(hex + 2 * i, 3, "%02x", (guint)actual[i]);
    assert_string_equal(hex, expected);
}

static void feed_text(Hash *hash, const char *text)
{
    hash_update(hash, text, strlen(text));
}

static void test_published_values(void **state)
{
    g_autoptr(Hash) hash = hash_new();
    guint8 out[HASH_BYTES];
    hash_finish(hash, out);
    assert_hash(out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    feed_text(hash, "abc");
    hash_finish(hash, out);
    assert_hash(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    feed_text(hash, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq");
    hash_finish(hash, out);
    assert_hash(out, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_pieces_make_no_difference(void **state)
{
    g_autofree char *million = g_strnfill(1000000, 'a');
    g_autoptr(Hash) hash = hash_new();
    guint8 out[HASH_BYTES];
    gsize at = 0;
    for (gsize piece = 0; at < 1000000; piece = (piece * 7 + 1) % 5003) {
        gsize length = MIN(piece, 1000000 - at);
        hash_update(hash, million + at, length);
        at += length;
    }
    hash_update(hash, NULL, 0);
    hash_finish(hash, out);
    assert_hash(out, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_reset_forgets(void **state)
{
    g_autoptr(Hash) hash = hash_new();
    guint8 out[HASH_BYTES];
    feed_text(hash, "something else");
    hash_reset(hash);
    feed_text(hash, "abc");
    hash_finish(hash, out);
    hash_reset(hash); /* allowed after finish as well */
    assert_hash(out, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void *hash_often(void *data)
{
    guint8 *out = data;
    g_autoptr(Hash) hash = hash_new();
    for (int i = 0; i < 500; i++) {
        feed_text(hash, "abc");
        hash_finish(hash, out);
    }
    return NULL;
}

static void test_threads_with_their_own_contexts(void **state)
{
    pthread_t threads[4];
    guint8 out[4][HASH_BYTES];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, hash_often, out[i]), 0);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_hash(out[i], "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
    hash_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_values),
        cmocka_unit_test(test_pieces_make_no_difference),
        cmocka_unit_test(test_reset_forgets),
        cmocka_unit_test(test_threads_with_their_own_contexts),
    };
    return cmocka_run_group_tests_name("unit/crypto/hash", tests, NULL, NULL);
}
