#include "store/store.h"

#include "base/error.h"
#include "base/human.h"
#include "store/common.h"

#include <string.h>

#define KEY_MAX       1024
#define TEXT_MAX      1024 /* of a class, a type, an mtime */
#define MIB           ((guint64)1024 * 1024)
#define PART_DEFAULT  (8 * MIB)
#define COPY_PART_MIN (256 * MIB)
#define GET_FIRST     (64 * 1024)
#define BYTES_MAX     ((gsize)G_MAXUINT32)

static const StorePut plain_put;

StoreObject *store_object_copy(const StoreObject *object)
{
    StoreObject *copy = g_memdup2(object, sizeof *object);
    copy->key = g_strdup(object->key);
    copy->etag = g_strdup(object->etag);
    copy->version = g_strdup(object->version);
    copy->storage_class = g_strdup(object->storage_class);
    copy->mtime = g_strdup(object->mtime);
    copy->restore = g_strdup(object->restore);
    return copy;
}

void store_object_free(StoreObject *object)
{
    if (!object)
        return;
    g_free((char *)object->key);
    g_free((char *)object->etag);
    g_free((char *)object->version);
    g_free((char *)object->storage_class);
    g_free((char *)object->mtime);
    g_free((char *)object->restore);
    g_free(object);
}

void store_result_clear(StoreResult *result)
{
    g_clear_pointer(&result->etag, g_free);
    g_clear_pointer(&result->version, g_free);
}

const char *store_request_name(StoreRequest kind)
{
    static const char *const names[STORE_REQUEST_KINDS] = {"put", "copy", "get", "head", "list", "delete", "other"};
    return kind < STORE_REQUEST_KINDS ? names[kind] : "other";
}

gboolean store_can(const Store *store, StoreCan what)
{
    return (store->can & what) == what;
}

/* INVALID if the driver lacks the function, or what it is asked for. */
static gboolean able(const Store *store, gboolean has, const char *what, GError **error)
{
    if (has)
        return TRUE;
    (void)error_set(error, BACKAPP_ERROR_INVALID, "%s cannot %s", store->url, what);
    return FALSE;
}

static gboolean check_key(const Store *store, const char *key, GError **error)
{
    gsize length = key ? strlen(key) : 0;
    if (length >= 1 && length <= KEY_MAX && g_utf8_validate(key, (gssize)length, NULL))
        return TRUE;
    g_autofree char *shown = human_name(key ? key : "", (gssize)MIN(length, 64));
    return error_set(error, BACKAPP_ERROR_INVALID, "\"%s\" is no key for %s: 1 to %d bytes of UTF-8 are", shown,
                     store->url, KEY_MAX);
}

/* A key, and a version of it (or NULL). */
static gboolean check_version(const Store *store, const char *key, const char *version, GError **error)
{
    return check_key(store, key, error) &&
           able(store, !version || store_can(store, STORE_VERSIONS), "read old versions", error);
}

/* Text that becomes a header: a control character could begin another one. */
static gboolean check_text(const char *text, const char *what, GError **error)
{
    gsize length = text ? strlen(text) : 0;
    gboolean good = length <= TEXT_MAX;
    for (gsize i = 0; good && i < length; i++)
        good = !g_ascii_iscntrl(text[i]);
    return good ||
           error_set(error, BACKAPP_ERROR_INVALID, "the %s of an object is too long or has control characters", what);
}

static gboolean check_how(const Store *store, const StorePut *how, GError **error)
{
    return check_text(how->storage_class, "storage class", error) &&
           check_text(how->content_type, "content type", error) && check_text(how->mtime, "mtime", error) &&
           check_text(how->lock_mode, "lock mode", error) &&
           able(store, !how->if_absent || store_can(store, STORE_IF_MATCH), "write only what is absent", error) &&
           able(store, !how->lock_mode || store_can(store, STORE_LOCK), "lock objects", error) &&
           able(store,
                !how->storage_class || strcmp(how->storage_class, "STANDARD") == 0 || store_can(store, STORE_CLASSES),
                "keep storage classes", error);
}

/* Where a result that nobody asked for goes. */
#define RESULT_OR_OWN(result)                                                                                          \
    g_auto(StoreResult) own_result = {0};                                                                              \
    result = result ? result : &own_result

