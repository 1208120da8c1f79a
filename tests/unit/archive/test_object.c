/*
 * Reading an object at any place: the right bytes with as few requests as can be, and nothing that was not proven.
 */
#include <string.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "crypto/tink.h"
#include "engine/archive/object.h"
#include "store/drivers.h"
#include "store/memory.h"

#define CONTENT    ((gsize)3 * 1024 * 1024 + 4321)
#define OBJECT     "docs/2026-11-20T020000Z-full.tar.gz.aes"
#define ASSOCIATED "backapp archive 1\ndocs/2026-11-20T020000Z-full.tar.gz.aes\n1\ndata"

static const guint8 KEY[TINK_KEY_BYTES] = "a key that nobody has to guess..";
static const guint8 OTHER_KEY[TINK_KEY_BYTES] = "another key for other contents..";

typedef struct {
    Store *store;
    ArchivePlace place;
    guint8 *content;
    GByteArray *stored;
} Scene;

static void put(Scene *scene)
{
    StoreBody body = {.data = scene->stored->data, .length = scene->stored->len};
    assert_true(store_put(scene->store, OBJECT, &body, NULL, NULL, NULL));
}

static gboolean append(const guint8 *data, gsize length, gpointer user, GError **error)
{
    g_byte_array_append(user, data, (guint)length);
    return TRUE;
}

static Scene *scene_new(gboolean encrypted, gsize length)
{
    Scene *scene = g_new0(Scene, 1);
    scene->store = store_memory_new();
    scene->place = (ArchivePlace){.store = scene->store, .name = "docs", .content_key = encrypted ? KEY : NULL};
    scene->content = g_malloc(length);
    g_autoptr(GRand) random = g_rand_new_with_seed(4);
    for (gsize i = 0; i < length; i++)
        scene->content[i] = (guint8)g_rand_int(random);
    scene->stored = g_byte_array_new();
    if (encrypted) {
        g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new(KEY);
        assert_true(tink_encryptor_begin(encryptor, ASSOCIATED, strlen(ASSOCIATED), NULL));
        assert_true(tink_encryptor_update(encryptor, scene->content, length, append, scene->stored, NULL));
        assert_true(tink_encryptor_finish(encryptor, append, scene->stored, NULL));
    } else {
        g_byte_array_append(scene->stored, scene->content, (guint)length);
    }
    put(scene);
    return scene;
}

static void scene_free(Scene *scene)
{
    store_free(scene->store);
    g_free(scene->content);
    g_byte_array_unref(scene->stored);
    g_free(scene);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

/* Opens it; size 0: it is asked for. */
static ArchiveObject *open_scene(Scene *scene, guint64 size, GError **error)
{
    return object_open(&scene->place, OBJECT, size, scene->place.content_key != NULL, ASSOCIATED, NULL, error);
}

static guint64 requests(Scene *scene)
{
    StoreCounts counts;
    store_counts(scene->store, &counts);
    return counts.requests[STORE_REQUEST_GET] + counts.requests[STORE_REQUEST_HEAD];
}

static void check_read(Scene *scene, ArchiveObject *object, guint64 offset, gsize length)
{
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *out = g_malloc(length + 1);
    out[length] = 0xA5;
    if (!object_read_bytes(object, offset, length, out, &error))
        fail_msg("%s", error->message);
    assert_memory_equal(out, scene->content + offset, length);
    assert_int_equal(out[length], 0xA5);
}

static void test_anywhere(void **state)
{
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(encrypted == 1, CONTENT);
        g_autoptr(ArchiveObject) object = open_scene(scene, scene->stored->len, NULL);
        g_autoptr(GRand) random = g_rand_new_with_seed(7);
        assert_int_equal(object_size(object), CONTENT);
        assert_int_equal(requests(scene), 0);
        check_read(scene, object, 0, CONTENT);
        assert_int_equal(requests(scene), 1);
        for (guint i = 0; i < 100; i++) {
            guint64 offset = (guint64)g_rand_int_range(random, 0, CONTENT + 1);
            gsize most = i % 2 == 0 ? 5000 : CONTENT;
            check_read(scene, object, offset,
                       (gsize)g_rand_int_range(random, 0, (gint32)MIN(most, CONTENT - offset) + 1));
        }
        /* Around where segments meet. */
        guint64 before = requests(scene);
        for (guint64 segment = 1; segment < 4; segment++) {
            TinkSpan span;
            if (!tink_segment_span(tink_cipher_size(CONTENT), segment, &span))
                break;
            check_read(scene, object, span.plain_offset - 1, 1);
            check_read(scene, object, span.plain_offset - 1, 2);
            check_read(scene, object, span.plain_offset, 1);
        }
        assert_int_equal(requests(scene), before + 9);
        check_read(scene, object, CONTENT - 1, 1);
        check_read(scene, object, CONTENT, 0);
    }
}

