#include "base/error.h"
#include "crypto/secret.h"
#include "engine/drill/drill.h"
#include "job/engine_common.h"
#include "job/engine_store.h"
#include "job/json_name.h"

static json_t *failures_json(const DrillStats *stats)
{
    json_t *failures = json_array();
    for (guint i = 0; stats->failures && i < stats->failures->len; i++) {
        const DrillFailure *failure = g_ptr_array_index(stats->failures, i);
        json_t *object = json_object();
        json_name_set(object, "path", failure->path);
        json_object_set_new(object, "why", json_name_text(failure->why));
        json_array_append_new(failures, object);
    }
    return failures;
}

static json_t *drill_json(const DrillStats *stats)
{
    json_t *drill = json_object();
    const struct {
        const char *key;
        guint64 value;
    } counts[] = {{"filesTotal", stats->files_total},
                  {"bytesTotal", stats->bytes_total},
                  {"files", stats->files},
                  {"bytes", stats->bytes},
                  {"proven", stats->proven},
                  {"compared", stats->compared},
                  {"unproven", stats->unproven},
                  {"failed", stats->failed},
                  {"seed", stats->seed}};
    if (stats->kind)
        json_object_set_new(drill, "kind", json_string(restore_source_kind_name(stats->kind)));
    if (stats->archive)
        json_object_set_new(drill, "name", json_name_text(stats->archive));
    if (stats->point) {
        json_object_set_new(drill, "point", json_name_text(stats->point));
        json_object_set_new(drill, "pointTime", json_integer(stats->point_time));
    }
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++)
        summary_set_count(drill, counts[i].key, counts[i].value);
    json_object_set_new(drill, "failures", failures_json(stats));
    summary_set_seconds(drill, "duration", stats->duration);
    return drill;
}

static gboolean run_drill(const JobSpec *spec, Store *store, const CancelFlag *cancel, Sink *sink, DrillStats *stats,
                          GError **error)
{
    const JobDrillOptions *given = &spec->options.drill;
    g_autofree char *directory = engine_store_directory(&spec->store);
    g_autofree const char **paths = engine_borrow_strings(spec->options.restore.paths);
    g_autofree const char **sources = engine_borrow_strings(spec->sources);
    guint8 key[32] = {0};
    gboolean has_key = FALSE;
    DrillOptions options;
    drill_options_default(&options);
    if (given->files > 0)
        options.files = given->files;
    if (given->max_bytes > 0)
        options.max_bytes = given->max_bytes;
    options.seed = given->seed;
    options.sources = sources;
    options.paths = paths;
    options.cancel = cancel;
    options.sink = sink_run_sink(sink);
    gboolean fine = engine_master_key(spec, store, key, &has_key, error);
    options.source = (RestoreSourceOptions){.store = store,
                                            .directory = directory,
                                            .name = spec->options.archive.name,
                                            .at = spec->options.restore.at,
                                            .master_key = has_key ? key : NULL};
    fine = fine && drill_run(&options, stats, error);
    secret_wipe(key, sizeof key);
    return fine;
}

Event *engine_run_drill(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    g_auto(DrillStats) stats = {0};
    g_autoptr(Store) store = engine_open_store(&spec->store, rate, cancel, &error);
    if (!store)
        return worker_done_failed(error);
    gboolean fine = run_drill(spec, store, cancel, sink, &stats, &error);
    json_t *summary = json_object();
    json_object_set_new(summary, "drill", drill_json(&stats));
    summary_send(sink, summary);
    Event *done = fine ? event_new(EVENT_DONE) : worker_done_failed(error);
    if (fine)
        done->status = stats.partial ? JOB_PARTIAL : JOB_COMPLETED;
    return done;
}
