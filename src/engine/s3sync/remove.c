#include "engine/s3sync/remove.h"

#include "base/error.h"

#define BATCH 1000

struct Removal {
    S3Run *run;
    gboolean versioned; /* a deletion leaves the old version: no trash, no second look */
    GMutex lock;
    GPtrArray *batch; /* of S3Job *; under lock */
};

typedef struct {
    S3Work work;
    Removal *removal;
    S3Job *job;
} RemoveTask;

Removal *removal_new(S3Run *run, gboolean versioned)
{
    Removal *removal = g_new0(Removal, 1);
    removal->run = run;
    removal->versioned = versioned;
    g_mutex_init(&removal->lock);
    removal->batch = g_ptr_array_new_with_free_func((GDestroyNotify)s3job_free);
    return removal;
}

/* One key of a batch is gone, or not. */
static void after_delete(S3Run *run, S3Job *job, GError *failure)
{
    g_autoptr(GError) local = NULL;
    if (failure != NULL) {
        s3job_failed(job, failure);
    } else if (!catalogue_remove(run->catalogue, job->key, &local)) {
        s3run_fail(run, g_steal_pointer(&local));
    } else {
        atomic_fetch_add(&run->deleted, 1);
        s3run_progress(run, 1, 0, job->key);
    }
}

static void delete_batch(S3Run *run, GPtrArray *batch)
{
    g_autofree const char **keys = g_new0(const char *, batch->len);
    g_autofree GError **errors = g_new0(GError *, batch->len);
    for (guint i = 0; i < batch->len; i++)
        keys[i] = ((const S3Job *)g_ptr_array_index(batch, i))->key;
    /* Each key has an error of its own, or is gone. */
    (void)store_delete_many(run->store, keys, NULL, batch->len, errors, NULL);
    for (guint i = 0; i < batch->len; i++)
        after_delete(run, g_ptr_array_index(batch, i), errors[i]);
    workers_note(run->workers, 0);
}

/* TRUE if the object is still the one of the plan and may go. Else it stays, which is said. */
static gboolean may_go(Removal *removal, S3Job *job, GError **error)
{
    S3Run *run = removal->run;
    if (removal->versioned)
        return TRUE;
    if (run->trash != NULL && store_class_is_cold(job->have_class)) {
        s3run_note(run, job->key,
                   "its object is in a cold storage class and cannot be copied to the trash, so it stays; "
                   "to delete it: trash days 0");
        return FALSE;
    }
    if (!s3job_to_trash(job, error))
        return FALSE;
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) now = store_head(run->store, job->key, NULL, &local);
    if (now == NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (now != NULL && job->have_etag != NULL && g_strcmp0(now->etag, job->have_etag) != 0) {
        s3run_note(run, job->key, "somebody has changed the object meanwhile, so it was not deleted");
        return FALSE;
    }
    return TRUE;
}

static void remove_object(S3Work *work)
{
    RemoveTask *task = (RemoveTask *)work;
    Removal *removal = task->removal;
    S3Job *job = task->job;
    g_free(task);
    GError *local = NULL;
    if (!s3run_goes_on(removal->run) || !may_go(removal, job, &local)) {
        if (local != NULL)
            s3job_failed(job, local);
        s3job_free(job);
        return;
    }
    g_autoptr(GPtrArray) full = NULL;
    g_mutex_lock(&removal->lock);
    g_ptr_array_add(removal->batch, job);
    if (removal->batch->len == BATCH) {
        full = removal->batch;
        removal->batch = g_ptr_array_new_with_free_func((GDestroyNotify)s3job_free);
    }
    g_mutex_unlock(&removal->lock);
    if (full != NULL)
        delete_batch(removal->run, full);
}

void removal_add(Removal *removal, const S3PlanItem *item)
{
    RemoveTask *task = g_new0(RemoveTask, 1);
    S3Job *job = s3job_new(removal->run, item, NULL);
    job->replaces = TRUE;
    *task = (RemoveTask){.work = {remove_object}, .removal = removal, .job = job};
    workers_push(removal->run->workers, task);
}

void removal_finish(Removal *removal)
{
    workers_wait(removal->run->workers);
    if (removal->batch->len > 0 && s3run_goes_on(removal->run))
        delete_batch(removal->run, removal->batch);
}

void removal_free(Removal *removal)
{
    if (removal == NULL)
        return;
    g_ptr_array_unref(removal->batch);
    g_mutex_clear(&removal->lock);
    g_free(removal);
}
