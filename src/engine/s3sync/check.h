/*
 * Whether a plan may be carried out: the plan that was confirmed, and not too much deleted.
 */
#pragma once

#include "engine/s3sync/plan.h"

/* FALSE with CONFLICT and *refused if it may not: the plan is another than options->confirm, or more than
 * max_delete_percent (of at least 100 files) or all of an emptied source would be deleted, and neither force nor
 * confirm allows it. `hash` is the plan's, `where` the destination for people. */
gboolean check_plan(const S3syncOptions *options, const S3PlanCounts *counts, guint64 source_files, const char *hash,
                    const char *where, gboolean *refused, GError **error);
