#include "base/error.h"
#include "engine/mirror/destination.h"
#include "engine/mirror/sidecar.h"
#include "engine/s3sync/s3sync.h"
#include "engine/source/folders.h"
#include "job/engine_common.h"
#include "job/engine_store.h"
#include "job/json_name.h"

#include <string.h>
#include <unistd.h>

/* One destination of a job and what came of it. */
typedef struct {
    const JobSpec *spec;
    const JobStore *where;
    Rate *rate;
    const CancelFlag *cancel;
    RunSink *sink;
    const PatternList *patterns;
    const char **sources;
    char **folders; /* below the prefix, one a source; "" if there is one source */
    S3syncStats stats;
    gboolean is_mirror; /* the only source is the first stage's mirror */
    gboolean fine;
    GError *error;
} Target;

static void target_clear(Target *target)
{
    s3sync_stats_clear(&target->stats);
    g_clear_error(&target->error);
}

static void fill_options(const Target *target, const S3syncClassRule *rules, S3syncOptions *options)
{
    const JobOptions *job = &target->spec->options;
    const JobS3Options *s3 = &job->s3;
    s3sync_options_default(options);
    options->s3_prefix = s3->s3_prefix;
    options->time = (gint64)s3->time;
    options->timezone = s3->time_zone;
    options->config_name = s3->config_name;
    options->state_dir = s3->state_dir;
    options->patterns = target->patterns;
    options->is_mirror = target->is_mirror;
    options->one_file_system = job->one_file_system;
    options->exclude_caches = job->exclude_caches;
    options->exclude_if_present = job->exclude_if_present;
    options->exclude_larger_than = job->exclude_larger_than;
    options->delete_extraneous = s3->delete_from_s3;
    options->trash_days = s3->trash_days;
    options->storage_class = s3->storage_class;
    options->class_rules = rules;
    options->class_rules_count = s3->class_rules->len;
    options->checksum = job->checksum;
    options->verify = s3->verify;
    options->read_back = s3->read_back;
    options->relist = s3->relist;
    options->relist_days = s3->relist_days;
    options->versions_keep_days = s3->versions_keep_days;
    options->concurrency = s3->concurrency;
    options->max_delete_percent = job->max_delete_percent;
    options->force = job->force;
    options->confirm = job->confirm;
    options->dry_run = job->dry_run;
    const Provider *provider = engine_provider(target->where);
    options->prices = provider ? provider_class(provider, s3->storage_class ? s3->storage_class : "STANDARD") : NULL;
    options->cancel = target->cancel;
    options->sink = target->sink;
}

static S3syncClassRule *borrow_rules(const JobS3Options *s3)
{
    S3syncClassRule *rules = g_new0(S3syncClassRule, s3->class_rules->len + 1);
    for (guint i = 0; i < s3->class_rules->len; i++) {
        const JobClassRule *rule = &g_array_index(s3->class_rules, JobClassRule, i);
        rules[i] = (S3syncClassRule){rule->pattern, rule->storage_class};
    }
    return rules;
}

/* Of several sources one after another into one destination: the sums. */
static void add_stats(S3syncStats *sum, S3syncStats *one)
{
    guint64 *const sums[] = {&sum->files_total,  &sum->bytes_total,         &sum->files_uploaded,  &sum->bytes_uploaded,
                             &sum->files_copied, &sum->files_deleted,       &sum->files_unchanged, &sum->created,
                             &sum->changed,      &sum->bytes_saved,         &sum->files_skipped,   &sum->vanished,
                             &sum->unreadable,   &sum->changed_during_read, &sum->verified,        &sum->damaged,
                             &sum->missing};
    const guint64 ones[] = {one->files_total,  one->bytes_total,         one->files_uploaded,  one->bytes_uploaded,
                            one->files_copied, one->files_deleted,       one->files_unchanged, one->created,
                            one->changed,      one->bytes_saved,         one->files_skipped,   one->vanished,
                            one->unreadable,   one->changed_during_read, one->verified,        one->damaged,
                            one->missing};
    for (guint i = 0; i < G_N_ELEMENTS(sums); i++)
        *sums[i] += ones[i];
    sum->counts = one->counts; /* the store's own, from its beginning */
    sum->cost += one->cost;
    sum->duration += one->duration;
    sum->last_listed = one->last_listed;
    sum->partial = sum->partial || one->partial;
    sum->refused = sum->refused || one->refused;
    if (!sum->s3_path)
        sum->s3_path = g_steal_pointer(&one->s3_path);
    g_free(sum->plan_hash);
    sum->plan_hash = g_steal_pointer(&one->plan_hash);
}

