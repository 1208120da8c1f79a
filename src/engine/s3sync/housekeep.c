#include "engine/s3sync/housekeep.h"

#include <string.h>

#include "base/error.h"
#include "engine/s3sync/tree.h"

#define DAY_S       86400
#define FORGOTTEN_S ((gint64)7 * DAY_S)
#define BATCH       1000
#define VALUE       "housekept"
#define STAMP_BYTES 18 /* of "YYYY-MM-DDTHHMMSSZ" */

gboolean housekeep_due(S3Run *run, gboolean locked, gboolean *due, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *last = catalogue_get_value(run->catalogue, VALUE, &local);
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    gint64 at = last != NULL ? g_ascii_strtoll(last, NULL, 10) : 0;
    *due = last == NULL ? locked : run->time - at >= DAY_S || at > run->time;
    return TRUE;
}

/* Keys (and versions) that are deleted many at a time. */
typedef struct {
    S3Run *run;
    GPtrArray *keys, *versions;
} Batch;

static void batch_init(Batch *batch, S3Run *run)
{
    batch->run = run;
    batch->keys = g_ptr_array_new_with_free_func(g_free);
    batch->versions = g_ptr_array_new_with_free_func(g_free);
}

static void batch_clear(Batch *batch)
{
    g_ptr_array_unref(batch->keys);
    g_ptr_array_unref(batch->versions);
}

static gboolean batch_flush(Batch *batch, gboolean versions, GError **error)
{
    if (batch->keys->len == 0)
        return TRUE;
    gboolean good =
        store_delete_many(batch->run->store, (const char *const *)batch->keys->pdata,
                          versions ? (const char *const *)batch->versions->pdata : NULL, batch->keys->len, NULL, error);
    g_ptr_array_set_size(batch->keys, 0);
    g_ptr_array_set_size(batch->versions, 0);
    return good;
}

static gboolean batch_add(Batch *batch, const char *key, const char *version, GError **error)
{
    g_ptr_array_add(batch->keys, g_strdup(key));
    if (version != NULL)
        g_ptr_array_add(batch->versions, g_strdup(version));
    return batch->keys->len < BATCH || batch_flush(batch, version != NULL, error);
}

/* Everything in the trash from before a time. The names sort by time: the first one that stays ends it. */
static gboolean expire_trash(S3Run *run, GError **error)
{
    gint64 before = run->time - (gint64)run->options->trash_days * DAY_S;
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(before);
    g_autofree char *stamp = g_date_time_format(time, "%Y-%m-%dT%H%M%SZ");
    g_autoptr(StoreList) list = store_list(run->store, S3_TRASH_PREFIX, NULL, FALSE, error);
    if (list == NULL)
        return FALSE;
    Batch batch;
    batch_init(&batch, run);
    const StoreObject *object = NULL;
    int got = 0;
    gboolean good = TRUE;
    while (good && (got = store_list_next(list, &object, error)) > 0) {
        const char *name = object->key + strlen(S3_TRASH_PREFIX);
        if (strlen(name) <= STAMP_BYTES || name[STAMP_BYTES] != '/')
            continue; /* not ours */
        if (strncmp(name, stamp, STAMP_BYTES) >= 0)
            break;
        good = batch_add(&batch, object->key, NULL, error) && cancel_check(run->cancel, error);
    }
    good = good && got >= 0 && batch_flush(&batch, FALSE, error);
    batch_clear(&batch);
    return good;
}

static gboolean abort_forgotten(S3Run *run, GError **error)
{
    g_autoptr(GPtrArray) uploads = store_list_uploads(run->store, "", error);
    if (uploads == NULL)
        return FALSE;
    for (guint i = 0; i < uploads->len; i++) {
        const StoreUpload *upload = g_ptr_array_index(uploads, i);
        if (upload->started > run->time - FORGOTTEN_S)
            continue;
        if (!store_abort(run->store, upload->key, upload->id, error) ||
            !catalogue_remove_upload(run->catalogue, upload->id, error))
            return FALSE;
    }
    /* Those that the store no longer knows. */
    g_autoptr(GPtrArray) known = catalogue_uploads(run->catalogue, error);
    for (guint i = 0; known != NULL && i < known->len; i++) {
        const CatalogueUpload *upload = g_ptr_array_index(known, i);
        if (upload->started <= run->time - FORGOTTEN_S && !catalogue_remove_upload(run->catalogue, upload->id, error))
            return FALSE;
    }
    return known != NULL;
}