gboolean store_put(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                   GError **error)
{
    RESULT_OR_OWN(result);
    how = how ? how : &plain_put;
    if (!check_key(store, key, error) || !check_how(store, how, error))
        return FALSE;
    if (body->length > store->max_put) {
        g_autofree char *size = human_size(body->length);
        g_autofree char *most = human_size(store->max_put);
        return error_set(error, BACKAPP_ERROR_INVALID, "an object of %s is too large for one request (%s): send parts",
                         size, most);
    }
    return store->ops->put(store, key, body, how, result, error);
}

gboolean store_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data, StoreObject **object,
                   GError **error)
{
    return check_version(store, range->key, range->version, error) &&
           store->ops->get(store, range, write, user_data, object, error);
}

typedef struct {
    GByteArray *bytes;
    gsize max;
} Collected;

static gboolean collect(gpointer user_data, const void *data, gsize length, GError **error)
{
    Collected *collected = user_data;
    if (length > collected->max - collected->bytes->len)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the object is longer than the %zu bytes it may have",
                         collected->max);
    g_byte_array_append(collected->bytes, data, (guint)length);
    return TRUE;
}

GBytes *store_get_bytes(Store *store, const char *key, const char *version, gsize max, StoreObject **object,
                        GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_sized_new((guint)MIN(max, GET_FIRST));
    Collected collected = {.bytes = bytes, .max = MIN(max, BYTES_MAX)};
    StoreRange range = {.key = key, .version = version, .length = G_MAXUINT64};
    g_autoptr(StoreObject) facts = NULL;
    if (!store_get(store, &range, collect, &collected, &facts, error))
        return NULL;
    if (object)
        *object = g_steal_pointer(&facts);
    return g_byte_array_free_to_bytes(g_steal_pointer(&bytes));
}

StoreObject *store_head(Store *store, const char *key, const char *version, GError **error)
{
    return check_version(store, key, version, error) ? store->ops->head(store, key, version, error) : NULL;
}

StoreList *store_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error)
{
    if (!able(store, !versions || store_can(store, STORE_VERSIONS), "list old versions", error))
        return NULL;
    return store->ops->list(store, prefix ? prefix : "", start_after, versions, error);
}

gboolean store_delete(Store *store, const char *key, const char *version, GError **error)
{
    return check_version(store, key, version, error) && store->ops->delete_one(store, key, version, error);
}

/* One after another, for stores that know no request for many. */
static void delete_each(Store *store, const char *const *keys, const char *const *versions, guint count,
                        GError **errors)
{
    for (guint i = 0; i < count; i++) {
        (void)store->ops->delete_one(store, keys[i], versions ? versions[i] : NULL, &errors[i]);
        if (!error_is(errors[i], BACKAPP_ERROR_CANCELLED))
            continue;
        store_errors_fill(errors, i + 1, count, errors[i]);
        return;
    }
}

/* A deletion that ended before a key was tried failed for all of them: no key without an error may pass for deleted. */
static void fail_untried(guint count, GError **errors, const GError *whole)
{
    for (guint i = 0; i < count; i++)
        if (errors[i])
            return;
    store_errors_fill(errors, 0, count, whole);
}

/* Sets the error of many deletions: how many failed, and the first's. */
static gboolean summarize(const char *const *keys, guint count, GError **errors, GError **error)
{
    guint failed = 0, first = 0;
    for (guint i = count; i-- > 0;) {
        if (!errors[i])
            continue;
        failed++;
        first = i;
    }
    if (failed == 0)
        return TRUE;
    g_autofree char *shown = human_name(keys[first], -1);
    if (error) {
        *error = g_error_copy(errors[first]);
        g_prefix_error(error, "%u of %u objects could not be deleted; the first, %s: ", failed, count, shown);
    }
    return FALSE;
}

