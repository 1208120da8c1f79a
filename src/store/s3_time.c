#include "store/s3_time.h"

#include <string.h>

typedef struct {
    int year, month, day, hour, minute, second;
} Parts;

/* Days since 1970 of a date of the Gregorian calendar. timegm does it too, but a list of a million objects calls this a
 * million times. */
static gint64 days_of(int year, int month, int day)
{
    int shifted = month > 2 ? year : year - 1; /* years that begin with March end with the leap day */
    int century = shifted / 100;
    int since_march = (month + 9) % 12;
    return (gint64)shifted * 365 + shifted / 4 - century + century / 4 + (153 * since_march + 2) / 5 + day - 1 - 719468;
}

static gboolean to_seconds(const Parts *parts, gint64 *seconds)
{
    if (parts->year < 1 || parts->month < 1 || parts->month > 12 || parts->day < 1 || parts->day > 31 ||
        parts->hour > 23 || parts->minute > 59 || parts->second > 60)
        return FALSE;
    *seconds = days_of(parts->year, parts->month, parts->day) * 86400 + parts->hour * 3600 + parts->minute * 60 +
               parts->second;
    return TRUE;
}

/* Reads text by a pattern in which 'Y' 'M' 'D' 'h' 'm' 's' are digits of that part and the rest stands for itself; text
 * may go on behind. */
static const char *read_pattern(const char *text, const char *pattern, Parts *parts)
{
    for (; *pattern != '\0'; pattern++, text++) {
        int *part = *pattern == 'Y'   ? &parts->year
                    : *pattern == 'M' ? &parts->month
                    : *pattern == 'D' ? &parts->day
                    : *pattern == 'h' ? &parts->hour
                    : *pattern == 'm' ? &parts->minute
                    : *pattern == 's' ? &parts->second
                                      : NULL;
        if (part && g_ascii_isdigit(*text))
            *part = *part * 10 + (*text - '0');
        else if (part || *text != *pattern)
            return NULL;
    }
    return text;
}

gboolean s3_time_parse_iso(const char *text, gint64 *seconds)
{
    Parts parts = {0};
    const char *rest = read_pattern(text, "YYYY-MM-DDThh:mm:ss", &parts);
    if (rest && *rest == '.')
        rest += 1 + strspn(rest + 1, "0123456789");
    return rest && strcmp(rest, "Z") == 0 && to_seconds(&parts, seconds);
}

gboolean s3_time_parse_http(const char *text, gint64 *seconds)
{
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    Parts parts = {0};
    const char *comma = strchr(text, ',');
    const char *rest = comma ? read_pattern(comma, ", DD ", &parts) : NULL;
    for (int i = 0; rest && parts.month == 0 && i < 12; i++)
        if (strncmp(rest, months[i], 3) == 0)
            parts.month = i + 1;
    if (!rest || parts.month == 0)
        return FALSE;
    rest = read_pattern(rest + 3, " YYYY hh:mm:ss", &parts);
    return rest && strcmp(rest, " GMT") == 0 && to_seconds(&parts, seconds);
}

char *s3_time_format_iso(gint64 seconds)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(seconds);
    return time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : NULL;
}
