#include "engine/archive/index_format.h"
#include "engine/archive/index_output.h"

#include "base/human.h"
#include "crypto/digest.h"

#include <string.h>
#include <sys/stat.h>

struct IndexWriter {
    char *place_name, *base;
    ArchiveName name;
    const CancelFlag *cancel;
    IndexOutput *output;
    IndexPacker *packer;
    guint64 offset; /* of what is written next */

    /* The block that is being filled. */
    GByteArray *raw;
    IndexBlock block;
    GString *first; /* path of its first entry */

    GByteArray *table, *packed;
    GString *previous; /* path of the last entry */
    gboolean previous_is_directory;
    guint64 entries, deletions;
    gboolean over; /* committed, or failed */
};

IndexWriter *index_writer_new(const ArchivePlace *place, const char *base, const char *storage_class,
                              const CancelFlag *cancel, GError **error)
{
    g_autoptr(IndexWriter) writer = g_new0(IndexWriter, 1);
    if (!archive_name_parse(base, &writer->name) || writer->name.volume != 0 ||
        writer->name.role == ARCHIVE_OBJECT_INDEX) {
        (void)error_set(error, BACKAPP_ERROR_INTERNAL, "%s is no archive's name", base);
        return NULL;
    }
    if (writer->name.encrypted && !place->content_key) {
        (void)error_set(error, BACKAPP_ERROR_INTERNAL, "there is no key to encrypt %s with", base);
        return NULL;
    }
    writer->place_name = g_strdup(place->name);
    writer->base = g_strdup(base);
    writer->cancel = cancel;
    writer->packer = index_packer_new();
    writer->raw = g_byte_array_new();
    writer->first = g_string_new(NULL);
    writer->table = g_byte_array_new();
    writer->packed = g_byte_array_new();
    writer->previous = g_string_new(NULL);
    g_autofree char *key = archive_index_key(place->name, base);
    g_autofree char *associated =
        writer->name.encrypted ? archive_associated(place->name, base, 0, ARCHIVE_OBJECT_INDEX) : NULL;
    writer->output = index_output_new(place, key, associated, storage_class, cancel, error);
    if (!writer->output || !index_output_write(writer->output, (const guint8 *)INDEX_MAGIC, INDEX_MAGIC_BYTES, error))
        return NULL;
    writer->offset = INDEX_MAGIC_BYTES;
    return g_steal_pointer(&writer);
}

static gboolean write_packed(IndexWriter *writer, const guint8 *data, gsize length, IndexSpan *span, GError **error)
{
    g_byte_array_set_size(writer->packed, 0);
    if (!cancel_check(writer->cancel, error) ||
        !index_pack(writer->packer, data, length, writer->packed, span, error) ||
        !index_output_write(writer->output, writer->packed->data, writer->packed->len, error))
        return FALSE;
    span->offset = writer->offset;
    writer->offset += span->stored;
    return TRUE;
}

/* Writes the block that was filled, if there is anything in it, and its line of the table. */
static gboolean end_block(IndexWriter *writer, GError **error)
{
    if (writer->block.count == 0)
        return TRUE;
    if (!write_packed(writer, writer->raw->data, writer->raw->len, &writer->block.span, error))
        return FALSE;
    writer->block.path = writer->block.members ? NULL : writer->first->str;
    index_table_put(writer->table, &writer->block);
    writer->block = (IndexBlock){0};
    g_byte_array_set_size(writer->raw, 0);
    return writer->table->len <= INDEX_TABLE_MAX ||
           error_set(error, BACKAPP_ERROR_INVALID, "the index has too many long paths");
}

static gboolean check_order(IndexWriter *writer, const S3Entry *entry, gboolean is_directory, GError **error)
{
    if (writer->entries == 0 ||
        index_compare_paths(writer->previous->str, writer->previous_is_directory, entry->path, is_directory) < 0)
        return TRUE;
    g_autofree char *shown = human_name(entry->path, -1);
    return error_set(error, BACKAPP_ERROR_INTERNAL, "%s comes to the index out of order", shown);
}

static gboolean put_entry(IndexWriter *writer, const IndexEntry *entry, GError **error)
{
    const S3Entry *of = &entry->entry;
    gboolean is_directory = S_ISDIR(of->meta.mode);
    if (!check_order(writer, of, is_directory, error))
        return FALSE;
    gboolean first = writer->block.count == 0;
    if (first) {
        g_string_assign(writer->first, of->path);
        writer->block.directory = is_directory;
    }
    index_entry_encode(entry, first ? "" : writer->previous->str, writer->raw);
    if (writer->raw->len > INDEX_BLOCK_MAX) {
        g_autofree char *shown = human_name(of->path, -1);
        return error_set(error, BACKAPP_ERROR_INVALID, "%s has more metadata than an index can hold", shown);
    }
    g_string_assign(writer->previous, of->path);
    writer->previous_is_directory = is_directory;
    writer->block.count++;
    writer->entries++;
    writer->deletions += (entry->flags & INDEX_DELETED) != 0;
    return writer->raw->len < INDEX_BLOCK_BYTES || end_block(writer, error);
}

