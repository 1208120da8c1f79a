#include "engine/archive/members.h"

#include <string.h>

#include "base/error.h"
#include "engine/archive/stored_file.h"

typedef struct {
    StoredFile *file;
    guint64 used;
} Feed;

static gboolean feed(gpointer user_data, const void *data, gsize length, GError **error)
{
    Feed *state = user_data;
    gsize used = 0;
    if (!stored_file_feed(state->file, data, length, &used, error))
        return FALSE;
    state->used += used;
    return TRUE;
}

gboolean members_content(Members *members, guint number, const IndexEntry *entry, MembersWriteAt write,
                         gpointer user_data, GError **error)
{
    g_autoptr(StoredFile) file = stored_file_new();
    Feed state = {.file = file};
    guint64 at = 0, end = members_tar_size(members, number);
    if (entry->header_length > G_MAXUINT64 - entry->tar_offset)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its place in the archive cannot be");
    at = entry->tar_offset + entry->header_length;
    stored_file_begin(file, entry->entry.meta.size, (entry->flags & INDEX_SPARSE) != 0, write, user_data);
    while (stored_file_wanted(file) > 0) {
        if (at >= end)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "its content goes on behind the end of the archive");
        /* While the length of a map is not known, less may be there than is asked for. */
        guint64 want = MIN(stored_file_wanted(file), end - at);
        state.used = 0;
        if (!members_read(members, number, at, want, feed, &state, error))
            return FALSE;
        at += state.used;
    }
    guint8 hash[HASH_BYTES];
    stored_file_finish(file, hash);
    if (entry->entry.part_size > 0 && memcmp(hash, entry->entry.hash, HASH_BYTES) != 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its content in the archive is not what was stored");
    return TRUE;
}
