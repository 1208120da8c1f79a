#include "../base/cmocka_all.h"

#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "engine/archive/codec.h"

static const struct {
    ArchiveCodec codec;
    int level;
} KINDS[] = {
    {ARCHIVE_PLAIN, 0}, {ARCHIVE_GZIP, 1}, {ARCHIVE_GZIP, 2}, {ARCHIVE_GZIP, 6},
    {ARCHIVE_GZIP, 9},  {ARCHIVE_ZSTD, 1}, {ARCHIVE_ZSTD, 3}, {ARCHIVE_ZSTD, 7},
};

/* A member's worth of words with some chance in them, or of chance alone. */
static guint8 *make_data(gsize length, gboolean random)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    guint8 *data = g_malloc(length + 1);
    for (gsize i = 0; i < length; i++)
        data[i] = random        ? (guint8)g_rand_int_range(rand, 0, 256)
                  : i % 61 < 60 ? (guint8)("the same words again and again"[i % 29])
                                : (guint8)g_rand_int_range(rand, 0, 256);
    return data;
}

static Codec *make(guint kind)
{
    Codec *codec = codec_new(KINDS[kind].codec, KINDS[kind].level, NULL);
    assert_non_null(codec);
    return codec;
}

static void check_round_trip(Codec *codec, const guint8 *data, gsize length, gboolean shrinks)
{
    gsize bound = codec_bound(codec, length);
    /* Memory of exactly that size, for the sanitizer. */
    g_autofree guint8 *packed = g_malloc(bound + 1);
    packed[bound] = 0x5a;
    gsize packed_length = codec_pack(codec, data, length, packed);
    assert_true(packed_length <= bound && packed[bound] == 0x5a);
    if (shrinks)
        assert_true(packed_length < length / 2);
    g_autofree guint8 *back = g_malloc(length + 1);
    g_autoptr(GError) error = NULL;
    assert_true(codec_unpack(codec, packed, packed_length, back, length, &error));
    assert_null(error);
    assert_memory_equal(back, data, length);
}

static void test_comes_back(void **state)
{
    static const gsize LENGTHS[] = {ARCHIVE_MEMBER_BYTES, 0, 1, 512, 65536, 100001, ARCHIVE_MEMBER_BYTES};
    (void)state;
    g_autofree guint8 *words = make_data(ARCHIVE_MEMBER_BYTES, FALSE);
    g_autofree guint8 *noise = make_data(ARCHIVE_MEMBER_BYTES, TRUE);
    for (guint kind = 0; kind < G_N_ELEMENTS(KINDS); kind++) {
        g_autoptr(Codec) codec = make(kind);
        /* One codec for all: what an earlier member left behind must not show. */
        for (guint i = 0; i < G_N_ELEMENTS(LENGTHS); i++) {
            check_round_trip(codec, words, LENGTHS[i], KINDS[kind].codec != ARCHIVE_PLAIN && LENGTHS[i] > 512);
            check_round_trip(codec, noise, LENGTHS[i], FALSE);
        }
    }
}

static void test_same_input_same_bytes(void **state)
{
    (void)state;
    g_autofree guint8 *words = make_data(ARCHIVE_MEMBER_BYTES, FALSE);
    g_autofree guint8 *noise = make_data(70000, TRUE);
    for (guint kind = 0; kind < G_N_ELEMENTS(KINDS); kind++) {
        g_autoptr(Codec) codec = make(kind);
        g_autoptr(Codec) other = make(kind);
        gsize bound = codec_bound(codec, ARCHIVE_MEMBER_BYTES);
        g_autofree guint8 *a = g_malloc(bound);
        g_autofree guint8 *b = g_malloc(bound);
        (void)codec_pack(other, noise, 70000, b);
        gsize a_length = codec_pack(codec, words, ARCHIVE_MEMBER_BYTES, a);
        assert_int_equal(a_length, codec_pack(other, words, ARCHIVE_MEMBER_BYTES, b));
        assert_memory_equal(a, b, a_length);
    }
}

