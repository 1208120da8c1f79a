#include <string.h>

#include "base/error.h"
#include "crypto/tink.h"
#include "engine/s3sync/tree_format.h"
#include "engine/source/names.h"

#define SEQUENCE_DIGITS 10
#define ROOT_NAME_BYTES (SEQUENCE_DIGITS + 1 + 16 + 1 + 8)
#define ROOTS_MAX       100000

struct TreeReader {
    Store *store;
    guint8 content_key[TINK_KEY_BYTES];
    gboolean encrypted;
    TreeRoot root;
    GArray *blocks;
    guint next; /* block to read next */
    GByteArray *raw;
    BytesReader in;
    guint64 left; /* entries of the block that were not read */
    GString *previous;
    GByteArray *arena;
    S3Entry entry;
    gboolean pending; /* entry was read by seek and not yet given out */
};

/* "NNNNNNNNNN-YYYYMMDDTHHMMSSZ-xxxxxxxx"; what has another name is not ours. */
static gboolean parse_root_name(const char *name, gint64 *time)
{
    if (strlen(name) != ROOT_NAME_BYTES || name[SEQUENCE_DIGITS] != '-' || name[SEQUENCE_DIGITS + 17] != '-')
        return FALSE;
    for (guint i = 0; i < SEQUENCE_DIGITS; i++) {
        if (!g_ascii_isdigit(name[i]))
            return FALSE;
    }
    g_autofree char *text = g_strndup(name + SEQUENCE_DIGITS + 1, 16);
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) when = g_date_time_new_from_iso8601(text, utc);
    *time = when != NULL ? g_date_time_to_unix(when) : 0;
    return when != NULL;
}

static void free_root(gpointer data)
{
    tree_root_clear(data);
    g_free(data);
}

GPtrArray *tree_list_roots(Store *store, GError **error)
{
    g_autoptr(GPtrArray) roots = g_ptr_array_new_with_free_func(free_root);
    g_autoptr(StoreList) list = store_list(store, TREE_ROOTS, NULL, FALSE, error);
    const StoreObject *object = NULL;
    int got = list != NULL ? 0 : -1;
    while (list != NULL && (got = store_list_next(list, &object, error)) > 0) {
        gint64 time = 0;
        if (!g_str_has_prefix(object->key, TREE_ROOTS) || !parse_root_name(object->key + strlen(TREE_ROOTS), &time))
            continue;
        TreeRoot *root = g_new0(TreeRoot, 1);
        root->key = g_strdup(object->key);
        root->time = time;
        g_ptr_array_insert(roots, 0, root);
        if (roots->len > ROOTS_MAX)
            g_ptr_array_remove_index(roots, roots->len - 1);
    }
    return got < 0 ? NULL : g_steal_pointer(&roots);
}

gboolean tree_root_read(Store *store, const char *key, const guint8 *content_key, TreeRoot *root, GArray *blocks,
                        GError **error)
{
    g_autoptr(GBytes) stored = store_get_bytes(store, key, NULL, TREE_STORED_MAX, NULL, error);
    if (stored == NULL)
        return FALSE;
    gsize length = 0;
    const guint8 *data = g_bytes_get_data(stored, &length);
    g_autoptr(GByteArray) raw = tree_unpack(content_key, key, data, length, error);
    if (raw == NULL || !tree_root_decode(raw->data, raw->len, root, blocks, error)) {
        g_prefix_error(error, "cannot use the list of files %s/%s: ", store->url, key);
        return FALSE;
    }
    root->key = g_strdup(key);
    return TRUE;
}

GByteArray *tree_block_read(Store *store, const guint8 *content_key, const guint8 name[HASH_BYTES], GError **error)
{
    g_autofree char *key = tree_block_key(name);
    g_autoptr(GBytes) stored = store_get_bytes(store, key, NULL, TREE_STORED_MAX, NULL, error);
    if (stored == NULL)
        return NULL;
    gsize length = 0;
    const guint8 *data = g_bytes_get_data(stored, &length);
    g_autoptr(GByteArray) raw = tree_unpack(content_key, key, data, length, error);
    guint8 real[HASH_BYTES];
    if (raw != NULL)
        tree_block_name(content_key, raw->data, raw->len, real);
    if (raw != NULL && memcmp(real, name, HASH_BYTES) != 0) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "it is damaged");
        g_clear_pointer(&raw, g_byte_array_unref);
    }
    if (raw == NULL)
        g_prefix_error(error, "cannot use %s/%s, a part of the list of files: ", store->url, key);
    return g_steal_pointer(&raw);
}

TreeReader *tree_reader_open(Store *store, const char *root_key, const guint8 *content_key, GError **error)
{
    g_autoptr(TreeReader) reader = g_new0(TreeReader, 1);
    reader->store = store;
    reader->encrypted = content_key != NULL;
    if (content_key != NULL)
        memcpy(reader->content_key, content_key, TINK_KEY_BYTES);
    reader->blocks = tree_blocks_new();
    reader->previous = g_string_new(NULL);
    reader->arena = g_byte_array_new();
    if (!tree_root_read(store, root_key, content_key, &reader->root, reader->blocks, error))
        return NULL;
    return g_steal_pointer(&reader);
}

