#include "../fs/scratch.h"

#include "engine/s3sync/catalogue.h"

#define WHERE "s3://bucket/prefix/"

static char *catalogue_path(const Scratch *scratch)
{
    return g_strconcat(scratch->path, "/catalogue", NULL);
}

static Catalogue *open_catalogue(const Scratch *scratch, gboolean *fresh, gboolean *unfinished)
{
    g_autofree char *path = catalogue_path(scratch);
    g_autoptr(GError) error = NULL;
    Catalogue *catalogue = catalogue_open(path, WHERE, fresh, unfinished, &error);
    if (catalogue == NULL)
        fail_msg("%s", error->message);
    return catalogue;
}

static CatalogueRow sample(const char *key)
{
    CatalogueRow row = {.key = key,
                        .object_size = G_MAXUINT64,
                        .size = 12345,
                        .mtime_s = -5,
                        .ctime_s = G_MAXINT64,
                        .mtime_ns = 999999999,
                        .ctime_ns = 1,
                        .ino = G_MAXUINT64 - 1,
                        .etag = "etag-2",
                        .storage_class = "STANDARD",
                        .part_size = 8 << 20};
    memset(row.hash, 0xa5, HASH_BYTES);
    return row;
}

static void assert_same_row(const CatalogueRow *a, const CatalogueRow *b)
{
    assert_string_equal(a->key, b->key);
    assert_true(a->object_size == b->object_size && a->size == b->size && a->ino == b->ino);
    assert_true(a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns);
    assert_true(a->ctime_s == b->ctime_s && a->ctime_ns == b->ctime_ns);
    assert_string_equal(a->etag, b->etag);
    assert_true(g_strcmp0(a->version, b->version) == 0);
    assert_string_equal(a->storage_class, b->storage_class);
    assert_true(a->part_size == b->part_size);
    assert_memory_equal(a->hash, b->hash, HASH_BYTES);
}

static void test_rows_come_back_in_the_order_of_keys(void **state)
{
    static const char *const KEYS[] = {"b", "a/x", "a-b", "\xff", "a", "\x01", "ab"};
    static const char *const SORTED[] = {"\x01", "a", "a-b", "a/x", "ab", "b", "\xff"};
    gboolean fresh, unfinished;
    {
        g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
        assert_true(fresh && !unfinished);
        for (guint i = 0; i < G_N_ELEMENTS(KEYS); i++) {
            CatalogueRow row = sample(KEYS[i]);
            row.version = i % 2 ? "v1" : NULL;
            assert_true(catalogue_put(catalogue, &row, NULL));
        }
    }
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    assert_true(!fresh && !unfinished);
    g_autoptr(CatalogueReader) reader = catalogue_reader_new(catalogue, NULL);
    const CatalogueRow *row;
    for (guint i = 0; i < G_N_ELEMENTS(SORTED); i++) {
        assert_int_equal(catalogue_reader_next(reader, &row, NULL), 1);
        assert_string_equal(row->key, SORTED[i]);
        CatalogueRow want = sample(SORTED[i]);
        want.version = row->version;
        assert_same_row(row, &want);
    }
    assert_int_equal(catalogue_reader_next(reader, &row, NULL), 0);
    assert_int_equal(catalogue_reader_next(reader, &row, NULL), 0);
}

static void test_a_row_is_found_with_its_parts(void **state)
{
    gboolean fresh, unfinished;
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    g_autofree guint8 *parts = g_malloc(10000 * HASH_BYTES);
    memset(parts, 7, 10000 * HASH_BYTES);
    CatalogueRow row = sample("large");
    row.parts = parts;
    row.parts_count = 10000;
    assert_true(catalogue_put(catalogue, &row, NULL));
    g_autoptr(CatalogueRow) found = NULL;
    assert_int_equal(catalogue_find(catalogue, "large", &found, NULL), 1);
    assert_same_row(found, &row);
    assert_int_equal(found->parts_count, 10000);
    assert_memory_equal(found->parts, parts, 10000 * HASH_BYTES);

    /* Replaced by one without parts: none are left. */
    catalogue_row_free(g_steal_pointer(&found));
    row.parts_count = 0;
    row.part_size = 0;
    row.size = 1;
    assert_true(catalogue_put(catalogue, &row, NULL));
    assert_int_equal(catalogue_find(catalogue, "large", &found, NULL), 1);
    assert_true(found->parts == NULL && found->parts_count == 0 && found->part_size == 0 && found->size == 1);
    catalogue_row_free(g_steal_pointer(&found));
    assert_true(catalogue_remove(catalogue, "large", NULL));
    assert_int_equal(catalogue_find(catalogue, "large", &found, NULL), 0);
    assert_null(found);
}

