#include "base/error.h"
#include "crypto/digest.h"
#include "store/retry_store.h"

#include <string.h>

/* How often to send what arrived damaged. If it stays so, it is no accident. */
#define DAMAGED_ATTEMPTS 3

gboolean retry_again(RetryStore *self, guint attempt, GError *failure, GError **error)
{
    gboolean transient = error_is(failure, BACKAPP_ERROR_TRANSIENT);
    if (transient && attempt + 1 < self->policy.attempts) {
        g_error_free(failure);
        atomic_fetch_add_explicit(&self->retries, 1, memory_order_relaxed);
        return store_wait_us(retry_delay_ms(&self->policy, attempt) * 1000, self->cancel, error);
    }
    if (transient && self->policy.attempts > 1)
        g_prefix_error(&failure, "after %u attempts: ", attempt + 1);
    g_propagate_error(error, failure);
    return FALSE;
}

/* retry_again for what sends content: a store that got something else than was sent says so, and has not taken it. */
static gboolean send_again(RetryStore *self, guint attempt, GError *failure, GError **error)
{
    if (error_is(failure, BACKAPP_ERROR_CORRUPT) && attempt + 1 < MIN(DAMAGED_ATTEMPTS, self->policy.attempts))
        failure->code = BACKAPP_ERROR_TRANSIENT;
    return retry_again(self, attempt, failure, error);
}

/* TRUE if `etag` is a hash that we can compute, of these bytes; FALSE if it is not, or of others. */
static gboolean etag_is_of(const char *etag, const StoreBody *body)
{
    gsize length = strlen(etag) / 2;
    guint8 wanted[HASH_BYTES], sum[HASH_BYTES];
    g_autoptr(Hash) hash = length == HASH_BYTES ? hash_new() : length == HASH_MD5_BYTES ? hash_new_md5(NULL) : NULL;
    if (!hash || !digest_parse_hex(etag, wanted, length) || !store_body_hash(body, hash, NULL))
        return FALSE;
    hash_finish(hash, sum);
    return memcmp(sum, wanted, length) == 0;
}

/* The object that a lost answer was about, if it has this size and mtime; else NULL. */
static StoreObject *find_ours(RetryStore *self, const char *key, guint64 size, const StorePut *how)
{
    g_autoptr(StoreObject) object = store_head(&self->base, key, NULL, NULL);
    gboolean same =
        object && object->size == size &&
        (!how->mtime || !store_can(self->inner, STORE_METADATA) || g_strcmp0(object->mtime, how->mtime) == 0);
    return same ? g_steal_pointer(&object) : NULL;
}

static void take_result(const StoreObject *object, StoreResult *result)
{
    store_result_clear(result);
    result->etag = object->etag[0] ? g_strdup(object->etag) : NULL;
    result->version = g_strdup(object->version);
}

/* The object is there, and an answer was lost before: was it our request that wrote it? */
static gboolean put_was_ours(RetryStore *self, const char *key, const StoreBody *body, const StorePut *how,
                             StoreResult *result)
{
    g_autoptr(StoreObject) object = find_ours(self, key, body->length, how);
    if (!object || !etag_is_of(object->etag, body))
        return FALSE;
    take_result(object, result);
    return TRUE;
}

static gboolean retry_put(Store *store, const char *key, const StoreBody *body, const StorePut *how,
                          StoreResult *result, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_put(self->inner, key, body, how, result, &failure))
            return TRUE;
        if (attempt > 0 && how->if_absent && error_is(failure, BACKAPP_ERROR_CONFLICT) &&
            put_was_ours(self, key, body, how, result)) {
            g_error_free(failure);
            return TRUE;
        }
        if (!send_again(self, attempt, failure, error))
            return FALSE;
    }
}

