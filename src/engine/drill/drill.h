/*
 * The restore drill: a sample of a point's files is really restored into a fresh directory and compared with what was
 * recorded of them, and with the sources where those are as they were. It is the proof that a restore works, not only that
 * objects are there. One thread calls; the sandbox has one file at a time and is gone when it returns.
 */
#pragma once

#include "engine/restore/source.h"

#define DRILL_FILES_DEFAULT 10
#define DRILL_FILES_MAX     10000
#define DRILL_BYTES_DEFAULT (G_GUINT64_CONSTANT(1) << 30)

typedef struct {
    RestoreSourceOptions source; /* the point; its sink and cancel are set by drill_run */
    /* Directories that the point was made of, NULL-terminated, as they were given to the backup; NULL or empty: nothing
     * is compared with them. Several have a folder each in it (engine/source/folders.h). */
    const char *const *sources;
    const char *const *paths; /* only files at and below these, NULL-terminated; NULL or empty: of all */
    guint files;              /* so many of each: the newest, the largest, random ones */
    guint64 max_bytes;        /* of all that is restored */
    guint32 seed;             /* of the random choice; 0: any */
    const char *tmp;          /* where the sandbox is made; NULL: the directory for temporary files */
    const CancelFlag *cancel; /* may be NULL */
    RunSink *sink;            /* never NULL */
} DrillOptions;

typedef struct {
    char *path;
    char *why;
} DrillFailure;

typedef struct {
    RestoreSourceKind kind;
    char *point, *archive; /* owned; archive NULL for mirrors */
    gint64 point_time;
    guint64 files_total, bytes_total; /* regular files of the point: what the sample was chosen from */
    guint64 files, bytes;             /* of the sample, tried */
    guint64 proven;                   /* equal to the recorded hash, or to an unchanged source */
    guint64 compared;                 /* of those, equal to an unchanged source */
    guint64 unproven;                 /* restored, but there is nothing to compare with; or too cold to be fetched */
    guint64 failed;
    GPtrArray *failures; /* of DrillFailure *: the first ones, failed and unproven; owned */
    guint32 seed;        /* with it the same sample is chosen again */
    double duration;     /* of restoring and comparing, seconds; without the listing */
    gboolean partial;    /* something is unproven */
} DrillStats;

/* 10 of each, 1 GiB. */
void drill_options_default(DrillOptions *options);

/* TRUE if no file of a sample that is not empty failed. CORRUPT if some did; NOT_FOUND if the point has no regular file, or
 * none that fits into max_bytes; otherwise what kept it from being done. */
gboolean drill_run(const DrillOptions *options, DrillStats *stats, GError **error);
void drill_stats_clear(DrillStats *stats);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DrillStats, drill_stats_clear)
