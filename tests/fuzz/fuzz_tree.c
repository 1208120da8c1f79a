/*
 * A block or a root of a metadata tree from the input's bytes, packed and unpacked. What must hold: reading ends, never
 * outside the bytes; a root that can be read can be written again and then reads the same; entries that can be read are
 * written as entries that read the same.
 */
#include "crypto/digest.h"
#include "engine/s3sync/tree_format.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_root(const guint8 *data, gsize size)
{
    TreeRoot root = {0};
    TreeRoot again = {0};
    g_autoptr(GArray) blocks = tree_blocks_new();
    g_autoptr(GArray) same = tree_blocks_new();
    if (tree_root_decode(data, size, &root, blocks, NULL)) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        tree_root_encode(&root, blocks, out);
        g_assert_true(tree_root_decode(out->data, out->len, &again, same, NULL));
        g_assert_true(again.time == root.time && again.files == root.files && same->len == blocks->len);
        g_assert_cmpstr(again.source, ==, root.source);
    }
    tree_root_clear(&root);
    tree_root_clear(&again);
}

static void try_entries(const guint8 *data, gsize size)
{
    BytesReader in = bytes_reader(data, size);
    g_autoptr(GByteArray) arena = g_byte_array_new();
    g_autoptr(GByteArray) other = g_byte_array_new();
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GString) previous = g_string_new(NULL);
    S3Entry entry;
    while (in.at < in.end) {
        g_byte_array_set_size(arena, 0);
        if (!entry_decode(&in, previous->str, arena, &entry, NULL))
            return;
        S3Entry same;
        g_byte_array_set_size(out, 0);
        g_byte_array_set_size(other, 0);
        entry_encode(&entry, previous->str, out);
        BytesReader back = bytes_reader(out->data, out->len);
        g_assert_true(entry_decode(&back, previous->str, other, &same, NULL) && bytes_reader_done(&back));
        g_assert_cmpstr(same.path, ==, entry.path);
        g_assert_cmpstr(same.key, ==, entry.key);
        g_assert_true(same.object_size == entry.object_size && same.meta.mtime_s == entry.meta.mtime_s);
        g_string_assign(previous, entry.path);
    }
}

/* The first byte says how the rest is read. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const guint8 key[32] = {1};
    if (size == 0)
        return 0;
    const guint8 *rest = data + 1;
    gsize length = size - 1;
    switch (data[0] % 4) {
    case 0:
        try_entries(rest, length);
        break;
    case 1: {
        /* With its checksum, which nobody guesses. */
        guint8 sum[HASH_BYTES];
        g_autoptr(GByteArray) summed = g_byte_array_new();
        digest_sha256(rest, length, sum);
        g_byte_array_append(summed, rest, (guint)length);
        g_byte_array_append(summed, sum, HASH_BYTES);
        try_root(summed->data, summed->len);
        break;
    }
    default: {
        g_autoptr(GByteArray) raw = tree_unpack(data[0] % 4 == 2 ? NULL : key, "key", rest, length, NULL);
        if (raw != NULL) {
            try_entries(raw->data, raw->len);
            try_root(raw->data, raw->len);
        }
        break;
    }
    }
    /* What is packed is unpacked as it was. */
    g_autoptr(GByteArray) packed = tree_pack(NULL, "key", rest, length, NULL);
    g_assert_nonnull(packed);
    g_autoptr(GByteArray) back = tree_unpack(NULL, "key", packed->data, packed->len, NULL);
    g_assert_true(back != NULL && back->len == length && (length == 0 || memcmp(back->data, rest, length) == 0));
    return 0;
}