/* Versions that have not been the latest for longer than they are kept, and markers of deletions with nothing behind
 * them. A version ends when the next one begins. */
static gboolean expire_versions(S3Run *run, GError **error)
{
    gint64 before = run->time - (gint64)run->options->versions_keep_days * DAY_S;
    g_autoptr(StoreList) list = store_list(run->store, "", NULL, TRUE, error);
    if (list == NULL)
        return FALSE;
    Batch batch;
    batch_init(&batch, run);
    g_autofree char *key = g_strdup("");
    g_autofree char *marker = NULL; /* version of a key's latest entry, if that is an old marker and all else goes */
    gint64 ended = 0;
    const StoreObject *object = NULL;
    int got = 0;
    gboolean good = TRUE;
    while (good && (got = store_list_next(list, &object, error)) > 0) {
        if (strcmp(object->key, key) != 0) {
            good = marker == NULL || batch_add(&batch, key, marker, error);
            g_clear_pointer(&marker, g_free);
            g_free(key);
            key = g_strdup(object->key);
            if (object->delete_marker && object->modified < before)
                marker = g_strdup(object->version);
        } else if (ended < before) {
            good = object->version == NULL || batch_add(&batch, object->key, object->version, error);
        } else {
            g_clear_pointer(&marker, g_free); /* something behind it stays */
        }
        ended = object->modified;
        good = good && cancel_check(run->cancel, error);
    }
    good = good && got >= 0 && (marker == NULL || batch_add(&batch, key, marker, error)) &&
           batch_flush(&batch, TRUE, error);
    batch_clear(&batch);
    return good;
}

/* Roots are kept as long as what they name may be: in a bucket that keeps every version, for ever. */
static gboolean expire_roots(S3Run *run, GError **error)
{
    int versioning = 0;
    if (run->options->versions_keep_days == 0 && !s3run_versioning(run, &versioning, error))
        return FALSE;
    if (versioning != 0)
        return TRUE;
    guint days = MAX(MAX(run->options->trash_days, run->options->versions_keep_days), 1);
    return tree_expire(run->store, run->time - (gint64)days * DAY_S, run->content_key, NULL, error);
}

/* One kind of work. That it is not allowed, or not possible here, is no failure. */
static gboolean try(S3Run *run, gboolean (*work)(S3Run *run, GError **error), const char *what, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (work(run, &local))
        return TRUE;
    if (error_is(local, BACKAPP_ERROR_CANCELLED) || error_is(local, BACKAPP_ERROR_TRANSIENT)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "the copy is complete, but %s was not done: ", what);
        return FALSE;
    }
    g_autofree char *text = g_strdup_printf("%s was not done: %s", what, local->message);
    s3run_note(run, NULL, text);
    return TRUE;
}

gboolean housekeep_run(S3Run *run, GError **error)
{
    const S3syncOptions *options = run->options;
    gboolean good = TRUE;
    if (options->trash_days > 0)
        good = try(run, expire_trash, "emptying the trash", error);
    if (good && store_can(run->store, STORE_MULTIPART))
        good = try(run, abort_forgotten, "ending forgotten uploads", error);
    if (good && options->versions_keep_days > 0 && store_can(run->store, STORE_VERSIONS))
        good = try(run, expire_versions, "removing old versions", error);
    good = good && try(run, expire_roots, "removing old restore points", error);
    g_autofree char *now = g_strdup_printf("%" G_GINT64_FORMAT, run->time);
    return good && catalogue_set_value(run->catalogue, VALUE, now, error);
}
