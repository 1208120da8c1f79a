#include "base/error.h"
#include "base/human.h"
#include "engine/archive/archive.h"
#include "engine/archive/index.h"
#include "engine/archive/verify.h"
#include "job/engine_common.h"
#include "job/engine_place.h"
#include "job/json_name.h"

#include <string.h>

#define ZSTD_LEVEL_DEFAULT 3

/* The words of the spec are in the order of the engine's values. */
G_STATIC_ASSERT(G_N_ELEMENTS(job_archive_types) == ARCHIVE_DIFFERENTIAL - ARCHIVE_FULL + 2);
G_STATIC_ASSERT(G_N_ELEMENTS(job_archive_codecs) == ARCHIVE_ZSTD - ARCHIVE_GZIP + 2);
G_STATIC_ASSERT(JOB_ARCHIVE_VOLUME_MIN == ARCHIVE_VOLUME_MIN);

static int index_of(const char *word, const char *const *words)
{
    int i = 0;
    while (words[i] && strcmp(words[i], word) != 0)
        i++;
    return i;
}

static void fill_format(const JobArchiveOptions *archive, ArchiveOptions *options)
{
    if (archive->type)
        options->type = (ArchiveType)(ARCHIVE_FULL + index_of(archive->type, job_archive_types));
    if (archive->codec)
        options->codec = (ArchiveCodec)(ARCHIVE_GZIP + index_of(archive->codec, job_archive_codecs));
    if (!archive->compression)
        options->codec = ARCHIVE_PLAIN;
    if (options->codec == ARCHIVE_ZSTD)
        options->level = ZSTD_LEVEL_DEFAULT;
    if (archive->level > 0)
        options->level = (int)archive->level;
    if (archive->volume_size > 0)
        options->volume_size = archive->volume_size;
    options->full_every_days = archive->full_every_days;
    options->time = (gint64)archive->time;
    options->state_dir = archive->state_dir;
    options->storage_class = archive->storage_class;
}

static void fill_options(const JobSpec *spec, const JobStore *where, ArchiveOptions *options)
{
    const JobOptions *job = &spec->options;
    archive_options_default(options);
    fill_format(&job->archive, options);
    options->one_file_system = job->one_file_system;
    options->exclude_caches = job->exclude_caches;
    options->exclude_if_present = job->exclude_if_present;
    options->exclude_larger_than = job->exclude_larger_than;
    options->acls = job->acls;
    options->xattrs = job->xattrs;
    options->checksum = job->checksum;
    options->verify = job->verify;
    options->dry_run = job->dry_run;
    options->threads = job->jobs;
    const char *class = job->archive.storage_class;
    const Provider *provider = engine_provider(where);
    options->prices = provider ? provider_class(provider, class ? class : "STANDARD") : NULL;
}

static void set_counts(json_t *archive, const ArchiveStats *stats)
{
    const struct {
        const char *key;
        guint64 value;
    } counts[] = {
        {"filesTotal", stats->files_total},
        {"directories", stats->directories},
        {"bytesTotal", stats->bytes_total},
        {"filesArchived", stats->files_archived},
        {"bytesArchived", stats->bytes_archived},
        {"filesCreated", stats->created},
        {"filesChanged", stats->changed},
        {"filesDeleted", stats->deleted},
        {"filesUnchanged", stats->files_unchanged},
        {"filesSkipped", stats->files_skipped},
        {"vanished", stats->vanished},
        {"unreadable", stats->unreadable},
        {"changedDuringRead", stats->changed_during_read},
        {"tarBytes", stats->tar_bytes},
        {"archiveBytes", stats->archive_bytes},
        {"resumedBytes", stats->resumed_bytes},
        {"volumes", stats->volumes},
        {"bytesSent", stats->counts.bytes_sent},
        {"bytesReceived", stats->counts.bytes_received},
    };
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++)
        summary_set_count(archive, counts[i].key, counts[i].value);
}

