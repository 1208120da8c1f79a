#include "engine/archive/chain.h"

#include "base/error.h"
#include "base/human.h"
#include "base/when.h"

#include <string.h>

/* So many are named where somebody named none of them. */
#define NAMED_MAX 5

/* The archives with an index, newest first (of ArchiveListed *, which belong to `all`). */
static GPtrArray *points_of(const GPtrArray *all)
{
    GPtrArray *points = g_ptr_array_new();
    for (guint i = 0; i < all->len; i++) {
        const ArchiveListed *listed = g_ptr_array_index(all, i);
        if (listed->has_index)
            g_ptr_array_add(points, g_ptr_array_index(all, i));
    }
    return points;
}

static const ArchiveListed *point_at(const GPtrArray *points, guint i)
{
    return g_ptr_array_index(points, i);
}

/* Says which points there are. Returns NULL. */
static char *no_point(const ArchivePlace *place, const GPtrArray *points, const char *at, GError **error)
{
    if (points->len == 0) {
        (void)error_set(error, BACKAPP_ERROR_NOT_FOUND,
                        "there is no archive \"%s\" that can be restored in %s (was the name or the prefix another?)",
                        place->name, place->store->url);
        return NULL;
    }
    g_autofree char *shown = human_name(at, -1);
    g_autoptr(GString) names = g_string_new(NULL);
    for (guint i = 0; i < MIN(points->len, NAMED_MAX); i++)
        g_string_append_printf(names, "%s%s", i > 0 ? ", " : "", point_at(points, i)->base);
    if (points->len > NAMED_MAX)
        g_string_append_printf(names, ", and %u older ones back to %s", points->len - NAMED_MAX,
                               point_at(points, points->len - 1)->base);
    (void)error_set(error, BACKAPP_ERROR_NOT_FOUND,
                    "\"%s\" has no point %s: name one of %s, or a date (2026-11-20) or time (2026-11-20T02:00:00Z)",
                    place->name, shown, names->str);
    return NULL;
}

/* How many points begin with `at`; *only is the last of them. One with exactly this name is the only one. */
static guint count_beginning(const GPtrArray *points, const char *at, const ArchiveListed **only)
{
    guint count = 0;
    for (guint i = 0; i < points->len; i++) {
        const ArchiveListed *point = point_at(points, i);
        if (!g_str_has_prefix(point->base, at))
            continue;
        *only = point;
        if (strcmp(point->base, at) == 0)
            return 1;
        count++;
    }
    return count;
}

/* The newest that is not after the time; NULL if there is none. */
static const ArchiveListed *newest_until(const GPtrArray *points, gint64 until)
{
    for (guint i = 0; i < points->len; i++)
        if (point_at(points, i)->name.time <= until)
            return point_at(points, i);
    return NULL;
}

char *chain_choose(const ArchivePlace *place, const char *at, const CancelFlag *cancel, GError **error)
{
    g_autoptr(GPtrArray) all = archive_list(place, cancel, error);
    if (!all)
        return NULL;
    g_autoptr(GPtrArray) points = points_of(all);
    const ArchiveListed *point = NULL;
    guint beginning = 0;
    gint64 until = G_MAXINT64;
    gboolean latest = !at || strcmp(at, "latest") == 0;
    /* A day is also what names begin with: it means its end nevertheless, whatever points it has. */
    if (!latest && *at != '\0' && !when_is_day(at))
        beginning = count_beginning(points, at, &point);
    if (beginning == 1)
        return g_strdup(point->base);
    point = latest || when_parse(at, &until) ? newest_until(points, until) : NULL;
    if (point)
        return g_strdup(point->base);
    if (beginning == 0)
        return no_point(place, points, latest ? "latest" : at, error);
    g_autofree char *shown = human_name(at, -1);
    (void)error_set(error, BACKAPP_ERROR_INVALID, "%u points of \"%s\" begin with %s: write more of the name",
                    beginning, place->name, shown);
    return NULL;
}
