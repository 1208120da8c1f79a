#include "engine/mirror/extraneous.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/human.h"
#include "fs/dir.h"

/* One directory on the way down; the descent keeps its own stack, so depth is bounded by memory only. */
typedef struct {
    DirNames names;
    guint at;
    AutoFd fd;
    gsize path_length;
    ExtraneousCount count; /* of what is below, this directory included */
} Level;

static void level_clear(gpointer data)
{
    Level *level = data;
    dir_names_clear(&level->names);
    fd_clear(&level->fd);
}

gboolean extraneous_is_protected(const MirrorRun *run, const char *source_path, gboolean is_directory)
{
    return pattern_list_match(run->options->patterns, source_path, is_directory) == PATTERN_EXCLUDE;
}

gboolean extraneous_check_boundary(const MirrorRun *run, const FileMeta *meta, const char *path, GError **error)
{
    /* Files of an overlay may have devices of their own. */
    gboolean same_dev = meta->dev == run->dest->dev || !S_ISDIR(meta->mode);
    if (same_dev && meta->mount == run->dest->mount)
        return TRUE;
    g_autofree char *name = human_name(path, -1);
    return error_set(error, BACKAPP_ERROR_CONFLICT,
                     "%s/%s lies on another file system or subvolume than the destination itself: unmount it, or "
                     "exclude it with --exclude '/%s'",
                     run->dest->path, name, name);
}

