#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/error.h"
#include "base/pool.h"
#include "crypto/digest.h"
#include "crypto/tink.h"
#include "engine/s3sync/tree_format.h"

#define BLOCK_ENTRIES     1024 /* on average: a power of two */
#define BLOCK_ENTRIES_MAX 4096
#define BLOCK_BYTES_MAX   ((gsize)1024 * 1024)
#define PUT_THREADS       4
#define PUT_QUEUE         4

struct TreeWriter {
    Store *store;
    guint8 content_key[TINK_KEY_BYTES];
    gboolean encrypted;
    const CancelFlag *cancel;

    TreeRoot newest; /* key NULL: there is none that can be read */
    GArray *newest_blocks;
    GHashTable *known; /* names of blocks that are there; they point into newest_blocks */
    guint64 sequence;  /* of the newest root; 0: none */

    GArray *blocks;
    GByteArray *raw; /* of the block that is being filled */
    GString *previous;
    TreeBlock block;
    gboolean finished;

    Pool *pool; /* NULL until a block has to be written */
    GMutex lock;
    GError *error; /* of the pool; under lock */
};

typedef struct {
    GByteArray *raw;
    guint8 name[HASH_BYTES];
} PutItem;

static const guint8 *writer_key(const TreeWriter *writer)
{
    return writer->encrypted ? writer->content_key : NULL;
}

static guint name_hash(gconstpointer name)
{
    guint value;
    memcpy(&value, name, sizeof value);
    return value;
}

static gboolean name_equal(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, HASH_BYTES) == 0;
}

