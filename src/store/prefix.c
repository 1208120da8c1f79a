#include "base/error.h"
#include "store/common.h"
#include "store/drivers.h"

#include <string.h>

typedef struct {
    Store base;
    Store *inner;
    gboolean borrowed; /* inner stays its owner's */
    char *prefix;
    gsize length;
} PrefixStore;

typedef struct {
    StoreList base;
    StoreList *inner;
    gsize length;
    StoreObject object;
} PrefixList;

static Store *inner_of(Store *store)
{
    return ((PrefixStore *)store)->inner;
}

/* The key as the inner store knows it. The caller frees. */
static char *outward(Store *store, const char *key)
{
    return g_strconcat(((PrefixStore *)store)->prefix, key, NULL);
}

static gboolean prefix_put(Store *store, const char *key, const StoreBody *body, const StorePut *how,
                           StoreResult *result, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_put(inner_of(store), whole, body, how, result, error);
}

/* Gives an object its name without the prefix. */
static void inward(Store *store, StoreObject *object)
{
    char *key = g_strdup(object->key + ((PrefixStore *)store)->length);
    g_free((char *)object->key);
    object->key = key;
}

static gboolean prefix_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                           StoreObject **object, GError **error)
{
    g_autofree char *whole = outward(store, range->key);
    g_autoptr(StoreObject) found = NULL;
    StoreRange same = *range;
    same.key = whole;
    gboolean good = store_get(inner_of(store), &same, write, user_data, object ? &found : NULL, error);
    if (found) {
        inward(store, found);
        *object = g_steal_pointer(&found);
    }
    return good;
}

static StoreObject *prefix_head(Store *store, const char *key, const char *version, GError **error)
{
    g_autofree char *whole = outward(store, key);
    StoreObject *object = store_head(inner_of(store), whole, version, error);
    if (object)
        inward(store, object);
    return object;
}

static int list_next(StoreList *base, const StoreObject **object, GError **error)
{
    PrefixList *list = (PrefixList *)base;
    const StoreObject *found = NULL;
    int got = 0;
    do
        got = store_list_next(list->inner, &found, error);
    /* The prefix itself may be an object: the marker of a folder. It has no name here. */
    while (got > 0 && !found->key[list->length]);
    if (got <= 0)
        return got;
    list->object = *found;
    list->object.key = found->key + list->length;
    *object = &list->object;
    return 1;
}

static void list_free(StoreList *base)
{
    PrefixList *list = (PrefixList *)base;
    store_list_free(list->inner);
    g_free(list);
}

static StoreList *prefix_list(Store *store, const char *prefix, const char *start_after, gboolean versions,
                              GError **error)
{
    g_autofree char *whole = outward(store, prefix);
    g_autofree char *after = start_after ? outward(store, start_after) : NULL;
    g_autoptr(StoreList) inner = store_list(inner_of(store), whole, after, versions, error);
    if (!inner)
        return NULL;
    PrefixList *list = g_new0(PrefixList, 1);
    list->base = (StoreList){.next = list_next, .free = list_free};
    list->inner = g_steal_pointer(&inner);
    list->length = ((PrefixStore *)store)->length;
    return &list->base;
}

static gboolean prefix_delete(Store *store, const char *key, const char *version, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_delete(inner_of(store), whole, version, error);
}

static gboolean prefix_delete_many(Store *store, const char *const *keys, const char *const *versions, guint count,
                                   GError **errors, GError **error)
{
    g_auto(GStrv) whole = g_new0(char *, (gsize)count + 1);
    for (guint i = 0; i < count; i++)
        whole[i] = outward(store, keys[i]);
    return store_delete_many(inner_of(store), (const char *const *)whole, versions, count, errors, error);
}

static gboolean prefix_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how,
                            StoreResult *result, GError **error)
{
    g_autofree char *whole = outward(store, key);
    g_autofree char *from = outward(store, source->key);
    StoreSource same = *source;
    same.key = from;
    return store_copy(inner_of(store), &same, whole, how, result, error);
}

static char *prefix_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_begin(inner_of(store), whole, how, error);
}

static gboolean prefix_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                            char **etag, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_part(inner_of(store), whole, upload, number, body, etag, error);
}

static gboolean prefix_copy_part(Store *store, const char *key, const char *upload, guint number,
                                 const StoreSource *source, guint64 offset, guint64 length, char **etag, GError **error)
{
    g_autofree char *whole = outward(store, key);
    g_autofree char *from = outward(store, source->key);
    StoreSource same = *source;
    same.key = from;
    return store_copy_part(inner_of(store), whole, upload, number, &same, offset, length, etag, error);
}

