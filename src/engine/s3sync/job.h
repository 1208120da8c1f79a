/*
 * One item of the plan on its way through the workers: what is to be done, and with an object what the outcome is.
 * Made by the thread that reads the plan; then it belongs to whoever works on it.
 */
#pragma once

#include "engine/s3sync/run.h"

/* An open directory of the source that several jobs share. */
typedef struct {
    int fd;
    atomic_uint users;
    char *path;
} S3Parent;
S3Parent *s3parent_open(S3Run *run, const char *path, GError **error);
S3Parent *s3parent_ref(S3Parent *parent);
void s3parent_unref(S3Parent *parent); /* NULL is a no-op */

/* What the workers do: `run` owns the item it is given. Every item begins with one. */
typedef struct S3Work S3Work;
struct S3Work {
    void (*run)(S3Work *work);
};

typedef struct {
    S3Work work;
    S3Run *run;
    S3PlanOp op;
    S3Parent *parent;
    char *path, *key;
    const char *name; /* the last component of path */
    FileMeta meta;    /* as planned; after reading: what was read */
    char *storage_class;
    char *have_etag, *have_class;
    guint64 have_size;
    char *source, *source_etag, *source_version;
    gboolean replaces; /* there is an object under the key */
    gboolean trashed;  /* it has a copy in the trash */
} S3Job;

/* The error of one object's request: what concerns that object alone (INVALID, CONFLICT) is a warning and makes the run
 * partial, all else ends the run. Takes the error. */
void s3job_failed(S3Job *job, GError *error);

/* A job with copies of the item's strings; takes a reference of parent (may be NULL). */
S3Job *s3job_new(S3Run *run, const S3PlanItem *item, S3Parent *parent);
void s3job_free(S3Job *job);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Job, s3job_free)

/* What an object has become; strings are borrowed. */
typedef struct {
    const StoreResult *result;
    guint64 object_size;
    guint64 part_size; /* 0: no hash */
    const guint8 *hash;
    const guint8 *parts;
    guint parts_count;
} S3Outcome;

/* Writes the catalogue's row of an object that is there now, with job->meta as its file's. */
gboolean s3job_record(S3Job *job, const S3Outcome *outcome, GError **error);

/* The job's file could not be read: what the catalogue says counts no longer unless the bucket agrees with it. */
gboolean s3job_drop_row(S3Job *job, GError **error);

/* How the object is to be stored; mtime (of MTIME_TEXT_BYTES) is filled and has to outlive it. */
StorePut s3job_put(const S3Job *job, char *mtime);

/* The object that is about to be replaced or deleted goes to the trash, if there is one: copied, looked at. */
gboolean s3job_to_trash(S3Job *job, GError **error);
