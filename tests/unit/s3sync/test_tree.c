#include "../base/cmocka_all.h"
#include "base/error.h"
#include "engine/s3sync/tree_format.h"
#include "store/drivers.h"

#include <string.h>
#include <sys/stat.h>

#define MANY 6000

static guint8 key_bytes[32] = {1, 2, 3};

static TreeRoot make_root(void)
{
    return (TreeRoot){.run_id = (char *)"run", .time = 1700000000, .source = (char *)"/data", .host = (char *)"here"};
}

/* Entry number i; with a version that changes its content. */
static void put(TreeWriter *writer, guint i, guint version)
{
    g_autofree char *path = i == 0 ? g_strdup("") : g_strdup_printf("dir/file%06u", i);
    g_autofree char *etag = g_strdup_printf("etag%u-%u", i, version);
    S3Entry entry = {.path = path};
    entry.meta.mode = i == 0 ? S_IFDIR | 0755 : S_IFREG | 0644;
    entry.meta.mtime_s = 1000 + i;
    if (i > 0) {
        entry.key = path;
        entry.meta.size = i;
        entry.object_size = i;
        entry.etag = etag;
    }
    assert_true(tree_writer_put(writer, &entry, NULL));
}

/* Writes a tree of `count` files without number `without`, number `other` changed. Returns the blocks that were put. */
static guint64 write_tree(Store *store, const guint8 *key, guint count, guint without, guint other, gboolean *changed)
{
    StoreCounts before = {0};
    StoreCounts after = {0};
    store_counts(store, &before);
    g_autoptr(TreeWriter) writer = tree_writer_new(store, key, NULL, NULL);
    assert_non_null(writer);
    for (guint i = 0; i <= count; i++) {
        if (i != without || without == 0)
            put(writer, i, i == other && other > 0 ? 2 : 1);
    }
    TreeRoot root = make_root();
    root.encrypted = key != NULL;
    assert_true(tree_writer_commit(writer, &root, changed, NULL));
    store_counts(store, &after);
    return after.requests[STORE_REQUEST_PUT] - before.requests[STORE_REQUEST_PUT] - (*changed ? 1 : 0);
}

static TreeReader *open_newest(Store *store, const guint8 *key, GError **error)
{
    g_autoptr(GPtrArray) roots = tree_list_roots(store, NULL);
    assert_true(roots->len > 0);
    return tree_reader_open(store, ((const TreeRoot *)g_ptr_array_index(roots, 0))->key, key, error);
}

static void test_round_trip(void **state)
{
    for (guint sealed = 0; sealed < 2; sealed++) {
        const guint8 *key = sealed ? key_bytes : NULL;
        g_autoptr(Store) store = store_memory_new();
        gboolean changed = FALSE;
        assert_true(write_tree(store, key, MANY, 0, 0, &changed) >= 2);
        assert_true(changed);
        g_autoptr(TreeReader) reader = open_newest(store, key, NULL);
        assert_non_null(reader);
        assert_string_equal(tree_reader_root(reader)->host, "here");
        assert_int_equal(tree_reader_root(reader)->time, 1700000000);
        S3Entry entry;
        for (guint i = 0; i <= MANY; i++) {
            assert_int_equal(tree_reader_next(reader, &entry, NULL), 1);
            assert_int_equal(entry.meta.mtime_s, 1000 + i);
            assert_int_equal(entry.object_size, i);
        }
        assert_int_equal(tree_reader_next(reader, &entry, NULL), 0);
    }
}

static void test_only_changed_blocks(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    gboolean changed = FALSE;
    guint64 all = write_tree(store, NULL, MANY, 0, 0, &changed);
    assert_int_equal(write_tree(store, NULL, MANY, 0, 0, &changed), 0);
    assert_false(changed);
    assert_int_equal(write_tree(store, NULL, MANY, 0, 3000, &changed), 1);
    assert_true(changed);
    assert_true(all >= 4);
    /* One that is missing or added moves at most one border. */
    assert_in_range(write_tree(store, NULL, MANY, 1234, 3000, &changed), 1, 2);
    assert_in_range(write_tree(store, NULL, MANY, 0, 3000, &changed), 1, 2);
}

