#include "engine/archive/index_format.h"

#include "crypto/digest.h"

#include <libdeflate.h>
#include <string.h>

#define TAIL_MAGIC "BAIXTAIL"
#define ZLIB_LEVEL 6
/* No zlib stream expands to more than 1032 times its length; what a short one holds comes on top. */
#define EXPANDS_MAX  1040
#define PATH_MAX_LEN ((gsize)8 << 20)

enum { KIND_ENTRIES = 1, KIND_MEMBERS = 2 };

struct IndexPacker {
    struct libdeflate_compressor *compressor;
};

IndexPacker *index_packer_new(void)
{
    IndexPacker *packer = g_new0(IndexPacker, 1);
    packer->compressor = libdeflate_alloc_compressor(ZLIB_LEVEL);
    return packer;
}

void index_packer_free(IndexPacker *packer)
{
    if (!packer)
        return;
    if (packer->compressor)
        libdeflate_free_compressor(packer->compressor);
    g_free(packer);
}

gboolean index_pack(IndexPacker *packer, const guint8 *data, gsize length, GByteArray *out, IndexSpan *span,
                    GError **error)
{
    if (!packer->compressor)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "out of memory for compressing an index");
    gsize bound = libdeflate_zlib_compress_bound(packer->compressor, length);
    guint start = out->len;
    g_assert(bound <= G_MAXUINT - start);
    g_byte_array_set_size(out, start + (guint)bound);
    gsize stored = libdeflate_zlib_compress(packer->compressor, data, length, out->data + start, bound);
    g_assert(stored > 0);
    g_byte_array_set_size(out, start + (guint)stored);
    span->stored = stored;
    span->raw = length;
    digest_sha256(out->data + start, stored, span->hash);
    return TRUE;
}

gboolean index_unpack(const IndexSpan *span, const guint8 *stored, GByteArray *out, GError **error)
{
    guint8 hash[HASH_BYTES];
    digest_sha256(stored, span->stored, hash);
    if (memcmp(hash, span->hash, HASH_BYTES) != 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its SHA-256 is another than recorded");
    if (span->raw > INDEX_TABLE_MAX || span->raw > span->stored * EXPANDS_MAX)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "it cannot expand to %" G_GUINT64_FORMAT " bytes", span->raw);
    g_byte_array_set_size(out, (guint)span->raw);
    struct libdeflate_decompressor *expander = libdeflate_alloc_decompressor();
    if (!expander)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "out of memory for expanding an index");
    gsize used = 0;
    static guint8 nothing[1];
    enum libdeflate_result result = libdeflate_zlib_decompress_ex(
        expander, stored, span->stored, out->len > 0 ? out->data : nothing, span->raw, &used, NULL);
    libdeflate_free_decompressor(expander);
    if (result == LIBDEFLATE_SUCCESS && used == span->stored)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT, "it does not expand to %" G_GUINT64_FORMAT " bytes", span->raw);
}

void index_table_put(GByteArray *table, const IndexBlock *block)
{
    bytes_put_varint(table, block->members ? KIND_MEMBERS : KIND_ENTRIES);
    bytes_put_varint(table, block->span.offset);
    bytes_put_varint(table, block->span.stored);
    bytes_put_varint(table, block->span.raw);
    g_byte_array_append(table, block->span.hash, HASH_BYTES);
    bytes_put_varint(table, block->count);
    if (block->members) {
        bytes_put_varint(table, block->member);
        bytes_put_varint(table, block->volume);
        bytes_put_varint(table, block->packed_offset);
        return;
    }
    bytes_put_varint(table, block->directory ? 1 : 0);
    /* With its zero byte, so that reading needs no copy. */
    bytes_put_blob(table, block->path, strlen(block->path) + 1);
}

static void get_path(BytesReader *in, IndexBlock *block)
{
    guint64 directory = bytes_get_varint(in);
    gsize length = 0;
    const guint8 *path = bytes_get_blob(in, PATH_MAX_LEN, &length);
    if (path == NULL || directory > 1 || length == 0 || memchr(path, 0, length) != path + length - 1) {
        in->bad = TRUE;
        return;
    }
    block->directory = directory != 0;
    block->path = (const char *)path;
}

static void get_block(BytesReader *in, IndexBlock *block)
{
    guint64 kind = bytes_get_varint(in);
    block->span.offset = bytes_get_varint(in);
    block->span.stored = bytes_get_varint(in);
    block->span.raw = bytes_get_varint(in);
    if (in->bad || in->end - in->at < HASH_BYTES) {
        in->bad = TRUE;
        return;
    }
    memcpy(block->span.hash, in->at, HASH_BYTES);
    in->at += HASH_BYTES;
    block->count = bytes_get_varint(in);
    block->members = kind == KIND_MEMBERS;
    if (block->members) {
        block->member = bytes_get_varint(in);
        guint64 volume = bytes_get_varint(in);
        block->volume = (guint)MIN(volume, ARCHIVE_VOLUMES_MAX);
        block->packed_offset = bytes_get_varint(in);
        in->bad |= volume >= ARCHIVE_VOLUMES_MAX;
    } else {
        get_path(in, block);
        in->bad |= kind != KIND_ENTRIES;
    }
    in->bad |= block->span.stored == 0 || block->span.raw == 0 || block->span.raw > INDEX_BLOCK_MAX ||
               block->span.stored > 2 * INDEX_BLOCK_MAX || block->count == 0 || block->count > block->span.raw;
}

