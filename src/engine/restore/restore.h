/*
 * Restores a point of whatever a store or a directory holds (source.h) to a directory: plan, check, run. A file's content is
 * proven while it arrives, by the hash that the point has of it (if it has one), and the file gets its name when it is whole;
 * nothing is ever written outside the target: every path is opened from the target's descriptor, no component followed if it
 * is a symbolic link. What is already right (size, mtime; content with checksum) is not fetched again, so an interrupted
 * restore goes on where it stopped.
 */
#pragma once

#include "base/rate.h"
#include "base/run_sink.h"
#include "engine/restore/source.h"

typedef enum { RESTORE_OVERWRITE, RESTORE_IF_NEWER, RESTORE_SKIP, RESTORE_RENAME } RestoreConflict;

typedef struct {
    RestoreSourceOptions source; /* its cancel and sink are set by restore_run */
    const char *const *paths;    /* files and folders to restore, NULL-terminated; NULL or empty: all */
    const char *target;          /* directory; made if it is missing */
    RestoreConflict conflict;
    gboolean delete_extraneous; /* of the restored folders in the target: what the point does not have goes */
    gboolean checksum;          /* compare contents of what is there */
    gboolean dry_run;
    gboolean acls, xattrs;
    guint max_delete_percent;
    gboolean force;
    guint concurrency; /* 0: 16 */
    Rate *rate;
    const CancelFlag *cancel;
    RunSink *sink;
} RestoreOptions;

typedef struct {
    guint64 files_total, bytes_total; /* of the point, as far as asked for */
    guint64 files_restored, bytes_restored, files_unchanged, files_deleted, files_skipped, files_renamed;
    guint64 damaged, missing, cold;
    char *point; /* its name; owned */
    gint64 point_time;
    double duration;
    gboolean partial, refused;
} RestoreStats;

void restore_options_default(RestoreOptions *options);
gboolean restore_run(const RestoreOptions *options, RestoreStats *stats, GError **error);
void restore_stats_clear(RestoreStats *stats);
