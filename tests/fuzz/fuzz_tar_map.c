/*
 * What a reader of archives without an index meets: the map of a sparse file, and the next member of each codec. What must
 * hold: reading ends, never outside the bytes or the room; a map that is read is in order, within the file, and can be
 * written and read again; of a member no more is used than there was.
 */
#include "engine/archive/codec.h"
#include "engine/archive/tar_format.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_map(const guint8 *data, gsize length, guint64 size)
{
    g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(TarExtent));
    g_autoptr(GArray) same = g_array_new(FALSE, FALSE, sizeof(TarExtent));
    g_autoptr(GByteArray) out = g_byte_array_new();
    gsize used = 0;
    if (tar_read_map(data, length, size, pieces, &used, NULL) != 1) {
        g_assert_true(pieces->len == 0 && used == 0);
        return;
    }
    g_assert_true(used <= length && used % TAR_BLOCK == 0 && pieces->len <= TAR_EXTENTS_MAX + 1);
    guint64 at = 0;
    for (guint i = 0; i < pieces->len; i++) {
        const TarExtent *piece = &g_array_index(pieces, TarExtent, i);
        g_assert_true(piece->offset >= at && piece->length > 0 && piece->length <= size - piece->offset);
        at = piece->offset + piece->length;
    }
    const S3Entry entry = {.path = "a", .meta = {.mode = S_IFREG, .size = size}};
    tar_put_map(&entry, (const TarExtent *)(gpointer)pieces->data, pieces->len, out);
    g_assert_true(tar_read_map(out->data, out->len, size, same, &used, NULL) == 1 && used == out->len);
    g_assert_true(same->len == pieces->len);
    g_assert_true(same->len == 0 || memcmp(same->data, pieces->data, same->len * sizeof(TarExtent)) == 0);
}

static void try_member(ArchiveCodec kind, const guint8 *data, gsize length)
{
    g_autoptr(Codec) codec = codec_new(kind, 1, NULL);
    g_autofree guint8 *out = g_malloc(ARCHIVE_MEMBER_BYTES);
    gsize used, size;
    if (codec_unpack_next(codec, data, length, out, &used, &size, NULL) != 1)
        return;
    g_assert_true(used > 0 && used <= length && size <= ARCHIVE_MEMBER_BYTES);
    /* With an index the same is accepted, and nothing else. */
    g_autofree guint8 *again = g_malloc(size + 1);
    g_assert_true(codec_unpack(codec, data, used, again, size, NULL) && memcmp(again, out, size) == 0);
    g_assert_false(codec_unpack(codec, data, used, again, size + 1, NULL));
}

/* The first byte says what the rest is; of a map the next eight bytes are the file's size. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 9)
        return 0;
    BytesReader in = bytes_reader(data + 1, 8);
    switch (data[0] % 4) {
    case 0:
        try_member(ARCHIVE_GZIP, data + 1, size - 1);
        break;
    case 1:
        try_member(ARCHIVE_ZSTD, data + 1, size - 1);
        break;
    default:
        try_map(data + 9, size - 9, bytes_get_u64(&in));
        break;
    }
    return 0;
}
