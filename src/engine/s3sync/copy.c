#include "engine/s3sync/copy.h"

#include <string.h>

#include "base/error.h"
#include "crypto/tink.h"
#include "engine/s3sync/mtime.h"
#include "engine/s3sync/upload.h"

/* TRUE if a copy failed because of what the source is now, or because the store does not do this one. */
static gboolean is_refusal(const GError *error)
{
    return error_is(error, BACKAPP_ERROR_CONFLICT) || error_is(error, BACKAPP_ERROR_NOT_FOUND) ||
           error_is(error, BACKAPP_ERROR_INVALID);
}

/* Passes an error on unless it is a refusal. */
static gboolean refused_or(GError *local, GError **error)
{
    gboolean refused = is_refusal(local);
    if (refused)
        g_error_free(local);
    else
        g_propagate_error(error, local);
    return refused;
}

/* The outcome of a copy: what is known of the row's content. */
static S3Outcome outcome_of(const CatalogueRow *row, const StoreResult *result, guint64 object_size)
{
    S3Outcome outcome = {.result = result, .object_size = object_size};
    if (row != NULL && row->part_size > 0) {
        outcome.part_size = row->part_size;
        outcome.hash = row->hash;
        outcome.parts = row->parts;
        outcome.parts_count = row->parts_count;
    }
    return outcome;
}

gboolean copy_touch(S3Job *job, const CatalogueRow *row, gboolean *done, GError **error)
{
    S3Run *run = job->run;
    char mtime[MTIME_TEXT_BYTES];
    *done = FALSE;
    if (!store_can(run->store, STORE_COPY) || job->have_etag == NULL || store_class_is_cold(job->have_class))
        return TRUE;
    StorePut how = s3job_put(job, mtime);
    StoreSource source = {.key = job->key, .if_match = job->have_etag, .size = job->have_size};
    g_auto(StoreResult) result = {0};
    GError *local = NULL;
    if (!store_copy(run->store, &source, job->key, &how, &result, &local))
        return refused_or(local, error);
    S3Outcome outcome = outcome_of(row, &result, job->have_size);
    *done = s3job_record(job, &outcome, error);
    if (*done) {
        atomic_fetch_add(&run->copied, 1);
        workers_note(run->workers, 0);
    }
    return *done;
}

/* Ends a job that was done. */
static void finish(S3Job *job)
{
    s3run_progress(job->run, 1, job->meta.size, job->path);
    s3job_free(job);
}

/* Ends a job that was done or failed, or uploads. */
static void finish_or_upload(S3Job *job, gboolean done, GError *local)
{
    if (local != NULL) {
        s3job_failed(job, local);
        s3job_free(job);
    } else if (done) {
        finish(job);
    } else {
        upload_file(&job->work);
    }
}

static gboolean stop(S3Job *job)
{
    if (s3run_goes_on(job->run))
        return FALSE;
    s3job_free(job);
    return TRUE;
}

void copy_onto_itself(S3Work *work)
{
    S3Job *job = (S3Job *)work;
    g_autoptr(CatalogueRow) row = NULL;
    GError *local = NULL;
    gboolean done = FALSE;
    if (stop(job))
        return;
    int found = catalogue_find(job->run->catalogue, job->key, &row, &local);
    /* Hashes count only for the object that they were made of. */
    gboolean known = found > 0 && g_strcmp0(row->etag, job->have_etag) == 0;
    if (found >= 0)
        (void)copy_touch(job, known ? row : NULL, &done, &local);
    finish_or_upload(job, done, local);
}

