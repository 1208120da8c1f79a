#include "engine/s3sync/prefix.h"

#include <string.h>

#include "base/error.h"

#define DATE_WORD "YYYY-MM-DD"

typedef struct {
    char *date, *time;
    const PrefixValues *values;
    gboolean dated;
} Filling;

static void filling_clear(Filling *filling)
{
    g_free(filling->date);
    g_free(filling->time);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Filling, filling_clear)

static gboolean begin(Filling *filling, GError **error)
{
    const PrefixValues *values = filling->values;
    const char *name = values->timezone;
    g_autoptr(GTimeZone) zone = name != NULL ? g_time_zone_new_identifier(name) : g_time_zone_new_local();
    if (zone == NULL)
        return error_set(error, BACKAPP_ERROR_INVALID, "the time zone %s is not known: use a name like Europe/Paris",
                         name);
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(values->time);
    g_autoptr(GDateTime) local = utc != NULL ? g_date_time_to_timezone(utc, zone) : NULL;
    if (local == NULL)
        return error_set(error, BACKAPP_ERROR_INVALID, "the time %" G_GINT64_FORMAT " is no date", values->time);
    filling->date = g_date_time_format(local, "%Y-%m-%d");
    filling->time = g_date_time_format(local, "%H%M%S");
    return TRUE;
}

/* What stands for a word in braces; NULL if it is unknown. */
static const char *value_of(Filling *filling, const char *word, gsize length)
{
    static const char *const WORDS[] = {"date", "time", "config", "host"};
    const char *config = filling->values->config != NULL ? filling->values->config : "";
    const char *host = filling->values->host != NULL ? filling->values->host : "";
    const char *const values[] = {filling->date, filling->time, config, host};
    for (guint i = 0; i < G_N_ELEMENTS(WORDS); i++) {
        if (strlen(WORDS[i]) == length && memcmp(WORDS[i], word, length) == 0) {
            filling->dated |= i < 2;
            return values[i];
        }
    }
    return NULL;
}

/* One segment with its words filled in. */
static gboolean fill_segment(Filling *filling, const char *segment, GString *out, GError **error)
{
    while (*segment != '\0') {
        const char *end = *segment == '{' ? strchr(segment, '}') : NULL;
        if (g_str_has_prefix(segment, DATE_WORD)) {
            filling->dated = TRUE;
            g_string_append(out, filling->date);
            segment += strlen(DATE_WORD);
        } else if (end != NULL) {
            const char *value = value_of(filling, segment + 1, (gsize)(end - segment - 1));
            if (value == NULL)
                return error_set(error, BACKAPP_ERROR_INVALID,
                                 "%.*s in a prefix is not known: there are {date}, {time}, {config}, {host}",
                                 (int)MIN(end - segment + 1, 100), segment);
            g_string_append(out, value);
            segment = end + 1;
        } else {
            g_string_append_c(out, *segment++);
        }
    }
    return TRUE;
}

/* Appends the segments of text that are not empty, each with a slash. With until_date stops before the first one that
 * has a date; TRUE in *stopped then. */
static gboolean append_segments(Filling *filling, const char *text, gboolean until_date, gboolean *stopped,
                                GString *out, GError **error)
{
    if (text == NULL || *stopped)
        return TRUE;
    g_auto(GStrv) segments = g_strsplit(text, "/", -1);
    for (guint i = 0; segments[i] != NULL; i++) {
        g_autoptr(GString) filled = g_string_new(NULL);
        gboolean dated_before = filling->dated;
        filling->dated = FALSE;
        if (!fill_segment(filling, segments[i], filled, error))
            return FALSE;
        gboolean has_date = filling->dated;
        filling->dated |= dated_before;
        if (has_date && until_date) {
            *stopped = TRUE;
            return TRUE;
        }
        /* A value may bring slashes of its own: a config may be called anything. */
        g_strdelimit(filled->str, "/", '-');
        if (strcmp(filled->str, ".") == 0 || strcmp(filled->str, "..") == 0)
            return error_set(error, BACKAPP_ERROR_INVALID, "a prefix cannot have the part \"%s\"", filled->str);
        if (filled->len > 0) {
            g_string_append(out, filled->str);
            g_string_append_c(out, '/');
        }
    }
    return TRUE;
}

static char *expand(const char *base, const char *template, const PrefixValues *values, gboolean until_date,
                    gboolean *dated, GError **error)
{
    g_auto(Filling) filling = {.values = values};
    g_autoptr(GString) out = g_string_new(NULL);
    gboolean stopped = FALSE;
    if (!begin(&filling, error) || !append_segments(&filling, base, until_date, &stopped, out, error) ||
        !append_segments(&filling, template, until_date, &stopped, out, error))
        return NULL;
    if (!g_utf8_validate(out->str, (gssize)out->len, NULL)) {
        error_set(error, BACKAPP_ERROR_INVALID, "a prefix has to be UTF-8");
        return NULL;
    }
    if (dated != NULL)
        *dated = filling.dated;
    return g_strdup(out->str);
}

char *prefix_expand(const char *base, const char *template, const PrefixValues *values, gboolean *dated, GError **error)
{
    return expand(base, template, values, FALSE, dated, error);
}

char *prefix_common(const char *base, const char *template, const PrefixValues *values, GError **error)
{
    return expand(base, template, values, TRUE, NULL, error);
}
