#include "engine/archive/codec.h"

#include "base/error.h"

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define GZIP_LEVEL_MAX 9
#define ZSTD_LEVEL_MAX 19

/* igzip's level 2 is as small as pigz -1 and five times as fast; its level 1 is a hundredth larger and no faster. Small
 * blocks make it smaller by seven thousandths, at the same speed. */
#define IGZIP_LEVEL  2
#define IGZIP_MEMORY ISAL_DEF_LVL2_SMALL

struct Codec {
    ArchiveCodec codec;
    int level;
    struct libdeflate_compressor *deflate;
    struct libdeflate_decompressor *inflate; /* made when first needed, as are those below */
    struct isal_zstream *igzip;              /* NULL: libdeflate compresses */
    guint8 *igzip_memory;
    ZSTD_CCtx *zstd_pack;
    ZSTD_DCtx *zstd_unpack;
};

static gboolean corrupt(GError **error, const char *what)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "a compressed member is damaged: %s", what);
}

/* Only lack of memory makes these fail: as in GLib that is the end. */
static gpointer need(gpointer made)
{
    if (made == NULL)
        g_error("no memory for a compressor");
    return made;
}

static void start_gzip(Codec *codec)
{
    codec->deflate = need(libdeflate_alloc_compressor(codec->level));
    if (codec->level > 1)
        return;
    codec->igzip = g_new0(struct isal_zstream, 1);
    codec->igzip_memory = g_malloc(IGZIP_MEMORY);
}

static void start_zstd(Codec *codec)
{
    codec->zstd_pack = need(ZSTD_createCCtx());
    (void)ZSTD_CCtx_setParameter(codec->zstd_pack, ZSTD_c_compressionLevel, codec->level);
    (void)ZSTD_CCtx_setParameter(codec->zstd_pack, ZSTD_c_checksumFlag, 1);
    (void)ZSTD_CCtx_setParameter(codec->zstd_pack, ZSTD_c_contentSizeFlag, 1);
}

Codec *codec_new(ArchiveCodec codec, int level, GError **error)
{
    int most = codec == ARCHIVE_ZSTD ? ZSTD_LEVEL_MAX : GZIP_LEVEL_MAX;
    if (codec != ARCHIVE_PLAIN && (level < 1 || level > most)) {
        error_set(error, BACKAPP_ERROR_INVALID, "there is no compression level %d for %s: take 1 to %d", level,
                  codec == ARCHIVE_ZSTD ? "zstd" : "gzip", most);
        return NULL;
    }
    Codec *made = g_new0(Codec, 1);
    made->codec = codec;
    made->level = level;
    if (codec == ARCHIVE_GZIP)
        start_gzip(made);
    else if (codec == ARCHIVE_ZSTD)
        start_zstd(made);
    return made;
}

void codec_free(Codec *codec)
{
    if (codec == NULL)
        return;
    if (codec->deflate != NULL)
        libdeflate_free_compressor(codec->deflate);
    if (codec->inflate != NULL)
        libdeflate_free_decompressor(codec->inflate);
    g_free(codec->igzip);
    g_free(codec->igzip_memory);
    (void)ZSTD_freeCCtx(codec->zstd_pack);
    (void)ZSTD_freeDCtx(codec->zstd_unpack);
    g_free(codec);
}

gsize codec_bound(const Codec *codec, gsize length)
{
    switch (codec->codec) {
    case ARCHIVE_GZIP:
        return libdeflate_gzip_compress_bound(codec->deflate, length);
    case ARCHIVE_ZSTD:
        return ZSTD_compressBound(length);
    default:
        return length;
    }
}

/* 0 if it does not fit into room. */
static gsize pack_igzip(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize room)
{
    struct isal_zstream *stream = codec->igzip;
    isal_deflate_init(stream);
    stream->level = IGZIP_LEVEL;
    stream->level_buf = codec->igzip_memory;
    stream->level_buf_size = IGZIP_MEMORY;
    stream->gzip_flag = IGZIP_GZIP;
    stream->end_of_stream = 1;
    stream->flush = NO_FLUSH;
    stream->next_in = (guint8 *)data;
    stream->avail_in = (guint32)length;
    stream->next_out = out;
    stream->avail_out = (guint32)MIN(room, G_MAXUINT32);
    if (isal_deflate(stream) != COMP_OK || stream->internal_state.state != ZSTATE_END)
        return 0;
    return stream->total_out;
}

gsize codec_pack(Codec *codec, const guint8 *data, gsize length, guint8 *out)
{
    gsize room = codec_bound(codec, length);
    gsize packed = 0;
    if (codec->codec == ARCHIVE_PLAIN) {
        memcpy(out, data, length);
        return length;
    }
    if (codec->codec == ARCHIVE_ZSTD) {
        packed = ZSTD_compress2(codec->zstd_pack, out, room, data, length);
        if (ZSTD_isError(packed))
            g_error("zstd: %s", ZSTD_getErrorName(packed));
        return packed;
    }
    if (codec->igzip != NULL && length <= G_MAXUINT32)
        packed = pack_igzip(codec, data, length, out, room);
    /* What does not shrink may need more room with igzip than was promised; libdeflate stores it as it is. */
    if (packed == 0)
        packed = libdeflate_gzip_compress(codec->deflate, data, length, out, room);
    g_assert(packed > 0);
    return packed;
}

