#include "base/error.h"
#include "base/human.h"
#include "store/retry_store.h"

#include <string.h>

/* --- get --- */

typedef struct {
    StoreWrite write;
    gpointer user_data;
    guint64 given;
    gboolean refused; /* the caller did not take it: trying again is of no use */
} Delivery;

static gboolean deliver(gpointer user_data, const void *data, gsize length, GError **error)
{
    Delivery *delivery = user_data;
    if (!delivery->write(delivery->user_data, data, length, error)) {
        delivery->refused = TRUE;
        return FALSE;
    }
    delivery->given += length;
    return TRUE;
}

/* TRUE if the connection broke only behind the last byte. */
static gboolean has_all(const StoreRange *range, const StoreObject *facts, guint64 given)
{
    if (given == 0)
        return FALSE;
    guint64 rest = facts && range->offset <= facts->size ? facts->size - range->offset : G_MAXUINT64;
    return given == MIN(range->length, rest);
}

/* Says what it means that the rest of an object is not the same object's. Takes the failure. */
static gboolean changed(const char *key, GError *failure, GError **error)
{
    g_autofree char *shown = human_name(key, -1);
    g_error_free(failure);
    return error_set(error, BACKAPP_ERROR_CONFLICT, "%s was changed by somebody else while it was read: read it again",
                     shown);
}

gboolean retry_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data, StoreObject **object,
                   GError **error)
{
    RetryStore *self = retry_of(store);
    g_autoptr(StoreObject) facts = NULL;
    Delivery delivery = {.write = write, .user_data = user_data};
    for (guint attempt = 0;; attempt++) {
        StoreRange rest = *range;
        rest.offset += delivery.given;
        if (rest.length != G_MAXUINT64)
            rest.length -= delivery.given;
        if (delivery.given > 0 && !rest.if_match && facts && facts->etag[0])
            rest.if_match = facts->etag;
        GError *failure = NULL;
        g_autoptr(StoreObject) seen = NULL;
        gboolean good = store_get(self->inner, &rest, deliver, &delivery, &seen, &failure);
        if (!facts)
            facts = g_steal_pointer(&seen);
        gboolean broken = !good && error_is(failure, BACKAPP_ERROR_TRANSIENT);
        if (broken && has_all(range, facts, delivery.given)) {
            g_clear_error(&failure);
            good = TRUE;
        }
        if (object && facts && (good || !broken))
            *object = store_object_copy(facts);
        if (good)
            return TRUE;
        if (delivery.given > 0 && !range->if_match && error_is(failure, BACKAPP_ERROR_CONFLICT))
            return changed(range->key, failure, error);
        /* Without an ETag or version the rest might be another object's. */
        gboolean resumable = delivery.given == 0 || range->if_match || range->version || (facts && facts->etag[0]);
        if (delivery.refused || (broken && !resumable)) {
            g_propagate_error(error, failure);
            return FALSE;
        }
        if (!retry_again(self, attempt, failure, error))
            return FALSE;
    }
}

/* --- list --- */

typedef struct {
    StoreList base;
    RetryStore *store;
    StoreList *inner; /* NULL after a failure */
    char *prefix, *start_after;
    gboolean versions;
    char *last, *before; /* the last key that was given; the one before it */
    char *last_version;
    gboolean last_marker;
    gboolean skipping; /* what was given already comes again */
} RetryList;

/* Begins behind what was given. Among versions of one key no list can begin: they come again. */
static gboolean open_list(RetryList *list, GError **error)
{
    const char *after = list->versions ? list->before : list->last;
    list->skipping = list->versions && list->last;
    list->inner =
        store_list(list->store->inner, list->prefix, after ? after : list->start_after, list->versions, error);
    return list->inner != NULL;
}

/* TRUE if it was given before the list broke off. */
static gboolean was_given(RetryList *list, const StoreObject *object)
{
    if (!list->skipping)
        return FALSE;
    int order = strcmp(object->key, list->last);
    gboolean is_last =
        order == 0 && g_strcmp0(object->version, list->last_version) == 0 && object->delete_marker == list->last_marker;
    list->skipping = order <= 0 && !is_last;
    return order <= 0;
}

static void remember(RetryList *list, const StoreObject *object)
{
    if (g_strcmp0(object->key, list->last) != 0) {
        g_free(list->before);
        list->before = list->last;
        list->last = g_strdup(object->key);
    }
    if (!list->versions)
        return;
    g_free(list->last_version);
    list->last_version = g_strdup(object->version);
    list->last_marker = object->delete_marker;
}

static int list_next(StoreList *base, const StoreObject **object, GError **error)
{
    RetryList *list = (RetryList *)base;
    for (guint attempt = 0;;) {
        GError *failure = NULL;
        int got = list->inner || open_list(list, &failure) ? store_list_next(list->inner, object, &failure) : -1;
        if (got > 0 && was_given(list, *object))
            continue;
        if (got > 0)
            remember(list, *object);
        if (got >= 0)
            return got;
        store_list_free(list->inner);
        list->inner = NULL;
        if (!retry_again(list->store, attempt++, failure, error))
            return -1;
    }
}

static void list_free(StoreList *base)
{
    RetryList *list = (RetryList *)base;
    store_list_free(list->inner);
    g_free(list->prefix);
    g_free(list->start_after);
    g_free(list->last);
    g_free(list->before);
    g_free(list->last_version);
    g_free(list);
}

StoreList *retry_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error)
{
    RetryList *list = g_new0(RetryList, 1);
    list->base = (StoreList){.next = list_next, .free = list_free};
    list->store = retry_of(store);
    list->prefix = g_strdup(prefix);
    list->start_after = g_strdup(start_after);
    list->versions = versions;
    return &list->base;
}
