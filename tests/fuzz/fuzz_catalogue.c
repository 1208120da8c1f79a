/*
 * A catalogue's file from the input's bytes. What must hold: nothing but errors comes of it; what opens can be read and
 * written until an error; a file that is damaged is moved aside, and the one after it works.
 */
#include "engine/s3sync/catalogue.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *scratch_path;

static void remove_scratch(void)
{
    (void)rmdir(scratch_path); /* every input has cleaned up in it */
}

static const char *scratch(void)
{
    if (scratch_path == NULL) {
        /* In memory where that is possible: SQLite waits for the disk again and again. */
        const char *parent = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir();
        scratch_path = g_strconcat(parent, "/backapp-fuzz-XXXXXX", NULL);
        g_assert_nonnull(g_mkdtemp(scratch_path));
        (void)atexit(remove_scratch);
    }
    return scratch_path;
}

static void read_rows(Catalogue *catalogue)
{
    g_autoptr(CatalogueReader) reader = catalogue_reader_new(catalogue, NULL);
    const CatalogueRow *row;
    while (reader != NULL && catalogue_reader_next(reader, &row, NULL) == 1) {
        g_assert_true(row->key[0] != '\0' && strlen(row->key) > 0);
        g_autoptr(CatalogueRow) found = NULL;
        (void)catalogue_find(catalogue, row->key, &found, NULL);
    }
}

static void use(Catalogue *catalogue)
{
    static const guint8 PARTS[2 * HASH_BYTES];
    CatalogueRow row = {.key = "new", .etag = "e", .part_size = 1, .parts = PARTS, .parts_count = 2};
    char key[] = "k", id[] = "i";
    CatalogueUpload upload = {.key = key, .id = id};
    g_free(catalogue_get_value(catalogue, "generation", NULL));
    read_rows(catalogue);
    GPtrArray *uploads = catalogue_uploads(catalogue, NULL);
    if (uploads != NULL)
        g_ptr_array_unref(uploads);
    CatalogueUpload found;
    (void)catalogue_find_upload(catalogue, "k", &found, NULL);
    catalogue_upload_clear(&found);
    if (catalogue_begin_run(catalogue, NULL) && catalogue_put(catalogue, &row, NULL) &&
        catalogue_put_upload(catalogue, &upload, NULL) && catalogue_remove(catalogue, "a", NULL))
        (void)catalogue_end_run(catalogue, NULL);
}

static void remove_files(const char *path)
{
    static const char *const ENDINGS[] = {"", "-wal", "-shm", "-journal", ".damaged"};
    for (guint i = 0; i < G_N_ELEMENTS(ENDINGS); i++) {
        g_autofree char *name = g_strconcat(path, ENDINGS[i], NULL);
        (void)unlink(name); /* most are not there */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *path = g_strconcat(scratch(), "/catalogue", NULL);
    remove_files(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    g_assert_true(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0);
    for (guint i = 0; i < 2; i++) {
        gboolean fresh, unfinished;
        g_autoptr(GError) error = NULL;
        g_autoptr(Catalogue) catalogue = catalogue_open(path, "memory:", &fresh, &unfinished, &error);
        g_assert_true(catalogue != NULL || !error_is(error, BACKAPP_ERROR_LOCKED));
        if (catalogue != NULL)
            use(catalogue);
    }
    remove_files(path);
    return 0;
}