const TreeRoot *tree_reader_root(const TreeReader *reader)
{
    return &reader->root;
}

/* Reads the next block. */
static gboolean load(TreeReader *reader, GError **error)
{
    const TreeBlock *block = &g_array_index(reader->blocks, TreeBlock, reader->next);
    if (reader->raw != NULL)
        g_byte_array_unref(reader->raw);
    reader->raw = tree_block_read(reader->store, reader->encrypted ? reader->content_key : NULL, block->name, error);
    if (reader->raw == NULL)
        return FALSE;
    reader->in = bytes_reader(reader->raw->data, reader->raw->len);
    reader->left = block->entries;
    reader->next++;
    g_string_truncate(reader->previous, 0);
    return TRUE;
}

/* The next entry into reader->entry. */
static int read_entry(TreeReader *reader, GError **error)
{
    while (reader->left == 0) {
        if (reader->next >= reader->blocks->len)
            return 0;
        if (!load(reader, error))
            return -1;
    }
    g_byte_array_set_size(reader->arena, 0);
    if (!entry_decode(&reader->in, reader->previous->str, reader->arena, &reader->entry, error))
        return -1;
    reader->left--;
    if (reader->left == 0 && !bytes_reader_done(&reader->in)) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "a part of the list of files in %s is damaged", reader->store->url);
        return -1;
    }
    g_string_assign(reader->previous, reader->entry.path);
    return 1;
}

int tree_reader_next(TreeReader *reader, S3Entry *entry, GError **error)
{
    int got = 1;
    if (!reader->pending)
        got = read_entry(reader, error);
    reader->pending = FALSE;
    if (got > 0)
        *entry = reader->entry;
    return got;
}

static gboolean is_at_or_below(const char *path, const char *top)
{
    gsize length = strlen(top);
    return length == 0 || (strncmp(path, top, length) == 0 && (path[length] == '\0' || path[length] == '/'));
}

/* The bytes by which an entry stands where it stands: its key, a directory's with a slash. */
static GString *sort_key(const S3Names *names, const char *path, gboolean directory)
{
    g_autoptr(GString) key = g_string_new(NULL);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (guint i = 0; parts[i] != NULL && path[0] != '\0'; i++) {
        g_autofree char *parent = g_strdup(key->str);
        g_string_truncate(key, 0);
        names_child_key(names, parent, parts[i], key);
    }
    if (directory && key->len > 0)
        g_string_append_c(key, '/');
    return g_steal_pointer(&key);
}

/* The last block whose first entry is not behind `want`; the first one if all are. */
static guint find_block(const TreeReader *reader, const S3Names *names, const GString *want)
{
    guint low = 0;
    guint high = reader->blocks->len;
    while (high - low > 1) {
        guint middle = low + (high - low) / 2;
        const TreeBlock *block = &g_array_index(reader->blocks, TreeBlock, middle);
        GString *first = sort_key(names, block->first, block->directory);
        if (strcmp(first->str, want->str) <= 0)
            low = middle;
        else
            high = middle;
        g_string_free(first, TRUE);
    }
    return low;
}

/* Looks for path from block `from` on, up to (not including) block `to`. 1 if it is found and pending, 0, -1. */
static int look_in(TreeReader *reader, guint from, guint to, const char *path, GError **error)
{
    reader->next = from;
    reader->left = 0;
    int got = 1;
    while (got > 0 && (reader->left > 0 || reader->next < to)) {
        got = read_entry(reader, error);
        if (got > 0 && is_at_or_below(reader->entry.path, path)) {
            reader->pending = TRUE;
            return 1;
        }
    }
    return got < 0 ? -1 : 0;
}

gboolean tree_reader_seek(TreeReader *reader, const char *path, GError **error)
{
    int found = 0;
    reader->pending = FALSE;
    if (path[0] == '\0' || reader->root.encrypted_names) {
        found = look_in(reader, 0, reader->blocks->len, path, error);
    } else if (reader->blocks->len > 0) {
        /* What it is decides where it stands; a file comes before what is below a directory of that name. */
        g_autoptr(S3Names) names = names_new(NULL);
        for (guint directory = 0; directory < 2 && found == 0; directory++) {
            g_autoptr(GString) want = sort_key(names, path, directory != 0);
            guint block = find_block(reader, names, want);
            /* One more: the entry itself may be missing (a directory that could not be read), what is below it not. */
            found = look_in(reader, block, MIN(block + 2, reader->blocks->len), path, error);
        }
    }
    if (found == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s is not in this restore point", path);
    return found > 0;
}

void tree_reader_free(TreeReader *reader)
{
    if (reader == NULL)
        return;
    tree_root_clear(&reader->root);
    g_clear_pointer(&reader->blocks, g_array_unref);
    if (reader->raw != NULL)
        g_byte_array_unref(reader->raw);
    if (reader->arena != NULL)
        g_byte_array_unref(reader->arena);
    if (reader->previous != NULL)
        g_string_free(reader->previous, TRUE);
    explicit_bzero(reader->content_key, sizeof reader->content_key);
    g_free(reader);
}
