#include "engine/mirror/hashes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/error.h"
#include "fs/atomic.h"
#include "fs/dir.h"

#define MAGIC        "BAHASH01"
#define MAGIC_LENGTH 8
#define BLOCK_BYTES  (64 * 1024)
#define BLOCK_MAX    (16 * 1024 * 1024)
#define PATH_MAX_LEN (8 * 1024 * 1024)
#define DROPPED_MAX  (64 * 1024 * 1024)

struct HashesReader {
    FILE *file;
    char *where; /* for messages */
    GByteArray *block;
    BytesReader in;
    GString *path;
    guint64 count;
    gboolean ended;
};

struct HashesWriter {
    Destination *dest;
    FILE *file;
    GByteArray *block;
    GString *previous;
    guint64 count;
    gboolean committed;
};

int hashes_order(const char *a, const char *b)
{
    gsize i = 0;
    gsize start = 0; /* of the component where they differ */
    while (a[i] != '\0' && a[i] == b[i]) {
        if (a[i] == '/')
            start = i + 1;
        i++;
    }
    if (a[i] == '\0' && b[i] == '\0')
        return 0;
    const char *a_end = strchrnul(a + start, '/');
    const char *b_end = strchrnul(b + start, '/');
    if ((*a_end == '/') != (*b_end == '/'))
        return *a_end == '/' ? 1 : -1;
    gsize a_length = (gsize)(a_end - (a + start));
    gsize b_length = (gsize)(b_end - (b + start));
    int order = memcmp(a + start, b + start, MIN(a_length, b_length));
    if (order != 0)
        return order;
    return a_length < b_length ? -1 : a_length > b_length ? 1 : 0;
}

static gboolean damaged(HashesReader *reader, GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "%s is damaged: remove it, and run verify again while the sources can be read", reader->where);
}

