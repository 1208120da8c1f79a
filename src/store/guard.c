#include "store/guard.h"

#define PAGE 1000 /* objects that one request lists */

typedef struct {
    Store base;
    Store *inner;
    const GuardOps *ops;
    gpointer data;
} GuardStore;

typedef struct {
    StoreList base;
    GuardStore *store;
    StoreList *inner;
    guint64 given;
} GuardList;

static gboolean before(Store *store, GError **error)
{
    GuardStore *self = (GuardStore *)store;
    return self->ops->before(self->data, error);
}

/* Tells how it went and hands the error on. Returns TRUE without one. */
static gboolean after(Store *store, GError *failure, GError **error)
{
    GuardStore *self = (GuardStore *)store;
    self->ops->after(self->data, failure);
    if (failure)
        g_propagate_error(error, failure);
    return !failure;
}

static Store *inner_of(Store *store)
{
    return ((GuardStore *)store)->inner;
}

static gboolean guard_put(Store *store, const char *key, const StoreBody *body, const StorePut *how,
                          StoreResult *result, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_put(inner_of(store), key, body, how, result, &failure);
    return after(store, failure, error);
}

static gboolean guard_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                          StoreObject **object, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_get(inner_of(store), range, write, user_data, object, &failure);
    return after(store, failure, error);
}

static StoreObject *guard_head(Store *store, const char *key, const char *version, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return NULL;
    StoreObject *object = store_head(inner_of(store), key, version, &failure);
    (void)after(store, failure, error);
    return object;
}

static int list_next(StoreList *base, const StoreObject **object, GError **error)
{
    GuardList *list = (GuardList *)base;
    GError *failure = NULL;
    gboolean asks = list->given % PAGE == 0;
    if (asks && !before(&list->store->base, error))
        return -1;
    int got = store_list_next(list->inner, object, &failure);
    if (asks)
        (void)after(&list->store->base, failure, error);
    else if (failure)
        g_propagate_error(error, failure);
    list->given += got > 0;
    return got;
}

static void list_free(StoreList *base)
{
    GuardList *list = (GuardList *)base;
    store_list_free(list->inner);
    g_free(list);
}

static StoreList *guard_list(Store *store, const char *prefix, const char *start_after, gboolean versions,
                             GError **error)
{
    g_autoptr(StoreList) inner = store_list(inner_of(store), prefix, start_after, versions, error);
    if (!inner)
        return NULL;
    GuardList *list = g_new0(GuardList, 1);
    list->base = (StoreList){.next = list_next, .free = list_free};
    list->store = (GuardStore *)store;
    list->inner = g_steal_pointer(&inner);
    return &list->base;
}

static gboolean guard_delete(Store *store, const char *key, const char *version, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_delete(inner_of(store), key, version, &failure);
    return after(store, failure, error);
}

static gboolean guard_delete_many(Store *store, const char *const *keys, const char *const *versions, guint count,
                                  GError **errors, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_delete_many(inner_of(store), keys, versions, count, errors, &failure);
    return after(store, failure, error);
}

static gboolean guard_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how,
                           StoreResult *result, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_copy(inner_of(store), source, key, how, result, &failure);
    return after(store, failure, error);
}

static char *guard_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return NULL;
    char *upload = store_begin(inner_of(store), key, how, &failure);
    (void)after(store, failure, error);
    return upload;
}

static gboolean guard_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                           char **etag, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_part(inner_of(store), key, upload, number, body, etag, &failure);
    return after(store, failure, error);
}

static gboolean guard_copy_part(Store *store, const char *key, const char *upload, guint number,
                                const StoreSource *source, guint64 offset, guint64 length, char **etag, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_copy_part(inner_of(store), key, upload, number, source, offset, length, etag, &failure);
    return after(store, failure, error);
}

static gboolean guard_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                               const StorePut *how, StoreResult *result, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_complete(inner_of(store), key, upload, parts, count, how, result, &failure);
    return after(store, failure, error);
}

static gboolean guard_abort(Store *store, const char *key, const char *upload, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_abort(inner_of(store), key, upload, &failure);
    return after(store, failure, error);
}

static GPtrArray *guard_list_uploads(Store *store, const char *prefix, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return NULL;
    GPtrArray *uploads = store_list_uploads(inner_of(store), prefix, &failure);
    (void)after(store, failure, error);
    return uploads;
}

static GArray *guard_list_parts(Store *store, const char *key, const char *upload, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return NULL;
    GArray *parts = store_list_parts(inner_of(store), key, upload, &failure);
    (void)after(store, failure, error);
    return parts;
}

static char *guard_presign(Store *store, const char *method, const char *key, guint expires_s, GError **error)
{
    return store_presign(inner_of(store), method, key, expires_s, error);
}

static gboolean guard_facts(Store *store, StoreFacts *facts, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_facts(inner_of(store), facts, &failure);
    return after(store, failure, error);
}

static gboolean guard_set_versioning(Store *store, gboolean on, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_set_versioning(inner_of(store), on, &failure);
    return after(store, failure, error);
}

static gboolean guard_set_lifecycle(Store *store, const StoreLifecycleRule *rules, guint count, GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_set_lifecycle(inner_of(store), rules, count, &failure);
    return after(store, failure, error);
}

static gboolean guard_set_lock(Store *store, const char *key, const char *version, const char *mode, gint64 until,
                               GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_set_lock(inner_of(store), key, version, mode, until, &failure);
    return after(store, failure, error);
}

static gboolean guard_thaw(Store *store, const char *key, const char *version, guint days, const char *tier,
                           GError **error)
{
    GError *failure = NULL;
    if (!before(store, error))
        return FALSE;
    (void)store_thaw(inner_of(store), key, version, days, tier, &failure);
    return after(store, failure, error);
}

static void guard_counts(Store *store, StoreCounts *counts)
{
    store_counts(inner_of(store), counts);
}

static void guard_free(Store *store)
{
    GuardStore *self = (GuardStore *)store;
    store_free(self->inner);
    self->ops->free(self->data);
    g_free(self->base.url);
    g_free(self);
}

static const StoreOps guard_ops = {
    .name = "guard",
    .put = guard_put,
    .get = guard_get,
    .head = guard_head,
    .list = guard_list,
    .delete_one = guard_delete,
    .delete_many = guard_delete_many,
    .copy = guard_copy,
    .begin = guard_begin,
    .part = guard_part,
    .copy_part = guard_copy_part,
    .complete = guard_complete,
    .abort = guard_abort,
    .list_uploads = guard_list_uploads,
    .list_parts = guard_list_parts,
    .presign = guard_presign,
    .facts = guard_facts,
    .set_versioning = guard_set_versioning,
    .set_lifecycle = guard_set_lifecycle,
    .set_lock = guard_set_lock,
    .thaw = guard_thaw,
    .counts = guard_counts,
    .free = guard_free,
};

Store *guard_new(Store *inner, const GuardOps *ops, gpointer data)
{
    GuardStore *self = g_new0(GuardStore, 1);
    store_wrap(&self->base, &guard_ops, inner);
    self->inner = inner;
    self->ops = ops;
    self->data = data;
    return &self->base;
}