/* Runs one destination from its first to its last source. In any thread. */
static gboolean run_target(Target *target, GError **error)
{
    g_autofree char *prefix = NULL;
    gboolean dry_run = target->spec->options.dry_run;
    g_autoptr(Store) store = dry_run ? engine_open_unmade(target->where, target->rate, target->cancel, &prefix, error)
                                     : engine_open_bucket(target->where, target->rate, target->cancel, &prefix, error);
    if (!store)
        return FALSE;
    guint8 key[32] = {0};
    S3syncOptions options;
    g_autofree S3syncClassRule *rules = borrow_rules(&target->spec->options.s3);
    fill_options(target, rules, &options);
    if (target->spec->options.s3.encrypt) {
        if (!engine_encryption_key(target->spec, key, error))
            return FALSE;
        options.master_key = key;
    }
    options.store = store;
    gboolean fine = TRUE;
    for (guint i = 0; target->sources[i] && fine; i++) {
        g_autofree char *below =
            *target->folders[i] ? g_build_path("/", prefix, target->folders[i], NULL) : g_strdup(prefix);
        options.prefix = below;
        options.source = target->sources[i];
        S3syncStats stats = {0};
        fine = s3sync_run(&options, &stats, error);
        add_stats(&target->stats, &stats);
        s3sync_stats_clear(&stats);
    }
    explicit_bzero(key, sizeof key);
    return fine;
}

static gpointer run_target_thread(gpointer data)
{
    Target *target = data;
    target->fine = run_target(target, &target->error);
    return NULL;
}

static json_t *stage2_json(const S3syncStats *stats, const JobStore *where)
{
    const Provider *provider = engine_provider(where);
    json_t *stage2 = json_object();
    const struct {
        const char *key;
        guint64 value;
    } counts[] = {
        {"filesUploaded", stats->files_uploaded},
        {"bytesUploaded", stats->bytes_uploaded},
        {"filesCopied", stats->files_copied},
        {"filesDeleted", stats->files_deleted},
        {"filesUnchanged", stats->files_unchanged},
        {"filesCreated", stats->created},
        {"filesChanged", stats->changed},
        {"bytesSaved", stats->bytes_saved},
        {"filesTotal", stats->files_total},
        {"bytesTotal", stats->bytes_total},
        {"filesSkipped", stats->files_skipped},
        {"vanished", stats->vanished},
        {"unreadable", stats->unreadable},
        {"changedDuringRead", stats->changed_during_read},
        {"verified", stats->verified},
        {"damaged", stats->damaged},
        {"missing", stats->missing},
        {"bytesSent", stats->counts.bytes_sent},
        {"bytesReceived", stats->counts.bytes_received},
    };
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++)
        summary_set_count(stage2, counts[i].key, counts[i].value);
    json_name_set(stage2, "s3Path", stats->s3_path);
    summary_set_seconds(stage2, "duration", stats->duration);
    json_object_set_new(stage2, "requests", engine_requests_json(&stats->counts));
    if (provider && provider->currency && stats->cost > 0) {
        json_object_set_new(stage2, "estimatedCost", json_real(stats->cost));
        json_object_set_new(stage2, "currency", json_string(provider->currency));
    }
    if (stats->last_listed > 0)
        json_object_set_new(stage2, "lastListed", json_integer(stats->last_listed));
    if (stats->plan_hash)
        json_object_set_new(stage2, "planHash", json_name_text(stats->plan_hash));
    return stage2;
}

