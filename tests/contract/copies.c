/* Copies inside the store. */
#include "contract.h"

static void test_a_copy(void **state)
{
    CONTRACT;
    NEEDS(STORE_COPY);
    const char *from = key_of(contract, "from \xc3\xa9 + %20/?x"), *to = key_of(contract, "deep/er/to");
    g_autofree guint8 *data = make_bytes(300001, 5);
    StorePut how = {.mtime = "1.000000001"};
    StoreBody body = {.data = data, .length = 300001};
    WORKS(store_put(store, from, &body, &how, NULL, &error));
    StoreSource source = {.key = from, .size = 300001};
    g_auto(StoreResult) result = {0};
    WORKS(store_copy(store, &source, to, NULL, &result, &error));
    assert_content(store, to, data, 300001);
    assert_content(store, from, data, 300001);
    g_autoptr(StoreObject) copied = store_head(store, to, NULL, NULL);
    if (result.etag)
        assert_string_equal(result.etag, copied->etag);
    /* Nothing is taken over. */
    assert_null(copied->mtime);
    WORKS(store_delete(store, from, NULL, &error));
    assert_content(store, to, data, 300001);
    FAILS(store_copy(store, &source, to, NULL, NULL, &error), BACKAPP_ERROR_NOT_FOUND);
    assert_content(store, to, data, 300001);
}

static void test_a_copy_says_metadata_anew(void **state)
{
    CONTRACT;
    NEEDS(STORE_COPY | STORE_METADATA);
    const char *key = key_of(contract, "same");
    StorePut how = {.mtime = "1.000000001"}, then = {.mtime = "2.000000002"};
    StoreBody body = {.data = "abc", .length = 3};
    WORKS(store_put(store, key, &body, &how, NULL, &error));
    StoreSource source = {.key = key, .size = 3};
    WORKS(store_copy(store, &source, key, &then, NULL, &error));
    g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
    assert_string_equal(object->mtime, "2.000000002");
    assert_text(store, key, "abc");
}

static void test_a_copy_to_another_class(void **state)
{
    CONTRACT;
    NEEDS(STORE_COPY | STORE_CLASSES);
    const char *key = key_of(contract, "k"), *to = key_of(contract, "l");
    put_text(store, key, "abc");
    StorePut how = {.storage_class = "GLACIER_IR"};
    StoreSource source = {.key = key, .size = 3};
    WORKS(store_copy(store, &source, to, &how, NULL, &error));
    g_autoptr(StoreObject) object = store_head(store, to, NULL, NULL);
    assert_string_equal(object->storage_class, "GLACIER_IR");
}

static void test_a_copy_of_what_it_must_be(void **state)
{
    CONTRACT;
    NEEDS(STORE_COPY);
    const char *from = key_of(contract, "from"), *to = key_of(contract, "to");
    put_text(store, from, "abc");
    g_autoptr(StoreObject) object = store_head(store, from, NULL, NULL);
    StoreSource source = {.key = from, .size = 3, .if_match = object->etag};
    WORKS(store_copy(store, &source, to, NULL, NULL, &error));
    put_text(store, from, "def");
    FAILS(store_copy(store, &source, to, NULL, NULL, &error), BACKAPP_ERROR_CONFLICT);
    assert_text(store, to, "abc");
}

static void test_a_copy_by_parts(void **state)
{
    CONTRACT;
    NEEDS(STORE_COPY | STORE_RANGE_COPY | STORE_MULTIPART);
    const gsize size = MAX(store->min_part, 70000) + 12345;
    g_autofree guint8 *data = make_bytes(size, 6);
    const char *from = key_of(contract, "large"), *to = key_of(contract, "copy of large");
    put_bytes(store, from, data, size);
    StoreSource source = {.key = from, .size = size};
    StorePut how = {.mtime = store_can(store, STORE_METADATA) ? "5.500000000" : NULL};
    /* As if the store took less in one request. */
    guint64 max_put = store->max_put, max_part = store->max_part;
    store->max_put = size - 1;
    store->max_part = MAX(store->min_part, 70000);
    g_auto(StoreResult) result = {0};
    WORKS(store_copy(store, &source, to, &how, &result, &error));
    store->max_put = max_put;
    store->max_part = max_part;
    assert_content(store, to, data, size);
    g_autoptr(StoreObject) object = store_head(store, to, NULL, NULL);
    assert_true(g_str_has_suffix(object->etag, "-2"));
    if (how.mtime)
        assert_string_equal(object->mtime, how.mtime);
    g_autoptr(GPtrArray) uploads = store_list_uploads(store, contract->folder, NULL);
    assert_non_null(uploads);
    assert_int_equal(uploads->len, 0);
}

static void test_a_copy_by_parts_that_fails_leaves_nothing(void **state)
{
    CONTRACT;
    NEEDS(STORE_COPY | STORE_RANGE_COPY | STORE_MULTIPART);
    const char *from = key_of(contract, "changed"), *to = key_of(contract, "to");
    put_text(store, from, "0123456789");
    g_autoptr(StoreObject) object = store_head(store, from, NULL, NULL);
    put_text(store, from, "abcdefghij");
    StoreSource source = {.key = from, .size = 10, .if_match = object->etag};
    guint64 max_put = store->max_put;
    store->max_put = 9;
    FAILS(store_copy(store, &source, to, NULL, NULL, &error), BACKAPP_ERROR_CONFLICT);
    store->max_put = max_put;
    g_autoptr(GPtrArray) uploads = store_list_uploads(store, contract->folder, NULL);
    assert_non_null(uploads);
    assert_int_equal(uploads->len, 0);
    assert_no_object(store, to);
}

const struct CMUnitTest *copy_tests(size_t *count)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_copy),
        cmocka_unit_test(test_a_copy_says_metadata_anew),
        cmocka_unit_test(test_a_copy_to_another_class),
        cmocka_unit_test(test_a_copy_of_what_it_must_be),
        cmocka_unit_test(test_a_copy_by_parts),
        cmocka_unit_test(test_a_copy_by_parts_that_fails_leaves_nothing),
    };
    *count = G_N_ELEMENTS(tests);
    return tests;
}
