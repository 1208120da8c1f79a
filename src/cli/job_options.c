#include "cli/job_options.h"

#include "base/error.h"
#include "base/human.h"

#include <limits.h>
#include <string.h>

#define PATTERN_MAX     4095
#define JOBS_MAX        256
#define DAYS_MAX        36500
#define VERSIONS_MAX    100000
#define CONCURRENCY_MAX 256
#define BWLIMIT_MAX     (G_GUINT64_CONSTANT(1) << 40)

static gboolean add_rule(JobSpec *spec, gboolean include, const char *pattern, GError **error)
{
    const char *option = include ? "--include" : "--exclude";
    if (*pattern == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "the pattern of %s is empty", option);
    if (strlen(pattern) > PATTERN_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "a pattern of %s is too long: %u bytes are allowed", option,
                         PATTERN_MAX);
    JobRule rule = {.include = include, .pattern = g_strdup(pattern)};
    g_array_append_val(spec->options.rules, rule);
    return TRUE;
}

/* "DAYS" or "DAYS,COUNT". */
static gboolean set_keep_versions(JobOptions *options, const char *value, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", 2);
    guint64 days = 0, count = 0;
    if (!human_parse_number(parts[0] ? parts[0] : "", 0, DAYS_MAX, "DAYS of --keep-versions", &days, error))
        return FALSE;
    if (parts[0] && parts[1] &&
        !human_parse_number(parts[1], 0, VERSIONS_MAX, "COUNT of --keep-versions", &count, error))
        return FALSE;
    if (days == 0 && count == 0)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--keep-versions needs a number of days, as in 30, or of versions, as in 0,5");
    options->keep_versions_days = (guint)days;
    options->keep_versions_count = (guint)count;
    return TRUE;
}

static gboolean set_exclude_if_present(JobOptions *options, const char *value, GError **error)
{
    if (*value == '\0' || strlen(value) > NAME_MAX || strchr(value, '/'))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--exclude-if-present needs the name of a file, without a slash");
    g_free(options->exclude_if_present);
    options->exclude_if_present = g_strdup(value);
    return TRUE;
}

static gboolean set_larger_than(JobOptions *options, const char *value, GError **error)
{
    if (!human_parse_size(value, &options->exclude_larger_than, error)) {
        g_prefix_error(error, "--exclude-larger-than: ");
        return FALSE;
    }
    if (options->exclude_larger_than == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "--exclude-larger-than needs a size above 0");
    return TRUE;
}

static gboolean set_number(guint *target, const char *value, guint64 min, guint64 max, const char *what, GError **error)
{
    guint64 number = 0;
    if (!human_parse_number(value, min, max, what, &number, error))
        return FALSE;
    *target = (guint)number;
    return TRUE;
}

static gboolean set_confirm(JobOptions *options, const char *value, GError **error)
{
    gsize length = strspn(value, "0123456789abcdef");
    if (length < 8 || length > 128 || value[length] != '\0')
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--confirm needs the hash of the plan, as the refusal printed it");
    g_free(options->confirm);
    options->confirm = g_strdup(value);
    return TRUE;
}

static gboolean set_ionice(JobLimits *limits, const char *value, GError **error)
{
    if (strcmp(value, "idle") == 0)
        *limits = (JobLimits){limits->nice, 3, 0, limits->memory, limits->bandwidth};
    else if (strcmp(value, "best-effort") == 0)
        *limits = (JobLimits){limits->nice, 2, 7, limits->memory, limits->bandwidth};
    else {
        g_autofree char *shown = human_name(value, -1);
        return error_set(error, BACKAPP_ERROR_INVALID, "--ionice must be idle or best-effort, not '%s'", shown);
    }
    return TRUE;
}

static gboolean set_engine(JobOptions *options, const char *value, GError **error)
{
    if (strcmp(value, "native") != 0 && strcmp(value, "rsync") != 0) {
        g_autofree char *shown = human_name(value, -1);
        return error_set(error, BACKAPP_ERROR_INVALID, "--engine must be native or rsync, not '%s'", shown);
    }
    options->engine_rsync = strcmp(value, "rsync") == 0;
    return TRUE;
}