static json_t *archive_json(const ArchiveStats *stats, const JobStore *where)
{
    const Provider *provider = engine_provider(where);
    json_t *archive = json_object();
    if (stats->type)
        json_object_set_new(archive, "type", json_string(archive_type_name(stats->type)));
    if (stats->point)
        json_object_set_new(archive, "point", json_name_text(stats->point));
    if (stats->parent)
        json_object_set_new(archive, "parent", json_name_text(stats->parent));
    set_counts(archive, stats);
    json_object_set_new(archive, "requests", engine_requests_json(&stats->counts));
    if (provider && provider->currency && stats->cost > 0) {
        json_object_set_new(archive, "estimatedCost", json_real(stats->cost));
        json_object_set_new(archive, "currency", json_string(provider->currency));
    }
    summary_set_seconds(archive, "duration", stats->duration);
    return archive;
}

/* The end of a run whose summary holds one "archive". */
static Event *finish(json_t *archive, const JobSpec *spec, Sink *sink, gboolean fine, const GError *error)
{
    json_t *summary = json_object();
    json_object_set_new(summary, "archive", archive);
    json_object_set_new(summary, "dryRun", json_boolean(spec->options.dry_run));
    summary_send(sink, summary);
    return fine ? event_new(EVENT_DONE) : worker_done_failed(error);
}

/* Of a bucket what goes over the line is limited, of a directory what is read. */
static gboolean is_bucket(const JobStore *where)
{
    return g_str_has_prefix(where->url, "s3:");
}

/* Another key than the one before is a mistake too: whoever has only one of them could not restore all. What is only
 * damaged is no reason not to archive. */
static gboolean check_key(const ArchivePlace *place, const char *base, const CancelFlag *cancel, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(Index) index = index_open(place, base, cancel, &local);
    if (index || !error_is(local, BACKAPP_ERROR_DENIED))
        return TRUE;
    return error_set(error, BACKAPP_ERROR_DENIED,
                     "the archives of the name %s are encrypted with another key: give that key or its passphrase, or "
                     "another --name for archives with this one (%s)",
                     place->name, local->message);
}

/* Who once encrypted does not mean to send the same files in the clear because an option was forgotten. */
static gboolean check_secrecy(const ArchivePlace *place, const CancelFlag *cancel, GError **error)
{
    g_autoptr(GPtrArray) list = archive_list(place, cancel, error);
    if (!list || list->len == 0)
        return list != NULL;
    const ArchiveListed *newest = g_ptr_array_index(list, 0);
    if (place->content_key)
        return !newest->name.encrypted || !newest->has_index || check_key(place, newest->base, cancel, error);
    return !newest->name.encrypted ||
           error_set(error, BACKAPP_ERROR_CONFLICT,
                     "the archives of the name %s are encrypted, and encryption is not asked for: give --encrypt, or "
                     "another --name for archives that everybody may read",
                     place->name);
}

Event *engine_run_archive(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    const JobStore *where = &g_array_index(spec->destinations, JobDestination, 0).store;
    g_autoptr(GError) error = NULL;
    g_autoptr(PatternList) patterns = engine_patterns(&spec->options, &error);
    g_auto(EnginePlace) place = {0};
    g_autofree const char **sources = engine_borrow_strings(spec->sources);
    if (!patterns || !engine_check_apart(where, sources, patterns, spec->options.one_file_system, &error) ||
        !engine_place_make(spec, where, is_bucket(where) ? rate : NULL, cancel, &place, &error) ||
        !check_secrecy(&place.place, cancel, &error))
        return worker_done_failed(error);
    ArchiveOptions options;
    fill_options(spec, where, &options);
    options.sources = sources;
    options.place = place.place;
    options.patterns = pattern_list_length(patterns) > 0 ? patterns : NULL;
    options.rate = is_bucket(where) ? NULL : rate;
    options.cancel = cancel;
    options.sink = sink_run_sink(sink);
    ArchiveStats stats = {0};
    gboolean fine = archive_create(&options, &stats, &error);
    Event *done = finish(archive_json(&stats, where), spec, sink, fine, error);
    if (fine)
        done->status = stats.partial ? JOB_PARTIAL : JOB_COMPLETED;
    archive_stats_clear(&stats);
    return done;
}

