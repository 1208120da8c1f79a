/*
 * The list of what was archived: passes merge as a model says, what lies behind a cut is forgotten, and nothing that is
 * damaged is believed.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "engine/archive/runs.h"
#include "fs/dir.h"

#define LIST "list"

static char *folder;
static int dir_fd = -1;

static int make_folder(void **state)
{
    (void)state;
    folder = g_dir_make_tmp("backapp-runs-XXXXXX", NULL);
    dir_fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    return dir_fd >= 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    (void)unlinkat(dir_fd, LIST, 0);
    fd_clear(&dir_fd);
    int got = rmdir(folder);
    g_clear_pointer(&folder, g_free);
    return got;
}

static IndexEntry entry_of(const char *path, gboolean directory, guint64 size)
{
    IndexEntry entry = {
        .entry = {.path = path, .meta = {.mode = (directory ? S_IFDIR : S_IFREG) | 0644, .size = size}}};
    entry.flags = INDEX_STORED;
    return entry;
}

/* ---- merging ---- */

typedef struct {
    char *path;
    gboolean directory, dropped;
    guint64 size;
} Row;

static void free_row(gpointer data)
{
    Row *row = data;
    g_free(row->path);
    g_free(row);
}

static int compare_rows(gconstpointer a, gconstpointer b)
{
    const Row *left = *(const Row *const *)a, *right = *(const Row *const *)b;
    return index_compare_paths(left->path, left->directory, right->path, right->directory);
}

/* All paths there are: "0" to "59" in some order, a few as file and directory. */
static void take_pass(GRand *random, GPtrArray *model, guint pass, Runs *runs)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new();
    for (guint i = 0; i < 60; i++) {
        if (g_rand_int_range(random, 0, 3) == 0)
            continue;
        Row *row = g_ptr_array_index(model, i);
        row->dropped = g_rand_int_range(random, 0, 4) == 0;
        row->size = pass * 1000 + i;
        g_ptr_array_add(rows, row);
    }
    g_ptr_array_sort(rows, compare_rows);
    for (guint i = 0; i < rows->len; i++) {
        const Row *row = g_ptr_array_index(rows, i);
        IndexEntry entry = entry_of(row->path, row->directory, row->size);
        assert_true(runs_begin_entry(runs, &entry, NULL, NULL));
        entry.flags = row->dropped ? RUNS_DROPPED : INDEX_STORED;
        assert_true(runs_put(runs, &entry, pass * 100000 + i, NULL));
    }
}

static void check_merge(Runs *runs, GPtrArray *model)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new();
    for (guint i = 0; i < model->len; i++)
        g_ptr_array_add(rows, g_ptr_array_index(model, i));
    g_ptr_array_sort(rows, compare_rows);
    g_autoptr(RunsReader) reader = runs_read(runs, NULL);
    assert_non_null(reader);
    IndexEntry entry;
    for (guint i = 0; i < rows->len; i++) {
        const Row *row = g_ptr_array_index(rows, i);
        if (row->dropped || row->size == 0)
            continue;
        assert_int_equal(runs_reader_next(reader, &entry, NULL), 1);
        assert_string_equal(entry.entry.path, row->path);
        assert_int_equal(S_ISDIR(entry.entry.meta.mode), row->directory);
        assert_int_equal(entry.entry.meta.size, row->size);
        assert_int_equal(entry.flags, INDEX_STORED);
    }
    assert_int_equal(runs_reader_next(reader, &entry, NULL), 0);
}

static void test_merge(void **state)
{
    (void)state;
    for (guint seed = 0; seed < 30; seed++) {
        GRand *random = g_rand_new_with_seed(seed);
        g_autoptr(GPtrArray) model = g_ptr_array_new_with_free_func(free_row);
        for (guint i = 0; i < 60; i++) {
            Row *row = g_new0(Row, 1);
            row->path = g_strdup_printf("%u%s", i / 2, i % 4 < 2 ? "" : "-x");
            row->directory = i % 2 == 1;
            g_ptr_array_add(model, row);
        }
        g_autoptr(Runs) runs = runs_new(dir_fd, seed % 2 ? LIST : NULL, NULL);
        assert_non_null(runs);
        for (guint pass = 1; pass <= seed % 5 + 1; pass++) {
            assert_true(pass == 1 || runs_begin_pass(runs, NULL));
            take_pass(random, model, pass, runs);
            check_merge(runs, model);
        }
        g_rand_free(random);
    }
}

/* Nothing was put at all. */
static void test_empty(void **state)
{
    (void)state;
    g_autoptr(Runs) runs = runs_new(-1, NULL, NULL);
    g_autoptr(RunsReader) reader = runs_read(runs, NULL);
    IndexEntry entry;
    assert_int_equal(runs_reader_next(reader, &entry, NULL), 0);
    assert_int_equal(runs_reader_next(reader, &entry, NULL), 0);
}

/* ---- going on ---- */

