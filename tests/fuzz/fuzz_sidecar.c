/*
 * The sidecar from the input's bytes. What must hold: reading ends, never outside the bytes; paths stay below the
 * destination and come in order; what can be read to its end can be written again and then reads the same. An input that
 * does not begin as a sidecar is the content of a block, and gets the sums that it needs.
 */
#include "engine/mirror/sidecar.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"

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

static void put_file(const Destination *dest, const void *data, size_t size)
{
    int fd = openat(dest->state_fd, SIDECAR_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    g_assert_true(fd >= 0 && write(fd, data, size) == (ssize_t)size && close(fd) == 0);
}

/* A sidecar of one block, whose trailer says that it has so many records. */
static void put_block(const Destination *dest, const uint8_t *data, size_t size, guint64 count)
{
    g_autoptr(GByteArray) file = g_byte_array_new();
    g_byte_array_append(file, (const guint8 *)"BASIDE01", 8);
    bytes_put_u32(file, 0);
    bytes_put_u64(file, 1);
    bytes_put_u64(file, XXH3_64bits(file->data, file->len));
    bytes_put_u32(file, (guint32)size);
    bytes_put_u64(file, XXH3_64bits(data, size));
    g_byte_array_append(file, data, (guint)size);
    bytes_put_u32(file, 0);
    bytes_put_u64(file, count);
    put_file(dest, file->data, file->len);
}

/* Reads all records decoded, and counts them; a text of them if the whole could be read, else NULL. */
static char *read_all(const Destination *dest, guint64 *count)
{
    g_autoptr(SidecarReader) reader = sidecar_reader_open(dest, SIDECAR_NAME, NULL);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *previous = NULL;
    SidecarRecord record;
    int got = -1;
    while (reader != NULL && (got = sidecar_reader_next(reader, &record, NULL)) > 0) {
        g_autoptr(GByteArray) attrs = g_byte_array_new();
        (*count)++;
        g_autofree char *key = sidecar_key(record.path, S_ISDIR(record.meta.mode));
        attrs_encode(record.attrs, attrs);
        g_assert_true(previous == NULL || sidecar_order(previous, key) < 0);
        g_autofree char *framed = g_strconcat("/", record.path, "/", NULL);
        g_assert_true(strstr(framed, "/../") == NULL && record.path[0] != '/');
        g_assert_true((record.target != NULL) == S_ISLNK(record.meta.mode));
        g_string_append_printf(text, "%s %o %s %s %u\n", key, record.meta.mode,
                               record.target != NULL ? record.target : "", record.link != NULL ? record.link : "",
                               attrs->len);
        g_free(previous);
        previous = g_steal_pointer(&key);
    }
    return got == 0 ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

/* Copies the sidecar record by record. */
static void write_again(const Destination *dest)
{
    g_autoptr(SidecarReader) reader = sidecar_reader_open(dest, SIDECAR_NAME, NULL);
    g_autoptr(SidecarWriter) writer = sidecar_writer_open(dest, reader, NULL);
    const char *key = NULL;
    const guint8 *body = NULL;
    gsize length = 0;
    g_assert_true(reader != NULL && writer != NULL);
    while (sidecar_reader_step(reader, &key, &body, &length, NULL) > 0)
        g_assert_true(sidecar_writer_put(writer, key, body, length, NULL));
    g_assert_true(sidecar_writer_finish(writer, NULL) && sidecar_replay(dest, NULL));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char where[] = "fuzz";
    Destination dest = {.path = where, .root_fd = -1, .state_fd = scratch_dir()};
    guint64 count = 0;
    guint64 again = 0;
    if (size == 0 || data[0] == 'B') {
        put_file(&dest, data, size);
    } else {
        put_block(&dest, data, size, 0);
        g_free(read_all(&dest, &count));
        put_block(&dest, data, size, count);
    }
    count = 0;
    g_autofree char *first = read_all(&dest, &count);
    if (first != NULL) {
        write_again(&dest);
        g_autofree char *second = read_all(&dest, &again);
        g_assert_cmpstr(first, ==, second);
        g_assert_cmpuint(count, ==, again);
    }
    unlinkat(dest.state_fd, SIDECAR_NAME, 0);
    return 0;
}
