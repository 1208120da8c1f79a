#include <string.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/s3sync/tree_format.h"

#define DELETE_BATCH 1000

static gboolean delete_all(Store *store, GPtrArray *keys, guint64 *removed, GError **error)
{
    for (guint at = 0; at < keys->len; at += DELETE_BATCH) {
        guint count = MIN(DELETE_BATCH, keys->len - at);
        if (!store_delete_many(store, (const char *const *)keys->pdata + at, NULL, count, NULL, error))
            return FALSE;
    }
    *removed += keys->len;
    g_ptr_array_set_size(keys, 0);
    return TRUE;
}

/* The names of all blocks of a root into `used`. */
static gboolean note_blocks(Store *store, const char *key, const guint8 *content_key, GHashTable *used, GError **error)
{
    TreeRoot root = {0};
    g_autoptr(GArray) blocks = tree_blocks_new();
    gboolean good = tree_root_read(store, key, content_key, &root, blocks, error);
    for (guint i = 0; good && i < blocks->len; i++)
        g_hash_table_add(used, tree_block_key(g_array_index(blocks, TreeBlock, i).name));
    tree_root_clear(&root);
    return good;
}

static gboolean delete_unused(Store *store, GHashTable *used, gint64 before, guint64 *removed, GError **error)
{
    g_autoptr(GPtrArray) unused = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(StoreList) list = store_list(store, TREE_BLOCK_PREFIX, NULL, FALSE, error);
    const StoreObject *object = NULL;
    int got = list != NULL ? 0 : -1;
    while (list != NULL && (got = store_list_next(list, &object, error)) > 0) {
        if (object->modified < before && !g_hash_table_contains(used, object->key))
            g_ptr_array_add(unused, g_strdup(object->key));
    }
    return got == 0 && delete_all(store, unused, removed, error);
}

gboolean tree_expire(Store *store, gint64 before, const guint8 *content_key, guint64 *removed, GError **error)
{
    guint64 count = 0;
    g_autoptr(GPtrArray) roots = tree_list_roots(store, error);
    if (roots == NULL)
        return FALSE;
    g_autoptr(GPtrArray) old = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GHashTable) used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < roots->len; i++) {
        const TreeRoot *root = g_ptr_array_index(roots, i);
        /* A point is the present one until the next is made; what that replaced goes later than this. */
        const TreeRoot *next = i > 0 ? g_ptr_array_index(roots, i - 1) : NULL;
        if (next != NULL && next->time < before)
            g_ptr_array_add(old, g_strdup(root->key));
        else if (!note_blocks(store, root->key, content_key, used, error))
            return FALSE; /* what it needs is not known: nothing may go */
    }
    /* Roots first: one without its blocks would be a restore point that is none. */
    gboolean good = delete_all(store, old, &count, error) && delete_unused(store, used, before, &count, error);
    if (removed != NULL)
        *removed = count;
    return good;
}
