/* One object at a time: put, get, head, delete; keys and metadata. */
#include "contract.h"

#include "crypto/digest.h"

static void test_put_get_head_delete(void **state)
{
    CONTRACT;
    const char *key = key_of(contract, "one.txt");
    assert_no_object(store, key);
    StoreBody body = {.data = "hello", .length = 5};
    g_auto(StoreResult) result = {0};
    WORKS(store_put(store, key, &body, NULL, &result, &error));
    g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
    assert_non_null(object);
    assert_string_equal(object->key, key);
    assert_int_equal(object->size, 5);
    assert_string_equal(object->storage_class, "STANDARD");
    assert_false(object->delete_marker);
    assert_true(object->modified > 1577836800);
    assert_true(object->etag[0] && !strchr(object->etag, '"'));
    if (result.etag)
        assert_string_equal(object->etag, result.etag);
    assert_text(store, key, "hello");
    WORKS(store_delete(store, key, NULL, &error));
    assert_no_object(store, key);
    WORKS(store_delete(store, key, NULL, &error));
    FAILS(store_get_bytes(store, key, NULL, 10, NULL, &error), BACKAPP_ERROR_NOT_FOUND);
}

static void test_overwriting_changes_content_and_etag(void **state)
{
    CONTRACT;
    const char *key = key_of(contract, "file");
    put_text(store, key, "a longer first text");
    g_autoptr(StoreObject) before = store_head(store, key, NULL, NULL);
    put_text(store, key, "second");
    g_autoptr(StoreObject) after = store_head(store, key, NULL, NULL);
    assert_text(store, key, "second");
    assert_string_not_equal(before->etag, after->etag);
    put_text(store, key, "Second");
    g_autoptr(StoreObject) third = store_head(store, key, NULL, NULL);
    assert_string_not_equal(after->etag, third->etag);
}

static void test_ranges(void **state)
{
    CONTRACT;
    const gsize size = 700001;
    g_autofree guint8 *data = make_bytes(size, 1);
    const char *key = key_of(contract, "ranged");
    put_bytes(store, key, data, size);
    const struct {
        guint64 offset, length, got;
    } cases[] = {
        {0, G_MAXUINT64, size},
        {0, 1, 1},
        {0, size, size},
        {1, 1000, 1000},
        {300000, 1, 1},
        {262143, 262146, 262146},
        {size - 1, 1, 1},
        {size - 1, 9, 1},
        {size - 10, G_MAXUINT64, 10},
        {1, G_MAXUINT64, size - 1},
        {0, size + 5, size},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        StoreRange range = {.key = key, .offset = cases[i].offset, .length = cases[i].length};
        g_autoptr(StoreObject) object = NULL;
        g_autoptr(GError) error = NULL;
        g_autoptr(GByteArray) bytes = read_range(store, &range, &object, &error);
        assert_non_null(bytes);
        assert_int_equal(bytes->len, cases[i].got);
        assert_memory_equal(bytes->data, data + cases[i].offset, bytes->len);
        assert_non_null(object);
        assert_int_equal(object->size, size);
        assert_string_equal(object->key, key);
    }
    StoreRange behind = {.key = key, .offset = size, .length = G_MAXUINT64};
    FAILS(read_range(store, &behind, NULL, &error), BACKAPP_ERROR_INVALID);
    behind.offset = size + 100;
    behind.length = 5;
    FAILS(read_range(store, &behind, NULL, &error), BACKAPP_ERROR_INVALID);
}

static void test_an_empty_object(void **state)
{
    CONTRACT;
    const char *key = key_of(contract, "empty");
    put_text(store, key, "");
    g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
    assert_non_null(object);
    assert_int_equal(object->size, 0);
    assert_text(store, key, "");
    StoreRange range = {.key = key, .offset = 1, .length = G_MAXUINT64};
    FAILS(read_range(store, &range, NULL, &error), BACKAPP_ERROR_INVALID);
}

