#include "engine/archive/index_open.h"

#include <string.h>
#include <sys/stat.h>

/* Of stored blocks so much is read ahead when an index is read from end to end. */
#define WINDOW_MAX   ((gsize)1 << 20)
#define WINDOW_FIRST ((gsize)32 << 10)

struct IndexReader {
    Index *index;
    guint next_block;
    /* Stored bytes that were read ahead. */
    GByteArray *window;
    guint64 window_offset;
    gsize window_size, window_max; /* how much is read next, and at most */
    /* The block at hand. */
    GByteArray *raw;
    BytesReader in;
    guint64 left; /* entries that are still in it */
    guint64 number;
    gboolean begun; /* an entry of any block was given */

    GByteArray *arena;
    GString *path; /* of the entry before */
    gboolean path_is_directory;
    gboolean skipped; /* the entry that was found by the search is in `found` */
    IndexEntry found;
};

static const IndexBlock *block_at(const Index *index, guint number)
{
    return &g_array_index(index->blocks, IndexBlock, number);
}

/* Reads the block's stored bytes, and more blocks behind it while they fit the window. */
static gboolean fill_window(IndexReader *reader, guint number, GError **error)
{
    const Index *index = reader->index;
    const IndexBlock *first = block_at(index, number);
    guint64 length = first->span.stored;
    for (guint i = number + 1; i < index->entry_blocks; i++) {
        guint64 more = block_at(index, i)->span.stored;
        if (length + more > reader->window_size)
            break;
        length += more;
    }
    /* Who goes on reading reads all. */
    reader->window_size = MIN(reader->window_size * 4, reader->window_max);
    g_byte_array_set_size(reader->window, (guint)length);
    reader->window_offset = first->span.offset;
    return index_fetch(reader->index, first->span.offset, (gsize)length, reader->window->data, error);
}

/* The stored bytes of a block; NULL on error. */
static const guint8 *stored_bytes(IndexReader *reader, guint number, GError **error)
{
    const IndexBlock *block = block_at(reader->index, number);
    const IndexSpan *span = &block->span;
    if (span->offset >= reader->index->tail_offset)
        return reader->index->tail->data + (span->offset - reader->index->tail_offset);
    if (span->offset < reader->window_offset ||
        span->offset + span->stored > reader->window_offset + reader->window->len) {
        if (!fill_window(reader, number, error)) {
            g_byte_array_set_size(reader->window, 0);
            return NULL;
        }
    }
    return reader->window->data + (span->offset - reader->window_offset);
}

static gboolean open_block(IndexReader *reader, guint number, GError **error)
{
    const IndexBlock *block = block_at(reader->index, number);
    const guint8 *stored = stored_bytes(reader, number, error);
    if (!stored || !index_unpack(&block->span, stored, reader->raw, error))
        return index_bad_block(reader->index, number, error);
    reader->in = bytes_reader(reader->raw->data, reader->raw->len);
    reader->left = block->count;
    reader->number = number;
    return TRUE;
}

/* What an entry says has to fit what is said of it elsewhere. */
static gboolean check_entry(const IndexReader *reader, const IndexEntry *entry, gboolean first, GError **error)
{
    const Index *index = reader->index;
    const IndexBlock *block = block_at(index, (guint)reader->number);
    gboolean is_directory = S_ISDIR(entry->entry.meta.mode);
    if (first && (strcmp(block->path, entry->entry.path) != 0 || block->directory != is_directory))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "it begins with another path than the table says");
    if (reader->begun &&
        index_compare_paths(reader->path->str, reader->path_is_directory, entry->entry.path, is_directory) >= 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its paths are out of order");
    if ((entry->flags & INDEX_STORED) != 0 && (entry->tar_offset >= index->point->tar_size ||
                                               entry->header_length > index->point->tar_size - entry->tar_offset))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "an entry lies behind the end of the archive");
    return TRUE;
}