static struct libdeflate_decompressor *inflater(Codec *codec)
{
    if (codec->inflate == NULL)
        codec->inflate = need(libdeflate_alloc_decompressor());
    return codec->inflate;
}

static ZSTD_DCtx *zstd_unpacker(Codec *codec)
{
    if (codec->zstd_unpack == NULL)
        codec->zstd_unpack = need(ZSTD_createDCtx());
    return codec->zstd_unpack;
}

static gboolean unpack_gzip(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize size, GError **error)
{
    gsize used = 0, got = 0;
    enum libdeflate_result result =
        libdeflate_gzip_decompress_ex(inflater(codec), data, length, out, size, &used, &got);
    if (result == LIBDEFLATE_INSUFFICIENT_SPACE)
        return corrupt(error, "it holds more than it should");
    if (result != LIBDEFLATE_SUCCESS)
        return corrupt(error, "no gzip, or its checksum is wrong");
    if (used != length)
        return corrupt(error, "something lies behind its end");
    return got == size || corrupt(error, "it holds less than it should");
}

/* A frame of data, no skippable one: those hold nothing of ours. */
static gboolean is_zstd_frame(const guint8 *data, gsize length)
{
    static const guint8 MAGIC[] = {0x28, 0xb5, 0x2f, 0xfd};
    return length > 0 && memcmp(data, MAGIC, MIN(length, sizeof MAGIC)) == 0;
}

static gboolean unpack_zstd(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize size, GError **error)
{
    /* Several frames would be expanded as one. */
    if (!is_zstd_frame(data, length) || ZSTD_findFrameCompressedSize(data, length) != length)
        return corrupt(error, "it is not one zstd frame");
    gsize got = ZSTD_decompressDCtx(zstd_unpacker(codec), out, size, data, length);
    if (ZSTD_isError(got))
        return corrupt(error, ZSTD_getErrorName(got));
    return got == size || corrupt(error, "it holds less than it should");
}

gboolean codec_unpack(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize size, GError **error)
{
    if (codec->codec == ARCHIVE_GZIP)
        return unpack_gzip(codec, data, length, out, size, error);
    if (codec->codec == ARCHIVE_ZSTD)
        return unpack_zstd(codec, data, length, out, size, error);
    if (length != size)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "a member has another length than it should");
    memcpy(out, data, length);
    return TRUE;
}

/* libdeflate does not tell damaged data from data that ends too early: zlib does. 0 or -1. */
static int why_no_gzip(const guint8 *data, gsize length, guint8 *out, GError **error)
{
    z_stream stream = {0};
    if (inflateInit2(&stream, 15 + 16) != Z_OK)
        need(NULL);
    stream.next_in = (guint8 *)data;
    stream.avail_in = (uInt)MIN(length, G_MAXUINT);
    stream.next_out = out;
    stream.avail_out = ARCHIVE_MEMBER_BYTES;
    int result = inflate(&stream, Z_FINISH);
    gboolean starved = (result == Z_BUF_ERROR || result == Z_OK) && stream.avail_in == 0;
    (void)inflateEnd(&stream);
    if (starved)
        return 0;
    return corrupt(error, "no gzip, or its checksum is wrong") ? 0 : -1;
}

static int next_gzip(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize *used, gsize *size,
                     GError **error)
{
    switch (libdeflate_gzip_decompress_ex(inflater(codec), data, length, out, ARCHIVE_MEMBER_BYTES, used, size)) {
    case LIBDEFLATE_SUCCESS:
        return 1;
    case LIBDEFLATE_INSUFFICIENT_SPACE:
        return corrupt(error, "it holds more than a member may") ? 0 : -1;
    default:
        return why_no_gzip(data, length, out, error);
    }
}

static int next_zstd(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize *used, gsize *size,
                     GError **error)
{
    if (!is_zstd_frame(data, length))
        return corrupt(error, "no zstd") ? 0 : -1;
    *used = ZSTD_findFrameCompressedSize(data, length);
    if (ZSTD_isError(*used) && ZSTD_getErrorCode(*used) == ZSTD_error_srcSize_wrong)
        return 0;
    if (ZSTD_isError(*used))
        return corrupt(error, ZSTD_getErrorName(*used)) ? 0 : -1;
    *size = ZSTD_decompressDCtx(zstd_unpacker(codec), out, ARCHIVE_MEMBER_BYTES, data, *used);
    if (ZSTD_isError(*size))
        return corrupt(error, ZSTD_getErrorName(*size)) ? 0 : -1;
    return 1;
}

int codec_unpack_next(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize *used, gsize *size,
                      GError **error)
{
    *used = *size = 0;
    if (length == 0)
        return 0;
    if (codec->codec == ARCHIVE_GZIP)
        return next_gzip(codec, data, length, out, used, size, error);
    if (codec->codec == ARCHIVE_ZSTD)
        return next_zstd(codec, data, length, out, used, size, error);
    *used = *size = MIN(length, (gsize)ARCHIVE_MEMBER_BYTES);
    memcpy(out, data, *used);
    return 1;
}