static void test_requests(void **state)
{
    g_autoptr(Scene) scene = scene_new(TRUE, CONTENT);
    /* The size is asked for together with the header, or the header comes along with the first segment. */
    g_autoptr(ArchiveObject) asked = open_scene(scene, 0, NULL);
    assert_int_equal(requests(scene), 1);
    assert_int_equal(object_size(asked), CONTENT);
    check_read(scene, asked, 2000000, 10);
    assert_int_equal(requests(scene), 2);
    g_autoptr(ArchiveObject) first = open_scene(scene, scene->stored->len, NULL);
    check_read(scene, first, 5, 10);
    check_read(scene, first, 2000000, 10);
    assert_int_equal(requests(scene), 4);
    g_autoptr(ArchiveObject) later = open_scene(scene, scene->stored->len, NULL);
    check_read(scene, later, 2000000, 10);
    assert_int_equal(requests(scene), 6);
    check_read(scene, later, 3000000, 10);
    check_read(scene, later, 0, 10);
    assert_int_equal(requests(scene), 8);
    /* Not more bytes than the segments. */
    StoreCounts counts, then;
    store_counts(scene->store, &counts);
    check_read(scene, later, 1500000, 100);
    store_counts(scene->store, &then);
    assert_int_equal(then.bytes_received - counts.bytes_received, TINK_SEGMENT_BYTES);
}

static void expect(gboolean good, GError **error, BackappError code, const char *part)
{
    assert_false(good);
    assert_non_null(*error);
    if (!error_is(*error, code) || !strstr((*error)->message, part))
        fail_msg("another error: %s", (*error)->message);
    g_clear_error(error);
}

static gboolean never(gpointer user_data, const void *data, gsize length, GError **error)
{
    fail_msg("%zu bytes that were not proven", length);
    return FALSE;
}

static void test_refused(void **state)
{
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(encrypted == 1, CONTENT);
        g_autoptr(GError) error = NULL;
        guint8 out[16];
        guint64 size = scene->stored->len;
        ArchiveObject *object = open_scene(scene, size, NULL);
        expect(object_read_bytes(object, CONTENT - 1, 2, out, &error), &error, BACKAPP_ERROR_INVALID, OBJECT);
        expect(object_read_bytes(object, G_MAXUINT64, 2, out, &error), &error, BACKAPP_ERROR_INVALID, OBJECT);
        expect(object_read_bytes(object, 2, G_MAXSIZE - 1, out, &error), &error, BACKAPP_ERROR_INVALID, OBJECT);
        assert_true(store_delete(scene->store, OBJECT, NULL, NULL));
        expect(object_read_bytes(object, 0, 1, out, &error), &error, BACKAPP_ERROR_NOT_FOUND, "");
        object_close(object);
        expect(open_scene(scene, 0, &error) != NULL, &error, BACKAPP_ERROR_NOT_FOUND, "");
    }
}

