#include "engine/s3sync/plan_list.h"

#include <string.h>

#include "base/error.h"
#include "base/human.h"
#include "engine/source/names.h"

#define LONG_DIR         ".backapp/long/"
#define LONG_OBJECTS_MAX 1000000

/* Behind all keys of ours: they go on with letters and digits. */
static const char *const BEHIND_OWN = ".backapp/~";
static const char *const BEHIND_TRASH = ".trash/~";

struct PlanList {
    Store *store;
    StoreList *list;
    GString *last; /* key of the last object */
    gboolean any, has_own;
};

PlanList *plan_list_new(Store *store, GError **error)
{
    StoreList *inner = store_list(store, "", NULL, FALSE, error);
    if (inner == NULL)
        return NULL;
    PlanList *list = g_new0(PlanList, 1);
    list->store = store;
    list->list = inner;
    list->last = g_string_new(NULL);
    return list;
}

void plan_list_free(PlanList *list)
{
    if (list == NULL)
        return;
    store_list_free(list->list);
    g_string_free(list->last, TRUE);
    g_free(list);
}

/* Begins anew behind our own keys. Keys below them that are not as ours are passed one by one. */
static gboolean pass_over_own(PlanList *list, const char *key, GError **error)
{
    gboolean is_trash = g_str_has_prefix(key, ".trash/");
    const char *behind = is_trash ? BEHIND_TRASH : BEHIND_OWN;
    list->has_own |= !is_trash;
    if (strcmp(key, behind) >= 0)
        return TRUE;
    StoreList *next = store_list(list->store, "", behind, FALSE, error);
    if (next == NULL)
        return FALSE;
    store_list_free(list->list);
    list->list = next;
    return TRUE;
}

static gboolean check_order(PlanList *list, const char *key, GError **error)
{
    if (list->any && strcmp(list->last->str, key) >= 0) {
        g_autofree char *shown = human_name(key, -1);
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "%s lists its objects out of order (at %s): nothing can be compared with such a list",
                         list->store->url, shown);
    }
    list->any = TRUE;
    g_string_assign(list->last, key);
    return TRUE;
}

int plan_list_next(PlanList *list, const StoreObject **object, GError **error)
{
    for (;;) {
        int got = store_list_next(list->list, object, error);
        if (got <= 0)
            return got;
        if (!check_order(list, (*object)->key, error))
            return -1;
        if (!names_is_own_key((*object)->key))
            return 1;
        if (!pass_over_own(list, (*object)->key, error))
            return -1;
    }
}

gboolean plan_list_has_own(const PlanList *list)
{
    return list->has_own;
}

GHashTable *plan_list_long(Store *store, GError **error)
{
    g_autoptr(StoreList) list = store_list(store, LONG_DIR, NULL, FALSE, error);
    if (list == NULL)
        return NULL;
    g_autoptr(GHashTable) objects =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify)store_object_free);
    const StoreObject *object;
    int got;
    while ((got = store_list_next(list, &object, error)) > 0) {
        if (g_hash_table_size(objects) >= LONG_OBJECTS_MAX) {
            error_set(error, BACKAPP_ERROR_INVALID, "%s has more than %d objects of names that are too long for S3",
                      store->url, LONG_OBJECTS_MAX);
            return NULL;
        }
        StoreObject *copy = store_object_copy(object);
        g_hash_table_insert(objects, (gpointer)copy->key, copy);
    }
    return got == 0 ? g_steal_pointer(&objects) : NULL;
}
