#include "engine/restore/points.h"

#include "base/error.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/tree_format.h"

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
    g_free(point);
}

static void free_point(gpointer point)
{
    restore_point_free(point);
}

GPtrArray *restore_points(Store *store, const guint8 *master_key, GError **error)
{
    g_auto(S3Keys) keys = {0};
    g_autoptr(GPtrArray) roots = tree_list_roots(store, error);
    if (!roots)
        return NULL;
    if (master_key)
        s3keys_derive(master_key, &keys);
    g_autoptr(GPtrArray) points = g_ptr_array_new_with_free_func(free_point);
    for (guint i = 0; i < roots->len; i++) {
        const TreeRoot *root = g_ptr_array_index(roots, i);
        TreeRoot read = {0};
        g_autoptr(GArray) blocks = tree_blocks_new();
        if (!tree_root_read(store, root->key, master_key ? keys.content : NULL, &read, blocks, error))
            return NULL;
        RestorePoint *point = g_new0(RestorePoint, 1);
        *point = (RestorePoint){.name = g_strdup(name_of(root)),
                                .time = read.time,
                                .files = read.files,
                                .bytes = read.bytes,
                                .partial = read.partial};
        g_ptr_array_add(points, point);
        tree_root_clear(&read);
    }
    return g_steal_pointer(&points);
}
