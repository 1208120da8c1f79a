#include "fs/atomic.h"

#include "base/error.h"
#include "fs/dir.h"
#include "fs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_TRIES  100
#define FIRST_READ  4096
#define NAME_LENGTH 32

/* Makes the temporary file beside the one it becomes. Its name is one of ours, whatever the directory. */
static int open_temporary(int dir_fd, char temporary[NAME_LENGTH])
{
    for (guint i = 0; i < NAME_TRIES; i++) {
        (void)snprintf(temporary, NAME_LENGTH, ".backapp-tmp-%08x", g_random_int());
        int fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
        if (fd >= 0 || errno != EEXIST)
            return fd;
    }
    return -1;
}

/* Fills the temporary file and makes it durable; the descriptor is closed either way. */
static gboolean fill_temporary(int fd, const char *name, const void *data, gsize length, guint32 mode, GError **error)
{
    g_auto(AutoFd) closing = fd;
    if (!io_write_at(fd, data, length, 0))
        return error_set_errno(error, errno, "cannot write %s", name);
    /* Here and not at open: the umask has no say. The file is ours, so EPERM is a file system without modes (FAT). */
    if (fchmod(fd, mode & 07777) != 0 && errno != EPERM)
        return error_set_errno(error, errno, "cannot set the mode of %s", name);
    if (fsync(fd) != 0)
        return error_set_errno(error, errno, "cannot make %s durable", name);
    return fd_close(&closing, name, error);
}

gboolean atomic_write(int dir_fd, const char *name, const void *data, gsize length, guint32 mode, GError **error)
{
    char temporary[NAME_LENGTH];
    int fd = open_temporary(dir_fd, temporary);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a temporary file for %s", name);
    gboolean good = fill_temporary(fd, name, data, length, mode, error);
    if (good && renameat(dir_fd, temporary, dir_fd, name) != 0)
        good = error_set_errno(error, errno, "cannot put %s in its place", name);
    if (!good) {
        (void)unlinkat(dir_fd, temporary, 0);
        return FALSE;
    }
    return dir_sync(dir_fd, "that holds our files", error);
}

/* Reads to the end of the file, whatever size it states: files in /proc state none. */
static gboolean read_all(int fd, const char *name, gsize max, gsize expected, GByteArray *bytes, GError **error)
{
    gsize room = MIN(MAX(expected + 1, FIRST_READ), max + 1);
    for (;;) {
        guint used = bytes->len;
        g_byte_array_set_size(bytes, used + (guint)room);
        ssize_t got = read(fd, bytes->data + used, room);
        int saved = errno;
        g_byte_array_set_size(bytes, used + (got > 0 ? (guint)got : 0));
        if (got < 0 && saved == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(error, saved, "cannot read %s", name);
        if (got == 0)
            return TRUE;
        if (bytes->len > max)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "%s is longer than the %zu bytes it may have", name, max);
        room = MIN(MAX(bytes->len, FIRST_READ), max + 1 - bytes->len);
    }
}

gboolean atomic_read(int dir_fd, const char *name, gsize max, char **data, gsize *length, GError **error)
{
    /* Not to wait for a writer should it be a fifo. */
    g_auto(AutoFd) fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0)
        return error_set_errno(error, errno, "cannot open %s", name);
    if (!S_ISREG(st.st_mode))
        return error_set(error, BACKAPP_ERROR_CONFLICT, "%s is not a regular file", name);
    /* GByteArray counts in guint. */
    max = MIN(max, (gsize)G_MAXINT32);
    if ((guint64)st.st_size > max)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "%s is longer than the %zu bytes it may have", name, max);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    if (!read_all(fd, name, max, (gsize)st.st_size, bytes, error))
        return FALSE;
    if (length)
        *length = bytes->len;
    g_byte_array_append(bytes, (const guint8 *)"", 1);
    *data = (char *)g_byte_array_free(g_steal_pointer(&bytes), FALSE);
    return TRUE;
}
