#include "engine/s3sync/record.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"

typedef struct {
    S3Run *run;
    TreeWriter *writer;
    GHashTable *unread;   /* paths of directories; NULL: none */
    TreeReader *previous; /* the newest root; opened when it is needed */
    gboolean looked;
} Record;

/* What the scan says is a directory's key; a path is needed here. */
static GHashTable *unread_paths(const S3Run *run, const ScanStats *scan)
{
    if (scan->unread == NULL || scan->unread->len == 0)
        return NULL;
    GHashTable *paths = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < scan->unread->len; i++) {
        g_autofree char *key = g_strdup(g_ptr_array_index(scan->unread, i));
        gsize length = strlen(key);
        if (length == 0 || key[length - 1] != '/')
            continue; /* a single file */
        key[length - 1] = '\0';
        char *path = names_path(run->names, key, NULL);
        if (path != NULL)
            g_hash_table_add(paths, path);
    }
    return paths;
}

/* TRUE with *usable FALSE if there is no earlier tree, or none that can be read. */
static gboolean open_previous(Record *record, gboolean *usable, GError **error)
{
    if (!record->looked) {
        record->looked = TRUE;
        g_autoptr(GPtrArray) roots = tree_list_roots(record->run->store, error);
        if (roots == NULL)
            return FALSE;
        if (roots->len > 0)
            record->previous =
                tree_reader_open(record->run->store, ((const TreeRoot *)g_ptr_array_index(roots, 0))->key,
                                 record->run->content_key, NULL);
    }
    *usable = record->previous != NULL;
    return TRUE;
}