static gboolean prefix_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                                const StorePut *how, StoreResult *result, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_complete(inner_of(store), whole, upload, parts, count, how, result, error);
}

static gboolean prefix_abort(Store *store, const char *key, const char *upload, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_abort(inner_of(store), whole, upload, error);
}

static GPtrArray *prefix_list_uploads(Store *store, const char *prefix, GError **error)
{
    g_autofree char *whole = outward(store, prefix);
    GPtrArray *uploads = store_list_uploads(inner_of(store), whole, error);
    for (guint i = 0; uploads && i < uploads->len; i++) {
        StoreUpload *upload = g_ptr_array_index(uploads, i);
        gsize length = ((PrefixStore *)store)->length;
        memmove(upload->key, upload->key + length, strlen(upload->key + length) + 1);
    }
    return uploads;
}

static GArray *prefix_list_parts(Store *store, const char *key, const char *upload, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_list_parts(inner_of(store), whole, upload, error);
}

static char *prefix_presign(Store *store, const char *method, const char *key, guint expires_s, GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_presign(inner_of(store), method, whole, expires_s, error);
}

static gboolean prefix_facts(Store *store, StoreFacts *facts, GError **error)
{
    return store_facts(inner_of(store), facts, error);
}

static gboolean prefix_set_versioning(Store *store, gboolean on, GError **error)
{
    return store_set_versioning(inner_of(store), on, error);
}

static gboolean prefix_set_lifecycle(Store *store, const StoreLifecycleRule *rules, guint count, GError **error)
{
    g_autofree StoreLifecycleRule *same = g_new0(StoreLifecycleRule, MAX(count, 1));
    g_auto(GStrv) whole = g_new0(char *, (gsize)count + 1);
    for (guint i = 0; i < count; i++) {
        same[i] = rules[i];
        same[i].prefix = whole[i] = outward(store, rules[i].prefix ? rules[i].prefix : "");
    }
    return store_set_lifecycle(inner_of(store), same, count, error);
}

static gboolean prefix_set_lock(Store *store, const char *key, const char *version, const char *mode, gint64 until,
                                GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_set_lock(inner_of(store), whole, version, mode, until, error);
}

static gboolean prefix_thaw(Store *store, const char *key, const char *version, guint days, const char *tier,
                            GError **error)
{
    g_autofree char *whole = outward(store, key);
    return store_thaw(inner_of(store), whole, version, days, tier, error);
}

static void prefix_counts(Store *store, StoreCounts *counts)
{
    store_counts(inner_of(store), counts);
}

static void prefix_free(Store *store)
{
    PrefixStore *self = (PrefixStore *)store;
    if (!self->borrowed)
        store_free(self->inner);
    g_free(self->prefix);
    g_free(self->base.url);
    g_free(self);
}

static const StoreOps prefix_ops = {
    .name = "prefix",
    .put = prefix_put,
    .get = prefix_get,
    .head = prefix_head,
    .list = prefix_list,
    .delete_one = prefix_delete,
    .delete_many = prefix_delete_many,
    .copy = prefix_copy,
    .begin = prefix_begin,
    .part = prefix_part,
    .copy_part = prefix_copy_part,
    .complete = prefix_complete,
    .abort = prefix_abort,
    .list_uploads = prefix_list_uploads,
    .list_parts = prefix_list_parts,
    .presign = prefix_presign,
    .facts = prefix_facts,
    .set_versioning = prefix_set_versioning,
    .set_lifecycle = prefix_set_lifecycle,
    .set_lock = prefix_set_lock,
    .thaw = prefix_thaw,
    .counts = prefix_counts,
    .free = prefix_free,
};

Store *store_prefix_new(Store *inner, const char *prefix)
{
    PrefixStore *self = g_new0(PrefixStore, 1);
    store_wrap(&self->base, &prefix_ops, inner);
    g_free(self->base.url);
    self->base.url = g_strconcat(inner->url, g_str_has_suffix(inner->url, "/") ? "" : "/", prefix, NULL);
    self->inner = inner;
    self->prefix = g_strdup(prefix);
    self->length = strlen(prefix);
    return &self->base;
}

Store *store_prefix_borrow(Store *inner, const char *prefix)
{
    Store *store = store_prefix_new(inner, prefix);
    ((PrefixStore *)store)->borrowed = TRUE;
    return store;
}
