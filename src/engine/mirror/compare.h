/*
 * Planning: walks sources and destination side by side and writes down what has to be done. Nothing is changed.
 */
#pragma once

#include "engine/mirror/plan.h"
#include "engine/mirror/run.h"

/* What the plan amounts to. */
typedef struct {
    guint64 files_total, bytes_total;                      /* of the sources */
    guint64 created, changed, metadata_changed, unchanged; /* entries; changed includes metadata_changed */
    guint64 deleted, deleted_files;                        /* entries; of them not directories */
    guint64 dest_files;                                    /* in the destination before, not directories */
    guint64 copy_files, copy_bytes;                        /* to be staged; bytes of regular files */
    guint64 copy_space;                                    /* bytes on disk that the stage needs, holes left out */
    guint64 new_inodes;                                    /* that the stage needs */
} PlanTotals;

/* Fills the plan (which must be empty; it is finished here). Items go to the sink if `items`. Errors: CANCELLED,
 * CONFLICT for a boundary in the destination, or what reading said. Unreadable sources are warnings. */
gboolean compare_plan(MirrorRun *run, Plan *plan, gboolean items, PlanTotals *totals, GError **error);
