#include "fs/remove.h"

#include "base/error.h"
#include "fs/dir.h"
#include "fs/meta.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* So many levels keep their descriptors; those above are opened again through ".." when they are needed. */
#define OPEN_LEVELS 64

/* A directory being emptied. */
typedef struct {
    int fd; /* -1: closed for now */
    FileMeta meta;
    DirNames names;
    guint next;
    char *name; /* in its parent */
} Level;

static void level_clear(gpointer data)
{
    Level *level = data;
    fd_clear(&level->fd);
    dir_names_clear(&level->names);
    g_free(level->name);
}

static Level *top(GArray *levels)
{
    return &g_array_index(levels, Level, levels->len - 1);
}

static gboolean failed(int errnum, const char *name, GError **error)
{
    return error_set_errno(error, errnum, "cannot remove %s", name);
}

static int open_here(int dir_fd, const char *name)
{
    return openat(dir_fd, name[0] ? name : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Opens a directory, giving it u+rwx if that is what it takes. -1 with errno. */
static int open_permitted(int dir_fd, const char *name)
{
    int fd = open_here(dir_fd, name);
    if (fd >= 0 || errno != EACCES)
        return fd;
    FileMeta meta;
    if (!meta_read(dir_fd, name, &meta, NULL) || !S_ISDIR(meta.mode)) {
        errno = EACCES;
        return -1;
    }
    meta.mode |= S_IRWXU;
    if (!meta_apply(dir_fd, name, -1, &meta, META_MODE, NULL, NULL)) {
        errno = EACCES;
        return -1;
    }
    return open_here(dir_fd, name);
}

/* Reads what is in the directory that was just opened. `above` is the one that holds it. */
static gboolean level_read(Level *level, const FileMeta *above, const CancelFlag *cancel, GError **error)
{
    if (!meta_read(level->fd, "", &level->meta, error))
        return FALSE;
    if (level->meta.dev != above->dev || level->meta.mount != above->mount)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "cannot remove %s: another file system is mounted there; unmount it first", level->name);
    /* An owner's missing permission shows below, in what cannot be removed. */
    if ((level->meta.mode & S_IRWXU) != S_IRWXU)
        (void)fchmod(level->fd, (level->meta.mode & 07777) | S_IRWXU);
    if (dir_names_read(level->fd, &level->names, cancel, error))
        return TRUE;
    g_prefix_error(error, "cannot remove %s: ", level->name);
    return FALSE;
}

/* Enters a directory, which `above` holds. What vanished meanwhile is as good as removed. */
static gboolean push(GArray *levels, int dir_fd, const char *name, const FileMeta *above, const CancelFlag *cancel,
                     GError **error)
{
    g_auto(AutoFd) fd = open_permitted(dir_fd, name);
    if (fd < 0)
        return errno == ENOENT || failed(errno, name, error);
    Level level = {.fd = fd_steal(&fd), .name = g_strdup(name)};
    gboolean good = level_read(&level, above, cancel, error);
    if (!good) {
        level_clear(&level);
        return FALSE;
    }
    if (levels->len >= OPEN_LEVELS)
        fd_clear(&top(levels)->fd);
    g_array_append_val(levels, level);
    return TRUE;
}

/* Makes sure that the level above the last one is open: ".." must be the directory it was entered from. */
static gboolean reopen_above(GArray *levels, GError **error)
{
    Level *last = top(levels);
    Level *above = last - 1;
    if (above->fd >= 0)
        return TRUE;
    above->fd = openat(last->fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    FileMeta meta;
    if (above->fd < 0)
        return failed(errno, above->name, error);
    if (!meta_read(above->fd, "", &meta, error))
        return FALSE;
    if (meta.ino == above->meta.ino && meta.dev == above->meta.dev && meta.mount == above->meta.mount)
        return TRUE;
    fd_clear(&above->fd);
    return error_set(error, BACKAPP_ERROR_CONFLICT, "cannot remove %s: it was moved meanwhile", last->name);
}

/* Removes the last level, which is empty now, unless it is the first and is kept. */
static gboolean pop(GArray *levels, int dir_fd, gboolean keep_top, GError **error)
{
    gboolean first = levels->len == 1;
    if (!first && !reopen_above(levels, error))
        return FALSE;
    Level *last = top(levels);
    int parent_fd = first ? dir_fd : (last - 1)->fd;
    if (!(first && keep_top) && unlinkat(parent_fd, last->name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return failed(errno, last->name, error);
    g_array_set_size(levels, levels->len - 1);
    return TRUE;
}

/* Removes the next name of the last level, or enters it. */
static gboolean remove_next(GArray *levels, const CancelFlag *cancel, GError **error)
{
    Level *level = top(levels);
    guint i = level->next++;
    const char *name = dir_names_get(&level->names, i);
    gboolean directory = dir_names_type(&level->names, i) == DT_DIR;
    if (!directory) {
        if (unlinkat(level->fd, name, 0) == 0 || errno == ENOENT)
            return TRUE;
        /* The type may be unknown, or have changed. */
        if (errno != EISDIR)
            return failed(errno, name, error);
    }
    FileMeta above = level->meta;
    return push(levels, level->fd, name, &above, cancel, error);
}

static gboolean empty_levels(GArray *levels, int dir_fd, gboolean keep_top, const CancelFlag *cancel, GError **error)
{
    while (levels->len > 0) {
        if (!cancel_check(cancel, error))
            return FALSE;
        Level *level = top(levels);
        gboolean good = level->next < dir_names_count(&level->names) ? remove_next(levels, cancel, error)
                                                                     : pop(levels, dir_fd, keep_top, error);
        if (!good)
            return FALSE;
    }
    return TRUE;
}

/* The metadata of the directory that holds `name`; the descriptor itself is held by nothing that matters here. */
static gboolean read_above(int dir_fd, const char *name, const FileMeta *meta, FileMeta *above)
{
    *above = *meta;
    if (!name[0])
        return TRUE;
    g_autofree char *parent = g_path_get_dirname(name);
    /* The slash and dot lead through a symlink on the way to where the name is. */
    g_autofree char *path = g_strconcat(parent, "/.", NULL);
    return meta_read(dir_fd, path, above, NULL);
}

gboolean remove_tree(int dir_fd, const char *name, gboolean keep_top, const CancelFlag *cancel, GError **error)
{
    FileMeta meta, above;
    if (!cancel_check(cancel, error))
        return FALSE;
    if (!meta_read(dir_fd, name, &meta, NULL) || !read_above(dir_fd, name, &meta, &above))
        return errno == ENOENT || failed(errno, name, error);
    if (!S_ISDIR(meta.mode)) {
        if (keep_top)
            return failed(ENOTDIR, name, error);
        return unlinkat(dir_fd, name, 0) == 0 || errno == ENOENT || failed(errno, name, error);
    }
    g_autoptr(GArray) levels = g_array_new(FALSE, FALSE, sizeof(Level));
    g_array_set_clear_func(levels, level_clear);
    return push(levels, dir_fd, name, &above, cancel, error) && empty_levels(levels, dir_fd, keep_top, cancel, error);
}

/* Enters a directory to count what is in it, if that is one and can be read. */
static gboolean look_into(GArray *levels, int dir_fd, const char *name, const FileMeta *above, const CancelFlag *cancel,
                          GError **error)
{
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) fd = open_here(dir_fd, name);
    Level level = {.fd = -1};
    if (fd < 0 || !meta_read(fd, "", &level.meta, NULL) || level.meta.dev != above->dev ||
        level.meta.mount != above->mount)
        return TRUE;
    if (!dir_names_read(fd, &level.names, cancel, &local)) {
        if (!error_is(local, BACKAPP_ERROR_CANCELLED))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    level.fd = fd_steal(&fd);
    level.name = g_strdup(name);
    if (levels->len >= OPEN_LEVELS)
        fd_clear(&top(levels)->fd);
    g_array_append_val(levels, level);
    return TRUE;
}

static gboolean count_next(GArray *levels, const CancelFlag *cancel, guint64 *entries, GError **error)
{
    Level *level = top(levels);
    guint i = level->next++;
    guint8 type = dir_names_type(&level->names, i);
    FileMeta above = level->meta;
    ++*entries;
    return (type != DT_DIR && type != DT_UNKNOWN) ||
           look_into(levels, level->fd, dir_names_get(&level->names, i), &above, cancel, error);
}

gboolean remove_count(int dir_fd, const char *name, const CancelFlag *cancel, guint64 *entries, GError **error)
{
    FileMeta meta, above;
    *entries = 0;
    if (!meta_read(dir_fd, name, &meta, NULL) || !meta_read(dir_fd, "", &above, NULL))
        return errno == ENOENT || error_set_errno(error, errno, "cannot look at %s", name);
    *entries = 1;
    g_autoptr(GArray) levels = g_array_new(FALSE, FALSE, sizeof(Level));
    g_array_set_clear_func(levels, level_clear);
    if (S_ISDIR(meta.mode) && !look_into(levels, dir_fd, name, &above, cancel, error))
        return FALSE;
    while (levels->len > 0) {
        const Level *level = top(levels);
        gboolean more = level->next < dir_names_count(&level->names);
        if (!cancel_check(cancel, error) || (more && !count_next(levels, cancel, entries, error)))
            return FALSE;
        if (more)
            continue;
        if (levels->len > 1 && !reopen_above(levels, error))
            return FALSE;
        g_array_set_size(levels, levels->len - 1);
    }
    return TRUE;
}