static void test_what_changes_by_itself_is_left_out(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    gboolean changed = FALSE;
    for (guint i = 0; i < 2; i++) {
        g_autoptr(TreeWriter) writer = tree_writer_new(store, NULL, NULL, NULL);
        S3Entry entry = {.path = "a", .key = "a"};
        entry.meta = (FileMeta){.mode = S_IFREG, .ino = i, .dev = i, .ctime_s = i, .nlink = i, .mount = i};
        assert_true(tree_writer_put(writer, &entry, NULL));
        TreeRoot root = make_root();
        assert_true(tree_writer_commit(writer, &root, &changed, NULL));
        assert_int_equal(changed, i == 0);
    }
}

static void test_keys(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    g_autoptr(GError) error = NULL;
    gboolean changed = FALSE;
    guint8 other[32] = {9};
    (void)write_tree(store, key_bytes, 10, 0, 0, &changed);
    assert_null(open_newest(store, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    g_clear_error(&error);
    assert_null(open_newest(store, other, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    /* A plain tree that somebody put in the place of an encrypted one. */
    g_autoptr(Store) plain = store_memory_new();
    (void)write_tree(plain, NULL, 10, 0, 0, &changed);
    g_clear_error(&error);
    assert_null(open_newest(plain, key_bytes, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void test_seek(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    gboolean changed = FALSE;
    (void)write_tree(store, NULL, MANY, 0, 0, &changed);
    g_autoptr(TreeReader) reader = open_newest(store, NULL, NULL);
    S3Entry entry;
    const guint numbers[] = {1, 2, 777, 3000, MANY, 5};
    StoreCounts before = {0};
    StoreCounts after = {0};
    store_counts(store, &before);
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        g_autofree char *path = g_strdup_printf("dir/file%06u", numbers[i]);
        assert_true(tree_reader_seek(reader, path, NULL));
        assert_int_equal(tree_reader_next(reader, &entry, NULL), 1);
        assert_string_equal(entry.path, path);
        if (numbers[i] < MANY) {
            assert_int_equal(tree_reader_next(reader, &entry, NULL), 1);
            assert_int_equal(entry.meta.size, numbers[i] + 1);
        }
    }
    store_counts(store, &after);
    assert_true(after.requests[STORE_REQUEST_GET] - before.requests[STORE_REQUEST_GET] <= 2 * G_N_ELEMENTS(numbers));
    assert_true(tree_reader_seek(reader, "dir", NULL));
    assert_int_equal(tree_reader_next(reader, &entry, NULL), 1);
    assert_string_equal(entry.path, "dir/file000001");
    g_autoptr(GError) error = NULL;
    assert_false(tree_reader_seek(reader, "dir/file", &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
}

/* Every key below a prefix, newest last. */
static GPtrArray *keys_below(Store *store, const char *prefix)
{
    GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(StoreList) list = store_list(store, prefix, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    while (store_list_next(list, &object, NULL) > 0)
        g_ptr_array_add(keys, g_strdup(object->key));
    return keys;
}

static void test_damage_is_found(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    gboolean changed = FALSE;
    (void)write_tree(store, NULL, 50, 0, 0, &changed);
    g_autoptr(GPtrArray) blocks = keys_below(store, TREE_BLOCK_PREFIX);
    const char *key = g_ptr_array_index(blocks, 0);
    g_autoptr(GBytes) bytes = store_get_bytes(store, key, NULL, 1000000, NULL, NULL);
    gsize length = 0;
    const guint8 *data = g_bytes_get_data(bytes, &length);
    guint harmless = 0;
    for (gsize at = 0; at < length; at += 7) {
        g_autofree guint8 *copy = g_memdup2(data, length);
        copy[at] ^= 0x10;
        StoreBody body = {.data = copy, .length = length};
        StorePut how = {0};
        assert_true(store_put(store, key, &body, &how, NULL, NULL));
        g_autoptr(TreeReader) reader = open_newest(store, NULL, NULL);
        g_autoptr(GError) error = NULL;
        S3Entry entry;
        int got = 0;
        while ((got = tree_reader_next(reader, &entry, &error)) > 0)
            continue;
        /* Bits of the compressor's own that mean nothing may be another; what they give was proven to be the same. */
        assert_true(got == 0 || error_is(error, BACKAPP_ERROR_CORRUPT));
        harmless += got == 0 ? 1 : 0;
    }
    assert_true(harmless <= 1);
    /* The next run does not trust what it cannot read: a root that is damaged is as good as none. */
    g_autoptr(GPtrArray) roots = keys_below(store, TREE_ROOTS);
    StoreBody body = {.data = "rubbish", .length = 7};
    StorePut how = {0};
    assert_true(store_put(store, g_ptr_array_index(roots, 0), &body, &how, NULL, NULL));
    assert_int_equal(write_tree(store, NULL, 50, 0, 0, &changed), 1);
    g_autoptr(TreeReader) reader = open_newest(store, NULL, NULL);
    assert_non_null(reader);
    S3Entry entry;
    assert_int_equal(tree_reader_next(reader, &entry, NULL), 1);
}

static void test_lost_block_comes_back(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    gboolean changed = FALSE;
    (void)write_tree(store, NULL, 3000, 0, 0, &changed);
    g_autoptr(GPtrArray) blocks = keys_below(store, TREE_BLOCK_PREFIX);
    assert_true(store_delete(store, g_ptr_array_index(blocks, 1), NULL, NULL));
    assert_int_equal(write_tree(store, NULL, 3000, 0, 0, &changed), 1);
    assert_false(changed);
    g_autoptr(GPtrArray) again = keys_below(store, TREE_BLOCK_PREFIX);
    assert_int_equal(again->len, blocks->len);
}

static void test_expiry(void **state)
{
    g_autoptr(Store) store = store_memory_new();
    gboolean changed = FALSE;
    (void)write_tree(store, NULL, 3000, 0, 0, &changed);
    (void)write_tree(store, NULL, 3000, 0, 7, &changed);
    (void)write_tree(store, NULL, 3000, 0, 8, &changed);
    g_autoptr(GPtrArray) roots = tree_list_roots(store, NULL);
    assert_int_equal(roots->len, 3);
    guint64 removed = 0;
    /* Roots from before then, but no block was written before then. */
    assert_true(tree_expire(store, 1700000000, NULL, &removed, NULL));
    assert_int_equal(removed, 0);
    gint64 later = g_get_real_time() / G_USEC_PER_SEC + 10;
    assert_true(tree_expire(store, later, NULL, &removed, NULL));
    assert_true(removed >= 4); /* two roots, and at least a block of each */
    g_autoptr(GPtrArray) left = tree_list_roots(store, NULL);
    assert_int_equal(left->len, 1);
    g_autoptr(TreeReader) reader = open_newest(store, NULL, NULL);
    S3Entry entry;
    guint count = 0;
    while (tree_reader_next(reader, &entry, NULL) > 0)
        count++;
    assert_int_equal(count, 3001);
}

/* A point counts from when it was followed, not from when it was made: until then it was the present one. */
static void test_expiry_of_what_rarely_changes(void **state)
{
    enum { LONG_AGO = 1500000000, NOT_SO_LONG = 1600000000, NOW = 1700000000 };
    static const gint64 times[] = {LONG_AGO, NOT_SO_LONG, NOW};
    g_autoptr(Store) store = store_memory_new();
    for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
        g_autoptr(TreeWriter) writer = tree_writer_new(store, NULL, NULL, NULL);
        put(writer, 0, 1);
        put(writer, 1, i);
        TreeRoot root = make_root();
        root.time = times[i];
        gboolean changed = FALSE;
        assert_true(tree_writer_commit(writer, &root, &changed, NULL));
        assert_true(changed);
    }
    guint64 removed = 0;
    assert_true(tree_expire(store, NOT_SO_LONG, NULL, &removed, NULL));
    assert_int_equal(removed, 0);
    assert_true(tree_expire(store, NOT_SO_LONG + 1, NULL, &removed, NULL));
    assert_int_equal(removed, 1);
    /* The second is old, and was replaced only now. */
    assert_true(tree_expire(store, NOW, NULL, &removed, NULL));
    g_autoptr(GPtrArray) roots = tree_list_roots(store, NULL);
    assert_int_equal(roots->len, 2);
    assert_int_equal(((const TreeRoot *)g_ptr_array_index(roots, 1))->time, NOT_SO_LONG);
    assert_true(tree_expire(store, NOW + 1, NULL, &removed, NULL));
    g_autoptr(GPtrArray) left = tree_list_roots(store, NULL);
    assert_int_equal(left->len, 1);
    assert_int_equal(((const TreeRoot *)g_ptr_array_index(left, 0))->time, NOW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_only_changed_blocks),
        cmocka_unit_test(test_what_changes_by_itself_is_left_out),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_seek),
        cmocka_unit_test(test_damage_is_found),
        cmocka_unit_test(test_lost_block_comes_back),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_expiry_of_what_rarely_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
