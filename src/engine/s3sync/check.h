/*
 * Whether a plan may be carried out: not too much deleted, unless it was agreed to.
 */
#pragma once

#include "engine/s3sync/plan.h"

/* FALSE with CONFLICT and *refused if it may not: more than max_delete_percent (of at least 100 files) or all of an
 * emptied source would be deleted, and neither force is given nor confirm equal to `hash`, which is the plan's. A
 * plan that deletes less is fine whatever confirm says. `where` is the destination for people. */
gboolean check_plan(const S3syncOptions *options, const S3PlanCounts *counts, guint64 source_files, const char *hash,
                    const char *where, gboolean *refused, GError **error);
