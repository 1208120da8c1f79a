#include "engine/restore/source.h"

#include "base/error.h"
#include "base/human.h"
#include "engine/archive/point.h"
#include "engine/restore/archive_source.h"
#include "engine/restore/mirror_source.h"
#include "engine/restore/points.h"
#include "engine/restore/s3_source.h"
#include "fs/dir.h"

#include <string.h>

const char *restore_source_kind_name(RestoreSourceKind kind)
{
    switch (kind) {
    case RESTORE_FROM_S3_MIRROR:
        return "s3-mirror";
    case RESTORE_FROM_ARCHIVES:
        return "archives";
    case RESTORE_FROM_MIRROR:
        return "mirror";
    }
    return "unknown";
}

gboolean restore_source_seek(RestoreSource *source, const char *path, GError **error)
{
    return source->ops->seek(source, path, error);
}

int restore_source_next(RestoreSource *source, RestoreEntry *entry, GError **error)
{
    return source->ops->next(source, entry, error);
}

gboolean restore_source_fetch(RestoreSource *source, const RestoreEntry *entry, RestoreFetch *fetch, GError **error)
{
    fetch->cold = FALSE;
    return source->ops->fetch(source, entry, fetch, error);
}

gboolean restore_source_knows(const RestoreSource *source, const S3Entry *entry)
{
    return source->ops->matches || entry->part_size > 0;
}

gboolean restore_source_matches(RestoreSource *source, const S3Entry *entry, int fd, const CancelFlag *cancel,
                                gboolean *equal, GError **error)
{
    return source->ops->matches ? source->ops->matches(source, entry, fd, equal, error)
                                : restore_content_matches(entry, fd, cancel, equal, error);
}

void restore_source_free(RestoreSource *source)
{
    if (!source)
        return;
    g_free(source->point.name);
    g_free(source->point.folder);
    g_free(source->point.archive);
    g_free(source->point.problem);
    source->ops->free(source);
}

gboolean restore_path_is_inside(const char *path)
{
    return *path == '\0' || dir_is_inner_path(path);
}

static gboolean nothing_found(const RestoreSourceOptions *options, GError **error)
{
    return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                     "%s holds no backup that can be restored here: no restore point lies in its .backapp/tree, no "
                     "folder of it holds archives%s (was the prefix left out, or the date?)",
                     options->store ? options->store->url : options->directory,
                     options->directory ? ", and it is no mirror, which has a .backapp-destination" : "");
}

static gboolean several_names(const RestoreSourceOptions *options, const GPtrArray *names, GError **error)
{
    g_autoptr(GString) list = g_string_new(NULL);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *shown = human_name(g_ptr_array_index(names, i), -1);
        g_string_append_printf(list, "%s%s", i > 0 ? ", " : "", shown);
    }
    return error_set(error, BACKAPP_ERROR_INVALID, "%s holds archives of several names; say with --name which: %s",
                     options->store->url, list->str);
}

/* A mirror's files may look like anything, so its marker counts first; a name is one of archives. */
RestoreSource *restore_source_open(const RestoreSourceOptions *options, GError **error)
{
    if (options->name && options->store)
        return archive_source_open(options, options->name, error);
    if (options->directory && mirror_source_is_one(options->directory))
        return mirror_source_open(options, error);
    if (!options->store) {
        (void)nothing_found(options, error);
        return NULL;
    }
    g_autoptr(GPtrArray) roots = tree_list_roots(options->store, error);
    if (!roots)
        return NULL;
    if (roots->len > 0)
        return s3_source_open(options, roots, error);
    g_autoptr(GPtrArray) names = archive_places(options->store, options->cancel, error);
    if (!names)
        return NULL;
    if (names->len == 1)
        return archive_source_open(options, g_ptr_array_index(names, 0), error);
    (void)(names->len > 0 ? several_names(options, names, error) : nothing_found(options, error));
    return NULL;
}

static int newest_first(gconstpointer a, gconstpointer b)
{
    const RestorePoint *left = *(const RestorePoint *const *)a, *right = *(const RestorePoint *const *)b;
    int order = (left->time < right->time) - (left->time > right->time);
    return order != 0 ? order : strcmp(right->name, left->name);
}

static gboolean add_archives(const RestoreSourceOptions *options, GPtrArray *points, GError **error)
{
    g_autoptr(GPtrArray) names = archive_places(options->store, options->cancel, error);
    for (guint i = 0; names && i < names->len; i++)
        if (!archive_source_list(options, g_ptr_array_index(names, i), points, error))
            return FALSE;
    g_ptr_array_sort(points, newest_first);
    return names != NULL;
}

/* The first folder of the store behind `after` (NULL: of all), without its slash. *folder is NULL if there is none. */
static gboolean next_folder(Store *store, const char *after, char **folder, GError **error)
{
    /* The character behind the slash sorts after all that is below it. */
    g_autofree char *start = after ? g_strdup_printf("%s%c", after, '/' + 1) : NULL;
    g_autoptr(StoreList) list = store_list(store, "", start, FALSE, error);
    const StoreObject *object;
    int more = list ? 0 : -1;
    *folder = NULL;
    while (list && !*folder && (more = store_list_next(list, &object, error)) > 0) {
        const char *slash = strchr(object->key, '/');
        if (slash && slash != object->key)
            *folder = g_strndup(object->key, (gsize)(slash - object->key));
    }
    return more >= 0;
}

static gboolean add_folders(const RestoreSourceOptions *options, GPtrArray *points, GError **error)
{
    g_autofree char *folder = NULL;
    do {
        char *next;
        if (!next_folder(options->store, folder, &next, error))
            return FALSE;
        g_free(folder);
        folder = next;
        if (folder && !s3_source_list(options, folder, points, error))
            return FALSE;
    } while (folder);
    g_ptr_array_sort(points, newest_first);
    return TRUE;
}

GPtrArray *restore_points(const RestoreSourceOptions *options, GError **error)
{
    g_autoptr(GPtrArray) points = points_new();
    gboolean is_mirror = !options->name && options->directory && mirror_source_is_one(options->directory);
    gboolean fine = TRUE;
    if (is_mirror)
        fine = mirror_source_list(options, points, error);
    else if (options->store && options->name)
        fine = archive_source_list(options, options->name, points, error);
    else if (options->store)
        fine = s3_source_list(options, NULL, points, error) &&
               (points->len > 0 || add_archives(options, points, error)) &&
               (points->len > 0 || add_folders(options, points, error));
    return fine ? g_steal_pointer(&points) : NULL;
}