gboolean store_delete_many(Store *store, const char *const *keys, const char *const *versions, guint count,
                           GError **errors, GError **error)
{
    if (count == 0)
        return TRUE;
    g_autofree GError **own = errors ? NULL : g_new0(GError *, count);
    GError **each = errors ? errors : own;
    g_autoptr(GError) whole = NULL;
    gboolean valid = TRUE;
    for (guint i = 0; valid && i < count; i++)
        valid = check_version(store, keys[i], versions ? versions[i] : NULL, &whole);
    if (!valid)
        store_errors_fill(each, 0, count, whole);
    else if (store->ops->delete_many)
        (void)store->ops->delete_many(store, keys, versions, count, each, &whole);
    else
        delete_each(store, keys, versions, count, each);
    if (whole)
        fail_untried(count, each, whole);
    gboolean good = summarize(keys, count, each, whole ? NULL : error) && !whole;
    if (whole)
        g_propagate_error(error, g_steal_pointer(&whole));
    for (guint i = 0; own && i < count; i++)
        g_clear_error(&own[i]);
    return good;
}

/* Copies all parts of an object that is too large for one copy. */
static gboolean copy_parts(Store *store, const StoreSource *source, const char *key, const char *upload, GArray *parts,
                           GError **error)
{
    guint64 size = MIN(MAX(store_part_size(store, source->size), COPY_PART_MIN), store->max_part);
    for (guint64 offset = 0; offset < source->size; offset += size) {
        StorePart part = {.number = parts->len + 1, .size = MIN(size, source->size - offset)};
        if (!store->ops->copy_part(store, key, upload, part.number, source, offset, part.size, &part.etag, error))
            return FALSE;
        g_array_append_val(parts, part);
    }
    return TRUE;
}

static gboolean copy_by_parts(Store *store, const StoreSource *source, const char *key, const StorePut *how,
                              StoreResult *result, GError **error)
{
    if (!able(store, store->ops->begin && store->ops->copy_part && store->ops->complete, "copy an object of this size",
              error))
        return FALSE;
    g_autofree char *upload = store->ops->begin(store, key, how, error);
    if (!upload)
        return FALSE;
    g_autoptr(GArray) parts = store_parts_new();
    if (copy_parts(store, source, key, upload, parts, error) &&
        store->ops->complete(store, key, upload, (const StorePart *)(const void *)parts->data, parts->len, how, result,
                             error))
        return TRUE;
    /* What is left of it costs money until it is aborted; the first error is the one that counts. */
    if (store->ops->abort)
        (void)store->ops->abort(store, key, upload, NULL);
    return FALSE;
}

gboolean store_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how, StoreResult *result,
                    GError **error)
{
    RESULT_OR_OWN(result);
    how = how ? how : &plain_put;
    if (!able(store, store->ops->copy != NULL, "copy inside itself", error) || !check_key(store, key, error) ||
        !check_version(store, source->key, source->version, error) || !check_how(store, how, error))
        return FALSE;
    if (source->size > store->max_put)
        return copy_by_parts(store, source, key, how, result, error);
    return store->ops->copy(store, source, key, how, result, error);
}

char *store_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    how = how ? how : &plain_put;
    if (!able(store, store->ops->begin != NULL, "store an object in parts", error) || !check_key(store, key, error) ||
        !check_how(store, how, error))
        return NULL;
    return store->ops->begin(store, key, how, error);
}

static gboolean check_part(const Store *store, gboolean has, const char *key, guint number, guint64 size,
                           GError **error)
{
    if (!able(store, has, "store an object in parts", error) || !check_key(store, key, error))
        return FALSE;
    if (number < 1 || number > store->max_parts)
        return error_set(error, BACKAPP_ERROR_INVALID, "there can be no part %u: %u are the most of %s", number,
                         store->max_parts, store->url);
    return size <= store->max_part ||
           error_set(error, BACKAPP_ERROR_INVALID, "a part of %" G_GUINT64_FORMAT " bytes is too large for %s", size,
                     store->url);
}

gboolean store_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body, char **etag,
                    GError **error)
{
    return check_part(store, store->ops->part != NULL, key, number, body->length, error) &&
           store->ops->part(store, key, upload, number, body, etag, error);
}

gboolean store_copy_part(Store *store, const char *key, const char *upload, guint number, const StoreSource *source,
                         guint64 offset, guint64 length, char **etag, GError **error)
{
    return check_part(store, store->ops->copy_part != NULL, key, number, length, error) &&
           check_version(store, source->key, source->version, error) &&
           store->ops->copy_part(store, key, upload, number, source, offset, length, etag, error);
}

