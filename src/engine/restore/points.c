#include "engine/restore/points.h"

#include "base/error.h"
#include "base/human.h"
#include "base/when.h"

#include <string.h>

void restore_point_free(RestorePoint *point)
{
    if (!point)
        return;
    g_free(point->name);
    g_free(point->folder);
    g_free(point->archive);
    g_free(point->problem);
    g_free(point);
}

static void free_point(gpointer point)
{
    restore_point_free(point);
}

GPtrArray *points_new(void)
{
    return g_ptr_array_new_with_free_func(free_point);
}

RestorePoint *points_add(GPtrArray *points, const char *name, gint64 time)
{
    RestorePoint *point = g_new0(RestorePoint, 1);
    point->name = g_strdup(name);
    point->time = time;
    g_ptr_array_add(points, point);
    return point;
}

gboolean points_no_name(const char *at, GError **error)
{
    g_autofree char *shown = human_name(at, -1);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                     "there is no restore point of the name %s, and it is neither a date (2026-11-20) nor a time "
                     "(2026-11-20T02:00:00Z)",
                     shown);
}

static gboolean no_point(const GPtrArray *points, const char *at, GError **error)
{
    if (points->len == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no restore point");
    const RestorePoint *newest = g_ptr_array_index(points, 0), *oldest = g_ptr_array_index(points, points->len - 1);
    g_autofree char *first = when_show(oldest->time), *last = when_show(newest->time);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no restore point %s (%u in all, from %s to %s)", at,
                     points->len, first, last);
}

gboolean points_choose(const GPtrArray *points, const char *at, guint *number, GError **error)
{
    gint64 until = G_MAXINT64;
    gboolean latest = !at || strcmp(at, "latest") == 0;
    for (*number = 0; *number < points->len && !latest; ++*number)
        if (strcmp(((const RestorePoint *)g_ptr_array_index(points, *number))->name, at) == 0)
            return TRUE;
    if (!latest && !when_parse(at, &until))
        return points_no_name(at, error);
    for (*number = 0; *number < points->len; ++*number)
        if (((const RestorePoint *)g_ptr_array_index(points, *number))->time <= until)
            return TRUE;
    return no_point(points, latest ? "latest" : at, error);
}
