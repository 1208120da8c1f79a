/*
 * What the parts of one restore share. Made by restore.c; the parts read it, and count through the functions here, which
 * any thread may call.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/run_stage.h"
#include "engine/restore/restore.h"

typedef struct {
    const RestoreOptions *options;
    RestoreSource *source;
    gint64 began_us; /* real time */
    int root_fd;     /* the target; -1 in a dry run whose target does not exist */
    AttrsFilter filter;
    guint64 granularity_ns; /* of the target's times, as in FsAbilities */
    char *aside;            /* what an existing name gets behind it with RESTORE_RENAME */
    RunStage stage;         /* the current one, for progress */

    atomic_uint_fast64_t restored, restored_bytes, unchanged, skipped, renamed, deleted, damaged, missing, cold;
    atomic_bool partial;
    atomic_bool owners_noted; /* that owners need root was said */
    atomic_bool failed;       /* error is set: nothing more is begun */
    GMutex lock;
    GError *error;      /* the first that ends the restore; under lock */
    GHashTable *proven; /* contents of several names that were read and are right: existing.c's; under lock */
} RestoreRun;

/* Announces a stage and resets its progress. */
void restore_stage(RestoreRun *run, const char *name, guint64 files, guint64 bytes);
/* Adds to the stage's progress and reports it; path may be NULL. */
void restore_progress(RestoreRun *run, guint64 files, guint64 bytes, const char *path);

/* A warning about one path; the restore goes on and is partial. */
void restore_warn(RestoreRun *run, const char *code, const char *path, const char *message);
/* A remark that does not make it partial. */
void restore_note(RestoreRun *run, const char *path, const char *message);
/* Metadata that could not be applied: a warning (one for all owners when not root). */
void restore_losses(RestoreRun *run, const char *path, gboolean owner_only, const char *text);

/* Keeps the first error that ends the restore; takes it. */
void restore_fail(RestoreRun *run, GError *error);
/* TRUE while nothing failed and nobody cancelled. */
gboolean restore_goes_on(RestoreRun *run);
/* FALSE with the first error if there was one, or CANCELLED. */
gboolean restore_result(RestoreRun *run, GError **error);
