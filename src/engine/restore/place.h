/*
 * Puts one entry into the target: whole, under its name, or not at all. Every path is opened from the target's descriptor
 * without following a symbolic link. What concerns only the entry is a warning; FALSE ends the restore. Any thread.
 */
#pragma once

#include "engine/restore/plan.h"

/* How exactly the target keeps times: nanoseconds, as in FsAbilities. In a dry run nothing is seen of the trial. */
guint64 place_time_granularity(const RestoreRun *run);

/* Makes a directory (with mode 0700 until place_dir_metadata). */
gboolean place_dir(RestoreRun *run, const RestoreItem *item, GError **error);
gboolean place_dir_metadata(RestoreRun *run, const RestoreItem *item, GError **error);
/* A regular file: content, metadata, name. */
gboolean place_file(RestoreRun *run, const RestoreItem *item, GError **error);
gboolean place_metadata(RestoreRun *run, const RestoreItem *item, GError **error);
/* A further name; if it cannot be a link its content is fetched. */
gboolean place_link(RestoreRun *run, const RestoreItem *item, GError **error);
gboolean place_other(RestoreRun *run, const RestoreItem *item, GError **error);
gboolean place_delete(RestoreRun *run, const RestoreItem *item, GError **error);
