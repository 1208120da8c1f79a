/*
 * The results of jobs with archives in words: what summary.h does, for what was made, proven, or read anew ("archive" of a
 * summary, docs/formats/worker.md). Pure functions; one thread.
 */
#pragma once

#include "job/event.h"

/* Appends lines about an archive that was (or would be) made; nothing if archive is NULL, here and below. */
void summary_append_archive(GString *out, gboolean dry_run, const json_t *archive);

/* Appends lines about a verification. */
void summary_append_archive_proof(GString *out, const json_t *archive);

/* Appends lines about an index that was made anew. */
void summary_append_reindexed(GString *out, const json_t *archive);
