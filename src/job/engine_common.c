#include "job/engine_common.h"

#include "job/json_name.h"

void summary_set_count(json_t *object, const char *key, guint64 value)
{
    json_object_set_new(object, key, json_line_count(value));
}

/* To the millisecond. */
void summary_set_seconds(json_t *object, const char *key, double seconds)
{
    gboolean known = seconds >= 0 && seconds < 1e12;
    json_object_set_new(object, key, known ? json_real((double)(gint64)(seconds * 1000 + 0.5) / 1000) : json_null());
}

void summary_send(Sink *sink, json_t *stats)
{
    g_autoptr(Event) event = event_new(EVENT_SUMMARY);
    event->summary = stats;
    (void)sink_send(sink, event);
}

json_t *engine_requests_json(const StoreCounts *counts)
{
    json_t *requests = json_object();
    for (guint kind = 0; kind < STORE_REQUEST_KINDS; kind++)
        summary_set_count(requests, store_request_name(kind), counts->requests[kind]);
    summary_set_count(requests, "retries", counts->retries);
    summary_set_count(requests, "slowDowns", counts->slow_downs);
    return requests;
}

json_t *summary_stage1(const MirrorStats *stats)
{
    json_t *stage1 = json_object();
    summary_set_count(stage1, "filesTransferred", stats->files_transferred);
    summary_set_count(stage1, "bytesTransferred", stats->bytes_transferred);
    double ratio = stats->bytes_transferred > 0 ? (double)stats->bytes_total / (double)stats->bytes_transferred : -1;
    json_object_set_new(stage1, "speedupRatio", ratio >= 0 ? json_real(ratio) : json_null());
    summary_set_seconds(stage1, "duration", stats->duration);
    json_name_set(stage1, "localPath", stats->local_path);
    summary_set_count(stage1, "filesTotal", stats->files_total);
    summary_set_count(stage1, "bytesTotal", stats->bytes_total);
    summary_set_count(stage1, "filesCreated", stats->created);
    summary_set_count(stage1, "filesChanged", stats->changed);
    summary_set_count(stage1, "metadataChanged", stats->metadata_changed);
    summary_set_count(stage1, "filesDeleted", stats->deleted);
    summary_set_count(stage1, "filesUnchanged", stats->unchanged);
    summary_set_count(stage1, "filesSkipped", stats->files_skipped);
    summary_set_count(stage1, "vanished", stats->vanished);
    summary_set_count(stage1, "unreadable", stats->unreadable);
    summary_set_count(stage1, "changedDuringRead", stats->changed_during_read);
    return stage1;
}

/* A NULL-terminated vector of borrowed strings; the caller frees the vector. */
const char **engine_borrow_strings(const GPtrArray *strings)
{
    const char **vector = g_new0(const char *, strings->len + 1);
    for (guint i = 0; i < strings->len; i++)
        vector[i] = g_ptr_array_index(strings, i);
    return vector;
}

PatternList *engine_patterns(const JobOptions *options, GError **error)
{
    g_autoptr(PatternList) patterns = pattern_list_new();
    g_autofree const char **includes = engine_borrow_strings(options->include_patterns);
    g_autofree const char **excludes = engine_borrow_strings(options->exclude_patterns);
    if (!pattern_list_add_config(patterns, includes, excludes, error))
        return NULL;
    for (guint i = 0; i < options->rules->len; i++) {
        const JobRule *rule = &g_array_index(options->rules, JobRule, i);
        if (!pattern_list_add(patterns, rule->include, rule->pattern, error))
            return NULL;
    }
    return g_steal_pointer(&patterns);
}
