/*
 * The results of retentions and drills in words: what summary.h does, for "retention" and "drill" of a summary
 * (docs/formats/worker.md). Pure functions; one thread.
 */
#pragma once

#include "job/event.h"

/* Appends lines about what stays and what went (or would go); nothing if retention is NULL. */
void summary_append_retention(GString *out, gboolean dry_run, const json_t *retention);

/* Appends lines about what a drill has proven; nothing if drill is NULL. */
void summary_append_drill(GString *out, const json_t *drill);
