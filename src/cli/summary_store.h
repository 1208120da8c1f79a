/*
 * The results of jobs with stores in words: what summary.h does, for stage 2, for several destinations, for a restore.
 * Pure functions; one thread.
 */
#pragma once

#include "job/event.h"

/* Appends lines about a stage 2 ("stage2" of a summary); nothing if stage2 is NULL. */
void summary_append_stage2(GString *out, gboolean dry_run, const json_t *stage2);

/* Appends lines about the verification of a store (the same "stage2"). */
void summary_append_store_proof(GString *out, const json_t *stage2);

/* Appends the line about the requests of a stage or an archive, and what they cost. */
void summary_append_requests(GString *out, gboolean dry_run, const json_t *stage2);

/* Appends lines about each of several destinations ("destinations" of a summary). */
void summary_append_destinations(GString *out, gboolean dry_run, const json_t *destinations);

/* Appends lines about a restore ("restore" of a summary). */
void summary_append_restore(GString *out, gboolean dry_run, const json_t *restore);
