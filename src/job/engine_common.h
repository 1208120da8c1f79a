/*
 * What the worker's engines share: numbers for summaries, the patterns of a spec. Only for job/engine_*.c. The job's
 * thread.
 */
#pragma once

#include "engine/mirror/mirror.h"
#include "job/json_line.h"
#include "job/worker.h"
#include "store/store.h"

/* Sets a whole number; a duration to the millisecond (null if it is not known). */
void summary_set_count(json_t *object, const char *key, guint64 value);
void summary_set_seconds(json_t *object, const char *key, double seconds);

/* Sends the summary event; takes the reference. */
void summary_send(Sink *sink, json_t *stats);

/* The requests that were made, by kind; a new reference. */
json_t *engine_requests_json(const StoreCounts *counts);

/* The numbers of a mirror as the seeds' rsyncStats.stage1; a new reference. */
json_t *summary_stage1(const MirrorStats *stats);

/* A NULL-terminated vector of borrowed strings; the caller frees the vector. */
const char **engine_borrow_strings(const GPtrArray *strings);

/* The spec's patterns; NULL with INVALID. */
PatternList *engine_patterns(const JobOptions *options, GError **error);

/* Fills the options of a mirror to the spec's first destination: all but patterns. sources is what
 * engine_borrow_strings gave. */
void engine_fill_mirror(const JobSpec *spec, const char *const *sources, Rate *rate, const CancelFlag *cancel,
                        RunSink *sink, MirrorOptions *mirror);

/* What a mirror's end means for the run. The caller frees. */
Event *engine_mirror_done(const MirrorStats *stats, gboolean fine, const GError *error);

/* The engines: each runs one type of job and returns its done event (worker.h). */
Event *engine_run_mirror(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_recover(const JobSpec *spec, const CancelFlag *cancel, Sink *sink);
Event *engine_run_verify(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_two_stage(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_s3_mirror(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_s3_verify(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_archive(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_archive_verify(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_archive_reindex(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_archive_retention(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_drill(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
Event *engine_run_restore(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