gboolean store_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                        const StorePut *how, StoreResult *result, GError **error)
{
    RESULT_OR_OWN(result);
    how = how ? how : &plain_put;
    if (!able(store, store->ops->complete != NULL, "store an object in parts", error) ||
        !check_key(store, key, error) || !check_how(store, how, error))
        return FALSE;
    if (count == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "an upload without a part cannot be completed");
    for (guint i = 0; i < count; i++)
        if (parts[i].number < 1 || (i > 0 && parts[i].number <= parts[i - 1].number) || !parts[i].etag)
            return error_set(error, BACKAPP_ERROR_INVALID, "the parts of an upload are not in order");
    return store->ops->complete(store, key, upload, parts, count, how, result, error);
}

gboolean store_abort(Store *store, const char *key, const char *upload, GError **error)
{
    return able(store, store->ops->abort != NULL, "store an object in parts", error) && check_key(store, key, error) &&
           store->ops->abort(store, key, upload, error);
}

GPtrArray *store_list_uploads(Store *store, const char *prefix, GError **error)
{
    if (!able(store, store->ops->list_uploads != NULL, "list unfinished uploads", error))
        return NULL;
    return store->ops->list_uploads(store, prefix ? prefix : "", error);
}

GArray *store_list_parts(Store *store, const char *key, const char *upload, GError **error)
{
    if (!able(store, store->ops->list_parts != NULL, "list the parts of an upload", error) ||
        !check_key(store, key, error))
        return NULL;
    return store->ops->list_parts(store, key, upload, error);
}

char *store_presign(Store *store, const char *method, const char *key, guint expires_s, GError **error)
{
    if (!able(store, store->ops->presign != NULL, "sign URLs for others", error) || !check_key(store, key, error))
        return NULL;
    return store->ops->presign(store, method, key, expires_s, error);
}

gboolean store_facts(Store *store, StoreFacts *facts, GError **error)
{
    *facts = (StoreFacts){.versioning = -1,
                          .mfa_delete = -1,
                          .lock = -1,
                          .encryption = -1,
                          .public_access = -1,
                          .versioning_suspended = -1};
    return !store->ops->facts || store->ops->facts(store, facts, error);
}

gboolean store_set_versioning(Store *store, gboolean on, GError **error)
{
    return able(store, store->ops->set_versioning != NULL, "keep versions", error) &&
           store->ops->set_versioning(store, on, error);
}

gboolean store_set_lifecycle(Store *store, const StoreLifecycleRule *rules, guint count, GError **error)
{
    return able(store, store->ops->set_lifecycle != NULL, "follow rules of a life cycle", error) &&
           store->ops->set_lifecycle(store, rules, count, error);
}

gboolean store_set_lock(Store *store, const char *key, const char *version, const char *mode, gint64 until,
                        GError **error)
{
    return able(store, store->ops->set_lock != NULL, "lock objects", error) &&
           check_version(store, key, version, error) && check_text(mode, "lock mode", error) &&
           store->ops->set_lock(store, key, version, mode, until, error);
}

gboolean store_thaw(Store *store, const char *key, const char *version, guint days, const char *tier, GError **error)
{
    return able(store, store->ops->thaw != NULL, "thaw objects", error) && check_version(store, key, version, error) &&
           check_text(tier, "tier", error) && store->ops->thaw(store, key, version, days, tier, error);
}

void store_counts(Store *store, StoreCounts *counts)
{
    *counts = (StoreCounts){0};
    if (store->ops->counts)
        store->ops->counts(store, counts);
}

void store_free(Store *store)
{
    if (store)
        store->ops->free(store);
}

guint64 store_part_size(const Store *store, guint64 size)
{
    guint64 parts = MAX(store->max_parts, 1);
    guint64 part = PART_DEFAULT;
    if (size > parts * part)
        part = ((size - 1) / parts / MIB + 1) * MIB;
    return MAX(MIN(part, store->max_part), store->min_part);
}

gboolean store_class_is_cold(const char *storage_class)
{
    return g_strcmp0(storage_class, "GLACIER") == 0 || g_strcmp0(storage_class, "DEEP_ARCHIVE") == 0;
}
