/* Objects stored in parts. */
#include "contract.h"

/* A part that the store takes anywhere, and a last one. */
static gsize part_bytes(const Store *store)
{
    return (gsize)MAX(store->min_part, 70000);
}

typedef struct {
    char *upload;
    StorePart parts[4];
    guint count;
    guint8 *data;
    gsize length;
} Built;

static void built_clear(Built *built)
{
    g_free(built->upload);
    g_free(built->data);
    for (guint i = 0; i < built->count; i++)
        g_free(built->parts[i].etag);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Built, built_clear)

/* Begins an upload and sends `count` parts, the last one short. */
static void build(Store *store, const char *key, guint count, const StorePut *how, Built *built)
{
    gsize size = part_bytes(store);
    built->length = (count - 1) * size + 333;
    built->data = make_bytes(built->length, 40 + count);
    g_autoptr(GError) error = NULL;
    built->upload = store_begin(store, key, how, &error);
    if (!built->upload)
        fail_msg("cannot begin: %s", error->message);
    for (guint i = 0; i < count; i++) {
        StoreBody body = {.data = built->data + i * size, .length = i + 1 < count ? size : 333};
        StorePart *part = &built->parts[i];
        part->number = i + 1;
        part->size = body.length;
        if (!store_part(store, key, built->upload, part->number, &body, &part->etag, &error))
            fail_msg("cannot send part %u: %s", part->number, error->message);
        built->count = i + 1;
        assert_non_null(part->etag);
    }
}

static void test_parts_become_an_object(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    for (guint count = 1; count <= 3; count += 2) {
        g_autofree char *name = g_strdup_printf("of %u/part s", count);
        const char *key = key_of(contract, name);
        StorePut how = {.mtime = store_can(store, STORE_METADATA) ? "7.000000070" : NULL};
        g_auto(Built) built = {0};
        build(store, key, count, &how, &built);
        assert_no_object(store, key);
        g_auto(StoreResult) result = {0};
        WORKS(store_complete(store, key, built.upload, built.parts, count, &how, &result, &error));
        assert_content(store, key, built.data, built.length);
        g_autoptr(StoreObject) object = store_head(store, key, NULL, NULL);
        g_autofree char *ending = g_strdup_printf("-%u", count);
        assert_true(g_str_has_suffix(object->etag, ending));
        if (result.etag)
            assert_string_equal(result.etag, object->etag);
        if (how.mtime)
            assert_string_equal(object->mtime, how.mtime);
        g_autoptr(GPtrArray) uploads = store_list_uploads(store, key, NULL);
        assert_int_equal(uploads->len, 0);
    }
}

static void test_an_object_stays_until_the_upload_is_complete(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *key = key_of(contract, "replaced");
    put_text(store, key, "old");
    g_auto(Built) built = {0};
    build(store, key, 2, NULL, &built);
    assert_text(store, key, "old");
    g_autofree char *names = list_names(contract, "", NULL);
    assert_string_equal(names, "replaced");
    WORKS(store_complete(store, key, built.upload, built.parts, 2, NULL, NULL, &error));
    assert_content(store, key, built.data, built.length);
}

static void test_an_upload_goes_on_elsewhere(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *key = key_of(contract, "resumed \xc3\xa9");
    g_auto(Built) built = {0};
    build(store, key, 3, NULL, &built);
    /* What another process finds. */
    g_autoptr(GPtrArray) uploads = store_list_uploads(store, contract->folder, NULL);
    assert_non_null(uploads);
    assert_int_equal(uploads->len, 1);
    const StoreUpload *upload = g_ptr_array_index(uploads, 0);
    assert_string_equal(upload->key, key);
    assert_string_equal(upload->id, built.upload);
    assert_true(upload->started > 1577836800);
    g_autoptr(GArray) parts = store_list_parts(store, key, upload->id, NULL);
    assert_non_null(parts);
    assert_int_equal(parts->len, 3);
    for (guint i = 0; i < 3; i++) {
        const StorePart *part = &g_array_index(parts, StorePart, i);
        assert_int_equal(part->number, i + 1);
        assert_string_equal(part->etag, built.parts[i].etag);
        assert_int_equal(part->size, built.parts[i].size);
    }
    WORKS(store_complete(store, key, upload->id, (StorePart *)(void *)parts->data, 3, NULL, NULL, &error));
    assert_content(store, key, built.data, built.length);
}