gboolean index_writer_put(IndexWriter *writer, const IndexEntry *entry, GError **error)
{
    if (writer->over)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the index of %s is no longer written", writer->base);
    writer->over = !put_entry(writer, entry, error);
    return !writer->over;
}

/* The members' places: their lengths, with where the first of each block lies. */
static gboolean write_members(IndexWriter *writer, const ArchivePoint *point, const GArray *lengths, GError **error)
{
    guint64 packed_offset = 0;
    guint volume = 0;
    for (guint i = 0; i < point->members; i++) {
        if (volume + 1 < point->volumes->len &&
            i == g_array_index(point->volumes, ArchiveVolume, volume + 1).first_member) {
            volume++;
            packed_offset = 0;
        }
        if (writer->block.count == 0)
            writer->block =
                (IndexBlock){.members = TRUE, .member = i, .volume = volume, .packed_offset = packed_offset};
        guint32 length = g_array_index(lengths, guint32, i);
        bytes_put_varint(writer->raw, length);
        packed_offset += length;
        if (++writer->block.count == INDEX_BLOCK_MEMBERS && !end_block(writer, error))
            return FALSE;
    }
    return end_block(writer, error);
}

/* What is written has to be what a reader believes. */
static gboolean check_members(const ArchivePoint *point, const GArray *lengths, GError **error)
{
    guint64 stated = 0, sum = 0;
    for (guint i = 0; i < point->volumes->len; i++)
        stated += g_array_index(point->volumes, ArchiveVolume, i).packed_size;
    for (guint i = 0; lengths && i < lengths->len; i++)
        sum += g_array_index(lengths, guint32, i);
    if (point->members == (lengths ? lengths->len : 0) && stated == sum)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_INTERNAL, "the members of %s do not make up its volumes", point->base);
}

static gboolean write_end(IndexWriter *writer, ArchivePoint *point, GError **error)
{
    IndexSpan table = {0};
    if (!write_packed(writer, writer->table->data, writer->table->len, &table, error))
        return FALSE;
    g_autoptr(GByteArray) footer = index_footer_print(point, &table, error);
    if (!footer)
        return FALSE;
    guint32 length = footer->len;
    digest_sha256(footer->data, length, point->hash);
    index_tail_put(footer, writer->offset, length, point->hash);
    return index_output_write(writer->output, footer->data, footer->len, error);
}

static gboolean commit(IndexWriter *writer, ArchivePoint *point, const GArray *lengths, guint64 *stored, GError **error)
{
    if (g_strcmp0(point->base, writer->base) != 0 || g_strcmp0(point->place_name, writer->place_name) != 0)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the index of %s cannot be that of another archive",
                         writer->base);
    if (!point->volumes)
        point->volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    point->name = writer->name;
    point->name.role = ARCHIVE_OBJECT_INDEX;
    point->entries = writer->entries;
    point->deletions = writer->deletions;
    return index_point_check(point, BACKAPP_ERROR_INTERNAL, error) && check_members(point, lengths, error) &&
           end_block(writer, error) && write_members(writer, point, lengths, error) &&
           write_end(writer, point, error) && index_output_finish(writer->output, stored, error);
}

gboolean index_writer_commit(IndexWriter *writer, ArchivePoint *point, const GArray *packed_lengths, guint64 *stored,
                             GError **error)
{
    guint64 bytes = 0;
    if (writer->over)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the index of %s is no longer written", writer->base);
    writer->over = TRUE;
    if (!commit(writer, point, packed_lengths, &bytes, error)) {
        g_prefix_error(error, "cannot write the index of %s: ", writer->base);
        return FALSE;
    }
    if (stored)
        *stored = bytes;
    return TRUE;
}

void index_writer_free(IndexWriter *writer)
{
    if (!writer)
        return;
    index_output_free(writer->output);
    index_packer_free(writer->packer);
    g_clear_pointer(&writer->raw, g_byte_array_unref);
    g_clear_pointer(&writer->table, g_byte_array_unref);
    g_clear_pointer(&writer->packed, g_byte_array_unref);
    if (writer->first)
        g_string_free(writer->first, TRUE);
    if (writer->previous)
        g_string_free(writer->previous, TRUE);
    g_free(writer->place_name);
    g_free(writer->base);
    g_free(writer);
}