/* The next entry of the block at hand, which has one. */
static gboolean read_entry(IndexReader *reader, IndexEntry *entry, GError **error)
{
    gboolean first = reader->in.at == reader->raw->data;
    g_byte_array_set_size(reader->arena, 0);
    if (!index_entry_decode(&reader->in, first ? "" : reader->path->str, reader->arena, entry, error) ||
        !check_entry(reader, entry, first, error))
        return FALSE;
    g_string_assign(reader->path, entry->entry.path);
    reader->path_is_directory = S_ISDIR(entry->entry.meta.mode);
    reader->begun = TRUE;
    if (--reader->left == 0 && !bytes_reader_done(&reader->in))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "it has more bytes than entries");
    return TRUE;
}

static int next_entry(IndexReader *reader, IndexEntry *entry, GError **error)
{
    if (reader->left == 0) {
        if (reader->next_block >= reader->index->entry_blocks)
            return 0;
        if (!open_block(reader, reader->next_block, error))
            return -1;
        reader->next_block++;
    }
    if (read_entry(reader, entry, error))
        return 1;
    (void)index_bad_block(reader->index, (guint)reader->number, error);
    return -1;
}

int index_reader_next(IndexReader *reader, IndexEntry *entry, GError **error)
{
    if (!reader->skipped)
        return next_entry(reader, entry, error);
    reader->skipped = FALSE;
    *entry = reader->found;
    return 1;
}

/* The last block that begins at the path or before it; 0 if none does. */
static guint find_block(const Index *index, const char *from, gboolean from_is_directory)
{
    guint low = 0, high = index->entry_blocks;
    while (high - low > 1) {
        guint middle = low + (high - low) / 2;
        const IndexBlock *block = block_at(index, middle);
        if (index_compare_paths(block->path, block->directory, from, from_is_directory) <= 0)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static gboolean seek(IndexReader *reader, const char *from, gboolean from_is_directory, GError **error)
{
    if (reader->index->entry_blocks == 0)
        return TRUE;
    reader->next_block = find_block(reader->index, from, from_is_directory);
    int more;
    while ((more = next_entry(reader, &reader->found, error)) > 0) {
        const S3Entry *of = &reader->found.entry;
        if (index_compare_paths(of->path, S_ISDIR(of->meta.mode), from, from_is_directory) < 0)
            continue;
        reader->skipped = TRUE;
        return TRUE;
    }
    return more == 0;
}

IndexReader *index_read_window(Index *index, const char *from, gboolean from_is_directory, gsize window, GError **error)
{
    if (!index_load_table(index, error))
        return NULL;
    g_autoptr(IndexReader) reader = g_new0(IndexReader, 1);
    reader->index = index;
    reader->window = g_byte_array_new();
    reader->window_max = MIN(window, WINDOW_MAX);
    /* Of an encrypted index whole segments come in any case. */
    reader->window_size = index->encrypted ? reader->window_max : MIN(WINDOW_FIRST, reader->window_max);
    reader->raw = g_byte_array_new();
    reader->arena = g_byte_array_new();
    reader->path = g_string_new(NULL);
    if (from && *from != '\0' && !seek(reader, from, from_is_directory, error))
        return NULL;
    return g_steal_pointer(&reader);
}

IndexReader *index_read(Index *index, const char *from, gboolean from_is_directory, GError **error)
{
    return index_read_window(index, from, from_is_directory, WINDOW_MAX, error);
}

void index_reader_free(IndexReader *reader)
{
    if (!reader)
        return;
    g_byte_array_unref(reader->window);
    g_byte_array_unref(reader->raw);
    g_byte_array_unref(reader->arena);
    g_string_free(reader->path, TRUE);
    g_free(reader);
}

gboolean index_check(Index *index, guint64 *entries, GError **error)
{
    guint64 count = 0, deletions = 0;
    IndexEntry entry;
    int more;
    if (!index_check_magic(index, error))
        return FALSE;
    g_autoptr(IndexReader) reader = index_read(index, NULL, FALSE, error);
    if (!reader)
        return FALSE;
    while ((more = index_reader_next(reader, &entry, error)) > 0) {
        count++;
        deletions += (entry.flags & INDEX_DELETED) != 0;
    }
    for (guint i = index->entry_blocks; more == 0 && i < index->blocks->len; i++) {
        g_autoptr(GArray) places = index_read_members(index, i, error);
        if (!places)
            return FALSE;
    }
    if (entries)
        *entries = count;
    if (more == 0 && deletions != index->point->deletions)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the index %s: it has other deletions than its footer says",
                         index->shown);
    return more == 0;
}