static void test_if_match_of_a_get(void **state)
{
    CONTRACT;
    const char *key = key_of(contract, "matched");
    put_text(store, key, "content");
    g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
    StoreRange range = {.key = key, .length = G_MAXUINT64, .if_match = object->etag};
    g_autoptr(GByteArray) bytes = read_range(store, &range, NULL, NULL);
    assert_non_null(bytes);
    put_text(store, key, "another");
    FAILS(read_range(store, &range, NULL, &error), BACKAPP_ERROR_CONFLICT);
}

static gboolean refuse(gpointer user_data, const void *data, gsize length, GError **error)
{
    (*(guint *)user_data)++;
    return error_set(error, BACKAPP_ERROR_NO_SPACE, "the receiver is full");
}

static void test_a_receiver_that_fails_ends_the_get(void **state)
{
    CONTRACT;
    g_autofree guint8 *data = make_bytes(1000000, 2);
    const char *key = key_of(contract, "refused");
    put_bytes(store, key, data, 1000000);
    guint calls = 0;
    StoreRange range = {.key = key, .length = G_MAXUINT64};
    FAILS(store_get(store, &range, refuse, &calls, NULL, &error), BACKAPP_ERROR_NO_SPACE);
    assert_int_equal(calls, 1);
}

static void test_get_bytes_is_bounded(void **state)
{
    CONTRACT;
    const char *key = key_of(contract, "bounded");
    put_text(store, key, "0123456789");
    g_autoptr(StoreObject) object = NULL;
    g_autoptr(GBytes) bytes = store_get_bytes(store, key, NULL, 10, &object, NULL);
    assert_non_null(bytes);
    assert_int_equal(object->size, 10);
    FAILS(store_get_bytes(store, key, NULL, 9, NULL, &error), BACKAPP_ERROR_CORRUPT);
}

static void test_a_function_as_body(void **state)
{
    CONTRACT;
    const gsize size = 600007;
    g_autofree guint8 *data = make_bytes(size, 3);
    const char *key = key_of(contract, "from a function");
    Source source = {.data = data, .length = size, .fails_at = G_MAXUINT64};
    StoreBody body = source_body(&source);
    WORKS(store_put(store, key, &body, NULL, NULL, &error));
    assert_content(store, key, data, size);
    guint8 sum[HASH_BYTES];
    digest_sha256(data, size, sum);
    body.sha256 = sum;
    WORKS(store_put(store, key, &body, NULL, NULL, &error));
    assert_content(store, key, data, size);
}

static void test_a_body_that_fails_leaves_the_old_object(void **state)
{
    CONTRACT;
    const gsize size = 600007;
    g_autofree guint8 *data = make_bytes(size, 4);
    guint8 sum[HASH_BYTES];
    digest_sha256(data, size, sum);
    const char *keys[] = {key_of(contract, "old"), key_of(contract, "never")};
    put_text(store, keys[0], "old content");
    for (guint i = 0; i < 4; i++) {
        Source source = {.data = data, .length = size, .fails_at = i % 2 ? 500000 : 0};
        StoreBody body = source_body(&source);
        /* With the hash known the failure comes while bytes are on their way. */
        body.sha256 = i < 2 ? NULL : sum;
        FAILS(store_put(store, keys[0], &body, NULL, NULL, &error), BACKAPP_ERROR_DENIED);
        FAILS(store_put(store, keys[1], &body, NULL, NULL, &error), BACKAPP_ERROR_DENIED);
        assert_text(store, keys[0], "old content");
        assert_no_object(store, keys[1]);
    }
}

static void test_a_wrong_sha256_stores_nothing(void **state)
{
    CONTRACT;
    guint8 sum[HASH_BYTES];
    digest_sha256("what was meant", 14, sum);
    StoreBody body = {.data = "what is there!", .length = 14, .sha256 = sum};
    const char *key = key_of(contract, "damaged");
    for (guint i = 0; i < 2; i++) {
        g_autoptr(GError) error = NULL;
        assert_false(store_put(store, key, &body, NULL, NULL, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT) || error_is(error, BACKAPP_ERROR_INVALID));
        if (i == 0)
            assert_no_object(store, key);
        else
            assert_text(store, key, "old");
        put_text(store, key, "old");
    }
}