/* The copy was refused, and an answer was lost before: is it there? */
static gboolean copy_was_ours(RetryStore *self, const StoreSource *source, const char *key, const StorePut *how,
                              StoreResult *result)
{
    g_autoptr(StoreObject) object = find_ours(self, key, source->size, how);
    g_autoptr(StoreObject) from = store_head(&self->base, source->key, source->version, NULL);
    if (!object || !from)
        return FALSE;
    /* An object that is copied onto itself to get a new mtime may get a new ETag, and then no longer matches. */
    gboolean itself = strcmp(source->key, key) == 0 && !source->version && how->mtime != NULL;
    gboolean same = object->etag[0] && strcmp(object->etag, from->etag) == 0 &&
                    (!source->if_match || strcmp(source->if_match, from->etag) == 0);
    if (!itself && !same)
        return FALSE;
    take_result(object, result);
    return TRUE;
}

static gboolean retry_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how,
                           StoreResult *result, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_copy(self->inner, source, key, how, result, &failure))
            return TRUE;
        if (attempt > 0 && error_is(failure, BACKAPP_ERROR_CONFLICT) && copy_was_ours(self, source, key, how, result)) {
            g_error_free(failure);
            return TRUE;
        }
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

/* The upload is gone, and an answer was lost before: is the object the one that these parts make? */
static gboolean complete_was_ours(RetryStore *self, const char *key, const StorePart *parts, guint count,
                                  const StorePut *how, StoreResult *result)
{
    g_autoptr(StoreObject) object = store_head(&self->base, key, NULL, NULL);
    if (!object || !store_made_of_parts(object, parts, count, how))
        return FALSE;
    take_result(object, result);
    return TRUE;
}

static gboolean retry_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                               const StorePut *how, StoreResult *result, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_complete(self->inner, key, upload, parts, count, how, result, &failure))
            return TRUE;
        /* After an answer that was lost a server may also have an error of its own for an upload that is gone. */
        gboolean gone = error_is(failure, BACKAPP_ERROR_NOT_FOUND) || error_is(failure, BACKAPP_ERROR_CONFLICT);
        gboolean maybe = error_is(failure, BACKAPP_ERROR_TRANSIENT) || (gone && attempt > 0);
        if (maybe && complete_was_ours(self, key, parts, count, how, result)) {
            g_error_free(failure);
            return TRUE;
        }
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static StoreObject *retry_head(Store *store, const char *key, const char *version, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        StoreObject *object = store_head(self->inner, key, version, &failure);
        if (object || !retry_again(self, attempt, failure, error))
            return object;
    }
}

static gboolean retry_delete(Store *store, const char *key, const char *version, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_delete(self->inner, key, version, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

/* Deletes those keys again that failed with TRANSIENT (at first: all), and renews their errors. */
static gboolean delete_rest(RetryStore *self, const char *const *keys, const char *const *versions, guint count,
                            gboolean first, GError **errors, GError **error)
{
    g_autofree const char **left = g_new(const char *, count);
    g_autofree const char **left_versions = g_new(const char *, count);
    g_autofree GError **left_errors = g_new0(GError *, count);
    g_autofree guint *index = g_new(guint, count);
    guint n = 0;
    for (guint i = 0; i < count; i++) {
        if (!first && !error_is(errors[i], BACKAPP_ERROR_TRANSIENT))
            continue;
        left[n] = keys[i];
        left_versions[n] = versions ? versions[i] : NULL;
        index[n++] = i;
    }
    GError *failure = NULL;
    gboolean good = store_delete_many(self->inner, left, versions ? left_versions : NULL, n, left_errors, &failure);
    for (guint i = 0; i < n; i++) {
        g_clear_error(&errors[index[i]]);
        errors[index[i]] = left_errors[i];
    }
    if (failure)
        g_propagate_error(error, failure);
    return good;
}

static gboolean retry_delete_many(Store *store, const char *const *keys, const char *const *versions, guint count,
                                  GError **errors, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        gboolean good = delete_rest(self, keys, versions, count, attempt == 0, errors, &failure);
        /* Keys that failed for good in an earlier attempt are the caller's to read: store_delete_many counts them. */
        if (good)
            return TRUE;
        gboolean transient = FALSE;
        for (guint i = 0; i < count; i++)
            transient = transient || error_is(errors[i], BACKAPP_ERROR_TRANSIENT);
        if (transient && !error_is(failure, BACKAPP_ERROR_TRANSIENT)) {
            g_clear_error(&failure);
            error_set(&failure, BACKAPP_ERROR_TRANSIENT, "some objects could not be deleted");
        }
        if (!retry_again(self, attempt, failure, transient ? error : NULL))
            return FALSE;
    }
}

static char *retry_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        char *upload = store_begin(self->inner, key, how, &failure);
        if (upload || !retry_again(self, attempt, failure, error))
            return upload;
    }
}

