#include "base/when.h"

#include <string.h>

#define DAY_LENGTH (sizeof "YYYY-MM-DD" - 1)

/* Midnight that the day begins with, in local time; NULL if it is no day. */
static GDateTime *parse_day(const char *text)
{
    if (strlen(text) != DAY_LENGTH || text[4] != '-' || text[7] != '-')
        return NULL;
    g_autoptr(GTimeZone) local = g_time_zone_new_local();
    g_autofree char *midnight = g_strconcat(text, "T00:00:00", NULL);
    return g_date_time_new_from_iso8601(midnight, local);
}

gboolean when_is_day(const char *text)
{
    g_autoptr(GDateTime) day = parse_day(text);
    return day != NULL;
}

gboolean when_parse(const char *text, gint64 *until)
{
    g_autoptr(GDateTime) day = parse_day(text);
    if (day) {
        g_autoptr(GDateTime) next = g_date_time_add_days(day, 1);
        if (!next)
            return FALSE;
        *until = g_date_time_to_unix(next) - 1;
        return TRUE;
    }
    g_autoptr(GTimeZone) local = g_time_zone_new_local();
    g_autoptr(GDateTime) time = g_date_time_new_from_iso8601(text, local);
    if (!time)
        return FALSE;
    *until = g_date_time_to_unix(time);
    return TRUE;
}

char *when_show(gint64 seconds)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(seconds);
    return time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("?");
}