static void test_metadata_is_kept(void **state)
{
    CONTRACT;
    NEEDS(STORE_METADATA);
    const char *key = key_of(contract, "with mtime");
    StorePut how = {.mtime = "1700000000.123456789", .content_type = "text/plain"};
    StoreBody body = {.data = "x", .length = 1};
    WORKS(store_put(store, key, &body, &how, NULL, &error));
    g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
    assert_string_equal(object->mtime, "1700000000.123456789");
    g_autoptr(StoreObject) read = NULL;
    g_autoptr(GBytes) bytes = store_get_bytes(store, key, NULL, 1, &read, NULL);
    assert_non_null(bytes);
    assert_string_equal(read->mtime, "1700000000.123456789");
    /* A later put says everything anew. */
    put_text(store, key, "y");
    g_autoptr(StoreObject) later = store_head(store, key, NULL, NULL);
    assert_null(later->mtime);
}

static void test_storage_classes(void **state)
{
    CONTRACT;
    NEEDS(STORE_CLASSES);
    const char *key = key_of(contract, "cold");
    StorePut how = {.storage_class = "STANDARD_IA"};
    StoreBody body = {.data = "x", .length = 1};
    WORKS(store_put(store, key, &body, &how, NULL, &error));
    g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
    assert_string_equal(object->storage_class, "STANDARD_IA");
}

static void test_text_cannot_begin_a_header(void **state)
{
    CONTRACT;
    StoreBody body = {.data = "x", .length = 1};
    StorePut how = {.mtime = "1\r\nx-amz-acl: public-read"};
    FAILS(store_put(store, key_of(contract, "k"), &body, &how, NULL, &error), BACKAPP_ERROR_INVALID);
    how = (StorePut){.content_type = "text/plain\n"};
    FAILS(store_put(store, key_of(contract, "k"), &body, &how, NULL, &error), BACKAPP_ERROR_INVALID);
}

static void test_if_absent(void **state)
{
    CONTRACT;
    NEEDS(STORE_IF_MATCH);
    const char *key = key_of(contract, "once");
    StorePut how = {.if_absent = TRUE};
    StoreBody first = {.data = "first", .length = 5}, second = {.data = "second", .length = 6};
    WORKS(store_put(store, key, &first, &how, NULL, &error));
    FAILS(store_put(store, key, &second, &how, NULL, &error), BACKAPP_ERROR_CONFLICT);
    assert_text(store, key, "first");
    WORKS(store_delete(store, key, NULL, &error));
    WORKS(store_put(store, key, &second, &how, NULL, &error));
    assert_text(store, key, "second");
}

/* Names that a server, a URL or a file system could take for something else. */
static const char *const odd_names[] = {
    "plain",
    "with space",
    " leading",
    "trailing ",
    "a+b",
    "a%20b",
    "100%",
    "%2F",
    "a&b=c?d#e",
    "quote'\"",
    "back\\slash",
    "semi;colon,comma:at@",
    "star*[x]{y}",
    "tilde~",
    "$HOME",
    "`id`",
    "<xml>&amp;",
    "tab\there",
    "new\nline",
    "del\x7f",
    "caf\xc3\xa9",
    "cafe\xcc\x81",
    "\xe6\x97\xa5\xe6\x9c\xac",
    "\xf0\x9f\x98\x80",
    "\xef\xbf\xbd",
    ".hidden",
    "-dash",
    ".backapp-store",
    ".backapp-@x",
    ".backapp-=x",
    ".backapp-+x",
    ".backapp-store/tmp/x",
    "UPPER",
    "upper",
};

