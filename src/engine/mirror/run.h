/*
 * What the parts of one mirror run share. Made by mirror.c; the parts read it, and count through the functions here,
 * which any thread may call.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/run_stage.h"
#include "engine/mirror/destination.h"
#include "engine/mirror/mirror.h"
#include "fs/attrs.h"
#include "fs/meta.h"

typedef struct {
    const MirrorOptions *options;
    const CancelFlag *cancel;
    RunSink *sink;
    Destination *dest;  /* root_fd is -1 in a dry run whose destination does not exist */
    GArray *source_fds; /* of int, one open directory a source */
    char **folders;     /* below the destination, one a source; a single "" if there is one source */
    guint sources;
    guint jobs;           /* threads that walk or copy */
    AttrsFilter filter;   /* which attributes are kept */
    AttrsFilter wanted;   /* those, and the ones that only the sidecar can keep */
    gboolean sidecar;     /* the destination cannot hold everything: there is one */
    gboolean sidecar_new; /* sidecar.new waits for this run's commit */
    MetaParts parts;      /* which metadata the destination can hold */
    guint64 granularity_ns;
    RunStage stage; /* the current one, for progress */

    atomic_uint_fast64_t files_transferred, bytes_transferred;
    atomic_uint_fast64_t vanished, unreadable, changed_during_read, skipped;
    atomic_bool partial;
    atomic_bool owners_noted; /* that owners need root was said */
    GMutex unstaged_lock;
    GHashTable *unstaged; /* paths that staging could not copy as they were planned; NULL before it */
} MirrorRun;

/* Which source a destination path comes from, and the rest of the path within it (points into path). G_MAXUINT if none.
 */
guint run_source_of(const MirrorRun *run, const char *path, const char **source_path);

/* The open directory of a source. */
int run_source_fd(const MirrorRun *run, guint source);

/* Announces a stage and resets its progress. */
void run_stage(MirrorRun *run, const char *name, guint64 expected_files, guint64 expected_bytes);

/* Adds to the stage's progress and reports it; path may be NULL. */
void run_progress(MirrorRun *run, guint64 files, guint64 bytes, const char *path);

/* The four ways in which a source's file is not in the mirror as it was planned. Each sends a warning; all but vanished
 * and skipped make the run partial. */
void run_warn_unreadable(MirrorRun *run, const char *path, const char *message);
void run_warn_vanished(MirrorRun *run, const char *path);
void run_warn_changed(MirrorRun *run, const char *path);
void run_warn_skipped(MirrorRun *run, const char *path, const char *message, gboolean partial);

/* A warning that does not touch the counts ("metadata", "note"). */
void run_warn(MirrorRun *run, const char *code, const char *path, const char *message);

/* Sorts a failed look at a source's file into vanished (ENOENT, ENOTDIR, ESTALE) or unreadable. Clears *error. */
void run_source_error(MirrorRun *run, const char *path, int errnum, GError **error);