/* Copies within the whole store, from job->source to the job's key. */
static gboolean copy_object(S3Job *job, const CatalogueRow *row, gboolean whole, gboolean *done, GError **error)
{
    S3Run *run = job->run;
    char mtime[MTIME_TEXT_BYTES];
    StorePut how = s3job_put(job, mtime);
    StoreSource source = {
        .key = job->source, .version = job->source_version, .if_match = job->source_etag, .size = row->object_size};
    g_auto(StoreResult) result = {0};
    GError *local = NULL;
    g_autofree char *key = whole ? g_strconcat(run->prefix, job->key, NULL) : g_strdup(job->key);
    if (!s3job_to_trash(job, error))
        return FALSE;
    if (!store_copy(whole ? run->options->store : run->store, &source, key, &how, &result, &local))
        return refused_or(local, error);
    S3Outcome outcome = outcome_of(row, &result, row->object_size);
    *done = s3job_record(job, &outcome, error);
    if (*done) {
        atomic_fetch_add(&run->copied, 1);
        atomic_fetch_add(&run->saved_bytes, job->meta.size);
        workers_note(run->workers, 0);
    }
    return *done;
}

void copy_from_base(S3Work *work)
{
    S3Job *job = (S3Job *)work;
    S3Run *run = job->run;
    GError *local = NULL;
    gboolean done = FALSE;
    if (stop(job))
        return;
    g_autoptr(CatalogueRow) row = NULL;
    gboolean in_base = run->base != NULL && g_str_has_prefix(job->source, run->base_prefix);
    int found = in_base ? catalogue_find(run->base, job->source + strlen(run->base_prefix), &row, &local) : 0;
    if (found > 0 && g_strcmp0(row->etag, job->source_etag) == 0)
        (void)copy_object(job, row, TRUE, &done, &local);
    finish_or_upload(job, done, local);
}

void copy_of_name(S3Work *work)
{
    S3Job *job = (S3Job *)work;
    S3Run *run = job->run;
    GError *local = NULL;
    gboolean done = FALSE;
    if (stop(job))
        return;
    g_autoptr(CatalogueRow) row = NULL;
    int found = catalogue_find(run->catalogue, job->source, &row, &local);
    gboolean same = found > 0 && row->size == job->meta.size && row->mtime_s == job->meta.mtime_s &&
                    row->mtime_ns == job->meta.mtime_ns && row->ino == job->meta.ino &&
                    !store_class_is_cold(row->storage_class);
    if (same) {
        g_free(job->source_etag);
        job->source_etag = g_strdup(row->etag);
        (void)copy_object(job, row, FALSE, &done, &local);
    }
    finish_or_upload(job, done, local);
}

/* Whether the object in the store is the one the job wants, as far as a look tells. */
static gboolean is_wanted(const S3Job *job, const StoreObject *object)
{
    gint64 seconds = 0;
    guint32 ns = 0;
    guint64 size = job->run->content_key != NULL ? tink_cipher_size(job->meta.size) : job->meta.size;
    return object->size == size && mtime_parse(object->mtime, &seconds, &ns) && seconds == job->meta.mtime_s &&
           ns == job->meta.mtime_ns;
}

void check_object(S3Work *work)
{
    S3Job *job = (S3Job *)work;
    S3Run *run = job->run;
    GError *local = NULL;
    gboolean done = FALSE;
    if (stop(job))
        return;
    g_autoptr(StoreObject) object = store_head(run->store, job->key, NULL, &local);
    workers_note(run->workers, 0);
    if (object == NULL && error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_clear_error(&local);
        job->replaces = FALSE;
    } else if (object != NULL) {
        g_free(job->have_etag);
        job->have_etag = g_strdup(object->etag);
        g_free(job->have_class);
        job->have_class = g_strdup(object->storage_class);
        job->have_size = object->size;
        job->replaces = TRUE;
    }
    if (object != NULL && !run->options->checksum && is_wanted(job, object)) {
        gboolean class_differs = g_strcmp0(job->storage_class != NULL ? job->storage_class : object->storage_class,
                                           object->storage_class) != 0;
        StoreResult result = {.etag = (char *)object->etag, .version = (char *)object->version};
        S3Outcome outcome = {.result = &result, .object_size = object->size};
        if (class_differs)
            (void)copy_touch(job, NULL, &done, &local);
        if (!done && local == NULL && !class_differs)
            done = s3job_record(job, &outcome, &local);
        if (done && !class_differs)
            atomic_fetch_add(&run->unchanged, 1);
    }
    finish_or_upload(job, done, local);
}
