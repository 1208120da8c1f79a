#include "job/spec_archive.h"

#include "base/error.h"

#include <string.h>

#define PATH_BYTES     4095
#define NAME_BYTES     128
#define DAYS_MAX       36500
#define GZIP_LEVEL_MAX 9
#define ZSTD_LEVEL_MAX 19

const char *const job_archive_types[] = {"full", "incremental", "differential", NULL};
const char *const job_archive_codecs[] = {"gzip", "zstd", NULL};

#define ARCHIVE(name) G_STRUCT_OFFSET(JobArchiveOptions, name)

const JsonField job_archive_fields[] = {
    {.key = "name", .kind = FIELD_TEXT, .offset = ARCHIVE(name), .min = 1, .max = NAME_BYTES},
    {.key = "type", .kind = FIELD_TEXT, .offset = ARCHIVE(type), .min = 1, .max = 16},
    {.key = "codec", .kind = FIELD_TEXT, .offset = ARCHIVE(codec), .min = 1, .max = 16},
    {.key = "compression", .kind = FIELD_BOOL, .offset = ARCHIVE(compression)},
    {.key = "compressionLevel", .kind = FIELD_UINT, .offset = ARCHIVE(level), .max = ZSTD_LEVEL_MAX},
    {.key = "encryption", .kind = FIELD_BOOL, .offset = ARCHIVE(encryption)},
    {.key = "fullEveryDays", .kind = FIELD_UINT, .offset = ARCHIVE(full_every_days), .max = DAYS_MAX},
    {.key = "volumeSize", .kind = FIELD_UINT64, .offset = ARCHIVE(volume_size), .max = G_MAXINT64},
    {.key = "storageClass", .kind = FIELD_TEXT, .offset = ARCHIVE(storage_class), .min = 1, .max = 64},
    {.key = "time", .kind = FIELD_UINT64, .offset = ARCHIVE(time), .max = G_GINT64_CONSTANT(253402300799)},
    {.key = "stateDir", .kind = FIELD_NAME, .offset = ARCHIVE(state_dir), .min = 1, .max = PATH_BYTES},
    {.key = "at", .kind = FIELD_TEXT, .offset = ARCHIVE(at), .min = 1, .max = 1024},
    {.key = "full", .kind = FIELD_BOOL, .offset = ARCHIVE(full)},
    {0},
};

void job_archive_options_init(JobArchiveOptions *options)
{
    *options = (JobArchiveOptions){.compression = TRUE, .full_every_days = 30};
}

void job_archive_options_clear(JobArchiveOptions *options)
{
    g_free(options->name);
    g_free(options->type);
    g_free(options->codec);
    g_free(options->storage_class);
    g_free(options->state_dir);
    g_free(options->at);
}

static gboolean validate_codec(const JobArchiveOptions *options, GError **error)
{
    gboolean zstd = g_strcmp0(options->codec, "zstd") == 0;
    if (options->codec && !g_strv_contains(job_archive_codecs, options->codec))
        return error_set(error, BACKAPP_ERROR_INVALID, "options.archive.codec: must be gzip or zstd");
    if (options->codec && !options->compression)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "options.archive.codec: cannot stand beside \"compression\":false");
    if (!zstd && options->level > GZIP_LEVEL_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "options.archive.compressionLevel: gzip has 1 to %d",
                         GZIP_LEVEL_MAX);
    return TRUE;
}

gboolean job_archive_options_validate(const JobArchiveOptions *options, GError **error)
{
    if (options->type && !g_strv_contains(job_archive_types, options->type))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "options.archive.type: must be full, incremental or differential");
    if (options->volume_size > 0 && options->volume_size < JOB_ARCHIVE_VOLUME_MIN)
        return error_set(error, BACKAPP_ERROR_INVALID, "options.archive.volumeSize: must be 0 (4 GiB) or at least %d",
                         JOB_ARCHIVE_VOLUME_MIN);
    return validate_codec(options, error);
}
