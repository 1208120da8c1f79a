#include "cli/retention_options.h"

#include "base/error.h"
#include "base/human.h"
#include "engine/retention/rules.h"

#define DAYS_MAX 36500

static gboolean set_count(guint *count, const OptionUse *use, GError **error)
{
    g_autofree char *name = g_strconcat("--", use->def->name, NULL);
    return retention_parse_count(use->value, name, count, error);
}

static gboolean set_days(guint *days, const char *value, GError **error)
{
    guint64 number = 0;
    if (!human_parse_number(value, 1, DAYS_MAX, "--days", &number, error))
        return FALSE;
    *days = (guint)number;
    return TRUE;
}

static gboolean set_within(char **within, const char *value, GError **error)
{
    RetentionSpan span;
    if (!retention_parse_span(value, &span, error)) {
        g_prefix_error(error, "--keep-within: ");
        return FALSE;
    }
    g_free(*within);
    *within = g_strdup(value);
    return TRUE;
}

static gboolean set_zone(char **zone, const char *value, GError **error)
{
    g_autoptr(GTimeZone) found = *value ? g_time_zone_new_identifier(value) : NULL;
    g_autofree char *shown = human_name(value, -1);
    if (!found)
        return error_set(error, BACKAPP_ERROR_INVALID, "--timezone: there is no zone %s on this machine", shown);
    g_free(*zone);
    *zone = g_strdup(value);
    return TRUE;
}

static gboolean apply(JobSpec *spec, const OptionUse *use, GError **error)
{
    JobRetentionOptions *rules = &spec->options.retention;
    switch (use->def->id) {
    case OPT_COUNT:
        return set_count(&rules->count, use, error);
    case OPT_KEEP_LAST:
        return set_count(&rules->last, use, error);
    case OPT_KEEP_HOURLY:
        return set_count(&rules->hourly, use, error);
    case OPT_KEEP_DAILY:
        return set_count(&rules->daily, use, error);
    case OPT_KEEP_WEEKLY:
        return set_count(&rules->weekly, use, error);
    case OPT_KEEP_MONTHLY:
        return set_count(&rules->monthly, use, error);
    case OPT_KEEP_YEARLY:
        return set_count(&rules->yearly, use, error);
    case OPT_DAYS:
        return set_days(&rules->days, use->value, error);
    case OPT_KEEP_WITHIN:
        return set_within(&rules->within, use->value, error);
    case OPT_TIME_ZONE:
        return set_zone(&rules->time_zone, use->value, error);
    case OPT_SIMULATE:
        spec->options.dry_run = TRUE;
        return TRUE;
    case OPT_UNFINISHED:
        rules->unfinished = TRUE;
        return TRUE;
    default:
        return TRUE;
    }
}

gboolean retention_options_apply(JobSpec *spec, const OptionArgs *args, GError **error)
{
    for (guint i = 0; i < args->uses->len; i++)
        if (!apply(spec, &g_array_index(args->uses, OptionUse, i), error))
            return FALSE;
    return TRUE;
}
