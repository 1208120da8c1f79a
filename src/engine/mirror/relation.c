/* destination_check_sources: how sources and destination lie to each other. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "engine/mirror/destination.h"
#include "fs/dir.h"

typedef struct {
    dev_t dev;
    ino_t ino;
} Identity;

static gboolean identify(int fd, Identity *identity)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return FALSE;
    *identity = (Identity){st.st_dev, st.st_ino};
    return TRUE;
}

static gboolean same(const Identity *a, const Identity *b)
{
    return a->dev == b->dev && a->ino == b->ino;
}

static int open_source(const char *path, GError **error)
{
    g_autofree char *name = human_name(path, -1);
    if (path[0] == '\0') {
        error_set(error, BACKAPP_ERROR_INVALID, "a source is empty: give the path of a directory");
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOTDIR)
        error_set(error, BACKAPP_ERROR_INVALID, "the source %s is not a directory: mirror the directory that holds it",
                  name);
    else if (fd < 0)
        error_set_errno(error, errno, "cannot open the source %s", name);
    return fd;
}

/* The destination, or its parent if it does not exist yet; *exists tells which. -1 if neither can be opened:
 * destination_open says why. */
static int open_destination(const char *path, gboolean *exists)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *exists = fd >= 0;
    if (fd >= 0 || errno != ENOENT)
        return fd;
    g_autofree char *clean = g_canonicalize_filename(path, NULL);
    g_autofree char *parent = g_path_get_dirname(clean);
    return open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static gboolean check_overlap(const char *source, int source_fd, const char *dest_path, int dest_fd,
                              gboolean dest_exists, GError **error)
{
    Identity source_id;
    Identity dest_id;
    g_autofree char *from = human_name(source, -1);
    g_autofree char *to = human_name(dest_path, -1);
    if (!identify(source_fd, &source_id) || !identify(dest_fd, &dest_id))
        return error_set_errno(error, errno, "cannot look at %s", from);
    if (dest_exists && same(&source_id, &dest_id))
        return error_set(error, BACKAPP_ERROR_INVALID, "source and destination are the same directory: %s", from);
    if (dir_lies_in(dest_fd, source_fd))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the destination %s lies inside the source %s: a mirror of itself would grow without end; "
                         "choose a destination elsewhere",
                         to, from);
    if (dest_exists && dir_lies_in(source_fd, dest_fd))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the source %s lies inside the destination %s: it would be replaced by its own copy; choose a "
                         "destination elsewhere",
                         from, to);
    return TRUE;
}

static gboolean check_twice(const GArray *source_fds, const char *source, GError **error)
{
    Identity last;
    guint count = source_fds->len;
    if (!identify(g_array_index(source_fds, int, count - 1), &last))
        return error_set_errno(error, errno, "cannot look at %s", source);
    for (guint i = 0; i + 1 < count; i++) {
        Identity other;
        if (identify(g_array_index(source_fds, int, i), &other) && same(&last, &other)) {
            g_autofree char *name = human_name(source, -1);
            return error_set(error, BACKAPP_ERROR_INVALID, "the source %s is given twice", name);
        }
    }
    return TRUE;
}

gboolean destination_check_sources(const char *const *sources, const char *dest_path, GArray *source_fds,
                                   GError **error)
{
    gboolean dest_exists = FALSE;
    g_auto(AutoFd) dest_fd = dest_path ? open_destination(dest_path, &dest_exists) : -1;
    for (guint i = 0; sources[i] != NULL; i++) {
        int fd = open_source(sources[i], error);
        if (fd < 0)
            return FALSE;
        g_array_append_val(source_fds, fd);
        if (!check_twice(source_fds, sources[i], error))
            return FALSE;
        if (dest_fd >= 0 && !check_overlap(sources[i], fd, dest_path, dest_fd, dest_exists, error))
            return FALSE;
    }
    return TRUE;
}