/* A newest root that cannot be read is as good as none: everything is written anew. */
static gboolean read_newest(TreeWriter *writer, GError **error)
{
    g_autoptr(GPtrArray) roots = tree_list_roots(writer->store, error);
    if (roots == NULL)
        return FALSE;
    if (roots->len == 0)
        return TRUE;
    const TreeRoot *newest = g_ptr_array_index(roots, 0);
    writer->sequence = g_ascii_strtoull(newest->key + strlen(TREE_ROOTS), NULL, 10);
    g_autoptr(GError) local = NULL;
    if (tree_root_read(writer->store, newest->key, writer_key(writer), &writer->newest, writer->newest_blocks, &local))
        return TRUE;
    tree_root_clear(&writer->newest);
    g_array_set_size(writer->newest_blocks, 0);
    if (error_is(local, BACKAPP_ERROR_CORRUPT) || error_is(local, BACKAPP_ERROR_DENIED) ||
        error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Of the newest root's blocks only those count as there that the store lists: one that was lost is written again. */
static gboolean find_known(TreeWriter *writer, GError **error)
{
    g_autoptr(GHashTable) named = g_hash_table_new(name_hash, name_equal);
    for (guint i = 0; i < writer->newest_blocks->len; i++)
        g_hash_table_add(named, g_array_index(writer->newest_blocks, TreeBlock, i).name);
    if (g_hash_table_size(named) == 0)
        return TRUE;
    g_autoptr(StoreList) list = store_list(writer->store, TREE_BLOCK_PREFIX, NULL, FALSE, error);
    const StoreObject *object = NULL;
    int got = list != NULL ? 0 : -1;
    while (list != NULL && (got = store_list_next(list, &object, error)) > 0) {
        guint8 name[HASH_BYTES];
        const char *hex = object->key + strlen(TREE_BLOCK_PREFIX);
        gpointer own = NULL;
        if (digest_parse_hex(hex, name, HASH_BYTES) && g_hash_table_lookup_extended(named, name, &own, NULL))
            g_hash_table_add(writer->known, own);
    }
    return got == 0;
}

TreeWriter *tree_writer_new(Store *store, const guint8 *content_key, const CancelFlag *cancel, GError **error)
{
    g_autoptr(TreeWriter) writer = g_new0(TreeWriter, 1);
    g_mutex_init(&writer->lock);
    writer->store = store;
    writer->cancel = cancel;
    writer->encrypted = content_key != NULL;
    if (content_key != NULL)
        memcpy(writer->content_key, content_key, TINK_KEY_BYTES);
    writer->blocks = tree_blocks_new();
    writer->newest_blocks = tree_blocks_new();
    writer->known = g_hash_table_new(name_hash, name_equal);
    writer->raw = g_byte_array_new();
    writer->previous = g_string_new(NULL);
    if (!read_newest(writer, error) || !find_known(writer, error))
        return NULL;
    return g_steal_pointer(&writer);
}

static gboolean put_block(TreeWriter *writer, const PutItem *item, GError **error)
{
    g_autofree char *key = tree_block_key(item->name);
    g_autoptr(GByteArray) packed = tree_pack(writer_key(writer), key, item->raw->data, item->raw->len, error);
    g_auto(StoreResult) result = {0};
    StorePut how = {0};
    if (packed == NULL || !cancel_check(writer->cancel, error))
        return FALSE;
    StoreBody body = {.data = packed->data, .length = packed->len};
    return store_put(writer->store, key, &body, &how, &result, error);
}

static void put_in_pool(gpointer data, gpointer user_data)
{
    PutItem *item = data;
    TreeWriter *writer = user_data;
    g_autoptr(GError) local = NULL;
    g_mutex_lock(&writer->lock);
    gboolean failed = writer->error != NULL;
    g_mutex_unlock(&writer->lock);
    if (!failed && !put_block(writer, item, &local)) {
        g_mutex_lock(&writer->lock);
        if (writer->error == NULL)
            writer->error = g_steal_pointer(&local);
        g_mutex_unlock(&writer->lock);
    }
    g_byte_array_unref(item->raw);
    g_free(item);
}

static gboolean pool_failed(TreeWriter *writer, GError **error)
{
    g_mutex_lock(&writer->lock);
    GError *failure = writer->error != NULL ? g_error_copy(writer->error) : NULL;
    g_mutex_unlock(&writer->lock);
    if (failure != NULL)
        g_propagate_prefixed_error(error, failure, "the list of files could not be written: ");
    return failure != NULL;
}

/* Ends the block that is being filled. */
static gboolean end_block(TreeWriter *writer, GError **error)
{
    if (writer->block.entries == 0)
        return TRUE;
    tree_block_name(writer_key(writer), writer->raw->data, writer->raw->len, writer->block.name);
    g_array_append_val(writer->blocks, writer->block);
    gboolean there = g_hash_table_contains(writer->known, writer->block.name);
    if (!there) {
        if (writer->pool == NULL)
            writer->pool = pool_new("tree", PUT_THREADS, PUT_QUEUE, put_in_pool, writer, error);
        if (writer->pool == NULL || pool_failed(writer, error))
            return FALSE;
        PutItem *item = g_new0(PutItem, 1);
        item->raw = g_steal_pointer(&writer->raw);
        memcpy(item->name, writer->block.name, HASH_BYTES);
        pool_push(writer->pool, item);
        writer->raw = g_byte_array_new();
    }
    writer->block = (TreeBlock){0};
    g_byte_array_set_size(writer->raw, 0);
    g_string_truncate(writer->previous, 0);
    return TRUE;
}

/* The path alone decides where a block begins, so what is inserted or removed moves no other border. */
static gboolean begins_block(const char *path)
{
    return (XXH3_64bits(path, strlen(path)) & (BLOCK_ENTRIES - 1)) == 0;
}

gboolean tree_writer_put(TreeWriter *writer, const S3Entry *entry, GError **error)
{
    gboolean full = writer->block.entries >= BLOCK_ENTRIES_MAX || writer->raw->len >= BLOCK_BYTES_MAX;
    if ((full || begins_block(entry->path)) && !end_block(writer, error))
        return FALSE;
    S3Entry kept = *entry;
    kept.meta.ino = kept.meta.dev = kept.meta.mount = 0;
    kept.meta.ctime_s = 0;
    kept.meta.ctime_ns = 0;
    kept.meta.nlink = 0;
    /* Only whether there are holes; a file's blocks may be counted differently before they are on the disk. */
    gboolean sparse = S_ISREG(kept.meta.mode) && kept.meta.blocks * 512 < kept.meta.size;
    kept.meta.blocks = S_ISREG(kept.meta.mode) && !sparse ? (kept.meta.size + 511) / 512 : 0;
    if (S_ISDIR(kept.meta.mode))
        kept.meta.size = 0;
    if (writer->block.entries == 0) {
        writer->block.first = g_strdup(entry->path);
        writer->block.directory = S_ISDIR(entry->meta.mode);
    }
    entry_encode(&kept, writer->previous->str, writer->raw);
    g_string_assign(writer->previous, entry->path);
    writer->block.entries++;
    return TRUE;
}

static gboolean same_blocks(const GArray *a, const GArray *b)
{
    if (a->len != b->len)
        return FALSE;
    for (guint i = 0; i < a->len; i++) {
        if (!name_equal(g_array_index(a, TreeBlock, i).name, g_array_index(b, TreeBlock, i).name))
            return FALSE;
    }
    return TRUE;
}

gboolean tree_writer_finish(TreeWriter *writer, const TreeRoot *root, gboolean *changed, GError **error)
{
    if (!writer->finished && !end_block(writer, error))
        return FALSE;
    writer->finished = TRUE;
    if (writer->pool != NULL)
        pool_wait(writer->pool);
    if (pool_failed(writer, error))
        return FALSE;
    if (changed != NULL)
        *changed = writer->newest.key == NULL || !same_blocks(writer->blocks, writer->newest_blocks) ||
                   writer->newest.partial != root->partial || writer->newest.encrypted != root->encrypted ||
                   writer->newest.encrypted_names != root->encrypted_names;
    return TRUE;
}

/* Numbered, so that the newest is the last one written whatever clocks say. */
static char *new_root_key(const TreeWriter *writer, const TreeRoot *root)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(root->time);
    g_autofree char *text = time != NULL ? g_date_time_format(time, "%Y%m%dT%H%M%SZ") : g_strdup("00000000T000000Z");
    guint8 hash[HASH_BYTES];
    digest_sha256(root->run_id, strlen(root->run_id), hash);
    return g_strdup_printf(TREE_ROOTS "%010" G_GUINT64_FORMAT "-%s-%02x%02x%02x%02x", writer->sequence + 1, text,
                           hash[0], hash[1], hash[2], hash[3]);
}

gboolean tree_writer_commit(TreeWriter *writer, const TreeRoot *root, gboolean *changed, GError **error)
{
    gboolean differs = FALSE;
    if (!tree_writer_finish(writer, root, &differs, error) || !cancel_check(writer->cancel, error))
        return FALSE;
    if (changed != NULL)
        *changed = differs;
    if (!differs)
        return TRUE;
    g_autofree char *key = new_root_key(writer, root);
    g_autoptr(GByteArray) raw = g_byte_array_new();
    tree_root_encode(root, writer->blocks, raw);
    g_autoptr(GByteArray) packed = tree_pack(writer_key(writer), key, raw->data, raw->len, error);
    g_auto(StoreResult) result = {0};
    StorePut how = {0};
    if (packed == NULL)
        return FALSE;
    StoreBody body = {.data = packed->data, .length = packed->len};
    return store_put(writer->store, key, &body, &how, &result, error);
}

void tree_writer_free(TreeWriter *writer)
{
    if (writer == NULL)
        return;
    pool_free(writer->pool);
    g_clear_error(&writer->error);
    g_mutex_clear(&writer->lock);
    tree_root_clear(&writer->newest);
    if (writer->known != NULL)
        g_hash_table_destroy(writer->known);
    g_clear_pointer(&writer->newest_blocks, g_array_unref);
    g_clear_pointer(&writer->blocks, g_array_unref);
    g_clear_pointer(&writer->block.first, g_free);
    if (writer->raw != NULL)
        g_byte_array_unref(writer->raw);
    if (writer->previous != NULL)
        g_string_free(writer->previous, TRUE);
    explicit_bzero(writer->content_key, sizeof writer->content_key);
    g_free(writer);
}
