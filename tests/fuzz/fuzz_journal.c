/*
 * A journal from the input. First byte even: the rest is the file as it is. Odd: the rest are frames' payloads (two
 * bytes of length each, little-endian), which get right checksums and a right trailer, so that what is behind them is
 * reached. What must hold: reading ends; what was accepted is accepted again, with the same records, and no path leads
 * out of the destination.
 */
#include "base/bytes.h"
#include "engine/mirror/journal.h"
#include "fs/dir.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *directory;
static int directory_fd = -1;

static void clean_up(void)
{
    if (unlinkat(directory_fd, "journal", 0) != 0 || rmdir(directory) != 0)
        g_printerr("cannot remove %s\n", directory);
    g_free(directory);
}

static void open_directory(void)
{
    if (directory_fd >= 0)
        return;
    directory = g_build_filename(g_get_tmp_dir(), "backapp-fuzz-XXXXXX", NULL);
    g_assert_nonnull(g_mkdtemp(directory));
    directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(directory_fd, >=, 0);
    g_assert_cmpint(atexit(clean_up), ==, 0);
}

/* Wraps payloads into a file whose checksums are right. */
static GByteArray *wrap(const uint8_t *data, size_t size)
{
    GByteArray *file = g_byte_array_new();
    GByteArray *sums = g_byte_array_new();
    guint64 frames = 0;
    g_byte_array_append(file, (const guint8 *)"BACKAPPJ", 8);
    while (size >= 2) {
        guint32 length = (guint32)MIN(data[0] + 256U * data[1], size - 2);
        guint64 sum = XXH3_64bits_withSeed(data + 2, length, frames++);
        bytes_put_u32(file, length);
        bytes_put_u64(file, sum);
        g_byte_array_append(file, data + 2, length);
        bytes_put_u64(sums, sum);
        data += 2 + length;
        size -= 2 + length;
    }
    guint start = file->len;
    bytes_put_u32(file, 0);
    bytes_put_u64(file, frames);
    bytes_put_u64(file, XXH3_64bits(sums->data, sums->len));
    bytes_put_u64(file, XXH3_64bits_withSeed(file->data + start, file->len - start, frames));
    g_byte_array_unref(sums);
    return file;
}

static void write_journal(const guint8 *data, gsize size)
{
    g_auto(AutoFd) fd = openat(directory_fd, "journal", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(pwrite(fd, data, size, 0), ==, (gssize)size);
    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
}

/* Reads all records; returns a digest of them. */
static guint64 digest(Journal *journal)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    JournalRecord record;
    int got;
    while ((got = journal_next(journal, &record, NULL)) > 0) {
        g_autofree char *bounded = g_strdup_printf("/%s/", record.path);
        g_assert_null(strstr(bounded, "/../"));
        g_assert_true(record.path[0] != '/' && !g_str_has_prefix(bounded, "/.backapp/"));
        bytes_put_varint(all, record.op);
        bytes_put_blob(all, record.path, strlen(record.path));
        bytes_put_varint(all, record.staged_ino ^ record.have_ino);
        if (record.attrs != NULL)
            attrs_encode(record.attrs, all);
    }
    g_assert_cmpint(got, ==, 0);
    return XXH3_64bits(all->data, all->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    open_directory();
    if ((data[0] & 1) == 0) {
        write_journal(data + 1, size - 1);
    } else {
        g_autoptr(GByteArray) file = wrap(data + 1, size - 1);
        write_journal(file->data, file->len);
    }
    g_autoptr(Journal) journal = journal_open(directory_fd, NULL);
    if (journal == NULL)
        return 0;
    guint64 first = digest(journal);
    g_assert_true(journal_rewind(journal, NULL));
    g_assert_cmpuint(digest(journal), ==, first);
    return 0;
}
