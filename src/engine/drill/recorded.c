#include "engine/drill/recorded.h"

#include "base/error.h"
#include "engine/mirror/hashes.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* The entries by path, without those whose content is that of a kept version. */
static GHashTable *by_path(const GPtrArray *entries)
{
    GHashTable *table = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < entries->len; i++) {
        const RestoreEntry *entry = g_ptr_array_index(entries, i);
        if (!entry->entry.key || strcmp(entry->entry.key, entry->entry.path) == 0)
            g_hash_table_insert(table, (gpointer)entry->entry.path, (gpointer)entry);
    }
    return table;
}

static gboolean is_of(const HashRecord *record, const RestoreEntry *entry)
{
    const FileMeta *meta = &entry->entry.meta;
    return record->size == meta->size && record->mtime_s == meta->mtime_s && record->mtime_ns == meta->mtime_ns;
}

static gboolean read_records(Destination *dest, GHashTable *wanted, GHashTable *found, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GHashTable) dropped = hashes_dropped(dest, error);
    if (!dropped)
        return FALSE;
    g_autoptr(HashesReader) reader = hashes_reader_open(dest, &local);
    if (!reader) {
        gboolean none = !local;
        if (local)
            g_propagate_error(error, g_steal_pointer(&local));
        return none;
    }
    HashRecord record;
    int more;
    while ((more = hashes_reader_next(reader, &record, error)) > 0) {
        const RestoreEntry *entry = g_hash_table_lookup(wanted, record.path);
        if (entry && is_of(&record, entry) && !hashes_is_dropped(dropped, record.path))
            g_hash_table_insert(found, g_strdup(record.path), g_memdup2(record.hash, HASH_BYTES));
    }
    return more == 0;
}

GHashTable *recorded_find(const char *directory, const GPtrArray *entries, GError **error)
{
    g_autoptr(GHashTable) wanted = by_path(entries);
    g_autoptr(GHashTable) found = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *path = g_build_filename(directory, DESTINATION_STATE_DIR, NULL);
    g_auto(AutoFd) state = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (state < 0) {
        (void)error_set_errno(error, errno, "cannot open %s", path);
        return NULL;
    }
    /* Opened for real it would take the lock and write: its records need no more than this. */
    Destination dest = {.path = (char *)directory, .root_fd = -1, .state_fd = state};
    return read_records(&dest, wanted, found, error) ? g_steal_pointer(&found) : NULL;
}
