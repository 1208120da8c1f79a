#include "../base/cmocka_all.h"

#include <string.h>

#include "base/error.h"
#include "engine/source/entry.h"

static void assert_same(const S3Entry *a, const S3Entry *b)
{
    assert_string_equal(a->path, b->path);
    assert_int_equal(g_strcmp0(a->key, b->key), 0);
    assert_int_equal(g_strcmp0(a->user, b->user), 0);
    assert_int_equal(g_strcmp0(a->group, b->group), 0);
    assert_int_equal(g_strcmp0(a->target, b->target), 0);
    assert_int_equal(g_strcmp0(a->link, b->link), 0);
    assert_int_equal(g_strcmp0(a->etag, b->etag), 0);
    assert_int_equal(g_strcmp0(a->version, b->version), 0);
    assert_int_equal(a->attrs_length, b->attrs_length);
    if (a->attrs_length > 0)
        assert_memory_equal(a->attrs, b->attrs, a->attrs_length);
    assert_true(a->object_size == b->object_size && a->part_size == b->part_size);
    if (a->part_size > 0)
        assert_memory_equal(a->hash, b->hash, HASH_BYTES);
    assert_true(a->meta.mode == b->meta.mode && a->meta.size == b->meta.size && a->meta.mtime_s == b->meta.mtime_s &&
                a->meta.ino == b->meta.ino && a->meta.ctime_ns == b->meta.ctime_ns);
}

static void test_entries_come_back(void **state)
{
    static const guint8 ATTRS[] = {1, 0, 2};
    (void)state;
    S3Entry entries[] = {
        {.path = "", .meta = {.mode = 040755}},
        {.path = "dir/a", .key = "dir/a", .meta = {.size = 5, .mtime_s = -1, .ino = G_MAXUINT64, .ctime_ns = 7}},
        {.path = "dir/ab\xff", .key = "other key", .user = "u", .group = "", .etag = "e", .version = "v"},
        {.path = "dir/ab\xff", .link = "dir/a", .object_size = 77, .part_size = 8 << 20, .hash = {9, 8, 7}},
        {.path = "e", .target = "../x", .attrs = ATTRS, .attrs_length = sizeof ATTRS, .meta = {.mode = 0120777}},
    };
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    const char *previous = "";
    for (guint i = 0; i < G_N_ELEMENTS(entries); i++) {
        entry_encode(&entries[i], previous, bytes);
        previous = entries[i].path;
    }
    /* The path before may lie in the arena, as long as that is not cleared. */
    g_autoptr(GByteArray) arena = g_byte_array_new();
    BytesReader in = bytes_reader(bytes->data, bytes->len);
    previous = "";
    for (guint i = 0; i < G_N_ELEMENTS(entries); i++) {
        S3Entry back;
        assert_true(entry_decode(&in, previous, arena, &back, NULL));
        assert_same(&back, &entries[i]);
        previous = back.path;
    }
    assert_true(bytes_reader_done(&in));
}

static void test_every_cut_is_noticed(void **state)
{
    (void)state;
    S3Entry entry = {
        .path = "some/path", .key = "key", .user = "user", .etag = "etag", .part_size = 1, .object_size = 2};
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GByteArray) arena = g_byte_array_new();
    entry_encode(&entry, "some/other", bytes);
    for (guint cut = 0; cut < bytes->len; cut++) {
        g_autofree guint8 *copy = g_memdup2(bytes->data, cut + 1);
        BytesReader in = bytes_reader(copy, cut);
        S3Entry back;
        g_autoptr(GError) error = NULL;
        assert_false(entry_decode(&in, "some/other", arena, &back, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries_come_back),
        cmocka_unit_test(test_every_cut_is_noticed),
    };
    return cmocka_run_group_tests_name("source/entry", tests, NULL, NULL);
}
