#include "job/worker_main.h"

#include "base/error.h"
#include "engine/mirror/mirror.h"
#include "engine/mirror/rsync_engine.h"
#include "engine/mirror/verify.h"
#include "job/json_line.h"
#include "job/json_name.h"
#include "job/worker.h"

static void set_count(json_t *object, const char *key, guint64 value)
{
    json_object_set_new(object, key, json_line_count(value));
}

/* To the millisecond. */
static void set_seconds(json_t *object, const char *key, double seconds)
{
    gboolean known = seconds >= 0 && seconds < 1e12;
    json_object_set_new(object, key, known ? json_real((double)(gint64)(seconds * 1000 + 0.5) / 1000) : json_null());
}

static void send_summary(Sink *sink, json_t *stats)
{
    g_autoptr(Event) event = event_new(EVENT_SUMMARY);
    event->summary = stats;
    (void)sink_send(sink, event);
}

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

static json_t *stage1_json(const MirrorStats *stats)
{
    json_t *stage1 = json_object();
    set_count(stage1, "filesTransferred", stats->files_transferred);
    set_count(stage1, "bytesTransferred", stats->bytes_transferred);
    double ratio = stats->bytes_transferred > 0 ? (double)stats->bytes_total / (double)stats->bytes_transferred : -1;
    json_object_set_new(stage1, "speedupRatio", ratio >= 0 ? json_real(ratio) : json_null());
    set_seconds(stage1, "duration", stats->duration);
    json_name_set(stage1, "localPath", stats->local_path);
    set_count(stage1, "filesTotal", stats->files_total);
    set_count(stage1, "bytesTotal", stats->bytes_total);
    set_count(stage1, "filesCreated", stats->created);
    set_count(stage1, "filesChanged", stats->changed);
    set_count(stage1, "metadataChanged", stats->metadata_changed);
    set_count(stage1, "filesDeleted", stats->deleted);
    set_count(stage1, "filesUnchanged", stats->unchanged);
    set_count(stage1, "filesSkipped", stats->files_skipped);
    set_count(stage1, "vanished", stats->vanished);
    set_count(stage1, "unreadable", stats->unreadable);
    set_count(stage1, "changedDuringRead", stats->changed_during_read);
    return stage1;
}

static json_t *mirror_summary(const JobSpec *spec, const MirrorStats *stats)
{
    json_t *summary = json_object();
    json_object_set_new(summary, "stage1", stage1_json(stats));
    if (spec->options.verify) {
        json_t *verify = json_object();
        set_count(verify, "verified", stats->verified);
        set_count(verify, "unproven", stats->unproven);
        set_count(verify, "damaged", stats->damaged);
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

/* A NULL-terminated vector of borrowed strings; the caller frees the vector. */
static const char **borrow_strings(const GPtrArray *strings)
{
    const char **vector = g_new0(const char *, strings->len + 1);
    for (guint i = 0; i < strings->len; i++)
        vector[i] = g_ptr_array_index(strings, i);
    return vector;
}

static PatternList *make_patterns(const JobOptions *options, GError **error)
{
    g_autoptr(PatternList) patterns = pattern_list_new();
    g_autofree const char **includes = borrow_strings(options->include_patterns);
    g_autofree const char **excludes = borrow_strings(options->exclude_patterns);
    if (!pattern_list_add_config(patterns, includes, excludes, error))
        return NULL;
    for (guint i = 0; i < options->rules->len; i++) {
        const JobRule *rule = &g_array_index(options->rules, JobRule, i);
        if (!pattern_list_add(patterns, rule->include, rule->pattern, error))
            return NULL;
    }
    return g_steal_pointer(&patterns);
}

static void fill_options(const JobSpec *spec, MirrorOptions *mirror)
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
}

static Event *done_mirror(const MirrorStats *stats, gboolean fine, const GError *error)
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

static Event *run_mirror(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PatternList) patterns = make_patterns(&spec->options, &error);
    if (!patterns)
        return worker_done_failed(error);
    g_autofree const char **sources = borrow_strings(spec->sources);
    MirrorOptions options;
    fill_options(spec, &options);
    options.sources = sources;
    options.patterns = pattern_list_length(patterns) > 0 ? patterns : NULL;
    options.rate = rate;
    options.cancel = cancel;
    options.sink = sink_run_sink(sink);
    MirrorStats stats = {0};
    gboolean fine = mirror_run(&options, &stats, &error);
    send_summary(sink, mirror_summary(spec, &stats));
    Event *done = done_mirror(&stats, fine, error);
    mirror_stats_clear(&stats);
    return done;
}

static Event *run_recover(const JobSpec *spec, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    const char *path = g_array_index(spec->destinations, JobDestination, 0).path;
    gboolean did_something = FALSE;
    if (!mirror_recover(path, sink_run_sink(sink), cancel, &did_something, &error))
        return worker_done_failed(error);
    json_t *summary = json_object();
    json_object_set_new(summary, "recovered", json_boolean(did_something));
    send_summary(sink, summary);
    return event_new(EVENT_DONE);
}

static json_t *verify_summary(const VerifyStats *stats)
{
    json_t *verify = json_object();
    set_count(verify, "files", stats->files);
    set_count(verify, "bytes", stats->bytes);
    set_count(verify, "verified", stats->proven + stats->recorded);
    set_count(verify, "proven", stats->proven);
    set_count(verify, "recorded", stats->recorded);
    set_count(verify, "unproven", stats->unproven);
    set_count(verify, "damaged", stats->damaged);
    set_count(verify, "missing", stats->missing);
    set_seconds(verify, "duration", stats->duration);
    json_t *summary = json_object();
    json_object_set_new(summary, "verify", verify);
    return summary;
}

static Event *run_verify(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    const char *path = g_array_index(spec->destinations, JobDestination, 0).path;
    g_autofree const char **sources = spec->sources->len > 0 ? borrow_strings(spec->sources) : NULL;
    VerifyStats stats = {0};
    gboolean fine = mirror_verify(path, sources, spec->options.jobs, rate, cancel, sink_run_sink(sink), &stats, &error);
    if (fine || stats.files > 0)
        send_summary(sink, verify_summary(&stats));
    if (!fine)
        return worker_done_failed(error);
    return stats.damaged + stats.missing > 0 ? done_damaged(stats.damaged, stats.missing) : event_new(EVENT_DONE);
}

static Event *run_job(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    switch (spec->type) {
    case JOB_MIRROR:
        return run_mirror(spec, rate, cancel, sink);
    case JOB_RECOVER:
        return run_recover(spec, cancel, sink);
    case JOB_VERIFY:
        return run_verify(spec, rate, cancel, sink);
    }
    return event_new(EVENT_DONE);
}

int worker_main(int in_fd, int out_fd)
{
    static const WorkerEngine engine = {.run = run_job, .is_remote = rsync_is_remote};
    return worker_process(in_fd, out_fd, &engine);
}