static void assert_wrong(Catalogue *catalogue, const char *key)
{
    g_autoptr(GHashTable) wrong = catalogue_wrong(catalogue, NULL);
    assert_non_null(wrong);
    assert_int_equal(g_hash_table_size(wrong), key != NULL ? 1 : 0);
    assert_true(key == NULL || g_hash_table_contains(wrong, key));
}

/* A note stays, with or without a row, until a row is put; the row that there was is gone. */
static void test_what_is_wrong_is_noted(void **state)
{
    gboolean fresh, unfinished;
    CatalogueRow row = sample("known");
    {
        g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
        assert_wrong(catalogue, NULL);
        assert_true(catalogue_put(catalogue, &row, NULL) && catalogue_add_wrong(catalogue, "known", NULL));
        assert_true(catalogue_add_wrong(catalogue, "known", NULL));
        assert_wrong(catalogue, "known");
    }
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    g_autoptr(CatalogueRow) found = NULL;
    assert_int_equal(catalogue_find(catalogue, "known", &found, NULL), 0);
    assert_wrong(catalogue, "known");
    row.key = "another";
    assert_true(catalogue_put(catalogue, &row, NULL));
    assert_wrong(catalogue, "known");
    row.key = "known";
    assert_true(catalogue_put(catalogue, &row, NULL));
    assert_wrong(catalogue, NULL);
    assert_true(catalogue_add_wrong(catalogue, "no row", NULL));
    assert_wrong(catalogue, "no row");
}

static void test_values_and_the_mark_of_a_run(void **state)
{
    gboolean fresh, unfinished;
    {
        g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
        assert_null(catalogue_get_value(catalogue, "generation", NULL));
        assert_true(catalogue_set_value(catalogue, "generation", "one", NULL));
        assert_true(catalogue_begin_run(catalogue, NULL));
    }
    {
        g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
        assert_true(unfinished);
        g_autofree char *value = catalogue_get_value(catalogue, "generation", NULL);
        assert_string_equal(value, "one");
        assert_true(catalogue_end_run(catalogue, NULL));
    }
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    assert_non_null(catalogue);
    assert_false(unfinished);
}

static void test_uploads_are_remembered(void **state)
{
    gboolean fresh, unfinished;
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    char key[] = "k", old_id[] = "old", new_id[] = "new";
    CatalogueUpload upload = {.key = key, .id = old_id, .size = 5, .part_size = 6, .mtime_s = -7, .started = 100};
    assert_true(catalogue_put_upload(catalogue, &upload, NULL));
    upload.id = new_id;
    upload.started = 200;
    assert_true(catalogue_put_upload(catalogue, &upload, NULL));
    CatalogueUpload found;
    assert_int_equal(catalogue_find_upload(catalogue, "k", &found, NULL), 1);
    assert_string_equal(found.id, "new");
    assert_true(found.size == 5 && found.part_size == 6 && found.mtime_s == -7 && found.started == 200);
    catalogue_upload_clear(&found);
    g_autoptr(GPtrArray) all = catalogue_uploads(catalogue, NULL);
    assert_int_equal(all->len, 2);
    assert_true(catalogue_remove_upload(catalogue, "new", NULL));
    assert_true(catalogue_remove_upload(catalogue, "old", NULL));
    assert_int_equal(catalogue_find_upload(catalogue, "k", &found, NULL), 0);
}

