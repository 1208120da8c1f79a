#include "engine/s3sync/source.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"
#include "fs/io.h"

#define PIECE_BYTES (256 * 1024)

static void take_meta(FileMeta *meta, const struct stat *st)
{
    meta->mode = st->st_mode;
    meta->uid = st->st_uid;
    meta->gid = st->st_gid;
    meta->nlink = (guint32)st->st_nlink;
    meta->mtime_s = st->st_mtim.tv_sec;
    meta->mtime_ns = (guint32)st->st_mtim.tv_nsec;
    meta->ctime_s = st->st_ctim.tv_sec;
    meta->ctime_ns = (guint32)st->st_ctim.tv_nsec;
    meta->size = (guint64)st->st_size;
    meta->blocks = (guint64)st->st_blocks;
    meta->ino = st->st_ino;
    meta->dev = st->st_dev;
}

gboolean source_lost(S3Job *job, int errnum, GError **error)
{
    if (errnum == 0)
        s3run_warn_changed(job->run, job->path, "it became shorter while it was read, twice; it was not stored");
    else if (errnum == ENOENT || errnum == ENOTDIR || errnum == ESTALE || errnum == ELOOP)
        s3run_warn_vanished(job->run, job->path);
    else
        s3run_warn_unreadable(job->run, job->path, g_strerror(errnum));
    return s3job_drop_row(job, error);
}

int source_open(S3Job *job, GError **error)
{
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    g_auto(AutoFd) fd = openat(job->parent->fd, job->name, flags | O_NOATIME);
    if (fd < 0 && errno == EPERM)
        fd = openat(job->parent->fd, job->name, flags);
    int errnum = fd < 0 ? errno : 0;
    struct stat st;
    if (errnum == 0 && fstat(fd, &st) != 0)
        errnum = errno;
    if (errnum == 0 && !S_ISREG(st.st_mode))
        errnum = ENOENT; /* something else has its name: the file is gone */
    if (errnum != 0) {
        (void)source_lost(job, errnum, error);
        return -1;
    }
    take_meta(&job->meta, &st);
    return fd_steal(&fd);
}

gboolean source_read(int fd, guint8 *data, gsize length, guint64 offset, int *errnum)
{
    *errnum = 0;
    if (length == 0)
        return TRUE;
    gssize got = io_read_at(fd, data, length, offset);
    if (got < 0)
        *errnum = errno;
    return got == (gssize)length;
}

gboolean source_changed(const S3Job *job, int fd, FileMeta *now)
{
    struct stat st;
    const FileMeta *was = &job->meta;
    *now = *was;
    if (fstat(fd, &st) != 0)
        return FALSE;
    take_meta(now, &st);
    return now->size != was->size || now->mtime_s != was->mtime_s || now->mtime_ns != was->mtime_ns ||
           now->ctime_s != was->ctime_s || now->ctime_ns != was->ctime_ns || now->ino != was->ino;
}

gboolean source_hash(int fd, guint64 offset, guint64 length, guint8 hash[HASH_BYTES], int *errnum)
{
    g_autoptr(Hash) hasher = hash_new();
    g_autofree guint8 *piece = g_malloc(PIECE_BYTES);
    while (length > 0) {
        gsize part = (gsize)MIN(length, PIECE_BYTES);
        if (!source_read(fd, piece, part, offset, errnum))
            return FALSE;
        hash_update(hasher, piece, part);
        offset += part;
        length -= part;
    }
    hash_finish(hasher, hash);
    return TRUE;
}

static gssize read_range(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error)
{
    const SourceRange *range = user_data;
    gsize part = (gsize)MIN(size, range->length - offset);
    int errnum = 0;
    if (source_read(range->fd, buffer, part, range->offset + offset, &errnum))
        return (gssize)part;
    if (errnum != 0)
        error_set_errno(error, errnum, "cannot read the source again");
    else
        error_set(error, BACKAPP_ERROR_CORRUPT, "the source became shorter while it was sent");
    return -1;
}

StoreBody source_body(SourceRange *range, const guint8 hash[HASH_BYTES])
{
    return (StoreBody){.length = range->length, .read = read_range, .user_data = range, .sha256 = hash};
}