static void test_any_key_is_kept_as_it_is(void **state)
{
    CONTRACT;
    for (guint i = 0; i < G_N_ELEMENTS(odd_names); i++)
        put_text(store, key_of(contract, odd_names[i]), odd_names[i]);
    for (guint i = 0; i < G_N_ELEMENTS(odd_names); i++) {
        const char *key = key_of(contract, odd_names[i]);
        assert_text(store, key, odd_names[i]);
        g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
        assert_string_equal(object->key, key);
    }
    g_autoptr(StoreList) list = store_list(store, contract->folder, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    guint count = 0;
    while (store_list_next(list, &object, NULL) > 0) {
        gboolean known = FALSE;
        for (guint i = 0; i < G_N_ELEMENTS(odd_names); i++)
            known = known || strcmp(object->key + strlen(contract->folder), odd_names[i]) == 0;
        assert_true(known);
        count++;
    }
    assert_int_equal(count, G_N_ELEMENTS(odd_names));
    for (guint i = 0; i < G_N_ELEMENTS(odd_names); i++)
        WORKS(store_delete(store, key_of(contract, odd_names[i]), NULL, &error));
    g_autofree char *left = list_names(contract, "", NULL);
    assert_string_equal(left, "");
}

static void test_long_keys(void **state)
{
    CONTRACT;
    const gsize most = 1024 - 64 - strlen(contract->folder);
    for (gsize length = 240; length <= most; length += length < 260 ? 1 : 100) {
        g_autofree char *name = g_strnfill(length, 'n');
        const char *key = key_of(contract, name);
        put_text(store, key, name);
        const char *below = keep(contract, g_strconcat(key, "/x", NULL));
        put_text(store, below, "below");
    }
    for (gsize length = 240; length <= most; length += length < 260 ? 1 : 100) {
        g_autofree char *name = g_strnfill(length, 'n');
        const char *key = key_of(contract, name);
        assert_text(store, key, name);
        assert_text(store, keep(contract, g_strconcat(key, "/x", NULL)), "below");
        WORKS(store_delete(store, key, NULL, &error));
        assert_no_object(store, key);
        assert_text(store, keep(contract, g_strconcat(key, "/x", NULL)), "below");
    }
    /* Characters of three bytes, so that no cut falls between them everywhere. */
    GString *wide = g_string_new(NULL);
    while (wide->len + 3 <= most)
        g_string_append(wide, "\xe6\x97\xa5");
    const char *key = key_of(contract, keep(contract, g_string_free(wide, FALSE)));
    put_text(store, key, "wide");
    assert_text(store, key, "wide");
}

static void test_what_is_no_key_is_refused(void **state)
{
    CONTRACT;
    StoreBody body = {.data = "x", .length = 1};
    g_autofree char *long_name = g_strnfill(1025, 'x');
    const char *const bad[] = {"", "\xff", "a\xc3", long_name};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        FAILS(store_put(store, bad[i], &body, NULL, NULL, &error), BACKAPP_ERROR_INVALID);
        FAILS(store_head(store, bad[i], NULL, &error), BACKAPP_ERROR_INVALID);
        FAILS(store_delete(store, bad[i], NULL, &error), BACKAPP_ERROR_INVALID);
    }
}

/* Keys whose folders are other keys, and components that are empty or dots. */
static const char *const nested[] = {
    "a",   "a/",   "a/b", "a/b/", "a/b/c", "a//b", "a//", "a/./b", "a/../b",
    "a/.", "a/..", "b/c", "b",    "./x",   "../x", "..",  ".",
};

