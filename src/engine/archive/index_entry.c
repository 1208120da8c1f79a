#include "engine/archive/index.h"

#include "base/error.h"
#include "fs/dir.h"

#include <string.h>
#include <sys/stat.h>

#define ALL_FLAGS (INDEX_DELETED | INDEX_STORED | INDEX_SPARSE | INDEX_CHANGED)

int index_compare_paths(const char *a, gboolean a_is_directory, const char *b, gboolean b_is_directory)
{
    /* The root is before everything; with a slash at its end it would not be. */
    if (*a == '\0' || *b == '\0')
        return (*a != '\0') - (*b != '\0');
    gsize i = 0;
    while (a[i] == b[i] && a[i] != '\0')
        i++;
    if (a[i] == b[i])
        return (a_is_directory != FALSE) - (b_is_directory != FALSE);
    guint8 left = a[i] != '\0' ? (guint8)a[i] : a_is_directory ? '/' : 0;
    guint8 right = b[i] != '\0' ? (guint8)b[i] : b_is_directory ? '/' : 0;
    if (left != right)
        return left < right ? -1 : 1;
    /* A directory and what is in it. */
    return a[i] == '\0' ? -1 : 1;
}

void index_entry_encode(const IndexEntry *entry, const char *previous_path, GByteArray *out)
{
    bytes_put_varint(out, entry->flags);
    if ((entry->flags & INDEX_DELETED) != 0) {
        S3Entry bare = {.path = entry->entry.path, .meta.mode = entry->entry.meta.mode & S_IFMT};
        entry_encode(&bare, previous_path, out);
        return;
    }
    entry_encode(&entry->entry, previous_path, out);
    if ((entry->flags & INDEX_STORED) == 0)
        return;
    bytes_put_varint(out, entry->tar_offset);
    bytes_put_varint(out, entry->header_length);
}

static gboolean is_sound(const IndexEntry *entry)
{
    const S3Entry *of = &entry->entry;
    if (of->path[0] == '\0' ? !S_ISDIR(of->meta.mode) : !dir_is_inner_path(of->path))
        return FALSE;
    if (of->link != NULL && !dir_is_inner_path(of->link))
        return FALSE;
    /* A deletion stands alone; sparse is what is stored. */
    if ((entry->flags & INDEX_DELETED) != 0 && entry->flags != INDEX_DELETED)
        return FALSE;
    return (entry->flags & INDEX_SPARSE) == 0 || (entry->flags & INDEX_STORED) != 0;
}

gboolean index_entry_decode(BytesReader *in, const char *previous_path, GByteArray *arena, IndexEntry *entry,
                            GError **error)
{
    *entry = (IndexEntry){0};
    guint64 flags = bytes_get_varint(in);
    if (!entry_decode(in, previous_path, arena, &entry->entry, error))
        return FALSE;
    entry->flags = (guint)(flags & ALL_FLAGS);
    if ((flags & INDEX_STORED) != 0) {
        guint64 length;
        entry->tar_offset = bytes_get_varint(in);
        length = bytes_get_varint(in);
        entry->header_length = (guint32)length;
        in->bad |= length != entry->header_length;
    }
    if (!in->bad && flags == entry->flags && is_sound(entry))
        return TRUE;
    *entry = (IndexEntry){0};
    in->bad = TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT, "an entry is damaged");
}
