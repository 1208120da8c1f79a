#include "engine/restore/selection.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>
#include <sys/stat.h>

struct Selection {
    GPtrArray *paths; /* of char *, sorted, none below another; empty: all */
};

gboolean selection_is_below(const char *path, const char *folder)
{
    gsize length = strlen(folder);
    return length == 0 || (strncmp(path, folder, length) == 0 && (path[length] == '\0' || path[length] == '/'));
}

/* A slash before everything else, so that what is in a folder follows it at once. */
static int compare_paths(gconstpointer a, gconstpointer b)
{
    const guchar *left = *(const guchar *const *)a, *right = *(const guchar *const *)b;
    while (*left && *left == *right)
        left++, right++;
    int l = *left == '/' ? 1 : *left ? *left + 1 : 0, r = *right == '/' ? 1 : *right ? *right + 1 : 0;
    return l - r;
}

Selection *selection_new(const char *const *paths)
{
    Selection *selection = g_new0(Selection, 1);
    GPtrArray *sorted = selection->paths = g_ptr_array_new_with_free_func(g_free);
    for (; paths && *paths; paths++)
        g_ptr_array_add(sorted, g_strdup(*paths));
    g_ptr_array_sort(sorted, compare_paths);
    for (guint i = 1; i < sorted->len;) {
        if (selection_is_below(g_ptr_array_index(sorted, i), g_ptr_array_index(sorted, i - 1)))
            g_ptr_array_remove_index(sorted, i);
        else
            i++;
    }
    return selection;
}

gboolean selection_has(const Selection *selection, const char *path)
{
    for (guint i = 0; i < selection->paths->len; i++)
        if (selection_is_below(path, g_ptr_array_index(selection->paths, i)))
            return TRUE;
    return selection->paths->len == 0;
}

void selection_free(Selection *selection)
{
    if (!selection)
        return;
    g_ptr_array_unref(selection->paths);
    g_free(selection);
}

typedef struct {
    RestoreSource *source;
    const CancelFlag *cancel;
    SelectionFunc func;
    gpointer user_data;
    GPtrArray *above; /* of char *: the parents that were told and are above the path at hand */
} Walk;

/* Who can write to a store could put anything into a list of files. */
static gboolean check_paths(const S3Entry *entry, GError **error)
{
    const char *link = entry->link;
    if (restore_path_is_inside(entry->path) && (!link || (*link && restore_path_is_inside(link))))
        return TRUE;
    g_autofree char *shown = human_name(entry->path, -1);
    return error_set(
        error, BACKAPP_ERROR_CORRUPT,
        "the list of files in the backup names %s, which would lie outside of the target: somebody else than "
        "a backup wrote it; nothing is restored",
        shown);
}

static gboolean tell(const Walk *walk, const RestoreEntry *entry, gboolean parent, GError **error)
{
    return cancel_check(walk->cancel, error) && check_paths(&entry->entry, error) &&
           walk->func(entry, parent, walk->user_data, error);
}

static gboolean is_told(const Walk *walk, const char *folder)
{
    for (guint i = 0; i < walk->above->len; i++)
        if (strcmp(g_ptr_array_index(walk->above, i), folder) == 0)
            return TRUE;
    return FALSE;
}

/* The folders above a path, from the root on: those that were not told already. */
static gboolean take_parents(Walk *walk, const char *path, GError **error)
{
    for (guint i = walk->above->len; i > 0 && !selection_is_below(path, g_ptr_array_index(walk->above, i - 1)); i--)
        g_ptr_array_set_size(walk->above, (int)i - 1);
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        g_autofree char *folder = g_strndup(path, (gsize)(slash - path));
        RestoreEntry found;
        if (is_told(walk, folder))
            continue;
        int more =
            restore_source_seek(walk->source, folder, error) ? restore_source_next(walk->source, &found, error) : -1;
        if (more < 0)
            return FALSE;
        /* A point made of parts may lack a folder's own entry: then it is made as any folder. */
        if (more == 0 || strcmp(found.entry.path, folder) != 0 || !S_ISDIR(found.entry.meta.mode))
            continue;
        if (!tell(walk, &found, TRUE, error))
            return FALSE;
        g_ptr_array_add(walk->above, g_steal_pointer(&folder));
    }
    return TRUE;
}

/* What follows from the entry at hand on, as far as it is below path. */
static gboolean take_below(Walk *walk, const char *path, GError **error)
{
    RestoreEntry found;
    int more;
    while ((more = restore_source_next(walk->source, &found, error)) > 0 && selection_is_below(found.entry.path, path))
        if (!tell(walk, &found, FALSE, error))
            return FALSE;
    return more >= 0;
}

static gboolean take_path(Walk *walk, const char *path, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (take_parents(walk, path, &local) && restore_source_seek(walk->source, path, &local))
        return take_below(walk, path, error);
    if (!error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *shown = human_name(path, -1);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no %s in this point of the backup", shown);
}

gboolean selection_each(const Selection *selection, RestoreSource *source, const CancelFlag *cancel, SelectionFunc func,
                        gpointer user_data, GError **error)
{
    g_autoptr(GPtrArray) above = g_ptr_array_new_with_free_func(g_free);
    Walk walk = {.source = source, .cancel = cancel, .func = func, .user_data = user_data, .above = above};
    if (selection->paths->len == 0)
        return take_below(&walk, "", error);
    for (guint i = 0; i < selection->paths->len; i++)
        if (!take_path(&walk, g_ptr_array_index(selection->paths, i), error))
            return FALSE;
    return TRUE;
}
