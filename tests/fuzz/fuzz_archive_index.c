/*
 * The index of an archive from the input's bytes, whole or one of its parts. What must hold: reading ends, never outside
 * the bytes, and never takes more memory than what is there can fill; what can be read is written as something that
 * reads the same; entries come in order and none leads out of the tree.
 */
#include "crypto/digest.h"
#include "engine/archive/index_format.h"
#include "store/drivers.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BASE "2026-11-20T020000Z-incremental.tar.gz"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_entries(const guint8 *data, gsize size)
{
    BytesReader in = bytes_reader(data, size);
    g_autoptr(GByteArray) arena = g_byte_array_new(), other = g_byte_array_new(), out = g_byte_array_new();
    g_autoptr(GString) previous = g_string_new(NULL);
    IndexEntry entry, same;
    while (in.at < in.end) {
        g_byte_array_set_size(arena, 0);
        if (!index_entry_decode(&in, previous->str, arena, &entry, NULL))
            return;
        g_assert_true(entry.entry.path[0] != '/' && !g_str_has_prefix(entry.entry.path, "../"));
        g_byte_array_set_size(out, 0);
        g_byte_array_set_size(other, 0);
        index_entry_encode(&entry, previous->str, out);
        BytesReader back = bytes_reader(out->data, out->len);
        g_assert_true(index_entry_decode(&back, previous->str, other, &same, NULL) && bytes_reader_done(&back));
        g_assert_cmpstr(same.entry.path, ==, entry.entry.path);
        g_assert_true(same.flags == entry.flags && same.tar_offset == entry.tar_offset);
        g_string_assign(previous, entry.entry.path);
    }
}

static void try_footer(const guint8 *data, gsize size)
{
    IndexSpan table = {0}, again = {0};
    g_autoptr(ArchivePoint) point = index_footer_parse(data, size, &table, NULL);
    if (!point)
        return;
    g_autoptr(GError) error = NULL;
    g_autoptr(GByteArray) out = index_footer_print(point, &table, &error);
    /* Escapes may become longer than a footer may be. */
    if (!out)
        return;
    g_autoptr(ArchivePoint) same = index_footer_parse(out->data, out->len, &again, NULL);
    g_assert_nonnull(same);
    g_assert_cmpstr(same->base, ==, point->base);
    g_assert_cmpstr(same->parent, ==, point->parent);
    g_assert_true(memcmp(&table, &again, sizeof table) == 0 && same->volumes->len == point->volumes->len);
}

/* A table, and the lengths of its blocks of members by the same bytes. */
static void try_table(const guint8 *data, gsize size)
{
    g_autoptr(GArray) blocks = g_array_new(FALSE, TRUE, sizeof(IndexBlock));
    guint64 end = 0;
    if (size < 8)
        return;
    memcpy(&end, data, sizeof end);
    gboolean good = index_table_read(data + 8, size - 8, GUINT64_FROM_LE(end), blocks, NULL);
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (guint i = 0; i < blocks->len; i++)
        index_table_put(out, &g_array_index(blocks, IndexBlock, i));
    g_autoptr(GArray) again = g_array_new(FALSE, TRUE, sizeof(IndexBlock));
    if (good)
        g_assert_true(index_table_read(out->data, out->len, GUINT64_FROM_LE(end), again, NULL));
}

static void try_members(const guint8 *data, gsize size)
{
    ArchivePoint point = {.members = 1000, .volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume))};
    for (guint i = 0; i < 2; i++) {
        ArchiveVolume volume = {.packed_size = 5000, .first_member = i * 100};
        g_array_append_val(point.volumes, volume);
    }
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(IndexMember));
    BytesReader in = bytes_reader(data, size);
    IndexBlock block = {.members = TRUE};
    block.member = bytes_get_varint(&in);
    block.count = bytes_get_varint(&in);
    block.volume = (guint)(bytes_get_varint(&in) % 4);
    block.packed_offset = bytes_get_varint(&in);
    if (!in.bad && index_members_read(in.at, (gsize)(in.end - in.at), &block, &point, places, NULL)) {
        g_assert_true(places->len == block.count);
        for (guint i = 0; i < places->len; i++) {
            const IndexMember *place = &g_array_index(places, IndexMember, i);
            g_assert_true(place->volume < 2 && place->offset + place->length <= 5000);
        }
    }
    g_array_unref(point.volumes);
}

/* An index of which the input is all that is not a sum: raw blocks behind their lines of the table, the footer's end. */
static void read_index(const guint8 *data, gsize size)
{
    g_autoptr(Store) store = store_memory_new();
    ArchivePlace place = {.store = store, .name = "n"};
    StoreBody body = {.data = data, .length = size};
    g_autofree char *key = archive_index_key("n", BASE);
    g_assert_true(store_put(store, key, &body, NULL, NULL, NULL));
    g_autoptr(Index) index = index_open(&place, BASE, NULL, NULL);
    if (!index)
        return;
    guint volume;
    guint64 offset;
    guint32 length;
    (void)index_check(index, NULL, NULL);
    (void)index_member(index, 0, &volume, &offset, &length, NULL);
    g_autoptr(IndexReader) reader = index_read(index, "b/c", FALSE, NULL);
    IndexEntry entry;
    while (reader && index_reader_next(reader, &entry, NULL) > 0)
        g_assert_cmpint(index_compare_paths(entry.entry.path, S_ISDIR(entry.entry.meta.mode), "b/c", FALSE), >=, 0);
}

/* One block of entries from the input, with everything around it as it should be. */
static void try_block(const guint8 *data, gsize size)
{
    g_autoptr(IndexPacker) packer = index_packer_new();
    g_autoptr(GByteArray) out = g_byte_array_new(), table = g_byte_array_new();
    if (size < 4)
        return;
    char path[4] = {(char)data[2], '\0'};
    IndexBlock block = {.count = data[0], .directory = data[1] & 1, .path = path};
    g_byte_array_append(out, (const guint8 *)INDEX_MAGIC, INDEX_MAGIC_BYTES);
    g_assert_true(index_pack(packer, data + 3, size - 3, out, &block.span, NULL));
    block.span.offset = INDEX_MAGIC_BYTES;
    index_table_put(table, &block);
    IndexSpan span = {.offset = out->len};
    g_assert_true(index_pack(packer, table->data, table->len, out, &span, NULL));
    ArchivePoint point = {.base = (char *)BASE,
                          .place_name = (char *)"n",
                          .entries = block.count,
                          .volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume))};
    guint64 at = out->len;
    g_autoptr(GByteArray) footer = index_footer_print(&point, &span, NULL);
    guint8 hash[HASH_BYTES];
    g_assert_nonnull(footer);
    digest_sha256(footer->data, footer->len, hash);
    g_byte_array_append(out, footer->data, footer->len);
    index_tail_put(out, at, footer->len, hash);
    read_index(out->data, out->len);
    g_array_unref(point.volumes);
}

/* The first byte says what the rest is. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(const guint8 *, gsize) = {try_entries, try_footer, try_table,
                                                           try_members, read_index, try_block};
    if (size > 0)
        tries[data[0] % G_N_ELEMENTS(tries)](data + 1, size - 1);
    return 0;
}
