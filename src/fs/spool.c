#include "fs/spool.h"

#include "base/bytes.h"
#include "base/error.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES     (64 * 1024)
#define RECORD_MAX       (16 * 1024 * 1024)
#define VARINT_MAX_BYTES 10
#define NAME_TRIES       100

struct Spool {
    int fd;
    GByteArray *buffer; /* not yet written; NULL after spool_finish */
    guint64 written;    /* bytes in the file */
    int failed;         /* errno of the first failure; every later call repeats it */
};

struct SpoolReader {
    const Spool *spool;
    guint64 at; /* where in the file `buffer` ends */
    guint8 *buffer;
    gsize size, start, end; /* allocated; the unread part is from start to end */
};

/* Where there is no O_TMPFILE: a file with a name that is gone before it is used. */
static int open_and_unlink(int dir_fd)
{
    for (guint i = 0; i < NAME_TRIES; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, ".backapp-spool-%08x", g_random_int());
        int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
        if (fd < 0 && errno == EEXIST)
            continue;
        if (fd >= 0 && unlinkat(dir_fd, name, 0) != 0)
            fd_clear(&fd);
        return fd;
    }
    return -1;
}

static int open_temporary(int dir_fd)
{
    int fd = openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL))
        fd = open_and_unlink(dir_fd);
    return fd;
}

Spool *spool_new(int temp_fd, GError **error)
{
    g_auto(AutoFd) opened = -1;
    if (temp_fd < 0) {
        opened = open(g_get_tmp_dir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (opened < 0) {
            error_set_errno(error, errno, "cannot open the directory for temporary files %s (set TMPDIR)",
                            g_get_tmp_dir());
            return NULL;
        }
        temp_fd = opened;
    }
    int fd = open_temporary(temp_fd);
    if (fd < 0) {
        error_set_errno(error, errno, "cannot make a temporary file");
        return NULL;
    }
    Spool *spool = g_new0(Spool, 1);
    spool->fd = fd;
    return spool;
}

static gboolean report(const Spool *spool, GError **error)
{
    return error_set_errno(error, spool->failed, "cannot write a temporary file");
}

/* Writes the buffer to the file. */
static gboolean flush(Spool *spool, GError **error)
{
    const guint8 *data = spool->buffer ? spool->buffer->data : NULL;
    gsize left = spool->buffer ? spool->buffer->len : 0;
    while (left > 0 && !spool->failed) {
        ssize_t put = pwrite(spool->fd, data, left, (off_t)spool->written);
        if (put < 0 && errno != EINTR)
            spool->failed = errno;
        if (put <= 0)
            continue;
        data += put;
        left -= (gsize)put;
        spool->written += (guint64)put;
    }
    if (spool->buffer)
        g_byte_array_set_size(spool->buffer, 0);
    return !spool->failed || report(spool, error);
}

gboolean spool_put(Spool *spool, const void *data, gsize length, GError **error)
{
    if (length > RECORD_MAX)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "spool: a record of %zu bytes is too long", length);
    if (spool->failed)
        return report(spool, error);
    if (!spool->buffer)
        spool->buffer = g_byte_array_new();
    bytes_put_varint(spool->buffer, length);
    if (length > 0)
        g_byte_array_append(spool->buffer, data, (guint)length);
    return spool->buffer->len < BUFFER_BYTES || flush(spool, error);
}

gboolean spool_finish(Spool *spool, GError **error)
{
    gboolean good = flush(spool, error);
    if (spool->buffer)
        g_byte_array_unref(spool->buffer);
    spool->buffer = NULL;
    return good;
}

guint64 spool_size(const Spool *spool)
{
    return spool->written + (spool->buffer ? spool->buffer->len : 0);
}

void spool_free(Spool *spool)
{
    if (!spool)
        return;
    fd_clear(&spool->fd);
    if (spool->buffer)
        g_byte_array_unref(spool->buffer);
    g_free(spool);
}

SpoolReader *spool_reader_new(Spool *spool)
{
    SpoolReader *reader = g_new0(SpoolReader, 1);
    reader->spool = spool;
    reader->size = BUFFER_BYTES;
    reader->buffer = g_malloc(reader->size);
    return reader;
}

void spool_reader_free(SpoolReader *reader)
{
    if (!reader)
        return;
    g_free(reader->buffer);
    g_free(reader);
}

/* Moves the unread part to the front of a buffer of at least `need` bytes and fills it up. */
static gboolean fill(SpoolReader *reader, gsize need, GError **error)
{
    gsize unread = reader->end - reader->start;
    if (need > reader->size) {
        guint8 *larger = g_try_malloc(need);
        if (!larger)
            return error_set(error, BACKAPP_ERROR_TRANSIENT, "out of memory for a temporary record of %zu bytes", need);
        memcpy(larger, reader->buffer + reader->start, unread);
        g_free(reader->buffer);
        reader->buffer = larger;
        reader->size = need;
    } else if (unread > 0) {
        memmove(reader->buffer, reader->buffer + reader->start, unread);
    }
    reader->start = 0;
    reader->end = unread;
    while (reader->end < reader->size && reader->at < reader->spool->written) {
        guint64 room = MIN(reader->size - reader->end, reader->spool->written - reader->at);
        ssize_t got = pread(reader->spool->fd, reader->buffer + reader->end, room, (off_t)reader->at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(error, errno, "cannot read a temporary file");
        if (got == 0)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "a temporary file became shorter while it was used");
        reader->end += (gsize)got;
        reader->at += (guint64)got;
    }
    return TRUE;
}

int spool_reader_next(SpoolReader *reader, const guint8 **data, gsize *length, GError **error)
{
    if (reader->spool->buffer) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "spool: read before it was finished");
        return -1;
    }
    if (reader->end - reader->start < VARINT_MAX_BYTES && reader->at < reader->spool->written &&
        !fill(reader, 0, error))
        return -1;
    if (reader->start == reader->end)
        return 0;
    BytesReader in = bytes_reader(reader->buffer + reader->start, reader->end - reader->start);
    guint64 n = bytes_get_varint(&in);
    gsize used = (gsize)(in.at - (reader->buffer + reader->start));
    if (!in.bad && n <= RECORD_MAX && n > (guint64)(in.end - in.at) && !fill(reader, used + (gsize)n, error))
        return -1;
    if (in.bad || n > RECORD_MAX || n > reader->end - reader->start - used) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "a temporary file is damaged");
        return -1;
    }
    *data = reader->buffer + reader->start + used;
    *length = (gsize)n;
    reader->start += used + (gsize)n;
    return 1;
}