static gboolean retry_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                           char **etag, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_part(self->inner, key, upload, number, body, etag, &failure))
            return TRUE;
        if (!send_again(self, attempt, failure, error))
            return FALSE;
    }
}

static gboolean retry_copy_part(Store *store, const char *key, const char *upload, guint number,
                                const StoreSource *source, guint64 offset, guint64 length, char **etag, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_copy_part(self->inner, key, upload, number, source, offset, length, etag, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static gboolean retry_abort(Store *store, const char *key, const char *upload, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_abort(self->inner, key, upload, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static GPtrArray *retry_list_uploads(Store *store, const char *prefix, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        GPtrArray *uploads = store_list_uploads(self->inner, prefix, &failure);
        if (uploads || !retry_again(self, attempt, failure, error))
            return uploads;
    }
}

static GArray *retry_list_parts(Store *store, const char *key, const char *upload, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        GArray *parts = store_list_parts(self->inner, key, upload, &failure);
        if (parts || !retry_again(self, attempt, failure, error))
            return parts;
    }
}

static char *retry_presign(Store *store, const char *method, const char *key, guint expires_s, GError **error)
{
    return store_presign(retry_of(store)->inner, method, key, expires_s, error);
}

static gboolean retry_facts(Store *store, StoreFacts *facts, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_facts(self->inner, facts, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static gboolean retry_set_versioning(Store *store, gboolean on, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_set_versioning(self->inner, on, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static gboolean retry_set_lifecycle(Store *store, const StoreLifecycleRule *rules, guint count, GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_set_lifecycle(self->inner, rules, count, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static gboolean retry_set_lock(Store *store, const char *key, const char *version, const char *mode, gint64 until,
                               GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_set_lock(self->inner, key, version, mode, until, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static gboolean retry_thaw(Store *store, const char *key, const char *version, guint days, const char *tier,
                           GError **error)
{
    RetryStore *self = retry_of(store);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (store_thaw(self->inner, key, version, days, tier, &failure))
            return TRUE;
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

static void retry_counts(Store *store, StoreCounts *counts)
{
    RetryStore *self = retry_of(store);
    store_counts(self->inner, counts);
    counts->retries += atomic_load_explicit(&self->retries, memory_order_relaxed);
}

static void retry_free(Store *store)
{
    RetryStore *self = retry_of(store);
    store_free(self->inner);
    g_free(self->base.url);
    g_free(self);
}

static const StoreOps retry_ops = {
    .name = "retry",
    .put = retry_put,
    .get = retry_get,
    .head = retry_head,
    .list = retry_list,
    .delete_one = retry_delete,
    .delete_many = retry_delete_many,
    .copy = retry_copy,
    .begin = retry_begin,
    .part = retry_part,
    .copy_part = retry_copy_part,
    .complete = retry_complete,
    .abort = retry_abort,
    .list_uploads = retry_list_uploads,
    .list_parts = retry_list_parts,
    .presign = retry_presign,
    .facts = retry_facts,
    .set_versioning = retry_set_versioning,
    .set_lifecycle = retry_set_lifecycle,
    .set_lock = retry_set_lock,
    .thaw = retry_thaw,
    .counts = retry_counts,
    .free = retry_free,
};

Store *store_retry_new(Store *inner, const RetryPolicy *policy, const CancelFlag *cancel)
{
    RetryStore *self = g_new0(RetryStore, 1);
    store_wrap(&self->base, &retry_ops, inner);
    self->inner = inner;
    self->policy = *policy;
    self->policy.attempts = MAX(policy->attempts, 1);
    self->cancel = cancel;
    return &self->base;
}