static void test_other_size(void **state)
{
    for (guint i = 0; i < 4; i++) {
        g_autoptr(Scene) scene = scene_new(i % 2 == 1, CONTENT);
        g_autoptr(GError) error = NULL;
        g_autofree guint8 *out = g_malloc(CONTENT);
        guint64 size = scene->stored->len;
        g_byte_array_set_size(scene->stored, i < 2 ? (guint)size + 10 : (guint)size - 3000000);
        put(scene);
        g_autoptr(ArchiveObject) object = open_scene(scene, size, NULL);
        expect(object_read_bytes(object, 0, CONTENT, out, &error), &error, BACKAPP_ERROR_CORRUPT, OBJECT);
        expect(object_read_bytes(object, 0, 1, out, &error), &error, BACKAPP_ERROR_CORRUPT, OBJECT);
        expect(object_read_bytes(object, CONTENT - 9, 9, out, &error), &error, BACKAPP_ERROR_CORRUPT, OBJECT);
    }
    g_autoptr(Scene) scene = scene_new(TRUE, 10);
    g_autoptr(GError) error = NULL;
    g_byte_array_set_size(scene->stored, 20);
    put(scene);
    expect(open_scene(scene, 0, &error) != NULL, &error, BACKAPP_ERROR_CORRUPT, OBJECT);
}

static void test_keys(void **state)
{
    g_autoptr(Scene) scene = scene_new(TRUE, CONTENT);
    g_autoptr(GError) error = NULL;
    ArchivePlace place = scene->place;
    guint64 size = scene->stored->len;
    place.content_key = NULL;
    expect(object_open(&place, OBJECT, size, TRUE, ASSOCIATED, NULL, &error) != NULL, &error, BACKAPP_ERROR_DENIED,
           OBJECT);
    place.content_key = OTHER_KEY;
    g_autoptr(ArchiveObject) other = object_open(&place, OBJECT, size, TRUE, ASSOCIATED, NULL, &error);
    expect(object_read(other, 0, CONTENT, never, NULL, &error), &error, BACKAPP_ERROR_CORRUPT, OBJECT);
    expect(object_read(other, CONTENT - 1, 1, never, NULL, &error), &error, BACKAPP_ERROR_CORRUPT, OBJECT);
    place.content_key = KEY;
    g_autoptr(ArchiveObject) moved = object_open(&place, OBJECT, size, TRUE, ASSOCIATED "2", NULL, &error);
    expect(object_read(moved, 0, CONTENT, never, NULL, &error), &error, BACKAPP_ERROR_CORRUPT, OBJECT);
}

static void test_flips(void **state)
{
    g_autoptr(Scene) scene = scene_new(TRUE, CONTENT);
    g_autoptr(GError) error = NULL;
    /* In the header's length, salt and prefix; in the first segment; in its tag; in the next; in the last tag. */
    const guint at[] = {0,
                        1,
                        39,
                        40,
                        TINK_SEGMENT_BYTES - 1,
                        TINK_SEGMENT_BYTES,
                        TINK_SEGMENT_BYTES * 3,
                        3500,
                        33,
                        scene->stored->len - 1};
    for (guint i = 0; i < G_N_ELEMENTS(at); i++) {
        scene->stored->data[at[i]] ^= 4;
        put(scene);
        g_autoptr(ArchiveObject) object = open_scene(scene, scene->stored->len, NULL);
        guint64 segment = at[i] / TINK_SEGMENT_BYTES;
        TinkSpan span;
        assert_true(tink_segment_span(scene->stored->len, segment, &span));
        expect(object_read(object, span.plain_offset, span.plain_length, never, NULL, &error), &error,
               BACKAPP_ERROR_CORRUPT, OBJECT);
        /* Others are as they were, unless the key is. */
        for (guint64 other = 0; at[i] >= TINK_HEADER_BYTES && tink_segment_span(scene->stored->len, other, &span);
             other++)
            if (other != segment)
                check_read(scene, object, span.plain_offset, span.plain_length);
        scene->stored->data[at[i]] ^= 4;
        /* A read that failed does not spoil the next one. */
        put(scene);
        check_read(scene, object, 0, 10);
    }
}

