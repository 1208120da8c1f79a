#include "engine/mirror/verify_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"

#define READ_BYTES       (256 * 1024)
#define DROP_CACHE_BYTES (16 * 1024 * 1024)

static _Thread_local guint8 read_buffer[READ_BYTES];

static int open_for_reading(int root_fd, const char *path)
{
    const char *base = NULL;
    g_auto(AutoFd) parent = dir_open_parent(root_fd, path, &base, NULL);
    if (parent < 0)
        return -1;
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(parent, base, flags | O_NOATIME);
    return fd >= 0 || errno != EPERM ? fd : openat(parent, base, flags);
}

/* Hashes a whole file: 1 done; 0 it cannot be read (*errnum), -1 cancelled. */
static int hash_file(const VerifyContext *context, int fd, guint8 hash[HASH_BYTES], int *errnum, GError **error)
{
    g_autoptr(Hash) state = hash_new();
    guint64 total = 0;
    for (;;) {
        gssize got = read(fd, read_buffer, READ_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            *errnum = errno;
            return 0;
        }
        if (got == 0)
            break;
        hash_update(state, read_buffer, (gsize)got);
        total += (guint64)got;
        if (context->progress != NULL)
            context->progress((guint64)got, context->user_data);
        if (!cancel_check(context->cancel, error) || !rate_take(context->rate, (guint64)got, context->cancel, error))
            return -1;
    }
    if (total >= DROP_CACHE_BYTES)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* a hint: large files shall not empty the cache */
    hash_finish(state, hash);
    return 1;
}

static char *short_hash(const guint8 hash[HASH_BYTES])
{
    return g_strdup_printf("%02x%02x%02x%02x", hash[0], hash[1], hash[2], hash[3]);
}

static void set_verdict(VerifyItem *item, VerifyVerdict verdict, char *message)
{
    item->verdict = verdict;
    g_free(item->message);
    item->message = message;
}

/* The open root of the source that a path of the mirror comes from, and the rest of the path in it; -1 if it is not known. */
static int source_of(const VerifyContext *context, const char *path, const char **rest)
{
    guint count = context->source_fds->len;
    guint index = 0;
    *rest = path;
    if (count > 1) {
        const char *slash = strchrnul(path, '/');
        gsize length = (gsize)(slash - path);
        while (index < count &&
               (strlen(context->folders[index]) != length || memcmp(context->folders[index], path, length) != 0))
            index++;
        if (index == count || *slash == '\0')
            return -1;
        *rest = slash + 1;
    }
    return count > 0 ? g_array_index(context->source_fds, int, index) : -1;
}

gboolean verify_is_gone_from_source(const VerifyContext *context, const char *path)
{
    const char *rest = NULL;
    const char *base = NULL;
    int root_fd = source_of(context, path, &rest);
    if (root_fd < 0)
        return FALSE;
    g_auto(AutoFd) parent = dir_open_parent(root_fd, rest, &base, NULL);
    if (parent < 0)
        return errno == ENOENT || errno == ENOTDIR;
    return faccessat(parent, base, F_OK, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
}

/* The open source of the file if it has one that still looks the same, with its metadata; else -1 and why not. */
static int open_same_source(const VerifyContext *context, const VerifyItem *item, FileMeta *meta, const char **why)
{
    const char *rest = NULL;
    int root_fd = source_of(context, item->path, &rest);
    *why = "it has no record, and its source is not known";
    if (root_fd < 0)
        return -1;
    int fd = open_for_reading(root_fd, rest);
    *why = "it has no record, and its source cannot be read or is gone";
    if (fd >= 0 && meta_read(fd, "", meta, NULL) && S_ISREG(meta->mode)) {
        if (meta->size == item->meta.size && meta_same_mtime(meta, &item->meta, context->granularity_ns))
            return fd;
        *why = "it has no record, and its source has changed since";
    }
    fd_clear(&fd);
    return -1;
}

static gboolean compare_with_source(const VerifyContext *context, VerifyItem *item, GError **error)
{
    const char *why = NULL;
    int errnum = 0;
    guint8 hash[HASH_BYTES];
    FileMeta before;
    g_auto(AutoFd) fd = open_same_source(context, item, &before, &why);
    if (fd < 0) {
        set_verdict(item, VERIFY_UNPROVEN, g_strdup(why));
        return TRUE;
    }
    /* Progress counts what is read of the mirror. */
    VerifyContext quiet = *context;
    quiet.progress = NULL;
    int got = hash_file(&quiet, fd, hash, &errnum, error);
    if (got < 0)
        return FALSE;
    FileMeta after;
    gboolean steady =
        meta_read(fd, "", &after, NULL) && after.size == before.size && meta_same_mtime(&after, &before, 1);
    if (got == 0 || !steady)
        set_verdict(item, VERIFY_UNPROVEN, g_strdup("its source cannot be read, or changed meanwhile"));
    else if (memcmp(hash, item->hash, HASH_BYTES) == 0)
        set_verdict(item, VERIFY_RECORDED, NULL);
    else
        set_verdict(item, VERIFY_DAMAGED,
                    g_strdup("its content differs from its source, though size and time are equal; mirror again with "
                             "--checksum to copy it anew"));
    return TRUE;
}

gboolean verify_file(const VerifyContext *context, VerifyItem *item, GError **error)
{
    int errnum = 0;
    g_auto(AutoFd) fd = open_for_reading(context->root_fd, item->path);
    if (fd < 0) {
        errnum = errno;
        set_verdict(item, errnum == ENOENT ? VERIFY_GONE : VERIFY_DAMAGED,
                    g_strdup_printf("it cannot be opened: %s", g_strerror(errnum)));
        return TRUE;
    }
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); /* a hint: the drive shall be read, not the cache */
    int got = hash_file(context, fd, item->hash, &errnum, error);
    if (got < 0)
        return FALSE;
    if (got == 0) {
        set_verdict(item, VERIFY_DAMAGED, g_strdup_printf("it cannot be read: %s", g_strerror(errnum)));
        return TRUE;
    }
    if (!item->has_record)
        return compare_with_source(context, item, error);
    if (memcmp(item->hash, item->recorded, HASH_BYTES) == 0) {
        set_verdict(item, VERIFY_PROVEN, NULL);
        return TRUE;
    }
    g_autofree char *is = short_hash(item->hash);
    g_autofree char *was = short_hash(item->recorded);
    set_verdict(
        item, VERIFY_DAMAGED,
        g_strdup_printf("its content (SHA-256 %s...) is not what was recorded (%s...), though size and time are: "
                        "the copy is damaged; mirror again with --checksum to copy it anew",
                        is, was));
    return TRUE;
}