static Event *done_lost(const S3syncStats *stats)
{
    g_autoptr(GError) error = NULL;
    (void)error_set(&error, BACKAPP_ERROR_CORRUPT,
                    "the store does not hold what was recorded (damaged objects: %" G_GUINT64_FORMAT
                    ", missing objects: %" G_GUINT64_FORMAT
                    "; each is named in a warning); the next sync from this machine stores them anew",
                    stats->damaged, stats->missing);
    return worker_done_failed(error);
}

static Event *target_done(const Target *target)
{
    const S3syncStats *stats = &target->stats;
    if (target->fine && stats->damaged + stats->missing > 0)
        return done_lost(stats);
    Event *done = target->fine ? event_new(EVENT_DONE) : worker_done_failed(target->error);
    if (target->fine) {
        done->status = stats->partial ? JOB_PARTIAL : JOB_COMPLETED;
    } else if (stats->refused) {
        done->status = JOB_REFUSED;
        done->plan_hash = g_strdup(stats->plan_hash);
    }
    return done;
}

/* What several destinations are as one run: completed if all are; failed if none is fine; else partial, and the error
 * names the first that is not. */
static Event *combine(Target *targets, guint count, json_t *destinations)
{
    g_autoptr(Event) worst = NULL;
    guint fine = 0;
    for (guint i = 0; i < count; i++) {
        g_autoptr(Event) done = target_done(&targets[i]);
        json_t *outcome = json_object();
        json_name_set(outcome, "url", targets[i].where->url);
        json_object_set_new(outcome, "status", json_string(job_status_name(done->status)));
        if (done->error_message)
            json_object_set_new(outcome, "error", json_name_text(done->error_message));
        json_object_set_new(outcome, "stage2", stage2_json(&targets[i].stats, targets[i].where));
        json_array_append_new(destinations, outcome);
        gboolean good = done->status == JOB_COMPLETED || done->status == JOB_PARTIAL;
        fine += good ? 1 : 0;
        gboolean worse = !worst || (worst->status == JOB_COMPLETED && done->status != JOB_COMPLETED) ||
                         (worst->status == JOB_PARTIAL && !good);
        if (!worse)
            continue;
        g_clear_pointer(&worst, event_free);
        worst = g_steal_pointer(&done);
        if (!good && count > 1 && worst->error_message) {
            char *named = g_strdup_printf("%s: %s", targets[i].where->url, worst->error_message);
            g_free(worst->error_message);
            worst->error_message = named;
        }
    }
    /* Some have the backup, some have not: that is no success, and not the loss of all either. */
    if (fine > 0 && fine < count && worst->status != JOB_CANCELLED)
        worst->status = JOB_PARTIAL;
    return g_steal_pointer(&worst);
}

static void run_targets(Target *targets, guint count)
{
    g_autofree GThread **threads = g_new0(GThread *, count);
    /* One that cannot have a thread of its own is run when the others are. */
    for (guint i = 1; i < count; i++)
        threads[i] = g_thread_try_new("destination", run_target_thread, &targets[i], NULL);
    (void)run_target_thread(&targets[0]);
    for (guint i = 1; i < count; i++) {
        if (threads[i])
            g_thread_join(threads[i]);
        else
            (void)run_target_thread(&targets[i]);
    }
}