/* What the store gives comes in pieces of any size. */
static gboolean in_pieces(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                          StoreObject **object, GError **error);
static const StoreOps *real_ops;

typedef struct {
    StoreWrite write;
    gpointer user_data;
    gsize next;
} Pieces;

static gboolean give_pieces(gpointer user_data, const void *data, gsize length, GError **error)
{
    Pieces *pieces = user_data;
    for (gsize at = 0; at < length;) {
        gsize piece = MIN(pieces->next, length - at);
        if (!pieces->write(pieces->user_data, (const guint8 *)data + at, piece, error))
            return FALSE;
        at += piece;
        pieces->next = pieces->next % 65536 * 3 + 7;
    }
    return TRUE;
}

static gboolean in_pieces(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                          StoreObject **object, GError **error)
{
    Pieces pieces = {.write = write, .user_data = user_data, .next = 1};
    return real_ops->get(store, range, give_pieces, &pieces, object, error);
}

static void test_pieces(void **state)
{
    g_autoptr(Scene) scene = scene_new(TRUE, CONTENT);
    StoreOps ops = *scene->store->ops;
    real_ops = scene->store->ops;
    ops.get = in_pieces;
    scene->store->ops = &ops;
    g_autoptr(ArchiveObject) object = open_scene(scene, scene->stored->len, NULL);
    check_read(scene, object, 0, CONTENT);
    check_read(scene, object, 1048000, 2000000);
    scene->store->ops = real_ops;
}

/* A connection that breaks in the middle goes on where it was. */
static void test_broken(void **state)
{
    g_autoptr(Scene) scene = scene_new(TRUE, CONTENT);
    Store *memory = scene->store;
    RetryPolicy policy = {.attempts = 3, .first_delay_ms = 1, .max_delay_ms = 1};
    scene->store = store_retry_new(memory, &policy, NULL);
    scene->place.store = scene->store;
    g_autoptr(ArchiveObject) object = open_scene(scene, scene->stored->len, NULL);
    store_memory_fail_next(memory, STORE_REQUEST_GET, BACKAPP_ERROR_TRANSIENT, 1, TRUE);
    check_read(scene, object, 0, CONTENT);
}

typedef struct {
    Scene *scene;
    ArchiveObject *object;
    guint seed;
} Reader;

static gpointer read_much(gpointer data)
{
    Reader *reader = data;
    for (guint i = 0; i < 20; i++)
        check_read(reader->scene, reader->object, (i * 7 + reader->seed) * 104729 % (CONTENT - 50000), 50000);
    return NULL;
}

static void test_threads(void **state)
{
    g_autoptr(Scene) scene = scene_new(TRUE, CONTENT);
    g_autoptr(ArchiveObject) object = open_scene(scene, scene->stored->len, NULL);
    Reader readers[4];
    GThread *threads[G_N_ELEMENTS(readers)];
    for (guint i = 0; i < G_N_ELEMENTS(readers); i++) {
        readers[i] = (Reader){.scene = scene, .object = object, .seed = i};
        threads[i] = g_thread_new("read", read_much, &readers[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(readers); i++)
        g_thread_join(threads[i]);
}

static void test_cancel(void **state)
{
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(encrypted == 1, CONTENT);
        g_autoptr(GError) error = NULL;
        CancelFlag cancel = {0};
        guint8 out[1];
        g_autoptr(ArchiveObject) object =
            object_open(&scene->place, OBJECT, scene->stored->len, encrypted == 1, ASSOCIATED, &cancel, &error);
        cancel_set(&cancel);
        expect(object_read_bytes(object, 0, 1, out, &error), &error, BACKAPP_ERROR_CANCELLED, "");
        assert_int_equal(requests(scene), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_anywhere), cmocka_unit_test(test_requests),   cmocka_unit_test(test_refused),
        cmocka_unit_test(test_keys),     cmocka_unit_test(test_other_size), cmocka_unit_test(test_flips),
        cmocka_unit_test(test_pieces),   cmocka_unit_test(test_broken),     cmocka_unit_test(test_threads),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