HashesReader *hashes_reader_open(Destination *dest, GError **error)
{
    g_auto(AutoFd) fd = openat(dest->state_fd, "hashes", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return NULL;
    FILE *file = fd >= 0 ? fdopen(fd, "rb") : NULL;
    if (file == NULL) {
        error_set_errno(error, errno, "cannot open %s/.backapp/hashes", dest->path);
        return NULL;
    }
    fd_steal(&fd);
    g_autoptr(HashesReader) reader = g_new0(HashesReader, 1);
    reader->file = file;
    reader->where = g_strdup_printf("%s/.backapp/hashes", dest->path);
    reader->block = g_byte_array_new();
    reader->path = g_string_new(NULL);
    char magic[MAGIC_LENGTH];
    if (fread(magic, 1, MAGIC_LENGTH, file) != MAGIC_LENGTH || memcmp(magic, MAGIC, MAGIC_LENGTH) != 0) {
        damaged(reader, error);
        return NULL;
    }
    return g_steal_pointer(&reader);
}

/* Reads the next block: 1, 0 for the trailer, -1. */
static int next_block(HashesReader *reader, GError **error)
{
    guint8 head[12];
    if (fread(head, 1, sizeof head, reader->file) != sizeof head)
        return damaged(reader, error) ? 0 : -1;
    BytesReader in = bytes_reader(head, sizeof head);
    guint32 length = bytes_get_u32(&in);
    guint64 sum = bytes_get_u64(&in);
    if (length == 0) {
        reader->ended = TRUE;
        return sum == reader->count || damaged(reader, error) ? 0 : -1;
    }
    if (length > BLOCK_MAX)
        return damaged(reader, error) ? 0 : -1;
    g_byte_array_set_size(reader->block, length);
    if (fread(reader->block->data, 1, length, reader->file) != length ||
        XXH3_64bits(reader->block->data, length) != sum)
        return damaged(reader, error) ? 0 : -1;
    reader->in = bytes_reader(reader->block->data, length);
    g_string_truncate(reader->path, 0);
    return 1;
}

int hashes_reader_next(HashesReader *reader, HashRecord *record, GError **error)
{
    if (reader->ended)
        return 0;
    if (reader->in.at == reader->in.end) {
        int got = next_block(reader, error);
        if (got <= 0)
            return got;
    }
    BytesReader *in = &reader->in;
    guint64 prefix = bytes_get_varint(in);
    gsize length = 0;
    const guint8 *rest = bytes_get_blob(in, PATH_MAX_LEN, &length);
    if (rest == NULL || prefix > reader->path->len || memchr(rest, 0, length) != NULL)
        return damaged(reader, error) ? 0 : -1;
    g_string_truncate(reader->path, (gsize)prefix);
    g_string_append_len(reader->path, (const char *)rest, (gssize)length);
    record->path = reader->path->str;
    record->size = bytes_get_varint(in);
    record->mtime_s = bytes_get_signed(in);
    record->mtime_ns = (guint32)bytes_get_varint(in);
    record->ino = bytes_get_varint(in);
    const guint8 *hash = bytes_get_blob(in, HASH_BYTES, &length);
    if (in->bad || hash == NULL || length != HASH_BYTES)
        return damaged(reader, error) ? 0 : -1;
    memcpy(record->hash, hash, HASH_BYTES);
    reader->count++;
    return 1;
}

void hashes_reader_free(HashesReader *reader)
{
    if (reader == NULL)
        return;
    if (reader->file != NULL)
        (void)fclose(reader->file); /* only read */
    g_byte_array_unref(reader->block);
    g_string_free(reader->path, TRUE);
    g_free(reader->where);
    g_free(reader);
}

static gboolean write_failed(const HashesWriter *writer, GError **error)
{
    return error_set_errno(error, errno, "cannot write %s/.backapp/hashes.new", writer->dest->path);
}

HashesWriter *hashes_writer_open(Destination *dest, GError **error)
{
    if (unlinkat(dest->state_fd, "hashes.new", 0) != 0 && errno != ENOENT) {
        error_set_errno(error, errno, "cannot remove an old %s/.backapp/hashes.new", dest->path);
        return NULL;
    }
    g_autoptr(HashesWriter) writer = g_new0(HashesWriter, 1);
    writer->dest = dest;
    writer->block = g_byte_array_new();
    writer->previous = g_string_new(NULL);
    g_auto(AutoFd) fd =
        openat(dest->state_fd, "hashes.new", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    writer->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (writer->file != NULL)
        fd_steal(&fd);
    if (writer->file == NULL || fwrite(MAGIC, 1, MAGIC_LENGTH, writer->file) != MAGIC_LENGTH) {
        write_failed(writer, error);
        return NULL;
    }
    return g_steal_pointer(&writer);
}

static gboolean write_block(HashesWriter *writer, guint32 length, guint64 sum, GError **error)
{
    g_autoptr(GByteArray) head = g_byte_array_new();
    bytes_put_u32(head, length);
    bytes_put_u64(head, sum);
    if (fwrite(head->data, 1, head->len, writer->file) != head->len ||
        (length > 0 && fwrite(writer->block->data, 1, length, writer->file) != length))
        return write_failed(writer, error);
    g_byte_array_set_size(writer->block, 0);
    g_string_truncate(writer->previous, 0);
    return TRUE;
}

static gboolean flush_block(HashesWriter *writer, GError **error)
{
    GByteArray *block = writer->block;
    return block->len == 0 || write_block(writer, block->len, XXH3_64bits(block->data, block->len), error);
}

gboolean hashes_writer_put(HashesWriter *writer, const HashRecord *record, GError **error)
{
    GByteArray *block = writer->block;
    gsize prefix = 0;
    while (record->path[prefix] != '\0' && record->path[prefix] == writer->previous->str[prefix])
        prefix++;
    bytes_put_varint(block, prefix);
    bytes_put_blob(block, record->path + prefix, strlen(record->path + prefix));
    bytes_put_varint(block, record->size);
    bytes_put_signed(block, record->mtime_s);
    bytes_put_varint(block, record->mtime_ns);
    bytes_put_varint(block, record->ino);
    bytes_put_blob(block, record->hash, HASH_BYTES);
    g_string_assign(writer->previous, record->path);
    writer->count++;
    return block->len < BLOCK_BYTES || flush_block(writer, error);
}

gboolean hashes_writer_commit(HashesWriter *writer, GError **error)
{
    int state_fd = writer->dest->state_fd;
    if (!flush_block(writer, error) || !write_block(writer, 0, writer->count, error))
        return FALSE;
    if (fflush(writer->file) != 0 || fsync(fileno(writer->file)) != 0)
        return write_failed(writer, error);
    int closed = fclose(g_steal_pointer(&writer->file));
    if (closed != 0)
        return write_failed(writer, error);
    if (renameat(state_fd, "hashes.new", state_fd, "hashes") != 0)
        return error_set_errno(error, errno, "cannot replace %s/.backapp/hashes", writer->dest->path);
    writer->committed = TRUE;
    /* Only after the new record is surely there: what was dropped from the old one is not in the new one. */
    if (!dir_sync(state_fd, writer->dest->path, error))
        return FALSE;
    if (unlinkat(state_fd, "hashes.dropped", 0) != 0 && errno != ENOENT)
        return error_set_errno(error, errno, "cannot remove %s/.backapp/hashes.dropped", writer->dest->path);
    return TRUE;
}

void hashes_writer_free(HashesWriter *writer)
{
    if (writer == NULL)
        return;
    if (writer->file != NULL)
        (void)fclose(writer->file); /* not committed: it is thrown away */
    if (!writer->committed)
        (void)unlinkat(writer->dest->state_fd, "hashes.new", 0);
    g_byte_array_unref(writer->block);
    g_string_free(writer->previous, TRUE);
    g_free(writer);
}

/* Too many to remember: nothing counts as proven any more. */
static gboolean forget_all(Destination *dest, GError **error)
{
    if ((unlinkat(dest->state_fd, "hashes", 0) != 0 && errno != ENOENT) ||
        (unlinkat(dest->state_fd, "hashes.dropped", 0) != 0 && errno != ENOENT))
        return error_set_errno(error, errno, "cannot remove %s/.backapp/hashes", dest->path);
    return dir_sync(dest->state_fd, dest->path, error);
}

gboolean hashes_drop(Destination *dest, const GPtrArray *paths, GError **error)
{
    if (paths->len == 0 || faccessat(dest->state_fd, "hashes", F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return TRUE;
    g_auto(AutoFd) fd =
        openat(dest->state_fd, "hashes.dropped", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (guint i = 0; i < paths->len; i++) {
        const char *path = g_ptr_array_index(paths, i);
        g_byte_array_append(out, (const guint8 *)path, (guint)strlen(path) + 1);
        if (out->len > DROPPED_MAX)
            return forget_all(dest, error);
    }
    if (fd < 0)
        return error_set_errno(error, errno, "cannot write %s/.backapp/hashes.dropped", dest->path);
    if (lseek(fd, 0, SEEK_END) > DROPPED_MAX)
        return forget_all(dest, error);
    if (write(fd, out->data, out->len) != (gssize)out->len || fsync(fd) != 0)
        return error_set_errno(error, errno, "cannot write %s/.backapp/hashes.dropped", dest->path);
    return dir_sync(dest->state_fd, dest->path, error);
}

GHashTable *hashes_dropped(Destination *dest, GError **error)
{
    g_autoptr(GHashTable) dropped = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) local = NULL;
    g_autofree char *data = NULL;
    gsize length = 0;
    if (!atomic_read(dest->state_fd, "hashes.dropped", 3 * (gsize)DROPPED_MAX, &data, &length, &local)) {
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
            return g_steal_pointer(&dropped);
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    for (gsize at = 0; at < length; at += strlen(data + at) + 1)
        g_hash_table_add(dropped, g_strdup(data + at));
    return g_steal_pointer(&dropped);
}

gboolean hashes_is_dropped(GHashTable *dropped, const char *path)
{
    if (g_hash_table_size(dropped) == 0)
        return FALSE;
    g_autofree char *part = g_strdup(path);
    while (!g_hash_table_contains(dropped, part)) {
        char *slash = strrchr(part, '/');
        if (slash == NULL)
            return FALSE;
        *slash = '\0';
    }
    return TRUE;
}