static void test_it_belongs_to_one_destination_and_one_run(void **state)
{
    gboolean fresh, unfinished;
    g_autofree char *path = catalogue_path(*state);
    g_autoptr(GError) error = NULL;
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    assert_null(catalogue_open(path, WHERE, &fresh, &unfinished, &error));
    assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
    g_clear_error(&error);
    catalogue_free(g_steal_pointer(&catalogue));
    assert_null(catalogue_open(path, "s3://other/", &fresh, &unfinished, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
}

static void test_a_damaged_file_is_made_anew(void **state)
{
    Scratch *scratch = *state;
    gboolean fresh, unfinished;
    put_file(scratch->fd, "catalogue", "nothing that SQLite knows", 25);
    put_file(scratch->fd, "catalogue-wal", "old", 3);
    {
        g_autoptr(Catalogue) catalogue = open_catalogue(scratch, &fresh, &unfinished);
        assert_true(fresh);
        CatalogueRow row = sample("k");
        assert_true(catalogue_put(catalogue, &row, NULL));
    }
    assert_int_equal(faccessat(scratch->fd, "catalogue.damaged", F_OK, 0), 0);
    g_autoptr(Catalogue) catalogue = open_catalogue(scratch, &fresh, &unfinished);
    assert_non_null(catalogue);
    assert_false(fresh);
}

/* Enough rows for several pages, one of which is then overwritten in the middle of the file. */
static void test_damage_that_is_met_later_heals_itself(void **state)
{
    Scratch *scratch = *state;
    gboolean fresh, unfinished;
    {
        g_autoptr(Catalogue) catalogue = open_catalogue(scratch, &fresh, &unfinished);
        for (guint i = 0; i < 3000; i++) {
            g_autofree char *key = g_strdup_printf("file-%05u", i);
            CatalogueRow row = sample(key);
            assert_true(catalogue_put(catalogue, &row, NULL));
        }
    }
    AutoFd fd = openat(scratch->fd, "catalogue", O_WRONLY | O_CLOEXEC);
    g_autofree guint8 *junk = g_malloc0(4096);
    memset(junk, 0x5a, 4096);
    for (guint page = 20; page < 30; page++)
        assert_int_equal(pwrite(fd, junk, 4096, 4096L * page), 4096);
    {
        g_autoptr(Catalogue) catalogue = open_catalogue(scratch, &fresh, &unfinished);
        assert_false(fresh);
        g_autoptr(CatalogueReader) reader = catalogue_reader_new(catalogue, NULL);
        g_autoptr(GError) error = NULL;
        const CatalogueRow *row;
        int got = 1;
        while (got == 1)
            got = catalogue_reader_next(reader, &row, &error);
        assert_int_equal(got, -1);
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    }
    g_autoptr(Catalogue) catalogue = open_catalogue(scratch, &fresh, &unfinished);
    assert_non_null(catalogue);
    assert_true(fresh);
}

typedef struct {
    Catalogue *catalogue;
    guint from;
} Writer;

static gpointer write_rows(gpointer data)
{
    const Writer *writer = data;
    for (guint i = 0; i < 2000; i++) {
        g_autofree char *key = g_strdup_printf("%05u", writer->from + i);
        CatalogueRow row = sample(key);
        g_assert_true(catalogue_put(writer->catalogue, &row, NULL));
        if (i % 2 == 1)
            g_assert_true(catalogue_remove(writer->catalogue, key, NULL));
    }
    return NULL;
}

static void test_several_threads_write(void **state)
{
    gboolean fresh, unfinished;
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    Writer writers[4];
    GThread *threads[4];
    for (guint i = 0; i < 4; i++) {
        writers[i] = (Writer){.catalogue = catalogue, .from = i * 10000};
        threads[i] = g_thread_new("writer", write_rows, &writers[i]);
    }
    for (guint i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    g_autoptr(CatalogueReader) reader = catalogue_reader_new(catalogue, NULL);
    const CatalogueRow *row;
    guint count = 0;
    while (catalogue_reader_next(reader, &row, NULL) == 1)
        count++;
    assert_int_equal(count, 4000);
}

/* A process that ends without closing: what was flushed is there. */
static int write_and_die(Scratch *scratch)
{
    g_autofree char *path = catalogue_path(scratch);
    gboolean fresh, unfinished;
    Catalogue *catalogue = catalogue_open(path, WHERE, &fresh, &unfinished, NULL);
    CatalogueRow row = sample("flushed");
    CHECK(catalogue != NULL && catalogue_begin_run(catalogue, NULL) && catalogue_put(catalogue, &row, NULL));
    CHECK(catalogue_flush(catalogue, NULL));
    row.key = "pending";
    CHECK(catalogue_put(catalogue, &row, NULL));
    _exit(0);
}

static void test_a_crash_keeps_what_was_flushed(void **state)
{
    RUN_CHILD(write_and_die, *state);
    gboolean fresh, unfinished;
    g_autoptr(Catalogue) catalogue = open_catalogue(*state, &fresh, &unfinished);
    assert_true(unfinished && !fresh);
    g_autoptr(CatalogueRow) found = NULL;
    assert_int_equal(catalogue_find(catalogue, "flushed", &found, NULL), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_rows_come_back_in_the_order_of_keys),
        SCRATCH_TEST(test_a_row_is_found_with_its_parts),
        SCRATCH_TEST(test_what_is_wrong_is_noted),
        SCRATCH_TEST(test_values_and_the_mark_of_a_run),
        SCRATCH_TEST(test_uploads_are_remembered),
        SCRATCH_TEST(test_it_belongs_to_one_destination_and_one_run),
        SCRATCH_TEST(test_a_damaged_file_is_made_anew),
        SCRATCH_TEST(test_damage_that_is_met_later_heals_itself),
        SCRATCH_TEST(test_several_threads_write),
        SCRATCH_TEST(test_a_crash_keeps_what_was_flushed),
    };
    return cmocka_run_group_tests_name("s3sync/catalogue", tests, NULL, NULL);
}
