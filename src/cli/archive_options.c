#include "cli/archive_options.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>

#define GZIP_LEVEL_MAX 9
#define ZSTD_LEVEL_MAX 19
#define DAYS_MAX       36500

static gboolean set_type(JobArchiveOptions *archive, const char *value, GError **error)
{
    if (!g_strv_contains(job_archive_types, value))
        return error_set(error, BACKAPP_ERROR_INVALID, "--type must be full, incremental or differential");
    g_free(archive->type);
    archive->type = g_strdup(value);
    return TRUE;
}

static gboolean set_volume_size(JobArchiveOptions *archive, const char *value, GError **error)
{
    if (!human_parse_size(value, &archive->volume_size, error)) {
        g_prefix_error(error, "--volume-size: ");
        return FALSE;
    }
    return archive->volume_size >= JOB_ARCHIVE_VOLUME_MIN ||
           error_set(error, BACKAPP_ERROR_INVALID, "--volume-size must be at least 8M");
}

static gboolean set_number(guint *target, const char *value, guint64 min, guint64 max, const char *what, GError **error)
{
    guint64 number = 0;
    if (!human_parse_number(value, min, max, what, &number, error))
        return FALSE;
    *target = (guint)number;
    return TRUE;
}

static gboolean apply(JobArchiveOptions *archive, const OptionUse *use, GError **error)
{
    switch (use->def->id) {
    case OPT_TYPE:
        return set_type(archive, use->value, error);
    case OPT_LEVEL:
        return set_number(&archive->level, use->value, 1, ZSTD_LEVEL_MAX, "--level", error);
    case OPT_VOLUME_SIZE:
        return set_volume_size(archive, use->value, error);
    case OPT_FULL_EVERY:
        return set_number(&archive->full_every_days, use->value, 0, DAYS_MAX, "--full-every", error);
    case OPT_ZSTD:
        g_free(archive->codec);
        archive->codec = g_strdup("zstd");
        return TRUE;
    case OPT_NO_COMPRESS:
        archive->compression = FALSE;
        return TRUE;
    default:
        return TRUE;
    }
}

/* Of two options that cannot both hold, which was meant is not known. */
static gboolean check(const OptionArgs *args, const JobArchiveOptions *archive, GError **error)
{
    gboolean none = options_has(args, OPT_NO_COMPRESS);
    if (none && (options_has(args, OPT_ZSTD) || options_has(args, OPT_LEVEL)))
        return error_set(error, BACKAPP_ERROR_INVALID, "--no-compress cannot be combined with --%s",
                         options_has(args, OPT_ZSTD) ? "zstd" : "level");
    if (!archive->codec && archive->level > GZIP_LEVEL_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "--level: gzip has 1 to %d; with --zstd there are 1 to %d",
                         GZIP_LEVEL_MAX, ZSTD_LEVEL_MAX);
    return TRUE;
}

gboolean archive_options_apply(JobSpec *spec, const OptionArgs *args, GError **error)
{
    JobArchiveOptions *archive = &spec->options.archive;
    JobS3Options *s3 = &spec->options.s3;
    if (!job_options_apply(spec, args, error))
        return FALSE;
    for (guint i = 0; i < args->uses->len; i++)
        if (!apply(archive, &g_array_index(args->uses, OptionUse, i), error))
            return FALSE;
    /* What the same words mean to s3sync means nothing here. */
    archive->encryption = s3->encrypt;
    s3->encrypt = FALSE;
    archive->state_dir = g_steal_pointer(&s3->state_dir);
    archive->storage_class = g_strdup(s3->storage_class);
    return check(args, archive, error);
}
