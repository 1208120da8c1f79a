#include "base/error.h"
#include "engine/restore/restore.h"
#include "job/engine_common.h"
#include "job/engine_store.h"
#include "job/json_name.h"

#include <string.h>

G_STATIC_ASSERT(G_N_ELEMENTS(job_conflict_words) == RESTORE_RENAME + 2);

static gboolean read_conflict(const char *word, RestoreConflict *conflict, GError **error)
{
    for (guint i = 0; job_conflict_words[i]; i++)
        if (!word || strcmp(word, job_conflict_words[i]) == 0) {
            *conflict = (RestoreConflict)i;
            return TRUE;
        }
    return error_set(error, BACKAPP_ERROR_INVALID, "there is no conflict policy of that name; nothing is restored");
}

static gboolean fill_options(const JobSpec *spec, RestoreOptions *options, GError **error)
{
    const JobOptions *job = &spec->options;
    const JobRestoreOptions *restore = &job->restore;
    restore_options_default(options);
    options->source.at = restore->at;
    options->target = g_array_index(spec->destinations, JobDestination, 0).path;
    options->delete_extraneous = job->delete_extraneous;
    options->checksum = job->checksum;
    options->dry_run = job->dry_run;
    options->acls = job->acls;
    options->xattrs = job->xattrs;
    options->source.thaw_days = restore->thaw_days;
    options->source.thaw_tier = restore->thaw_tier;
    options->max_delete_percent = job->max_delete_percent;
    options->force = job->force;
    options->concurrency = restore->concurrency;
    return read_conflict(restore->conflict, &options->conflict, error);
}

static json_t *restore_json(const RestoreStats *stats)
{
    json_t *restore = json_object();
    const struct {
        const char *key;
        guint64 value;
    } counts[] = {
        {"filesTotal", stats->files_total},
        {"bytesTotal", stats->bytes_total},
        {"filesRestored", stats->files_restored},
        {"bytesRestored", stats->bytes_restored},
        {"filesUnchanged", stats->files_unchanged},
        {"filesDeleted", stats->files_deleted},
        {"filesSkipped", stats->files_skipped},
        {"filesRenamed", stats->files_renamed},
        {"damaged", stats->damaged},
        {"missing", stats->missing},
        {"cold", stats->cold},
    };
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++)
        summary_set_count(restore, counts[i].key, counts[i].value);
    if (stats->point)
        json_object_set_new(restore, "point", json_name_text(stats->point));
    json_object_set_new(restore, "pointTime", json_integer(stats->point_time));
    summary_set_seconds(restore, "duration", stats->duration);
    return restore;
}

Event *engine_run_restore(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    guint8 key[32] = {0};
    gboolean has_key = FALSE;
    RestoreOptions options;
    if (!fill_options(spec, &options, &error))
        return worker_done_failed(error);
    g_autoptr(Store) store = engine_open_store(&spec->store, rate, cancel, &error);
    if (!store)
        return worker_done_failed(error);
    if (!engine_master_key(spec, store, key, &has_key, &error))
        return worker_done_failed(error);
    g_autofree char *directory = engine_store_directory(&spec->store);
    g_autofree const char **paths = engine_borrow_strings(spec->options.restore.paths);
    options.source.store = store;
    options.source.directory = directory;
    options.source.name = spec->options.archive.name;
    options.source.master_key = has_key ? key : NULL;
    options.paths = paths;
    options.rate = rate;
    options.cancel = cancel;
    options.sink = sink_run_sink(sink);
    RestoreStats stats = {0};
    gboolean fine = restore_run(&options, &stats, &error);
    explicit_bzero(key, sizeof key);
    json_t *summary = json_object();
    json_object_set_new(summary, "restore", restore_json(&stats));
    json_object_set_new(summary, "dryRun", json_boolean(spec->options.dry_run));
    summary_send(sink, summary);
    Event *done = fine ? event_new(EVENT_DONE) : worker_done_failed(error);
    if (fine)
        done->status = stats.partial ? JOB_PARTIAL : JOB_COMPLETED;
    else if (stats.refused)
        done->status = JOB_REFUSED;
    restore_stats_clear(&stats);
    return done;
}
