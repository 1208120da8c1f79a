#include "engine/s3sync/job.h"

#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "engine/s3sync/mtime.h"
#include "fs/dir.h"

#define KEY_BYTES_MAX 1024

S3Parent *s3parent_open(S3Run *run, const char *path, GError **error)
{
    int fd = dir_open(run->root_fd, path, error);
    if (fd < 0)
        return NULL;
    S3Parent *parent = g_new0(S3Parent, 1);
    parent->fd = fd;
    parent->path = g_strdup(path);
    atomic_init(&parent->users, 1);
    return parent;
}

S3Parent *s3parent_ref(S3Parent *parent)
{
    atomic_fetch_add(&parent->users, 1);
    return parent;
}

void s3parent_unref(S3Parent *parent)
{
    if (parent == NULL || atomic_fetch_sub(&parent->users, 1) > 1)
        return;
    fd_clear(&parent->fd);
    g_free(parent->path);
    g_free(parent);
}

S3Job *s3job_new(S3Run *run, const S3PlanItem *item, S3Parent *parent)
{
    S3Job *job = g_new0(S3Job, 1);
    job->run = run;
    job->op = item->op;
    job->parent = parent != NULL ? s3parent_ref(parent) : NULL;
    job->path = g_strdup(item->entry.path != NULL ? item->entry.path : "");
    const char *slash = strrchr(job->path, '/');
    job->name = slash != NULL ? slash + 1 : job->path;
    job->key = g_strdup(item->entry.key);
    job->meta = item->entry.meta;
    job->storage_class = g_strdup(item->storage_class);
    job->replaces = item->have_etag != NULL;
    /* "" where the store tells none: then nothing can be made to depend on it. */
    job->have_etag = job->replaces && item->have_etag[0] != '\0' ? g_strdup(item->have_etag) : NULL;
    job->have_class = g_strdup(item->have_class);
    job->have_size = item->have_size;
    job->source = g_strdup(item->source);
    job->source_etag = g_strdup(item->source_etag);
    job->source_version = g_strdup(item->source_version);
    return job;
}

void s3job_free(S3Job *job)
{
    if (job == NULL)
        return;
    s3parent_unref(job->parent);
    g_free(job->path);
    g_free(job->key);
    g_free(job->storage_class);
    g_free(job->have_etag);
    g_free(job->have_class);
    g_free(job->source);
    g_free(job->source_etag);
    g_free(job->source_version);
    g_free(job);
}

void s3job_failed(S3Job *job, GError *error)
{
    S3Run *run = job->run;
    g_autoptr(GError) local = NULL;
    if (!error_is(error, BACKAPP_ERROR_INVALID) && !error_is(error, BACKAPP_ERROR_CONFLICT)) {
        g_prefix_error(&error, "%s: ", job->path[0] != '\0' ? job->path : job->key);
        s3run_fail(run, error);
        return;
    }
    void (*tell)(S3Run *, const char *, const char *) = job->op == S3PLAN_DELETE ? s3run_warn_skipped : s3run_refused;
    tell(run, job->path[0] != '\0' ? job->path : job->key, error->message);
    g_error_free(error);
    if (!s3job_drop_row(job, &local))
        s3run_fail(run, g_steal_pointer(&local));
}

gboolean s3job_record(S3Job *job, const S3Outcome *outcome, GError **error)
{
    S3Run *run = job->run;
    const char *etag = outcome->result->etag;
    g_autoptr(StoreObject) object = NULL;
    if (etag == NULL || *etag == '\0') {
        /* A store that does not say it with its answer says it when asked. */
        object = store_head(run->store, job->key, NULL, error);
        if (object == NULL)
            return FALSE;
        etag = object->etag;
    }
    CatalogueRow row = {.key = job->key,
                        .object_size = outcome->object_size,
                        .size = job->meta.size,
                        .mtime_s = job->meta.mtime_s,
                        .mtime_ns = job->meta.mtime_ns,
                        .ctime_s = job->meta.ctime_s,
                        .ctime_ns = job->meta.ctime_ns,
                        .ino = job->meta.ino,
                        .etag = etag,
                        .version = outcome->result->version,
                        .storage_class = job->storage_class != NULL ? job->storage_class : "STANDARD",
                        .part_size = outcome->hash != NULL ? outcome->part_size : 0,
                        .parts = outcome->parts_count > 1 ? outcome->parts : NULL,
                        .parts_count = outcome->parts_count > 1 ? outcome->parts_count : 0};
    if (outcome->hash != NULL)
        memcpy(row.hash, outcome->hash, HASH_BYTES);
    return catalogue_put(run->catalogue, &row, error);
}

gboolean s3job_drop_row(S3Job *job, GError **error)
{
    g_autoptr(CatalogueRow) row = NULL;
    int found = catalogue_find(job->run->catalogue, job->key, &row, error);
    if (found <= 0)
        return found == 0;
    if (job->have_etag != NULL && g_strcmp0(row->etag, job->have_etag) == 0)
        return TRUE;
    return catalogue_remove(job->run->catalogue, job->key, error);
}

StorePut s3job_put(const S3Job *job, char *mtime)
{
    mtime_format(job->meta.mtime_s, job->meta.mtime_ns, mtime);
    return (StorePut){.storage_class = job->storage_class, .mtime = mtime};
}

/* Where an object's copy lies in the trash. */
static char *trash_key(const S3Run *run, const char *key)
{
    g_autofree char *plain = g_strconcat(run->trash, key, NULL);
    if (run->prefix_length + strlen(plain) <= KEY_BYTES_MAX)
        return g_steal_pointer(&plain);
    g_autofree char *shortened = names_long_key(key);
    return g_strconcat(run->trash, shortened, NULL);
}

gboolean s3job_to_trash(S3Job *job, GError **error)
{
    S3Run *run = job->run;
    /* Once: a second attempt may find the new object under the key, and would put it over the old one's copy. */
    if (run->trash == NULL || !job->replaces || job->trashed)
        return TRUE;
    if (store_class_is_cold(job->have_class)) {
        s3run_note(run, job->path[0] != '\0' ? job->path : job->key,
                   "its object is in a cold storage class and is replaced without a copy in the trash");
        return TRUE;
    }
    g_autofree char *key = trash_key(run, job->key);
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) old = store_head(run->store, job->key, NULL, &local);
    if (old == NULL && error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return TRUE; /* nothing to lose */
    if (old == NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_auto(StoreResult) result = {0};
    StoreSource source = {.key = job->key, .if_match = old->etag, .size = old->size};
    StorePut how = {.mtime = old->mtime};
    if (!store_copy(run->store, &source, key, &how, &result, error)) {
        g_prefix_error(error, "cannot copy %s to the trash: ", job->key);
        return FALSE;
    }
    g_autoptr(StoreObject) copy = store_head(run->store, key, NULL, error);
    if (copy == NULL)
        return FALSE;
    if (copy->size != old->size)
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "the copy of %s in the trash has %" G_GUINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT,
                         job->key, copy->size, old->size);
    job->trashed = TRUE;
    return TRUE;
}
