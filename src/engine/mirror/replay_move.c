#include "engine/mirror/replay_move.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"

#define NAMES_TRIED 10000

void replay_make_usable(int dir_fd, const char *name)
{
    FileMeta meta;
    if (!meta_read(dir_fd, name, &meta, NULL) || !S_ISDIR(meta.mode) || (meta.mode & S_IRWXU) == S_IRWXU)
        return;
    meta.mode |= S_IRWXU;
    (void)meta_apply(dir_fd, name, -1, &meta, META_MODE, NULL, NULL);
}

/* Gives every directory on the way to `path`, and it itself, u+rwx. */
static void open_up(int root_fd, const char *path)
{
    g_auto(GStrv) names = g_strsplit(path, "/", -1);
    g_auto(AutoFd) at = dir_open(root_fd, "", NULL);
    replay_make_usable(root_fd, "");
    for (guint i = 0; at >= 0 && names[i] != NULL && names[i][0] != '\0'; i++) {
        replay_make_usable(at, names[i]);
        int next = openat(at, names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        fd_clear(&at);
        at = next;
    }
}

static int open_parent(const ReplayTree *tree, const char *parent, GError **error)
{
    int fd = dir_open(tree->root_fd, parent, NULL);
    if (fd < 0 && errno == EACCES) {
        open_up(tree->root_fd, parent);
        fd = dir_open(tree->root_fd, parent, NULL);
    }
    if (fd >= 0 || (errno == ENOENT && tree->make && !dir_make_path(tree->root_fd, parent, 0700, error)))
        return fd;
    return dir_open(tree->root_fd, parent, error);
}

int replay_tree_parent(ReplayTree *tree, const char *path, const char **base, GError **error)
{
    const char *slash = strrchr(path, '/');
    gsize length = slash != NULL ? (gsize)(slash - path) : 0;
    *base = slash != NULL ? slash + 1 : path;
    if (tree->parent_fd >= 0 && strlen(tree->parent) == length && memcmp(tree->parent, path, length) == 0)
        return tree->parent_fd;
    replay_tree_forget(tree);
    char *parent = g_strndup(path, length);
    tree->parent_fd = open_parent(tree, parent, error);
    if (tree->parent_fd >= 0)
        tree->parent = parent;
    else
        g_free(parent);
    return tree->parent_fd;
}

void replay_tree_forget(ReplayTree *tree)
{
    fd_clear(&tree->parent_fd);
    g_clear_pointer(&tree->parent, g_free);
}

int replay_tree_look(ReplayTree *tree, const char *path, FileMeta *meta, GError **error)
{
    const char *base = NULL;
    g_autoptr(GError) local = NULL;
    int parent = replay_tree_parent(tree, path, &base, &local);
    gboolean there = parent >= 0 && meta_read(parent, base, meta, &local);
    if (!there && parent >= 0 && errno == EACCES) {
        g_clear_error(&local);
        replay_make_usable(parent, "");
        there = meta_read(parent, base, meta, &local);
    }
    if (there)
        return 1;
    /* Below what is no directory there is nothing either. */
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND) || error_is(local, BACKAPP_ERROR_CONFLICT))
        return 0;
    g_propagate_error(error, g_steal_pointer(&local));
    return -1;
}

/* renameat for entries that lack permissions: taking an entry out of a directory needs u+wx on it, and giving a
 * directory another parent needs u+w on itself. FALSE with errno. */
static gboolean rename_permitted(int from_fd, const char *from, int to_fd, const char *to)
{
    if (renameat(from_fd, from, to_fd, to) == 0)
        return TRUE;
    if (errno != EACCES)
        return FALSE;
    replay_make_usable(from_fd, "");
    replay_make_usable(to_fd, "");
    FileMeta before;
    gboolean directory = meta_read(from_fd, from, &before, NULL) && S_ISDIR(before.mode);
    if (directory)
        replay_make_usable(from_fd, from);
    gboolean moved = renameat(from_fd, from, to_fd, to) == 0;
    int saved = errno;
    if (directory && (before.mode & S_IRWXU) != S_IRWXU)
        (void)meta_apply(moved ? to_fd : from_fd, moved ? to : from, -1, &before, META_MODE, NULL, NULL);
    errno = saved;
    return moved;
}

static gboolean move(ReplayTree *from, const char *path, ReplayTree *to, const char *to_path, gboolean replace,
                     GError **error)
{
    const char *from_name = NULL;
    const char *to_name = NULL;
    int from_fd = replay_tree_parent(from, path, &from_name, error);
    int to_fd = from_fd < 0 ? -1 : replay_tree_parent(to, to_path, &to_name, error);
    if (to_fd < 0)
        return FALSE;
    g_autofree char *free_name = g_strdup(to_name);
    for (guint n = 2; !replace && n < NAMES_TRIED && faccessat(to_fd, free_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0; n++) {
        g_free(free_name);
        /* A name may have its full length already; then its end makes room. */
        free_name = g_strdup_printf("%.*s~%u", NAME_MAX - 6, to_name, n);
    }
    if (!rename_permitted(from_fd, from_name, to_fd, free_name))
        return error_set_errno(error, errno, "cannot move %s to its place", path);
    return TRUE;
}

gboolean replay_move(ReplayTree *from, const char *path, ReplayTree *to, const char *to_path, GError **error)
{
    return move(from, path, to, to_path, TRUE, error);
}

gboolean replay_set_aside(ReplayTree *from, const char *path, ReplayTree *to, GError **error)
{
    return move(from, path, to, path, FALSE, error);
}