static void test_a_part_may_be_sent_again_and_numbers_left_out(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *key = key_of(contract, "again");
    gsize size = part_bytes(store);
    g_autofree guint8 *wrong = make_bytes(size, 50), *right = make_bytes(size, 51);
    g_autofree char *upload = store_begin(store, key, NULL, NULL);
    StorePart parts[2] = {{.number = 2}, {.number = 9}};
    StoreBody body = {.data = wrong, .length = size}, last = {.data = "the end", .length = 7};
    g_autofree char *old = NULL;
    WORKS(store_part(store, key, upload, 9, &last, &parts[1].etag, &error));
    WORKS(store_part(store, key, upload, 2, &body, &old, &error));
    body.data = right;
    WORKS(store_part(store, key, upload, 2, &body, &parts[0].etag, &error));
    g_autoptr(GArray) listed = store_list_parts(store, key, upload, NULL);
    assert_int_equal(listed->len, 2);
    assert_string_equal(g_array_index(listed, StorePart, 0).etag, parts[0].etag);
    WORKS(store_complete(store, key, upload, parts, 2, NULL, NULL, &error));
    g_autofree guint8 *whole = g_malloc(size + 7);
    memcpy(whole, right, size);
    memcpy(whole + size, "the end", 7);
    assert_content(store, key, whole, size + 7);
    g_free(parts[0].etag);
    g_free(parts[1].etag);
}

static void test_a_function_as_a_part(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *key = key_of(contract, "function");
    g_autofree guint8 *data = make_bytes(400000, 52);
    g_autofree char *upload = store_begin(store, key, NULL, NULL);
    Source source = {.data = data, .length = 400000, .fails_at = 300000};
    StoreBody body = source_body(&source);
    StorePart part = {.number = 1};
    FAILS(store_part(store, key, upload, 1, &body, &part.etag, &error), BACKAPP_ERROR_DENIED);
    source.fails_at = G_MAXUINT64;
    WORKS(store_part(store, key, upload, 1, &body, &part.etag, &error));
    WORKS(store_complete(store, key, upload, &part, 1, NULL, NULL, &error));
    assert_content(store, key, data, 400000);
    g_free(part.etag);
}

static void test_abort(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *key = key_of(contract, "aborted");
    put_text(store, key, "old");
    g_auto(Built) built = {0};
    build(store, key, 2, NULL, &built);
    WORKS(store_abort(store, key, built.upload, &error));
    WORKS(store_abort(store, key, built.upload, &error));
    g_autoptr(GPtrArray) uploads = store_list_uploads(store, contract->folder, NULL);
    assert_int_equal(uploads->len, 0);
    FAILS(store_list_parts(store, key, built.upload, &error), BACKAPP_ERROR_NOT_FOUND);
    /* NOT_FOUND; but radosgw has an internal error for an upload that is gone. */
    assert_false(store_complete(store, key, built.upload, built.parts, 2, NULL, NULL, NULL));
    StoreBody body = {.data = "x", .length = 1};
    g_autofree char *etag = NULL;
    FAILS(store_part(store, key, built.upload, 1, &body, &etag, &error), BACKAPP_ERROR_NOT_FOUND);
    assert_null(etag);
    assert_text(store, key, "old");
}

static void test_a_wrong_part_completes_nothing(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *key = key_of(contract, "wrong");
    g_auto(Built) built = {0};
    build(store, key, 2, NULL, &built);
    StorePart wrong[2] = {built.parts[0], built.parts[1]};
    wrong[1].etag = built.parts[0].etag;
    FAILS(store_complete(store, key, built.upload, wrong, 2, NULL, NULL, &error), BACKAPP_ERROR_CONFLICT);
    wrong[1] = built.parts[1];
    wrong[1].number = 3;
    FAILS(store_complete(store, key, built.upload, wrong, 2, NULL, NULL, &error), BACKAPP_ERROR_CONFLICT);
    StorePart turned[2] = {built.parts[1], built.parts[0]};
    FAILS(store_complete(store, key, built.upload, turned, 2, NULL, NULL, &error), BACKAPP_ERROR_INVALID);
    FAILS(store_complete(store, key, built.upload, built.parts, 0, NULL, NULL, &error), BACKAPP_ERROR_INVALID);
    assert_no_object(store, key);
    WORKS(store_complete(store, key, built.upload, built.parts, 2, NULL, NULL, &error));
    assert_content(store, key, built.data, built.length);
}

static void test_parts_from_an_object(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART | STORE_RANGE_COPY);
    gsize size = part_bytes(store);
    const char *from = key_of(contract, "source \xc3\xa9+"), *to = key_of(contract, "patched");
    g_autofree guint8 *data = make_bytes(3 * size, 53), *middle = make_bytes(size, 54);
    put_bytes(store, from, data, 3 * size);
    g_autoptr(StoreObject) object = store_head(store, from, NULL, NULL);
    StoreSource source = {.key = from, .size = 3 * size, .if_match = object->etag};
    g_autofree char *upload = store_begin(store, to, NULL, NULL);
    StorePart parts[3] = {{.number = 1}, {.number = 2}, {.number = 3}};
    StoreBody body = {.data = middle, .length = size};
    WORKS(store_copy_part(store, to, upload, 1, &source, 0, size, &parts[0].etag, &error));
    WORKS(store_part(store, to, upload, 2, &body, &parts[1].etag, &error));
    WORKS(store_copy_part(store, to, upload, 3, &source, 2 * size + 11, size - 11, &parts[2].etag, &error));
    WORKS(store_complete(store, to, upload, parts, 3, NULL, NULL, &error));
    memcpy(data + size, middle, size);
    memmove(data + 2 * size, data + 2 * size + 11, size - 11);
    assert_content(store, to, data, 3 * size - 11);
    for (guint i = 0; i < 3; i++)
        g_free(parts[i].etag);
}