Event *engine_run_s3_mirror(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PatternList) patterns = engine_patterns(&spec->options, &error);
    g_autofree const char **sources = engine_borrow_strings(spec->sources);
    g_auto(GStrv) folders = patterns ? source_folders(sources, &error) : NULL;
    if (!folders)
        return worker_done_failed(error);
    guint count = spec->destinations->len;
    for (guint i = 0; i < count; i++)
        if (!engine_check_apart(&g_array_index(spec->destinations, JobDestination, i).store, sources, patterns,
                                spec->options.one_file_system, &error))
            return worker_done_failed(error);
    if (count > 1)
        sink_split(sink, count);
    g_autofree Target *targets = g_new0(Target, count);
    for (guint i = 0; i < count; i++)
        targets[i] = (Target){.spec = spec,
                              .where = &g_array_index(spec->destinations, JobDestination, i).store,
                              .rate = rate,
                              .cancel = cancel,
                              .sink = count > 1 ? sink_part(sink, i) : sink_run_sink(sink),
                              .patterns = pattern_list_length(patterns) > 0 ? patterns : NULL,
                              .sources = sources,
                              .folders = folders};
    run_targets(targets, count);
    json_t *summary = json_object(), *destinations = json_array();
    Event *done = combine(targets, count, destinations);
    if (count == 1)
        json_object_set_new(summary, "stage2", stage2_json(&targets[0].stats, targets[0].where));
    else
        json_object_set(summary, "destinations", destinations);
    json_decref(destinations);
    if (done->plan_hash)
        json_object_set_new(summary, "planHash", json_name_text(done->plan_hash));
    json_object_set_new(summary, "dryRun", json_boolean(spec->options.dry_run));
    summary_send(sink, summary);
    for (guint i = 0; i < count; i++)
        target_clear(&targets[i]);
    return done;
}

/* The second stage of rsync-to-s3, from within the first one's lock. */
typedef struct {
    Target target;
    gboolean began;
    gint64 began_at;
} SecondStage;

/* A mirror on a file system that cannot hold everything looks to the second stage like what it is there. */
static void warn_of_sidecar(const Target *target)
{
    g_autofree char *sidecar = g_build_filename(target->sources[0], DESTINATION_STATE_DIR, SIDECAR_NAME, NULL);
    if (access(sidecar, F_OK) == 0)
        target->sink->warning(
            target->sink, "note", NULL,
            "the mirror's file system cannot hold all owners, modes and links, and its sidecar, which "
            "does, is not sent: files that are restored from the store come back without them");
}

static void run_second(gpointer user_data)
{
    SecondStage *second = user_data;
    Target *target = &second->target;
    if (target->spec->options.dry_run && access(target->sources[0], F_OK) < 0) {
        target->sink->warning(target->sink, "note", NULL,
                              "there is no mirror yet, so the second stage has no plan: all of it would be uploaded");
        return;
    }
    second->began = TRUE;
    second->began_at = g_get_monotonic_time();
    warn_of_sidecar(target);
    (void)run_target_thread(&second->target);
}

/* The first stage's end and the second's as one: the worse of both, the second's error saying that the mirror is good. */
static Event *two_stage_done(Event *first, SecondStage *second)
{
    if (!second->began)
        return first;
    if (second->target.error && !second->target.spec->options.dry_run)
        g_prefix_error(&second->target.error,
                       "the mirror is complete and valid, but it was not copied to %s (run again, with --only-s3 for "
                       "this stage alone): ",
                       second->target.where->url);
    Event *done = target_done(&second->target);
    if (done->status == JOB_COMPLETED && first->status == JOB_PARTIAL)
        done->status = JOB_PARTIAL;
    event_free(first);
    return done;
}

static void send_two_stages(const JobSpec *spec, const MirrorStats *mirror, const SecondStage *second, Sink *sink)
{
    json_t *summary = json_object();
    if (!spec->options.s3.only_s3)
        json_object_set_new(summary, "stage1", summary_stage1(mirror));
    if (second->began)
        json_object_set_new(summary, "stage2", stage2_json(&second->target.stats, second->target.where));
    if (mirror->destination_id && second->began)
        json_object_set_new(summary, "destinationId", json_name_text(mirror->destination_id));
    const char *hash = second->began ? second->target.stats.plan_hash : mirror->plan_hash;
    if (hash)
        json_object_set_new(summary, "planHash", json_name_text(hash));
    json_object_set_new(summary, "dryRun", json_boolean(spec->options.dry_run));
    json_object_set_new(summary, "recovered", json_boolean(mirror->recovered));
    summary_send(sink, summary);
}

