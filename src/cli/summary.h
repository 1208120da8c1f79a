/*
 * The result of a job in words: the stats object of the summary event as lines for people. Pure functions; one thread.
 */
#pragma once

#include "job/event.h"
#include "job/spec.h"

/* A number of the summary (docs/formats/worker.md); 0 if it is not there. summary may be NULL. */
guint64 summary_count(const json_t *summary, const char *key);
double summary_seconds(const json_t *summary, const char *key);

/* A string of the summary, borrowed from it; NULL if it is not there. */
const char *summary_text(const json_t *summary, const char *key);

/* What was done (or, for a dry run, would be done), as lines that end with a newline; "" if there is nothing to tell.
 * The caller frees. */
char *summary_describe(JobType type, gboolean dry_run, const json_t *summary);

/* One item of a plan: "create   path (1.2 MiB)", "delete   path/ (12 entries)". The caller frees. */
char *summary_item(const Event *item);
