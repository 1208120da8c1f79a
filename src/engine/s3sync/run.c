#include "engine/s3sync/run.h"

#include <string.h>

#include "base/error.h"

/* So many objects, of which a store takes not one, are not taken for one reason. */
#define REFUSED_MAX 1000

void s3run_stage(S3Run *run, const char *name, guint64 expected_files, guint64 expected_bytes)
{
    run_stage_begin(&run->stage, run->sink, name, expected_files, expected_bytes);
}

void s3run_progress(S3Run *run, guint64 files, guint64 bytes, const char *path)
{
    run_stage_add(&run->stage, run->sink, files, bytes, path);
}

void s3run_warn_unreadable(S3Run *run, const char *path, const char *message)
{
    atomic_fetch_add(&run->unreadable, 1);
    atomic_store(&run->partial, true);
    run->sink->warning(run->sink, "unreadable", path, message);
}

void s3run_warn_vanished(S3Run *run, const char *path)
{
    atomic_fetch_add(&run->vanished, 1);
    run->sink->warning(run->sink, "vanished", path, "it was gone when it should be read");
}

void s3run_warn_changed(S3Run *run, const char *path, const char *message)
{
    atomic_fetch_add(&run->changed_during_read, 1);
    atomic_store(&run->partial, true);
    run->sink->warning(run->sink, "changed", path, message);
}

void s3run_warn_skipped(S3Run *run, const char *path, const char *message)
{
    atomic_fetch_add(&run->skipped, 1);
    atomic_store(&run->partial, true);
    run->sink->warning(run->sink, "skipped", path, message);
}

void s3run_note(S3Run *run, const char *path, const char *message)
{
    run->sink->warning(run->sink, "note", path, message);
}

gboolean s3run_versioning(S3Run *run, int *versioning, GError **error)
{
    if (!run->versioning_asked && store_can(run->store, STORE_VERSIONS)) {
        StoreFacts facts;
        if (!store_facts(run->store, &facts, error))
            return FALSE;
        run->versioning = facts.versioning;
        if (facts.versioning < 0)
            s3run_note(run, NULL,
                       "cannot find out whether the bucket keeps versions (allow s3:GetBucketVersioning): replaced and "
                       "deleted objects are treated as in a bucket that keeps none");
    }
    run->versioning_asked = TRUE;
    *versioning = run->versioning;
    return TRUE;
}

static gboolean none_stored(S3Run *run)
{
    return run->kept + atomic_load(&run->uploaded) + atomic_load(&run->copied) + atomic_load(&run->unchanged) == 0;
}

void s3run_refused(S3Run *run, const char *path, const char *message)
{
    s3run_warn_skipped(run, path, message);
    if (atomic_fetch_add(&run->refused, 1) + 1 < REFUSED_MAX || !none_stored(run))
        return;
    GError *error = NULL;
    (void)error_set(&error, BACKAPP_ERROR_INVALID,
                    "the store took none of the first %u objects, the last one because: %s", REFUSED_MAX, message);
    s3run_fail(run, error);
}

gboolean s3run_check_refused(S3Run *run, GError **error)
{
    guint64 refused = atomic_load(&run->refused);
    return refused == 0 || !none_stored(run) ||
           error_set(error, BACKAPP_ERROR_INVALID,
                     "the store took none of %" G_GUINT64_FORMAT " objects; each is named in a warning", refused);
}

void s3run_fail(S3Run *run, GError *error)
{
    g_mutex_lock(&run->lock);
    gboolean first = run->error == NULL;
    if (first)
        run->error = error;
    g_mutex_unlock(&run->lock);
    atomic_store(&run->failed, true);
    if (!first)
        g_error_free(error);
}

gboolean s3run_goes_on(S3Run *run)
{
    return !atomic_load(&run->failed) && !cancel_is_set(run->cancel);
}

gboolean s3run_result(S3Run *run, GError **error)
{
    g_mutex_lock(&run->lock);
    GError *failure = run->error != NULL ? g_error_copy(run->error) : NULL;
    g_mutex_unlock(&run->lock);
    if (failure == NULL)
        return cancel_check(run->cancel, error);
    g_propagate_error(error, failure);
    return FALSE;
}
