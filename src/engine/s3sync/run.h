/*
 * What the parts of one run share. Made by s3sync.c; the parts read it, and count through the functions here, which any
 * thread may call.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/run_stage.h"
#include "engine/s3sync/buffers.h"
#include "engine/s3sync/catalogue.h"
#include "engine/s3sync/plan.h"
#include "engine/s3sync/s3sync.h"
#include "engine/s3sync/workers.h"
#include "engine/source/names.h"
#include "store/lock_object.h"

#define S3_LONG_PREFIX  ".backapp/long/"
#define S3_TRASH_PREFIX ".trash/"

typedef struct {
    const S3syncOptions *options;
    const CancelFlag *cancel;
    RunSink *sink;
    Store *store;                /* below the run's prefix */
    const char *prefix;          /* of the run */
    gsize prefix_length;         /* in bytes, the store's own included as far as it is known */
    int root_fd;                 /* the source */
    Catalogue *catalogue, *base; /* base: of the date before; may be NULL */
    const char *base_prefix;
    const S3Names *names;
    const guint8 *content_key; /* NULL: contents are not encrypted */
    gint64 time;               /* when the run began, seconds since 1970 */
    LockObject *locked;        /* NULL until something is to be changed */
    Workers *workers;
    Buffers *buffers;
    char *trash; /* ".trash/TIME/": where replaced and deleted objects go first; NULL: nowhere */

    RunStage stage; /* the current one, for progress */
    atomic_uint_fast64_t uploaded, uploaded_bytes, copied, deleted, unchanged, saved_bytes, created, changed;
    atomic_uint_fast64_t vanished, unreadable, changed_during_read, skipped;
    atomic_uint_fast64_t verified, damaged, missing;
    guint64 kept;                 /* objects that the plan leaves as they are */
    atomic_uint_fast64_t refused; /* objects that the store did not take */
    atomic_bool partial;
    atomic_bool failed; /* error is set: nothing more is begun */
    GMutex lock;
    GError *error;  /* the first; under lock */
    int versioning; /* see s3run_versioning */
    gboolean versioning_asked;
    GPtrArray *wrong; /* of char *: keys of objects that a verification found missing or damaged; under lock */
} S3Run;

/* Announces a stage and resets its progress. */
void s3run_stage(S3Run *run, const char *name, guint64 expected_files, guint64 expected_bytes);
/* Adds to the stage's progress and reports it; path may be NULL. */
void s3run_progress(S3Run *run, guint64 files, guint64 bytes, const char *path);

/* The ways in which a source's file is not in the bucket as it was planned. Each sends a warning; all but vanished make
 * the run partial. */
void s3run_warn_unreadable(S3Run *run, const char *path, const char *message);
void s3run_warn_vanished(S3Run *run, const char *path);
void s3run_warn_changed(S3Run *run, const char *path, const char *message);
void s3run_warn_skipped(S3Run *run, const char *path, const char *message);
/* A warning that does not touch the counts. */
void s3run_note(S3Run *run, const char *path, const char *message);

/* Whether the bucket keeps versions of what is replaced now: 1, 0 (also a store that cannot), -1 if that is not known,
 * of which there is a note. Asked once a run, by the run's own thread only. FALSE if it cannot be asked. */
gboolean s3run_versioning(S3Run *run, int *versioning, GError **error);

/* An object that the store did not take: a warning, and the run is partial. If it takes none at all of very many, that
 * ends the run: then it is not about single objects. */
void s3run_refused(S3Run *run, const char *path, const char *message);
/* FALSE if there were such objects, and the place has none that it took, now or before. */
gboolean s3run_check_refused(S3Run *run, GError **error);

/* Keeps the first error that ends the run; takes it. */
void s3run_fail(S3Run *run, GError *error);
/* TRUE while nothing failed and nobody cancelled. */
gboolean s3run_goes_on(S3Run *run);
/* FALSE with the first error, if there was one. */
gboolean s3run_result(S3Run *run, GError **error);
