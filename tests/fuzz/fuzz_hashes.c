/*
 * The record of proofs from the input's bytes. What must hold: reading ends, never outside the bytes; what can be read
 * to its end can be written again and then reads the same.
 */
#include "engine/mirror/hashes.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int scratch_dir(void)
{
    static int fd = -1;
    if (fd < 0) {
        g_autofree char *path = g_dir_make_tmp("backapp-fuzz-XXXXXX", NULL);
        g_assert_nonnull(path);
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_assert_true(fd >= 0);
    }
    return fd;
}

/* Reads all records; copies them to writer if it is not NULL. TRUE if the whole could be read. */
static gboolean read_all(Destination *dest, HashesWriter *writer, guint64 *count)
{
    g_autoptr(HashesReader) reader = hashes_reader_open(dest, NULL);
    HashRecord record;
    int got = -1;
    *count = 0;
    while (reader != NULL && (got = hashes_reader_next(reader, &record, NULL)) > 0) {
        (*count)++;
        if (writer != NULL)
            g_assert_true(hashes_writer_put(writer, &record, NULL));
    }
    return got == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char where[] = "fuzz";
    Destination dest = {.path = where, .root_fd = -1, .state_fd = scratch_dir()};
    int fd = openat(dest.state_fd, "hashes", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    g_assert_true(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0);
    guint64 count = 0;
    guint64 again = 0;
    {
        g_autoptr(HashesWriter) writer = hashes_writer_open(&dest, NULL);
        g_assert_nonnull(writer);
        if (read_all(&dest, writer, &count))
            g_assert_true(hashes_writer_commit(writer, NULL) && read_all(&dest, NULL, &again) && again == count);
    }
    unlinkat(dest.state_fd, "hashes", 0);
    return 0;
}