static json_t *verify_json(const ArchiveVerifyStats *stats, gboolean full)
{
    json_t *archive = json_object();
    if (stats->point)
        json_object_set_new(archive, "point", json_name_text(stats->point));
    json_object_set_new(archive, "full", json_boolean(full));
    summary_set_count(archive, "points", stats->points);
    summary_set_count(archive, "files", stats->files);
    summary_set_count(archive, "bytes", stats->bytes);
    summary_set_count(archive, "unproven", stats->unproven);
    summary_set_count(archive, "damaged", stats->damaged);
    summary_set_count(archive, "missing", stats->missing);
    summary_set_seconds(archive, "duration", stats->duration);
    return archive;
}

Event *engine_run_archive_verify(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    const JobArchiveOptions *archive = &spec->options.archive;
    g_autoptr(GError) error = NULL;
    g_auto(EnginePlace) place = {0};
    if (!engine_place_open(spec, &spec->store, rate, cancel, &place, &error))
        return worker_done_failed(error);
    ArchiveVerifyStats stats = {0};
    gboolean fine = archive_verify(&place.place, archive->at, archive->full, spec->options.jobs, cancel,
                                   sink_run_sink(sink), &stats, &error);
    Event *done = finish(verify_json(&stats, archive->full), spec, sink, fine, error);
    archive_verify_stats_clear(&stats);
    return done;
}

static json_t *reindex_json(const ArchivePoint *point)
{
    json_t *archive = json_object();
    if (!point)
        return archive;
    json_object_set_new(archive, "point", json_name_text(point->base));
    summary_set_count(archive, "files", point->files);
    summary_set_count(archive, "directories", point->directories);
    summary_set_count(archive, "bytes", point->bytes);
    summary_set_count(archive, "volumes", point->volumes->len);
    return archive;
}

/* The archive whose base name begins so, if only one does: one without an index is no point that chain_choose would find.
 * The caller frees. */
static char *find_archive(const ArchivePlace *place, const char *beginning, const CancelFlag *cancel, GError **error)
{
    g_autoptr(GPtrArray) list = archive_list(place, cancel, error);
    const char *found = NULL;
    guint count = 0;
    if (!list)
        return NULL;
    for (guint i = 0; i < list->len; i++) {
        const ArchiveListed *listed = g_ptr_array_index(list, i);
        if (strcmp(listed->base, beginning) == 0)
            return g_strdup(listed->base);
        if (!g_str_has_prefix(listed->base, beginning))
            continue;
        found = listed->base;
        count++;
    }
    if (count == 1)
        return g_strdup(found);
    g_autofree char *shown = human_name(beginning, -1);
    (void)error_set(error, count == 0 ? BACKAPP_ERROR_NOT_FOUND : BACKAPP_ERROR_INVALID,
                    count == 0 ? "no archive's name begins with %s: 'backapp archive list' shows them"
                               : "several archives' names begin with %s: give more of it",
                    shown);
    return NULL;
}

Event *engine_run_archive_reindex(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    g_auto(EnginePlace) place = {0};
    if (!engine_place_open(spec, &spec->store, rate, cancel, &place, &error))
        return worker_done_failed(error);
    g_autoptr(ArchivePoint) point = NULL;
    g_autofree char *base = find_archive(&place.place, spec->options.archive.at, cancel, &error);
    gboolean fine =
        base && archive_reindex(&place.place, base, spec->options.force, cancel, sink_run_sink(sink), &point, &error);
    return finish(reindex_json(point), spec, sink, fine, error);
}
