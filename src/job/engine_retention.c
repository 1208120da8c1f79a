#include "base/error.h"
#include "engine/archive/retire.h"
#include "job/engine_common.h"
#include "job/engine_place.h"
#include "job/json_name.h"

/* A line of the worker's is limited; of more points the oldest are left out, and their number is said. */
#define POINTS_SHOWN 2000

G_STATIC_ASSERT(JOB_KEEP_ALL == RETENTION_ALL);

static gboolean fill_options(const JobSpec *spec, GTimeZone *zone, RetireOptions *options, GError **error)
{
    const JobRetentionOptions *given = &spec->options.retention;
    if (!zone)
        return error_set(error, BACKAPP_ERROR_INVALID, "options.retention.timezone: there is no such zone");
    *options = (RetireOptions){.zone = zone,
                               .rules = {.count = given->count,
                                         .days = given->days,
                                         .last = given->last,
                                         .hourly = given->hourly,
                                         .daily = given->daily,
                                         .weekly = given->weekly,
                                         .monthly = given->monthly,
                                         .yearly = given->yearly},
                               .simulate = spec->options.dry_run,
                               .unfinished = given->unfinished};
    if (given->within && !retention_parse_span(given->within, &options->rules.within, error)) {
        g_prefix_error(error, "options.retention.keepWithin: ");
        return FALSE;
    }
    return TRUE;
}

static json_t *point_json(const RetirePoint *point)
{
    json_t *object = json_object();
    json_object_set_new(object, "point", json_name_text(point->base));
    json_object_set_new(object, "time", json_integer(point->time));
    json_object_set_new(object, "type", json_string(archive_type_name(point->type)));
    summary_set_count(object, "bytes", point->bytes);
    json_object_set_new(object, "state", json_string(archive_retire_state_name(point->state)));
    json_object_set_new(object, "why", json_name_text(point->why));
    if (point->partial)
        json_object_set_new(object, "partial", json_true());
    if (point->unfinished)
        json_object_set_new(object, "unfinished", json_true());
    return object;
}

/* What could not be judged any more has no reason yet. */
static json_t *points_json(const RetireReport *report, guint *left_out)
{
    json_t *points = json_array();
    guint count = report->points ? report->points->len : 0;
    for (guint i = 0; i < MIN(count, POINTS_SHOWN); i++) {
        const RetirePoint *point = g_ptr_array_index(report->points, i);
        if (point->why && point->state)
            json_array_append_new(points, point_json(point));
    }
    *left_out = count - MIN(count, POINTS_SHOWN);
    return points;
}

static json_t *retention_json(const RetireReport *report, const char *name)
{
    json_t *retention = json_object();
    guint left_out = 0;
    json_object_set_new(retention, "name", json_name_text(name));
    json_object_set_new(retention, "rules", json_string(report->rules ? report->rules : ""));
    summary_set_count(retention, "kept", report->kept);
    summary_set_count(retention, "removed", report->removed);
    summary_set_count(retention, "wouldGo", report->would_go);
    summary_set_count(retention, "skipped", report->skipped);
    summary_set_count(retention, "unfinished", report->unfinished);
    summary_set_count(retention, "bytesRemoved", report->bytes_removed);
    json_object_set_new(retention, "points", points_json(report, &left_out));
    summary_set_count(retention, "pointsLeftOut", left_out);
    summary_set_seconds(retention, "duration", report->duration);
    return retention;
}

Event *engine_run_archive_retention(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    g_autoptr(GError) error = NULL;
    g_auto(EnginePlace) place = {0};
    g_auto(RetireReport) report = {0};
    RetireOptions options;
    const char *zone_name = spec->options.retention.time_zone;
    g_autoptr(GTimeZone) zone = zone_name ? g_time_zone_new_identifier(zone_name) : g_time_zone_new_local();
    if (!fill_options(spec, zone, &options, &error) ||
        !engine_place_open(spec, &spec->store, rate, cancel, &place, &error))
        return worker_done_failed(error);
    options.place = place.place;
    options.cancel = cancel;
    options.sink = sink_run_sink(sink);
    gboolean fine = archive_retire(&options, &report, &error);
    json_t *summary = json_object();
    json_object_set_new(summary, "retention", retention_json(&report, place.name));
    json_object_set_new(summary, "dryRun", json_boolean(spec->options.dry_run));
    summary_send(sink, summary);
    Event *done = fine ? event_new(EVENT_DONE) : worker_done_failed(error);
    if (fine)
        done->status = report.partial ? JOB_PARTIAL : JOB_COMPLETED;
    return done;
}