static void test_levels_that_do_not_exist(void **state)
{
    static const struct {
        ArchiveCodec codec;
        int level;
    } WRONG[] = {{ARCHIVE_GZIP, 0}, {ARCHIVE_GZIP, 10}, {ARCHIVE_ZSTD, 0}, {ARCHIVE_ZSTD, 20}, {ARCHIVE_GZIP, -1}};
    (void)state;
    for (guint i = 0; i < G_N_ELEMENTS(WRONG); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(codec_new(WRONG[i].codec, WRONG[i].level, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    g_autoptr(Codec) highest = codec_new(ARCHIVE_ZSTD, 19, NULL);
    assert_non_null(highest);
    g_autoptr(Codec) plain = codec_new(ARCHIVE_PLAIN, 77, NULL);
    assert_non_null(plain);
}

/* Members one after another, as a reader without an index meets them. */
static void test_one_after_another(void **state)
{
    static const gsize LENGTHS[] = {ARCHIVE_MEMBER_BYTES, ARCHIVE_MEMBER_BYTES, 12345};
    (void)state;
    g_autofree guint8 *words = make_data(ARCHIVE_MEMBER_BYTES, FALSE);
    g_autofree guint8 *out = g_malloc(ARCHIVE_MEMBER_BYTES);
    for (guint kind = 0; kind < G_N_ELEMENTS(KINDS); kind++) {
        g_autoptr(Codec) codec = make(kind);
        g_autofree guint8 *packed = g_malloc(3 * codec_bound(codec, ARCHIVE_MEMBER_BYTES));
        gsize total = 0;
        for (guint i = 0; i < G_N_ELEMENTS(LENGTHS); i++)
            total += codec_pack(codec, words, LENGTHS[i], packed + total);
        gsize at = 0, used, size;
        for (guint i = 0; i < G_N_ELEMENTS(LENGTHS); i++) {
            assert_int_equal(codec_unpack_next(codec, packed + at, total - at, out, &used, &size, NULL), 1);
            assert_int_equal(size, LENGTHS[i]);
            assert_memory_equal(out, words, size);
            at += used;
        }
        assert_int_equal(at, total);
        assert_int_equal(codec_unpack_next(codec, packed + at, 0, out, &used, &size, NULL), 0);
    }
}

static void test_a_cut_is_no_damage(void **state)
{
    (void)state;
    g_autofree guint8 *words = make_data(20000, FALSE);
    g_autofree guint8 *out = g_malloc(ARCHIVE_MEMBER_BYTES);
    for (guint kind = 1; kind < G_N_ELEMENTS(KINDS); kind++) {
        g_autoptr(Codec) codec = make(kind);
        g_autofree guint8 *packed = g_malloc(codec_bound(codec, 20000));
        gsize length = codec_pack(codec, words, 20000, packed);
        for (gsize cut = 0; cut < length; cut += cut < 40 || cut + 40 > length ? 1 : 17) {
            gsize used, size;
            g_autoptr(GError) error = NULL;
            g_autofree guint8 *part = g_memdup2(packed, cut);
            assert_int_equal(codec_unpack_next(codec, part, cut, out, &used, &size, &error), 0);
            assert_null(error);
            assert_false(codec_unpack(codec, part, cut, out, 20000, &error));
            assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
        }
    }
}

/* TRUE if the damaged member is refused both ways, or read as what it was (gzip's header has bits that say nothing). */
static void check_damaged(Codec *codec, const guint8 *packed, gsize length, const guint8 *was, gsize size)
{
    g_autofree guint8 *out = g_malloc(ARCHIVE_MEMBER_BYTES);
    g_autoptr(GError) error = NULL;
    if (codec_unpack(codec, packed, length, out, size, &error))
        assert_memory_equal(out, was, size);
    else
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    gsize used, got;
    int result = codec_unpack_next(codec, packed, length, out, &used, &got, &error);
    if (result < 0)
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    /* Without an index a zstd frame whose header lost the checksum's bit is one without a checksum: shorter by it. */
    if (result == 1 && used == length) {
        assert_int_equal(got, size);
        assert_memory_equal(out, was, size);
    }
}

static void test_every_flipped_bit(void **state)
{
    (void)state;
    gsize size = 3000;
    g_autofree guint8 *words = make_data(size, FALSE);
    for (guint kind = 1; kind < G_N_ELEMENTS(KINDS); kind++) {
        g_autoptr(Codec) codec = make(kind);
        g_autofree guint8 *packed = g_malloc(codec_bound(codec, size));
        gsize length = codec_pack(codec, words, size, packed);
        for (gsize bit = 0; bit < length * 8; bit++) {
            packed[bit / 8] ^= (guint8)(1 << bit % 8);
            check_damaged(codec, packed, length, words, size);
            packed[bit / 8] ^= (guint8)(1 << bit % 8);
        }
    }
}

static void test_wrong_sizes(void **state)
{
    (void)state;
    g_autofree guint8 *words = make_data(5000, FALSE);
    g_autofree guint8 *out = g_malloc(10000);
    for (guint kind = 0; kind < G_N_ELEMENTS(KINDS); kind++) {
        g_autoptr(Codec) codec = make(kind);
        g_autofree guint8 *packed = g_malloc(2 * codec_bound(codec, 5000) + 1);
        gsize length = codec_pack(codec, words, 5000, packed);
        gsize second = codec_pack(codec, words, 5000, packed + length);
        packed[length + second] = 0;
        const struct {
            gsize length, size;
        } WRONG[] = {{length, 4999},          {length, 5001},           {length, 0},       {length + 1, 5000},
                     {length + second, 5000}, {length + second, 10000}, {length - 1, 5000}};
        for (guint i = 0; i < G_N_ELEMENTS(WRONG); i++) {
            /* Plain ones have no ends. */
            if (WRONG[i].length == WRONG[i].size)
                continue;
            g_autoptr(GError) error = NULL;
            assert_false(codec_unpack(codec, packed, WRONG[i].length, out, WRONG[i].size, &error));
            assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
        }
        assert_true(codec_unpack(codec, packed, length, out, 5000, NULL));
    }
}

/* Members of others that would expand to more than ours ever do. */
static void test_bombs(void **state)
{
    (void)state;
    gsize size = 64 * ARCHIVE_MEMBER_BYTES, used, got;
    g_autofree guint8 *zeros = g_malloc0(size);
    g_autofree guint8 *out = g_malloc(ARCHIVE_MEMBER_BYTES);
    g_autofree guint8 *packed = g_malloc(size);
    z_stream stream = {.next_in = zeros, .avail_in = (uInt)size, .next_out = packed, .avail_out = (uInt)size};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    gsize length = stream.total_out;
    (void)deflateEnd(&stream);
    g_autoptr(Codec) gzip = codec_new(ARCHIVE_GZIP, 6, NULL);
    assert_int_equal(codec_unpack_next(gzip, packed, length, out, &used, &got, NULL), -1);
    assert_int_equal(codec_unpack_next(gzip, packed, length - 1, out, &used, &got, NULL), -1);
    length = ZSTD_compress(packed, size, zeros, size, 3);
    g_autoptr(Codec) zstd = codec_new(ARCHIVE_ZSTD, 3, NULL);
    g_autoptr(GError) error = NULL;
    assert_int_equal(codec_unpack_next(zstd, packed, length, out, &used, &got, &error), -1);
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void test_zstd_carries_its_checksum_and_size(void **state)
{
    (void)state;
    g_autofree guint8 *words = make_data(5000, FALSE);
    g_autoptr(Codec) codec = codec_new(ARCHIVE_ZSTD, 3, NULL);
    g_autofree guint8 *packed = g_malloc(codec_bound(codec, 5000));
    gsize length = codec_pack(codec, words, 5000, packed);
    assert_true((packed[4] & 4) != 0);
    assert_int_equal(ZSTD_getFrameContentSize(packed, length), 5000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_same_input_same_bytes),
        cmocka_unit_test(test_levels_that_do_not_exist),
        cmocka_unit_test(test_one_after_another),
        cmocka_unit_test(test_a_cut_is_no_damage),
        cmocka_unit_test(test_every_flipped_bit),
        cmocka_unit_test(test_wrong_sizes),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_zstd_carries_its_checksum_and_size),
    };
    return cmocka_run_group_tests_name("archive/codec", tests, NULL, NULL);
}
