/* The record of proofs: order, round trip, damage, dropped paths. */
#include "engine/mirror/hashes.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "fs/atomic.h"
#include "fs/remove.h"

static char *scratch;
static Destination dest = {.root_fd = -1, .state_fd = -1};

static int setup(void **state)
{
    (void)state;
    scratch = g_dir_make_tmp("backapp-hashes-XXXXXX", NULL);
    dest.path = scratch;
    dest.state_fd = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dest.state_fd >= 0 ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    close(dest.state_fd);
    gboolean good = remove_tree(AT_FDCWD, scratch, FALSE, NULL, NULL);
    g_free(scratch);
    return good ? 0 : -1;
}

static void test_order(void **state)
{
    (void)state;
    /* Files before subdirectories, both by bytes, at every level. */
    const char *const sorted[] = {"b", "z", "\xff", "a/b", "a/c", "a-b/x", "c/y", "c/a/x", "c/a/y", "c/b/a"};
    for (guint i = 0; i < G_N_ELEMENTS(sorted); i++) {
        for (guint j = 0; j < G_N_ELEMENTS(sorted); j++) {
            /* "a-b" < "a" is false by bytes of the names themselves: "a" is shorter, so it comes first. */
            int order = hashes_order(sorted[i], sorted[j]);
            assert_int_equal(order < 0 ? -1 : order > 0 ? 1 : 0, i < j ? -1 : i > j ? 1 : 0);
        }
    }
}

static void write_records(guint count)
{
    g_autoptr(HashesWriter) writer = hashes_writer_open(&dest, NULL);
    assert_non_null(writer);
    for (guint i = 0; i < count; i++) {
        g_autofree char *path = g_strdup_printf("dir/with/a/long/name/%08u", i);
        HashRecord record = {.path = path, .size = i, .mtime_s = -5 - (gint64)i, .mtime_ns = i % 1000, .ino = 7 + i};
        memset(record.hash, (int)(i & 0xff), HASH_BYTES);
        assert_true(hashes_writer_put(writer, &record, NULL));
    }
    assert_true(hashes_writer_commit(writer, NULL));
}

static void test_round_trip(void **state)
{
    (void)state;
    const guint count = 5000; /* several blocks */
    write_records(count);
    g_autoptr(HashesReader) reader = hashes_reader_open(&dest, NULL);
    HashRecord record;
    for (guint i = 0; i < count; i++) {
        g_autofree char *path = g_strdup_printf("dir/with/a/long/name/%08u", i);
        assert_int_equal(hashes_reader_next(reader, &record, NULL), 1);
        assert_string_equal(record.path, path);
        assert_int_equal(record.size, i);
        assert_int_equal(record.mtime_s, -5 - (gint64)i);
        assert_int_equal(record.ino, 7 + i);
        assert_int_equal(record.hash[31], i & 0xff);
    }
    assert_int_equal(hashes_reader_next(reader, &record, NULL), 0);
    assert_int_equal(hashes_reader_next(reader, &record, NULL), 0);
}

/* Reads all; TRUE if nothing was said to be damaged. */
static gboolean reads_whole(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HashesReader) reader = hashes_reader_open(&dest, &error);
    HashRecord record;
    int got = -1;
    while (reader != NULL && (got = hashes_reader_next(reader, &record, &error)) > 0)
        continue;
    if (got != 0)
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    return got == 0;
}

static void test_damage(void **state)
{
    (void)state;
    write_records(3);
    g_autofree char *good = NULL;
    gsize length = 0;
    assert_true(atomic_read(dest.state_fd, "hashes", 65536, &good, &length, NULL));
    assert_true(reads_whole());
    for (gsize cut = 0; cut < length; cut++) {
        assert_true(atomic_write(dest.state_fd, "hashes", good, cut, 0600, NULL));
        assert_false(reads_whole());
    }
    for (gsize at = 0; at < length; at++) {
        good[at] ^= 0x10;
        assert_true(atomic_write(dest.state_fd, "hashes", good, length, 0600, NULL));
        assert_false(reads_whole());
        good[at] ^= 0x10;
    }
}

static void test_abandoned(void **state)
{
    (void)state;
    write_records(2);
    HashesWriter *writer = hashes_writer_open(&dest, NULL);
    hashes_writer_free(writer);
    assert_int_not_equal(faccessat(dest.state_fd, "hashes.new", F_OK, 0), 0);
    assert_true(reads_whole());
}

static void test_dropped(void **state)
{
    (void)state;
    write_records(1);
    g_autoptr(GPtrArray) paths = g_ptr_array_new();
    g_ptr_array_add(paths, (gpointer) "a/b");
    g_ptr_array_add(paths, (gpointer) "c\nd");
    assert_true(hashes_drop(&dest, paths, NULL));
    assert_true(hashes_drop(&dest, paths, NULL));
    g_autoptr(GHashTable) dropped = hashes_dropped(&dest, NULL);
    assert_true(hashes_is_dropped(dropped, "a/b"));
    assert_true(hashes_is_dropped(dropped, "a/b/c/d"));
    assert_true(hashes_is_dropped(dropped, "c\nd"));
    assert_false(hashes_is_dropped(dropped, "a/bc"));
    assert_false(hashes_is_dropped(dropped, "a"));
    write_records(1);
    g_autoptr(GHashTable) none = hashes_dropped(&dest, NULL);
    assert_int_equal(g_hash_table_size(none), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),     cmocka_unit_test(test_round_trip), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_abandoned), cmocka_unit_test(test_dropped),
    };
    return cmocka_run_group_tests_name("hashes", tests, setup, teardown);
}