static gboolean run_first(const JobSpec *spec, MirrorOptions *options, SecondStage *second, MirrorStats *stats,
                          GError **error)
{
    options->then = run_second;
    options->then_data = second;
    if (spec->options.s3.only_s3)
        return mirror_hold(options, &stats->refused, error);
    gint64 start = g_get_monotonic_time();
    gboolean fine = mirror_run(options, stats, error);
    if (second->began)
        stats->duration = (double)(second->began_at - start) / G_USEC_PER_SEC;
    return fine;
}

Event *engine_run_two_stage(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PatternList) patterns = engine_patterns(&spec->options, &error);
    if (!patterns)
        return worker_done_failed(error);
    g_autofree const char **sources = engine_borrow_strings(spec->sources);
    const char *mirror_source[] = {g_array_index(spec->destinations, JobDestination, 0).path, NULL};
    char *no_folder[] = {(char *)"", NULL};
    const JobStore *where = &g_array_index(spec->destinations, JobDestination, 1).store;
    if (!engine_check_apart(where, mirror_source, NULL, FALSE, &error) ||
        !engine_check_apart(where, sources, patterns, spec->options.one_file_system, &error))
        return worker_done_failed(error);
    MirrorOptions options;
    engine_fill_mirror(spec, sources, rate, cancel, sink_run_sink(sink), &options);
    options.patterns = pattern_list_length(patterns) > 0 ? patterns : NULL;
    /* The mirror holds what shall be sent: what it leaves out it does not have. */
    SecondStage second = {.target = {.spec = spec,
                                     .where = where,
                                     .rate = rate,
                                     .cancel = cancel,
                                     .sink = sink_run_sink(sink),
                                     .sources = mirror_source,
                                     .is_mirror = TRUE,
                                     .folders = no_folder}};
    MirrorStats stats = {0};
    gboolean fine = run_first(spec, &options, &second, &stats, &error);
    send_two_stages(spec, &stats, &second, sink);
    Event *done = two_stage_done(engine_mirror_done(&stats, fine, error), &second);
    mirror_stats_clear(&stats);
    target_clear(&second.target);
    return done;
}

Event *engine_run_s3_verify(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    Target target = {.spec = spec, .where = &spec->store, .rate = rate, .cancel = cancel, .sink = sink_run_sink(sink)};
    g_autofree char *prefix = NULL;
    g_autoptr(Store) store = engine_store_is_there(&spec->store, &error)
                                 ? engine_open_bucket(&spec->store, rate, cancel, &prefix, &error)
                                 : NULL;
    if (!store)
        return worker_done_failed(error);
    guint8 key[32] = {0};
    S3syncOptions options;
    g_autofree S3syncClassRule *rules = borrow_rules(&spec->options.s3);
    fill_options(&target, rules, &options);
    options.store = store;
    options.prefix = prefix;
    /* What a passphrase opens lies below the whole URL. */
    g_autoptr(Store) below = engine_open_store(&spec->store, NULL, cancel, &error);
    gboolean has_key = FALSE;
    if (!below || !engine_master_key(spec, below, key, &has_key, &error))
        return worker_done_failed(error);
    options.master_key = has_key ? key : NULL;
    target.fine = s3sync_verify(&options, &target.stats, &target.error);
    explicit_bzero(key, sizeof key);
    json_t *summary = json_object();
    json_object_set_new(summary, "stage2", stage2_json(&target.stats, target.where));
    summary_send(sink, summary);
    Event *done = target_done(&target);
    target_clear(&target);
    return done;
}
