#include "engine/restore/points.h"

#include "base/error.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/tree_format.h"
#include "store/drivers.h"

#include <string.h>

/* "2026-11-20T02:00:00Z" */
static char *show_time(gint64 seconds)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(seconds);
    return time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("?");
}

static const char *name_of(const TreeRoot *root)
{
    return g_str_has_prefix(root->key, TREE_ROOTS) ? root->key + strlen(TREE_ROOTS) : root->key;
}

/* The last second that `at` stands for: of a day, its end in local time. FALSE if it is no time. */
static gboolean parse_time(const char *at, gint64 *until)
{
    g_autoptr(GTimeZone) local = g_time_zone_new_local();
    if (strlen(at) == strlen("YYYY-MM-DD")) {
        g_autofree char *first = g_strconcat(at, "T00:00:00", NULL);
        g_autoptr(GDateTime) midnight = g_date_time_new_from_iso8601(first, local);
        g_autoptr(GDateTime) next = midnight ? g_date_time_add_days(midnight, 1) : NULL;
        if (!next)
            return FALSE;
        *until = g_date_time_to_unix(next) - 1;
        return TRUE;
    }
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(at, local);
    if (!time)
        return FALSE;
    *until = g_date_time_to_unix(time);
    return TRUE;
}

static gboolean no_point(const GPtrArray *roots, const char *at, GError **error)
{
    if (roots->len == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                         "the store holds no backup that can be restored here: no restore point lies in its "
                         ".backapp/tree (was the prefix left out, or the date?)");
    const TreeRoot *newest = g_ptr_array_index(roots, 0), *oldest = g_ptr_array_index(roots, roots->len - 1);
    g_autofree char *first = show_time(oldest->time), *last = show_time(newest->time);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no restore point %s (%u in all, from %s to %s)", at,
                     roots->len, first, last);
}

/* By name, or the newest that is not after the time. */
static const TreeRoot *choose(const GPtrArray *roots, const char *at, GError **error)
{
    gint64 until = G_MAXINT64;
    gboolean latest = !at || strcmp(at, "latest") == 0;
    for (guint i = 0; i < roots->len && !latest; i++)
        if (strcmp(name_of(g_ptr_array_index(roots, i)), at) == 0)
            return g_ptr_array_index(roots, i);
    if (!latest && !parse_time(at, &until)) {
        (void)error_set(error, BACKAPP_ERROR_NOT_FOUND,
                        "there is no restore point of the name %s, and it is neither a date (2026-11-20) nor a time "
                        "(2026-11-20T02:00:00Z)",
                        at);
        return NULL;
    }
    for (guint i = 0; i < roots->len; i++) {
        const TreeRoot *root = g_ptr_array_index(roots, i);
        if (root->time <= until)
            return root;
    }
    (void)no_point(roots, latest ? "latest" : at, error);
    return NULL;
}

TreeReader *points_open(Store *store, const char *at, const guint8 *content_key, GError **error)
{
    g_autoptr(GPtrArray) roots = tree_list_roots(store, error);
    const TreeRoot *root = roots ? choose(roots, at, error) : NULL;
    return root ? tree_reader_open(store, root->key, content_key, error) : NULL;
}

void restore_point_free(RestorePoint *point)
{
    if (!point)
        return;
    g_free(point->name);
    g_free(point->folder);
    g_free(point->problem);
    g_free(point);
}

static void free_point(gpointer point)
{
    restore_point_free(point);
}

/* Reads a point's numbers. FALSE if that is no matter of this point alone. */
static gboolean read_point(Store *store, const TreeRoot *root, const guint8 *content_key, RestorePoint *point,
                           GError **error)
{
    TreeRoot read = {0};
    g_autoptr(GArray) blocks = tree_blocks_new();
    g_autoptr(GError) local = NULL;
    gboolean fine = tree_root_read(store, root->key, content_key, &read, blocks, &local);
    if (fine) {
        point->time = read.time;
        point->files = read.files;
        point->bytes = read.bytes;
        point->partial = read.partial;
    } else if (error_is(local, BACKAPP_ERROR_CORRUPT) || error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        point->time = root->time;
        point->problem = g_strdup(local->message);
        fine = TRUE;
    } else {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    tree_root_clear(&read);
    return fine;
}

/* Appends the points of the mirror in a folder of the store; NULL: in the store itself. */
static gboolean add_points(Store *store, const char *folder, const guint8 *content_key, GPtrArray *points,
                           GError **error)
{
    g_autofree char *prefix = g_strconcat(folder ? folder : "", "/", NULL);
    g_autoptr(Store) below = folder ? store_prefix_borrow(store, prefix) : NULL;
    Store *mirror = below ? below : store;
    g_autoptr(GPtrArray) roots = tree_list_roots(mirror, error);
    if (!roots)
        return FALSE;
    for (guint i = 0; i < roots->len; i++) {
        const TreeRoot *root = g_ptr_array_index(roots, i);
        RestorePoint *point = g_new0(RestorePoint, 1);
        *point = (RestorePoint){.name = g_strdup(name_of(root)), .folder = g_strdup(folder)};
        g_ptr_array_add(points, point);
        if (!read_point(mirror, root, content_key, point, error))
            return FALSE;
    }
    return TRUE;
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

static gboolean add_folders(Store *store, const guint8 *content_key, GPtrArray *points, GError **error)
{
    g_autofree char *folder = NULL;
    do {
        char *next;
        if (!next_folder(store, folder, &next, error))
            return FALSE;
        g_free(folder);
        folder = next;
        if (folder && !add_points(store, folder, content_key, points, error))
            return FALSE;
    } while (folder);
    return TRUE;
}

static int newest_first(gconstpointer a, gconstpointer b)
{
    const RestorePoint *left = *(const RestorePoint *const *)a, *right = *(const RestorePoint *const *)b;
    int order = (left->time < right->time) - (left->time > right->time);
    return order != 0 ? order : strcmp(right->name, left->name);
}

GPtrArray *restore_points(Store *store, const guint8 *master_key, GError **error)
{
    g_auto(S3Keys) keys = {0};
    if (master_key)
        s3keys_derive(master_key, &keys);
    const guint8 *content_key = master_key ? keys.content : NULL;
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func(free_point);
    if (!add_points(store, NULL, content_key, points, error))
        return NULL;
    if (points->len > 0)
        return g_steal_pointer(&points);
    if (!add_folders(store, content_key, points, error))
        return NULL;
    g_ptr_array_sort(points, newest_first);
    return g_steal_pointer(&points);
}