static void test_a_key_may_be_the_folder_of_others(void **state)
{
    CONTRACT;
    /* S3 servers see such keys as they are, but proxies and URL libraries may not: the list tells. */
    for (guint round = 0; round < 2; round++) {
        for (guint i = 0; i < G_N_ELEMENTS(nested); i++) {
            guint at = round ? (guint)G_N_ELEMENTS(nested) - 1 - i : i;
            put_text(store, key_of(contract, nested[at]), nested[at]);
        }
        for (guint i = 0; i < G_N_ELEMENTS(nested); i++)
            assert_text(store, key_of(contract, nested[i]), nested[i]);
        g_autofree char *names = list_names(contract, "", NULL);
        assert_string_equal(names, ". .. ../x ./x a a/ a/. a/.. a/../b a/./b a// a//b a/b a/b/ a/b/c b b/c");
        for (guint i = 0; i < G_N_ELEMENTS(nested); i++) {
            WORKS(store_delete(store, key_of(contract, nested[i]), NULL, &error));
            assert_no_object(store, key_of(contract, nested[i]));
            if (i + 1 < G_N_ELEMENTS(nested))
                assert_text(store, key_of(contract, nested[i + 1]), nested[i + 1]);
        }
        g_autofree char *none = list_names(contract, "", NULL);
        assert_string_equal(none, "");
    }
}

static void test_delete_many(void **state)
{
    CONTRACT;
    enum { COUNT = 1203 };
    g_autofree const char **keys = g_new(const char *, COUNT);
    for (guint i = 0; i < COUNT; i++) {
        g_autofree char *name = g_strdup_printf("many/%04u \xc3\xa9&<", i);
        keys[i] = key_of(contract, name);
        /* Two of three are not there. */
        if (i % 3 == 0 && i < 300)
            put_text(store, keys[i], "x");
    }
    const char *stays = key_of(contract, "many/stays");
    put_text(store, stays, "x");
    g_autofree GError **errors = g_new0(GError *, COUNT);
    WORKS(store_delete_many(store, keys, NULL, COUNT, errors, &error));
    for (guint i = 0; i < COUNT; i++)
        assert_null(errors[i]);
    g_autofree char *names = list_names(contract, "", NULL);
    assert_string_equal(names, "many/stays");
    WORKS(store_delete_many(store, &stays, NULL, 1, NULL, &error));
    WORKS(store_delete_many(store, NULL, NULL, 0, NULL, &error));
}

static void test_counts(void **state)
{
    CONTRACT;
    StoreCounts before, after;
    store_counts(store, &before);
    const char *key = key_of(contract, "counted");
    put_text(store, key, "0123456789");
    assert_text(store, key, "0123456789");
    g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
    assert_non_null(object);
    store_counts(store, &after);
    assert_true(after.requests[STORE_REQUEST_PUT] > before.requests[STORE_REQUEST_PUT]);
    assert_true(after.requests[STORE_REQUEST_GET] > before.requests[STORE_REQUEST_GET]);
    assert_true(after.requests[STORE_REQUEST_HEAD] > before.requests[STORE_REQUEST_HEAD]);
    assert_true(after.bytes_sent >= before.bytes_sent + 10);
    assert_true(after.bytes_received >= before.bytes_received + 10);
}

const struct CMUnitTest *object_tests(size_t *count)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_get_head_delete),
        cmocka_unit_test(test_overwriting_changes_content_and_etag),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_an_empty_object),
        cmocka_unit_test(test_if_match_of_a_get),
        cmocka_unit_test(test_a_receiver_that_fails_ends_the_get),
        cmocka_unit_test(test_get_bytes_is_bounded),
        cmocka_unit_test(test_a_function_as_body),
        cmocka_unit_test(test_a_body_that_fails_leaves_the_old_object),
        cmocka_unit_test(test_a_wrong_sha256_stores_nothing),
        cmocka_unit_test(test_metadata_is_kept),
        cmocka_unit_test(test_storage_classes),
        cmocka_unit_test(test_text_cannot_begin_a_header),
        cmocka_unit_test(test_if_absent),
        cmocka_unit_test(test_any_key_is_kept_as_it_is),
        cmocka_unit_test(test_long_keys),
        cmocka_unit_test(test_what_is_no_key_is_refused),
        cmocka_unit_test(test_a_key_may_be_the_folder_of_others),
        cmocka_unit_test(test_delete_many),
        cmocka_unit_test(test_counts),
    };
    *count = G_N_ELEMENTS(tests);
    return tests;
}