/* 100 files of 10 bytes of tar each; a deletion before the 40th; file 50 is sparse. The last is begun only. */
static guint64 write_list(void)
{
    g_autoptr(Runs) runs = runs_new(dir_fd, LIST, NULL);
    g_autoptr(GByteArray) header = g_byte_array_new();
    g_byte_array_append(header, (const guint8 *)"its header and map", 18);
    assert_non_null(runs);
    for (guint i = 0; i < 100; i++) {
        char path[16];
        g_snprintf(path, sizeof path, "%03u", i);
        IndexEntry entry = entry_of(path, FALSE, i);
        entry.tar_offset = i * 10;
        if (i == 40) {
            IndexEntry gone = entry_of("039-gone", FALSE, 0);
            gone.flags = INDEX_DELETED;
            assert_true(runs_put(runs, &gone, i * 10, NULL));
        }
        entry.flags |= i == 50 ? INDEX_SPARSE : 0u;
        assert_true(runs_begin_entry(runs, &entry, i == 50 ? header : NULL, NULL));
        assert_true(i == 99 || runs_put(runs, &entry, i * 10 + 10, NULL));
        assert_true(i != 30 || runs_begin_pass(runs, NULL));
    }
    guint64 length = 0;
    assert_true(runs_sync(runs, &length, NULL));
    return length;
}

static guint count(Runs *runs)
{
    g_autoptr(RunsReader) reader = runs_read(runs, NULL);
    IndexEntry entry;
    guint number = 0;
    while (reader && runs_reader_next(reader, &entry, NULL) == 1)
        number++;
    return number;
}

static void test_cut(void **state)
{
    (void)state;
    for (guint64 end = 0; end < 1000; end += 5) {
        g_auto(RunsOpen) open = {0};
        guint64 length = write_list();
        g_autoptr(Runs) runs = runs_open(dir_fd, LIST, length, end, &open, NULL);
        assert_non_null(runs);
        /* Whole ones, and the deletion once the tar reached its place. */
        assert_int_equal(count(runs), end / 10 + (end >= 400 ? 1 : 0));
        assert_int_equal(open.is_open, end % 10 == 5);
        if (open.is_open) {
            assert_int_equal(open.entry.entry.meta.size, end / 10);
            assert_int_equal(open.entry.tar_offset, end / 10 * 10);
            assert_int_equal(open.header_length, end / 10 == 50 ? 18 : 0);
            if (open.header_length > 0)
                assert_memory_equal(open.header, "its header and map", 18);
        }
        /* It goes on from there. */
        IndexEntry entry = entry_of("zzz", FALSE, 1);
        assert_true(runs_begin_pass(runs, NULL) && runs_put(runs, &entry, end + 10, NULL));
        assert_int_equal(count(runs), end / 10 + (end >= 400 ? 2 : 1));
    }
}

/* What is not durable does not count; less than that is damage. */
static void test_length(void **state)
{
    (void)state;
    guint64 length = write_list();
    g_auto(RunsOpen) open = {0};
    g_autoptr(GError) error = NULL;
    int fd = openat(dir_fd, LIST, O_WRONLY | O_APPEND | O_CLOEXEC);
    assert_int_equal(write(fd, "half a record", 13), 13);
    assert_int_equal(close(fd), 0);
    g_autoptr(Runs) runs = runs_open(dir_fd, LIST, length, G_MAXUINT64, &open, NULL);
    assert_non_null(runs);
    assert_int_equal(count(runs), 100);
    assert_true(open.is_open);
    runs_open_clear(&open);
    assert_null(runs_open(dir_fd, LIST, length + 1, G_MAXUINT64, &open, &error));
    assert_int_equal(error->code, BACKAPP_ERROR_CORRUPT);
    g_clear_error(&error);
    assert_null(runs_open(dir_fd, "none", 0, 0, &open, &error));
    assert_int_equal(error->code, BACKAPP_ERROR_NOT_FOUND);
}

static void test_damage(void **state)
{
    (void)state;
    guint64 length = write_list();
    int fd = openat(dir_fd, LIST, O_RDWR | O_CLOEXEC);
    for (off_t at = 0; at < 400; at++) {
        g_auto(RunsOpen) open = {0};
        g_autoptr(GError) error = NULL;
        guint8 byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= (guint8)(1 << (at % 8));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        Runs *runs = runs_open(dir_fd, LIST, length, 950, &open, &error);
        if (runs)
            fail_msg("byte %d is not missed", (int)at);
        assert_int_equal(error->code, BACKAPP_ERROR_CORRUPT);
        assert_false(open.is_open);
        byte ^= (guint8)(1 << (at % 8));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    for (guint64 cut = 1; cut < 300; cut++) {
        g_auto(RunsOpen) open = {0};
        g_autoptr(Runs) runs = runs_open(dir_fd, LIST, cut, G_MAXUINT64, &open, NULL);
        /* Only where a record ends. */
        if (runs)
            assert_true(count(runs) <= 3);
        write_list();
    }
    assert_int_equal(close(fd), 0);
}

/* Interrupted without end: at last it has to begin anew, and is told before it is too late. */
static void test_passes(void **state)
{
    (void)state;
    guint64 length = 0;
    g_autoptr(Runs) runs = runs_new(dir_fd, LIST, NULL);
    guint passes = 1;
    for (gboolean good = TRUE; good && passes < 5000; passes++) {
        g_auto(RunsOpen) open = {0};
        assert_true(runs_begin_pass(runs, NULL) && runs_begin_pass(runs, NULL) && runs_sync(runs, &length, NULL));
        runs_free(g_steal_pointer(&runs));
        runs = runs_open(dir_fd, LIST, length, 0, &open, NULL);
        good = runs != NULL;
    }
    assert_in_range(passes, 100, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge),  cmocka_unit_test(test_empty),  cmocka_unit_test(test_cut),
        cmocka_unit_test(test_length), cmocka_unit_test(test_damage), cmocka_unit_test(test_passes),
    };
    return cmocka_run_group_tests_name("archive_runs", tests, make_folder, remove_folder);
}
