#include "base/error.h"
#include "engine/mirror/verify.h"
#include "job/engine_common.h"
#include "job/json_name.h"

static Event *done_damaged(guint64 damaged, guint64 missing)
{
    g_autoptr(GError) error = NULL;
    (void)error_set(
        &error, BACKAPP_ERROR_CORRUPT,
        "the mirror is not what was recorded (damaged files: %" G_GUINT64_FORMAT ", missing files: %" G_GUINT64_FORMAT
        "; each is named in a warning); mirror again to bring back what is missing, with --checksum to replace "
        "what is damaged",
        damaged, missing);
    return worker_done_failed(error);
}

static json_t *mirror_summary(const JobSpec *spec, const MirrorStats *stats)
{
    json_t *summary = json_object();
    json_object_set_new(summary, "stage1", summary_stage1(stats));
    if (spec->options.verify) {
        json_t *verify = json_object();
        summary_set_count(verify, "verified", stats->verified);
        summary_set_count(verify, "unproven", stats->unproven);
        summary_set_count(verify, "damaged", stats->damaged);
        json_object_set_new(summary, "verify", verify);
    }
    if (stats->destination_id)
        json_object_set_new(summary, "destinationId", json_name_text(stats->destination_id));
    if (stats->plan_hash)
        json_object_set_new(summary, "planHash", json_name_text(stats->plan_hash));
    json_object_set_new(summary, "dryRun", json_boolean(spec->options.dry_run));
    json_object_set_new(summary, "recovered", json_boolean(stats->recovered));
    return summary;
}

void engine_fill_mirror(const JobSpec *spec, const char *const *sources, Rate *rate, const CancelFlag *cancel,
                        RunSink *sink, MirrorOptions *mirror)
{
    const JobOptions *options = &spec->options;
    const JobDestination *destination = &g_array_index(spec->destinations, JobDestination, 0);
    mirror_options_default(mirror);
    mirror->destination = destination->path;
    mirror->expected_id = destination->expected_id;
    mirror->delete_extraneous = options->delete_extraneous;
    mirror->hard_links = options->hard_links;
    mirror->acls = options->acls;
    mirror->xattrs = options->xattrs;
    mirror->checksum = options->checksum;
    mirror->one_file_system = options->one_file_system;
    mirror->exclude_caches = options->exclude_caches;
    mirror->exclude_if_present = options->exclude_if_present;
    mirror->exclude_larger_than = options->exclude_larger_than;
    mirror->inplace = options->inplace;
    mirror->verify = options->verify;
    mirror->max_delete_percent = options->max_delete_percent;
    mirror->keep_versions_days = options->keep_versions_days;
    mirror->keep_versions_count = options->keep_versions_count;
    mirror->force = options->force;
    mirror->confirm = options->confirm;
    mirror->dry_run = options->dry_run;
    mirror->jobs = options->jobs;
    mirror->engine = options->engine_rsync ? MIRROR_ENGINE_RSYNC : MIRROR_ENGINE_NATIVE;
    mirror->ssh = (MirrorSsh){.user = options->ssh_user,
                              .identity_file = options->ssh_identity_file,
                              .known_hosts = options->ssh_known_hosts,
                              .port = options->ssh_port};
    mirror->rsync_password = spec->rsync_password;
    mirror->sources = sources;
    mirror->rate = rate;
    mirror->cancel = cancel;
    mirror->sink = sink;
}

Event *engine_mirror_done(const MirrorStats *stats, gboolean fine, const GError *error)
{
    if (fine && stats->damaged > 0)
        return done_damaged(stats->damaged, 0);
    Event *done = fine ? event_new(EVENT_DONE) : worker_done_failed(error);
    if (fine) {
        done->status = stats->partial ? JOB_PARTIAL : JOB_COMPLETED;
    } else if (stats->refused) {
        done->status = JOB_REFUSED;
        done->plan_hash = g_strdup(stats->plan_hash);
    }
    return done;
}

Event *engine_run_mirror(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PatternList) patterns = engine_patterns(&spec->options, &error);
    if (!patterns)
        return worker_done_failed(error);
    g_autofree const char **sources = engine_borrow_strings(spec->sources);
    MirrorOptions options;
    engine_fill_mirror(spec, sources, rate, cancel, sink_run_sink(sink), &options);
    options.patterns = pattern_list_length(patterns) > 0 ? patterns : NULL;
    MirrorStats stats = {0};
    gboolean fine = mirror_run(&options, &stats, &error);
    summary_send(sink, mirror_summary(spec, &stats));
    Event *done = engine_mirror_done(&stats, fine, error);
    mirror_stats_clear(&stats);
    return done;
}

Event *engine_run_recover(const JobSpec *spec, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    const char *path = g_array_index(spec->destinations, JobDestination, 0).path;
    gboolean did_something = FALSE;
    gboolean refused = FALSE;
    if (!mirror_recover(path, spec->options.force, &refused, sink_run_sink(sink), cancel, &did_something, &error)) {
        Event *done = worker_done_failed(error);
        if (refused)
            done->status = JOB_REFUSED;
        return done;
    }
    json_t *summary = json_object();
    json_object_set_new(summary, "recovered", json_boolean(did_something));
    summary_send(sink, summary);
    return event_new(EVENT_DONE);
}

static json_t *verify_summary(const VerifyStats *stats)
{
    json_t *verify = json_object();
    summary_set_count(verify, "files", stats->files);
    summary_set_count(verify, "bytes", stats->bytes);
    summary_set_count(verify, "verified", stats->proven + stats->recorded);
    summary_set_count(verify, "proven", stats->proven);
    summary_set_count(verify, "recorded", stats->recorded);
    summary_set_count(verify, "unproven", stats->unproven);
    summary_set_count(verify, "damaged", stats->damaged);
    summary_set_count(verify, "missing", stats->missing);
    summary_set_seconds(verify, "duration", stats->duration);
    json_t *summary = json_object();
    json_object_set_new(summary, "verify", verify);
    return summary;
}

Event *engine_run_verify(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    const char *path = g_array_index(spec->destinations, JobDestination, 0).path;
    g_autofree const char **sources = spec->sources->len > 0 ? engine_borrow_strings(spec->sources) : NULL;
    VerifyStats stats = {0};
    gboolean fine = mirror_verify(path, sources, spec->options.jobs, rate, cancel, sink_run_sink(sink), &stats, &error);
    if (fine || stats.files > 0)
        summary_send(sink, verify_summary(&stats));
    if (!fine)
        return worker_done_failed(error);
    return stats.damaged + stats.missing > 0 ? done_damaged(stats.damaged, stats.missing) : event_new(EVENT_DONE);
}