static gboolean set_bwlimit(JobLimits *limits, const char *value, GError **error)
{
    guint64 units = 0;
    if (!human_parse_number(value, 0, BWLIMIT_MAX, "--bwlimit", &units, error))
        return FALSE;
    limits->bandwidth = units * 1024;
    return TRUE;
}

static gboolean set_nice(JobLimits *limits, const char *value, GError **error)
{
    guint64 nice = 0;
    if (!human_parse_number(value, 0, 19, "--nice", &nice, error))
        return FALSE;
    limits->nice = (int)nice;
    return TRUE;
}

static gboolean set_text(char **target, const OptionUse *use, GError **error)
{
    if (*use->value == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "--%s is empty", use->def->name);
    g_free(*target);
    *target = g_strdup(use->value);
    return TRUE;
}

static gboolean set_word(char **target, const OptionUse *use, const char *const *words, GError **error)
{
    if (g_strv_contains(words, use->value))
        return set_text(target, use, error);
    g_autofree char *list = g_strjoinv(", ", (char **)words);
    return error_set(error, BACKAPP_ERROR_INVALID, "--%s must be one of %s", use->def->name, list);
}

/* "PATTERN=CLASS": a class has no '=', a pattern may. */
static gboolean add_class_rule(JobOptions *options, const char *value, GError **error)
{
    const char *sign = strrchr(value, '=');
    if (!sign || sign == value || sign[1] == '\0' || sign - value > PATTERN_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--class-for needs a pattern and a class, as in '*.iso=GLACIER_IR'");
    JobClassRule rule = {.pattern = g_strndup(value, (gsize)(sign - value)), .storage_class = g_strdup(sign + 1)};
    g_array_append_val(options->s3.class_rules, rule);
    return TRUE;
}

static gboolean is_store_option(int id)
{
    return id == OPT_SSE || id == OPT_SSE_KMS_KEY || (id >= OPT_ENDPOINT && id <= OPT_PATH_STYLE);
}

static gboolean apply_to_store(JobStore *store, const OptionUse *use, GError **error)
{
    if (!store->url)
        return TRUE;
    switch (use->def->id) {
    case OPT_ENDPOINT:
        return set_text(&store->endpoint, use, error);
    case OPT_REGION:
        return set_text(&store->region, use, error);
    case OPT_PROVIDER:
        return set_text(&store->provider, use, error);
    case OPT_PROFILE:
        return set_text(&store->profile, use, error);
    case OPT_CA_FILE:
        return set_text(&store->ca_file, use, error);
    case OPT_SSE:
        return set_text(&store->sse, use, error);
    case OPT_SSE_KMS_KEY:
        return set_text(&store->sse_kms_key, use, error);
    default:
        store->path_style = TRUE;
        return TRUE;
    }
}

static gboolean apply_to_stores(JobSpec *spec, const OptionUse *use, GError **error)
{
    for (guint i = 0; i < spec->destinations->len; i++)
        if (!apply_to_store(&g_array_index(spec->destinations, JobDestination, i).store, use, error))
            return FALSE;
    return apply_to_store(&spec->store, use, error);
}

static void apply_flag(JobOptions *options, int id)
{
    switch (id) {
    case OPT_DELETE:
        options->delete_extraneous = options->s3.delete_from_s3 = TRUE;
        break;
    case OPT_CHECKSUM:
        options->checksum = TRUE;
        break;
    case OPT_DRY_RUN:
        options->dry_run = options->items = TRUE;
        break;
    case OPT_INPLACE:
        options->inplace = TRUE;
        break;
    case OPT_VERIFY:
        options->verify = options->s3.verify = TRUE;
        break;
    case OPT_NO_ACLS:
        options->acls = FALSE;
        break;
    case OPT_NO_XATTRS:
        options->xattrs = FALSE;
        break;
    case OPT_NO_HARD_LINKS:
        options->hard_links = FALSE;
        break;
    case OPT_ONE_FILE_SYSTEM:
        options->one_file_system = TRUE;
        break;
    case OPT_EXCLUDE_CACHES:
        options->exclude_caches = TRUE;
        break;
    case OPT_FORCE:
        options->force = TRUE;
        break;
    case OPT_VERBOSE:
        options->items = TRUE;
        break;
    case OPT_ONLY_S3:
        options->s3.only_s3 = TRUE;
        break;
    case OPT_RELIST:
        options->s3.relist = TRUE;
        break;
    case OPT_READ_BACK:
        options->s3.read_back = options->s3.verify = TRUE;
        break;
    case OPT_ENCRYPT:
        options->s3.encrypt = TRUE;
        break;
    default: /* what the command itself looks at */
        break;
    }
}

static gboolean apply(JobSpec *spec, const OptionUse *use, GError **error)
{
    JobOptions *options = &spec->options;
    const char *value = use->value;
    switch (use->def->id) {
    case OPT_EXCLUDE:
        return add_rule(spec, FALSE, value, error);
    case OPT_INCLUDE:
        return add_rule(spec, TRUE, value, error);
    case OPT_KEEP_VERSIONS:
        return set_keep_versions(options, value, error);
    case OPT_EXCLUDE_IF_PRESENT:
        return set_exclude_if_present(options, value, error);
    case OPT_EXCLUDE_LARGER_THAN:
        return set_larger_than(options, value, error);
    case OPT_MAX_DELETE:
        return set_number(&options->max_delete_percent, value, 0, 100, "--max-delete", error);
    case OPT_CONFIRM:
        return set_confirm(options, value, error);
    case OPT_BWLIMIT:
        return set_bwlimit(&spec->limits, value, error);
    case OPT_NICE:
        return set_nice(&spec->limits, value, error);
    case OPT_IONICE:
        return set_ionice(&spec->limits, value, error);
    case OPT_ENGINE:
        return set_engine(options, value, error);
    case OPT_JOBS:
        return set_number(&options->jobs, value, 1, JOBS_MAX, "--jobs", error);
    case OPT_TRASH:
        return set_number(&options->s3.trash_days, value, 0, DAYS_MAX, "--trash", error);
    case OPT_RELIST_DAYS:
        return set_number(&options->s3.relist_days, value, 0, DAYS_MAX, "--relist-days", error);
    case OPT_VERSIONS_KEEP:
        return set_number(&options->s3.versions_keep_days, value, 1, DAYS_MAX, "--versions-keep", error);
    case OPT_CONCURRENCY:
        return set_number(&options->s3.concurrency, value, 1, CONCURRENCY_MAX, "--concurrency", error) &&
               set_number(&options->restore.concurrency, value, 1, CONCURRENCY_MAX, "--concurrency", error);
    case OPT_THAW:
        return set_number(&options->restore.thaw_days, value, 1, 365, "--thaw", error);
    case OPT_CLASS_FOR:
        return add_class_rule(options, value, error);
    case OPT_STORAGE_CLASS:
        return set_text(&options->s3.storage_class, use, error);
    case OPT_S3_PREFIX:
        return set_text(&options->s3.s3_prefix, use, error);
    case OPT_STATE_DIR:
        return set_text(&options->s3.state_dir, use, error);
    case OPT_NAME:
        return set_text(&options->archive.name, use, error);
    case OPT_AT:
        return set_text(&options->restore.at, use, error);
    case OPT_CONFLICT:
        return set_word(&options->restore.conflict, use, job_conflict_words, error);
    case OPT_THAW_TIER:
        return set_word(&options->restore.thaw_tier, use, job_thaw_tiers, error);
    default:
        if (is_store_option(use->def->id))
            return apply_to_stores(spec, use, error);
        apply_flag(options, use->def->id);
        return TRUE;
    }
}

gboolean job_options_apply(JobSpec *spec, const OptionArgs *args, GError **error)
{
    for (guint i = 0; i < args->uses->len; i++)
        if (!apply(spec, &g_array_index(args->uses, OptionUse, i), error))
            return FALSE;
    return TRUE;
}
