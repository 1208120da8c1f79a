/*
 * The checks between plan and work: what must not be done is refused here, before anything is touched.
 */
#pragma once

#include "engine/mirror/compare.h"
#include "engine/mirror/run.h"

/* Space and inodes against the plan (NO_SPACE), deletions against the limit (CONFLICT and *refused, unless
 * force is given or confirm is `hash`, which is the plan's). */
gboolean preflight_check(const MirrorRun *run, const PlanTotals *totals, const char *hash, gboolean *refused,
                         GError **error);
