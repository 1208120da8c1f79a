/*
 * Restores a mirror that lies in a store to a directory: plan, check, run. A file's content is proven while it arrives, by
 * the hash that the point has of it (if it has one), and the file gets its name when it is whole; nothing is ever written
 * outside the target: every path is opened from the target's descriptor, no component followed if it is a symbolic link.
 * What is already right (size, mtime; content with checksum) is not fetched again, so an interrupted restore goes on where
 * it stopped.
 */
#pragma once

#include "base/rate.h"
#include "base/run_sink.h"
#include "store/store.h"

typedef enum { RESTORE_OVERWRITE, RESTORE_IF_NEWER, RESTORE_SKIP, RESTORE_RENAME } RestoreConflict;

typedef struct {
    Store *store;   /* below the mirror's prefix; the caller's */
    const char *at; /* "latest", a date (YYYY-MM-DD), a time (RFC 3339, or YYYY-MM-DDTHHMMSSZ), or a root's name; NULL:
                           latest. A date means the newest point not after the end of that day (local time) */
    const char *const *paths; /* files and folders to restore, NULL-terminated; NULL or empty: all */
    const char *target;       /* directory; made if it is missing */
    RestoreConflict conflict;
    gboolean delete_extraneous; /* of the restored folders in the target: what the point does not have goes */
    gboolean checksum;          /* compare contents of what is there */
    gboolean dry_run;
    gboolean acls, xattrs;
    const guint8 *master_key; /* for encrypted mirrors; may be NULL */
    guint thaw_days;          /* 0: cold objects are named, not asked for */
    const char *thaw_tier;
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
    char *point; /* the root that was restored; owned */
    gint64 point_time;
    double duration;
    gboolean partial, refused;
} RestoreStats;

void restore_options_default(RestoreOptions *options);
gboolean restore_run(const RestoreOptions *options, RestoreStats *stats, GError **error);
void restore_stats_clear(RestoreStats *stats);

/* One point of a store. */
typedef struct {
    char *name;   /* for RestoreOptions.at */
    char *folder; /* that the mirror lies in, below the store: to be restored from there; NULL: in the store itself */
    gint64 time;
    guint64 files, bytes;
    gboolean partial; /* some files could not be read when it was made */
    char *problem;    /* why it cannot be used; files and bytes are not known then. NULL: none */
} RestorePoint;
void restore_point_free(RestorePoint *point);

/* The points of a mirror, newest first (of RestorePoint *, freed with the array). If it has none: those of the mirrors in
 * the folders right below it, as where each date has one of its own. Empty if there is none either. DENIED if they are
 * encrypted and there is no key. */
GPtrArray *restore_points(Store *store, const guint8 *master_key, GError **error);