/* A block goes on where the one before ended; first come entries in ascending order, then members. */
static gboolean follows(const IndexBlock *before, const IndexBlock *block)
{
    if (!before)
        return block->span.offset == INDEX_MAGIC_BYTES && (!block->members || block->member == 0);
    if (block->span.offset != before->span.offset + before->span.stored)
        return FALSE;
    if (block->members)
        return block->member == (before->members ? before->member + before->count : 0);
    return !before->members && index_compare_paths(before->path, before->directory, block->path, block->directory) < 0;
}

gboolean index_table_read(const guint8 *raw, gsize length, guint64 end, GArray *blocks, GError **error)
{
    BytesReader in = bytes_reader(raw, length);
    guint64 reached = INDEX_MAGIC_BYTES;
    while (!in.bad && in.at < in.end) {
        IndexBlock block = {0};
        get_block(&in, &block);
        const IndexBlock *before = blocks->len > 0 ? &g_array_index(blocks, IndexBlock, blocks->len - 1) : NULL;
        if (in.bad || !follows(before, &block))
            return error_set(error, BACKAPP_ERROR_CORRUPT, "its table is damaged at block %u", blocks->len);
        reached = block.span.offset + block.span.stored;
        g_array_append_val(blocks, block);
    }
    return (!in.bad && reached == end) ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "its table does not tell of all that is before it");
}

void index_tail_put(GByteArray *out, guint64 footer_offset, guint32 footer_length, const guint8 hash[HASH_BYTES])
{
    bytes_put_u64(out, footer_offset);
    bytes_put_u32(out, footer_length);
    bytes_put_u32(out, 0);
    g_byte_array_append(out, hash, HASH_BYTES);
    g_byte_array_append(out, (const guint8 *)TAIL_MAGIC, strlen(TAIL_MAGIC));
}

gboolean index_tail_read(const guint8 *tail, guint64 *footer_offset, guint32 *footer_length, guint8 hash[HASH_BYTES],
                         GError **error)
{
    BytesReader in = bytes_reader(tail, INDEX_TAIL_BYTES);
    *footer_offset = bytes_get_u64(&in);
    *footer_length = bytes_get_u32(&in);
    guint32 reserved = bytes_get_u32(&in);
    memcpy(hash, in.at, HASH_BYTES);
    in.at += HASH_BYTES;
    if (memcmp(in.at, TAIL_MAGIC, strlen(TAIL_MAGIC)) == 0 && reserved == 0 && *footer_length > 0 &&
        *footer_length <= INDEX_FOOTER_MAX)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT, "its end is not that of an index: it is damaged, or cut off");
}

/* One member at *place, which then is where the next one begins. */
static gboolean put_place(GArray *places, IndexMember *place, guint64 number, guint64 length, const ArchivePoint *point)
{
    const GArray *volumes = point->volumes;
    const ArchiveVolume *volume = &g_array_index(volumes, ArchiveVolume, place->volume);
    if (length == 0 || length > INDEX_MEMBER_MAX || place->offset > volume->packed_size ||
        length > volume->packed_size - place->offset)
        return FALSE;
    place->length = (guint32)length;
    g_array_append_val(places, *place);
    place->offset += length;
    guint64 end = place->volume + 1 < volumes->len
                      ? g_array_index(volumes, ArchiveVolume, place->volume + 1).first_member
                      : point->members;
    if (number + 1 < end)
        return TRUE;
    if (number + 1 > end || place->offset != volume->packed_size)
        return FALSE;
    *place = (IndexMember){.volume = place->volume + 1};
    return TRUE;
}

gboolean index_members_read(const guint8 *raw, gsize length, const IndexBlock *block, const ArchivePoint *point,
                            GArray *places, GError **error)
{
    BytesReader in = bytes_reader(raw, length);
    IndexMember place = {.offset = block->packed_offset, .volume = block->volume};
    gboolean good = TRUE;
    for (guint64 i = 0; good && i < block->count; i++) {
        guint64 packed = bytes_get_varint(&in);
        good = !in.bad && place.volume < point->volumes->len &&
               block->member + i >= g_array_index(point->volumes, ArchiveVolume, place.volume).first_member &&
               put_place(places, &place, block->member + i, packed, point);
    }
    return (good && bytes_reader_done(&in)) ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "its lengths of members do not fit the volumes");
}
