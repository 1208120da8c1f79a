#include "job/spec_proof.h"

#include "base/error.h"

#include <string.h>

#define KEEP_MAX  G_MAXINT32
#define DAYS_MAX  36500
#define FILES_MAX 10000

static gboolean read_keep(const json_t *value, const char *where, gpointer member, GError **error)
{
    guint *count = member;
    json_int_t number = json_integer_value(value);
    if (json_is_string(value) && strcmp(json_string_value(value), "unlimited") == 0) {
        *count = JOB_KEEP_ALL;
        return TRUE;
    }
    if (!json_is_integer(value) || number < 0 || number > KEEP_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s: must be a number from 0 to %d, or \"unlimited\"", where,
                         KEEP_MAX);
    *count = (guint)number;
    return TRUE;
}

static json_t *print_keep(gconstpointer member)
{
    const guint *count = member;
    return *count == JOB_KEEP_ALL ? json_string("unlimited") : json_integer(*count);
}

#define RETENTION(name) G_STRUCT_OFFSET(JobRetentionOptions, name)
#define KEEP(json, member)                                                                                             \
    {                                                                                                                  \
        .key = json, .kind = FIELD_CUSTOM, .offset = RETENTION(member), .read = read_keep, .print = print_keep         \
    }

const JsonField job_retention_fields[] = {
    KEEP("count", count),
    {.key = "days", .kind = FIELD_UINT, .offset = RETENTION(days), .max = DAYS_MAX},
    KEEP("keepLast", last),
    KEEP("keepHourly", hourly),
    KEEP("keepDaily", daily),
    KEEP("keepWeekly", weekly),
    KEEP("keepMonthly", monthly),
    KEEP("keepYearly", yearly),
    {.key = "keepWithin", .kind = FIELD_TEXT, .offset = RETENTION(within), .min = 2, .max = 64},
    {.key = "timezone", .kind = FIELD_TEXT, .offset = RETENTION(time_zone), .min = 1, .max = 128},
    {.key = "unfinished", .kind = FIELD_BOOL, .offset = RETENTION(unfinished)},
    {0},
};

void job_retention_options_clear(JobRetentionOptions *options)
{
    g_free(options->within);
    g_free(options->time_zone);
}

#define DRILL(name) G_STRUCT_OFFSET(JobDrillOptions, name)

const JsonField job_drill_fields[] = {
    {.key = "files", .kind = FIELD_UINT, .offset = DRILL(files), .max = FILES_MAX},
    {.key = "maxBytes", .kind = FIELD_UINT64, .offset = DRILL(max_bytes), .max = G_MAXINT64},
    {.key = "seed", .kind = FIELD_UINT, .offset = DRILL(seed), .max = G_MAXUINT32},
    {0},
};
