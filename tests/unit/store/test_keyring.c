/*
 * The keys of a store, on memory.
 */
#include "../base/cmocka_all.h"
#include "base/error.h"
#include "store/drivers.h"
#include "store/keyring.h"

#include <string.h>

/* Cheap records: what passphrases cost is tested elsewhere. The objects are written by hand, as keyring_create would. */
static void put(Store *store, const char *id, const char *text)
{
    g_autofree char *key = g_strconcat(KEYRING_PREFIX, id, NULL);
    const StoreBody body = {.data = text, .length = strlen(text)};
    assert_true(store_put(store, key, &body, NULL, NULL, NULL));
}

static void put_cheap(Store *store, const char *id, const Key *master, const char *passphrase)
{
    const KdfCost cost = {.log2_n = 4, .r = 1, .p = 1};
    g_autofree char *text = key_wrap(master, passphrase, &cost, NULL);
    put(store, id, text);
}

static void assert_fails(gboolean gone_wrong, GError **error, BackappError code)
{
    assert_true(gone_wrong);
    assert_true(error_is(*error, code));
    g_clear_error(error);
}

static void test_life(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = store_memory_new();
    assert_fails(!keyring_unlock(store, "one", &error), &error, BACKAPP_ERROR_NOT_FOUND);
    g_autoptr(Key) master = key_generate();
    assert_fails(!keyring_create(store, master, "", &error), &error, BACKAPP_ERROR_INVALID);
    g_autofree char *first = keyring_create(store, master, "one", &error);
    assert_non_null(first);
    assert_fails(!keyring_create(store, master, "two", &error), &error, BACKAPP_ERROR_CONFLICT);
    assert_fails(!keyring_add(store, "wrong", "two", &error), &error, BACKAPP_ERROR_DENIED);
    g_autofree char *second = keyring_add(store, "one", "two", &error);
    assert_non_null(second);
    g_autoptr(Key) opened = keyring_unlock(store, "two", &error);
    assert_memory_equal(key_bytes(opened), key_bytes(master), KEY_BYTES);
    assert_true(keyring_remove(store, first, FALSE, &error));
    assert_fails(!keyring_unlock(store, "one", &error), &error, BACKAPP_ERROR_DENIED);
    assert_fails(!keyring_remove(store, first, FALSE, &error), &error, BACKAPP_ERROR_NOT_FOUND);
    assert_fails(!keyring_remove(store, second, FALSE, &error), &error, BACKAPP_ERROR_CONFLICT);
    g_autoptr(GPtrArray) left = keyring_list(store, &error);
    assert_int_equal(left->len, 1);
    assert_string_equal(((KeyringRecord *)g_ptr_array_index(left, 0))->id, second);
    assert_true(keyring_remove(store, second, TRUE, &error));
}

static void test_every_record_is_tried(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = store_memory_new();
    g_autoptr(Key) master = key_generate();
    put(store, "0000000000000000", "{damaged");
    put_cheap(store, "1111111111111111", master, "one");
    put_cheap(store, "2222222222222222", master, "two");
    put(store, "notes.txt", "none of ours");
    g_autoptr(Key) one = keyring_unlock(store, "one", &error);
    g_autoptr(Key) two = keyring_unlock(store, "two", &error);
    assert_non_null(one);
    assert_memory_equal(key_bytes(one), key_bytes(two), KEY_BYTES);
    assert_fails(!keyring_unlock(store, "three", &error), &error, BACKAPP_ERROR_DENIED);
    g_autoptr(GPtrArray) records = keyring_list(store, &error);
    assert_int_equal(records->len, 3);
}

static void test_damaged_ones_do_not_count(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = store_memory_new();
    g_autoptr(Key) master = key_generate();
    put(store, "0000000000000000", "{damaged");
    assert_fails(!keyring_unlock(store, "one", &error), &error, BACKAPP_ERROR_CORRUPT);
    put_cheap(store, "1111111111111111", master, "one");
    assert_fails(!keyring_remove(store, "1111111111111111", FALSE, &error), &error, BACKAPP_ERROR_CONFLICT);
    assert_true(keyring_remove(store, "0000000000000000", FALSE, &error));
}

static void test_newer_record_is_named(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = store_memory_new();
    put(store, "0000000000000000", "{\"format\":\"backapp key\",\"version\":2}");
    assert_fails(!keyring_unlock(store, "one", &error), &error, BACKAPP_ERROR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_every_record_is_tried),
        cmocka_unit_test(test_damaged_ones_do_not_count),
        cmocka_unit_test(test_newer_record_is_named),
    };
    return cmocka_run_group_tests_name("keyring", tests, NULL, NULL);
}