/* What is known of a directory that could not be read now stays known. */
static gboolean keep_below(Record *record, const char *path, GError **error)
{
    gboolean usable = FALSE;
    g_autoptr(GError) local = NULL;
    if (!open_previous(record, &usable, error))
        return FALSE;
    if (!usable)
        return TRUE;
    if (!tree_reader_seek(record->previous, path, &local)) {
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    gsize length = strlen(path);
    S3Entry entry;
    int got = 0;
    while ((got = tree_reader_next(record->previous, &entry, error)) > 0) {
        if (length > 0 &&
            (strncmp(entry.path, path, length) != 0 || (entry.path[length] != '\0' && entry.path[length] != '/')))
            break;
        gboolean itself = entry.path[length] == '\0';
        if (!itself && !tree_writer_put(record->writer, &entry, error))
            return FALSE;
    }
    return got >= 0;
}

/* An entry with an object that this run has, or should have, written. */
static gboolean put_stored(Record *record, const S3Entry *planned, GError **error)
{
    g_autoptr(CatalogueRow) row = NULL;
    int found = catalogue_find(record->run->catalogue, planned->key, &row, error);
    if (found <= 0)
        return found == 0; /* it could not be stored, which was said */
    S3Entry entry = *planned;
    entry.meta.size = row->size;
    entry.meta.mtime_s = row->mtime_s;
    entry.meta.mtime_ns = row->mtime_ns;
    entry.object_size = row->object_size;
    entry.etag = row->etag;
    entry.version = row->version;
    entry.part_size = row->part_size;
    memcpy(entry.hash, row->hash, HASH_BYTES);
    return tree_writer_put(record->writer, &entry, error);
}

static gboolean put_item(Record *record, const S3PlanItem *item, GError **error)
{
    const S3Entry *entry = &item->entry;
    switch (item->op) {
    case S3PLAN_DELETE:
        return TRUE;
    case S3PLAN_UPLOAD:
    case S3PLAN_CHECK:
    case S3PLAN_TOUCH:
    case S3PLAN_COPY:
        return put_stored(record, entry, error);
    case S3PLAN_KEEP:
    case S3PLAN_META:
        break;
    }
    if (!tree_writer_put(record->writer, entry, error))
        return FALSE;
    gboolean unread =
        record->unread != NULL && S_ISDIR(entry->meta.mode) && g_hash_table_contains(record->unread, entry->path);
    return !unread || keep_below(record, entry->path, error);
}

gboolean record_tree(S3Run *run, S3Plan *plan, const ScanStats *scan, TreeWriter *writer, GError **error)
{
    Record record = {.run = run, .writer = writer, .unread = unread_paths(run, scan)};
    g_autoptr(S3PlanReader) reader = s3plan_reader_new(plan);
    S3PlanItem item;
    int got = 0;
    gboolean good = TRUE;
    while (good && (got = s3plan_reader_next(reader, &item, error)) > 0)
        good = put_item(&record, &item, error) && cancel_check(run->cancel, error);
    tree_reader_free(record.previous);
    if (record.unread != NULL)
        g_hash_table_destroy(record.unread);
    return good && got >= 0;
}

static gboolean put_row(Catalogue *catalogue, const S3Entry *entry, GError **error)
{
    if (entry->key == NULL || entry->etag == NULL || entry->etag[0] == '\0')
        return TRUE;
    CatalogueRow row = {.key = entry->key,
                        .object_size = entry->object_size,
                        .size = entry->meta.size,
                        .mtime_s = entry->meta.mtime_s,
                        .mtime_ns = entry->meta.mtime_ns,
                        .etag = entry->etag,
                        .version = entry->version,
                        .storage_class = "",
                        .part_size = entry->part_size};
    memcpy(row.hash, entry->hash, HASH_BYTES);
    return catalogue_put(catalogue, &row, error);
}

/* Whether a list of files that cannot be read ends the run. One that is damaged does not: without it everything is
 * looked at. But plain and encrypted objects shall not come to lie side by side. */
static gboolean is_other_kind(const GError *why, gboolean opened, const guint8 *content_key, const Store *store,
                              GError **error)
{
    if (error_is(why, BACKAPP_ERROR_TRANSIENT) || error_is(why, BACKAPP_ERROR_CANCELLED)) {
        g_propagate_error(error, g_error_copy(why));
        return TRUE;
    }
    if (opened)
        return FALSE; /* it is of this kind, and a part of it is damaged */
    if (content_key == NULL && error_is(why, BACKAPP_ERROR_DENIED)) {
        (void)record_other_kind(TRUE, store, error);
        return TRUE;
    }
    if (content_key != NULL && error_is(why, BACKAPP_ERROR_CORRUPT)) {
        (void)record_other_kind(FALSE, store, error);
        return TRUE;
    }
    return FALSE;
}

gboolean record_other_kind(gboolean encrypted, const Store *store, GError **error)
{
    if (encrypted)
        return error_set(
            error, BACKAPP_ERROR_INVALID,
            "%s holds an encrypted copy: encrypt this one too, with the same key, or choose another prefix",
            store->url);
    return error_set(error, BACKAPP_ERROR_INVALID,
                     "%s holds a copy that is not encrypted, or encrypted with another key: choose another prefix",
                     store->url);
}

/* Opens the newest root; *why tells what it says if it cannot be read. 0 if there is none, -1 on error. */
static int open_newest(Store *store, const guint8 *content_key, TreeReader **reader, GError **why, GError **error)
{
    g_autoptr(GPtrArray) roots = tree_list_roots(store, error);
    if (roots == NULL || roots->len == 0)
        return roots != NULL ? 0 : -1;
    const TreeRoot *newest = g_ptr_array_index(roots, 0);
    *reader = tree_reader_open(store, newest->key, content_key, why);
    return 1;
}

gboolean record_check_kind(Store *store, const guint8 *content_key, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(TreeReader) reader = NULL;
    int found = open_newest(store, content_key, &reader, &local, error);
    if (found <= 0)
        return found == 0;
    return reader != NULL || !is_other_kind(local, FALSE, content_key, store, error);
}

gboolean record_rebuild(Catalogue *catalogue, Store *store, const guint8 *content_key, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(TreeReader) reader = NULL;
    int found = open_newest(store, content_key, &reader, &local, error);
    if (found <= 0)
        return found == 0;
    S3Entry entry;
    int got = reader != NULL ? 1 : -1;
    while (got > 0 && (got = tree_reader_next(reader, &entry, &local)) > 0) {
        if (!put_row(catalogue, &entry, error))
            return FALSE;
    }
    if (got < 0 && is_other_kind(local, reader != NULL, content_key, store, error))
        return FALSE;
    return catalogue_flush(catalogue, error);
}