static gboolean push_level(const MirrorRun *run, GArray *levels, int parent_fd, const char *name, const GString *path,
                           const FileMeta *meta, GError **error)
{
    if (!extraneous_check_boundary(run, meta, path->str, error))
        return FALSE;
    Level level = {.fd = -1, .path_length = path->len};
    level.count = (ExtraneousCount){.entries = 1};
    g_autoptr(GError) local = NULL;
    level.fd = dir_open(parent_fd, name, &local);
    if (level.fd < 0 || !dir_names_read(level.fd, &level.names, run->cancel, &local)) {
        fd_clear(&level.fd);
        if (error_is(local, BACKAPP_ERROR_CANCELLED)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        /* What cannot be looked into is not deleted. */
        level.names = (DirNames){0};
        level.count.protected = TRUE;
    }
    g_array_append_val(levels, level);
    return TRUE;
}

/* Adds a finished directory to its parent, or to *total if it is the top. */
static void leave_level(GArray *levels, GString *path, ExtraneousCount *total)
{
    ExtraneousCount count = g_array_index(levels, Level, levels->len - 1).count;
    g_array_set_size(levels, levels->len - 1);
    if (levels->len == 0) {
        *total = count;
        return;
    }
    Level *parent = &g_array_index(levels, Level, levels->len - 1);
    g_string_truncate(path, parent->path_length);
    parent->count.entries += count.entries;
    parent->count.files += count.files;
    parent->count.bytes += count.bytes;
    parent->count.protected |= count.protected;
}

/* Looks at one name of the deepest level: counts it, or enters it. */
static gboolean step(const MirrorRun *run, GArray *levels, GString *path, GError **error)
{
    Level *level = &g_array_index(levels, Level, levels->len - 1);
    const char *name = dir_names_get(&level->names, level->at++);
    FileMeta meta;
    g_autoptr(GError) local = NULL;
    if (!meta_read(level->fd, name, &meta, &local)) {
        if (!error_is(local, BACKAPP_ERROR_NOT_FOUND))
            level->count.protected = TRUE;
        return TRUE;
    }
    g_string_truncate(path, level->path_length);
    g_string_append_printf(path, "/%s", name);
    if (extraneous_is_protected(run, path->str, S_ISDIR(meta.mode))) {
        level->count.protected = TRUE;
    } else if (S_ISDIR(meta.mode)) {
        return push_level(run, levels, level->fd, name, path, &meta, error);
    } else if (!extraneous_check_boundary(run, &meta, path->str, error)) {
        return FALSE;
    } else {
        level->count.entries++;
        level->count.files++;
        level->count.bytes += S_ISREG(meta.mode) ? meta.size : 0;
    }
    g_string_truncate(path, level->path_length);
    return TRUE;
}

gboolean extraneous_count(const MirrorRun *run, int dst_fd, const char *name, const char *source_path,
                          ExtraneousCount *count, GError **error)
{
    g_autoptr(GArray) levels = g_array_new(FALSE, TRUE, sizeof(Level));
    g_array_set_clear_func(levels, level_clear);
    g_autoptr(GString) path = g_string_new(source_path);
    FileMeta meta;
    if (!meta_read(dst_fd, name, &meta, error) || !push_level(run, levels, dst_fd, name, path, &meta, error))
        return FALSE;
    while (levels->len > 0) {
        if (!cancel_check(run->cancel, error))
            return FALSE;
        Level *level = &g_array_index(levels, Level, levels->len - 1);
        if (level->names.offsets == NULL || level->at >= dir_names_count(&level->names))
            leave_level(levels, path, count);
        else if (!step(run, levels, path, error))
            return FALSE;
    }
    return TRUE;
}

/* What one pass over a directory with protected entries needs. */
typedef struct {
    const MirrorRun *run;
    ExtraneousRemovable removable;
    gpointer user_data;
    GPtrArray *todo; /* of char *: directories that hold something protected, relative to the top's parent */
} Sifting;

static gboolean sift_entry(Sifting *sifting, int fd, const char *name, const char *relative, const char *source_path,
                           GError **error)
{
    FileMeta meta;
    if (!meta_read(fd, name, &meta, NULL))
        return TRUE; /* it is gone, or cannot be judged: then it stays */
    if (extraneous_is_protected(sifting->run, source_path, S_ISDIR(meta.mode)))
        return TRUE;
    ExtraneousCount count = {.entries = 1, .files = 1, .bytes = S_ISREG(meta.mode) ? meta.size : 0};
    if (S_ISDIR(meta.mode) && !extraneous_count(sifting->run, fd, name, source_path, &count, error))
        return FALSE;
    if (count.protected) {
        g_ptr_array_add(sifting->todo, g_strdup(relative));
        return TRUE;
    }
    return sifting->removable(relative, &meta, &count, sifting->user_data, error);
}

static gboolean sift_directory(Sifting *sifting, int dst_fd, const char *directory, const char *source_parent,
                               GError **error)
{
    g_auto(AutoFd) fd = dir_open(dst_fd, directory, NULL);
    g_auto(DirNames) names = {0};
    if (fd < 0)
        return TRUE;
    if (!dir_names_read(fd, &names, sifting->run->cancel, error))
        return FALSE;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        const char *name = dir_names_get(&names, i);
        g_autofree char *relative = g_strdup_printf("%s/%s", directory, name);
        g_autofree char *source_path = g_strdup_printf("%s%s", source_parent, relative);
        if (!sift_entry(sifting, fd, name, relative, source_path, error))
            return FALSE;
    }
    return TRUE;
}

gboolean extraneous_each_removable(const MirrorRun *run, int dst_fd, const char *name, const char *source_path,
                                   ExtraneousRemovable removable, gpointer user_data, GError **error)
{
    g_autoptr(GPtrArray) todo = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *source_parent = g_strndup(source_path, strlen(source_path) - strlen(name));
    Sifting sifting = {.run = run, .removable = removable, .user_data = user_data, .todo = todo};
    g_ptr_array_add(todo, g_strdup(name));
    while (todo->len > 0) {
        g_autofree char *directory = g_ptr_array_steal_index(todo, todo->len - 1);
        if (!cancel_check(run->cancel, error) || !sift_directory(&sifting, dst_fd, directory, source_parent, error))
            return FALSE;
    }
    return TRUE;
}