static void test_parts_from_an_object_that_changed(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART | STORE_RANGE_COPY);
    const char *from = key_of(contract, "source"), *to = key_of(contract, "to");
    put_text(store, from, "0123456789");
    g_autoptr(StoreObject) object = store_head(store, from, NULL, NULL);
    StoreSource source = {.key = from, .size = 10, .if_match = object->etag};
    put_text(store, from, "abcdefghij");
    g_autofree char *upload = store_begin(store, to, NULL, NULL);
    g_autofree char *etag = NULL;
    FAILS(store_copy_part(store, to, upload, 1, &source, 0, 10, &etag, &error), BACKAPP_ERROR_CONFLICT);
    source = (StoreSource){.key = key_of(contract, "none"), .size = 10};
    FAILS(store_copy_part(store, to, upload, 1, &source, 0, 10, &etag, &error), BACKAPP_ERROR_NOT_FOUND);
    WORKS(store_abort(store, to, upload, &error));
}

static void test_an_upload_is_of_one_key(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *key = key_of(contract, "mine"), *other = key_of(contract, "other");
    g_autofree char *upload = store_begin(store, key, NULL, NULL);
    StoreBody body = {.data = "x", .length = 1};
    g_autofree char *etag = NULL;
    FAILS(store_part(store, other, upload, 1, &body, &etag, &error), BACKAPP_ERROR_NOT_FOUND);
    FAILS(store_list_parts(store, other, upload, &error), BACKAPP_ERROR_NOT_FOUND);
    FAILS(store_list_parts(store, key, "../../etc", &error), BACKAPP_ERROR_NOT_FOUND);
    WORKS(store_abort(store, other, upload, &error));
    WORKS(store_part(store, key, upload, 1, &body, &etag, &error));
    WORKS(store_abort(store, key, upload, &error));
}

static void test_uploads_are_listed_by_prefix(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const char *const names[] = {"u/b", "u/a", "v/a"};
    char *ids[3] = {0};
    for (guint i = 0; i < 3; i++)
        ids[i] = store_begin(store, key_of(contract, names[i]), NULL, NULL);
    g_autoptr(GPtrArray) uploads = store_list_uploads(store, key_of(contract, "u/"), NULL);
    assert_int_equal(uploads->len, 2);
    assert_string_equal(((StoreUpload *)g_ptr_array_index(uploads, 0))->id, ids[1]);
    assert_string_equal(((StoreUpload *)g_ptr_array_index(uploads, 1))->id, ids[0]);
    g_autoptr(GArray) none = store_list_parts(store, key_of(contract, "u/a"), ids[1], NULL);
    assert_int_equal(none->len, 0);
    for (guint i = 0; i < 3; i++)
        WORKS(store_abort(store, key_of(contract, names[i]), ids[i], &error));
    for (guint i = 0; i < 3; i++)
        g_free(ids[i]);
}

static void test_part_sizes(void **state)
{
    CONTRACT;
    NEEDS(STORE_MULTIPART);
    const guint64 mib = 1024 * 1024;
    Store other = *store;
    other.max_parts = 10000;
    other.min_part = 5 * mib;
    other.max_part = 5120 * mib;
    assert_int_equal(store_part_size(&other, 0), 8 * mib);
    assert_int_equal(store_part_size(&other, 80000 * mib), 8 * mib);
    assert_int_equal(store_part_size(&other, 80000 * mib + 1), 9 * mib);
    assert_int_equal(store_part_size(&other, 5 * mib * mib), 525 * mib);
    assert_true(store_part_size(&other, 5 * mib * mib) * 10000 >= 5 * mib * mib);
}

const struct CMUnitTest *part_tests(size_t *count)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_become_an_object),
        cmocka_unit_test(test_an_object_stays_until_the_upload_is_complete),
        cmocka_unit_test(test_an_upload_goes_on_elsewhere),
        cmocka_unit_test(test_a_part_may_be_sent_again_and_numbers_left_out),
        cmocka_unit_test(test_a_function_as_a_part),
        cmocka_unit_test(test_abort),
        cmocka_unit_test(test_a_wrong_part_completes_nothing),
        cmocka_unit_test(test_parts_from_an_object),
        cmocka_unit_test(test_parts_from_an_object_that_changed),
        cmocka_unit_test(test_an_upload_is_of_one_key),
        cmocka_unit_test(test_uploads_are_listed_by_prefix),
        cmocka_unit_test(test_part_sizes),
    };
    *count = G_N_ELEMENTS(tests);
    return tests;
}
