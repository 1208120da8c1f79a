#include "cmocka_all.h"

#include "base/bytes.h"

#include <string.h>

/* Ends with a copy of exactly the bytes on the heap, so that ASan notices one byte too many. */
static guint8 *exact_copy(const void *data, gsize length)
{
    return g_memdup2(data, length);
}

static guint64 parse_varint(const guint8 *data, gsize length, gboolean *good)
{
    g_autofree guint8 *copy = exact_copy(data, length);
    BytesReader in = bytes_reader(copy, length);
    guint64 value = bytes_get_varint(&in);
    *good = bytes_reader_done(&in);
    return value;
}

static void test_varint_has_known_bytes(void **state)
{
    static const struct {
        guint64 value;
        const char *bytes;
        guint length;
    } cases[] = {
        {0, "\x00", 1},
        {127, "\x7f", 1},
        {128, "\x80\x01", 2},
        {624485, "\xe5\x8e\x26", 3},
        {G_MAXUINT32, "\xff\xff\xff\xff\x0f", 5},
        {G_MAXUINT64, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) out = g_byte_array_new();
        bytes_put_varint(out, cases[i].value);
        assert_int_equal(out->len, cases[i].length);
        assert_memory_equal(out->data, cases[i].bytes, cases[i].length);
        gboolean good;
        assert_true(parse_varint(out->data, out->len, &good) == cases[i].value);
        assert_true(good);
    }
}

static void test_numbers_round_trip_at_every_bit_width(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (int bit = 0; bit < 64; bit++) {
        for (int delta = -1; delta <= 1; delta++) {
            guint64 value = (G_GUINT64_CONSTANT(1) << bit) + (guint64)delta;
            bytes_put_varint(out, value);
            bytes_put_signed(out, (gint64)value);
            bytes_put_u64(out, value);
            bytes_put_u32(out, (guint32)value);
        }
    }
    g_autofree guint8 *copy = exact_copy(out->data, out->len);
    BytesReader in = bytes_reader(copy, out->len);
    for (int bit = 0; bit < 64; bit++) {
        for (int delta = -1; delta <= 1; delta++) {
            guint64 value = (G_GUINT64_CONSTANT(1) << bit) + (guint64)delta;
            assert_true(bytes_get_varint(&in) == value);
            assert_true(bytes_get_signed(&in) == (gint64)value);
            assert_true(bytes_get_u64(&in) == value);
            assert_true(bytes_get_u32(&in) == (guint32)value);
        }
    }
    assert_true(bytes_reader_done(&in));
}

static void test_small_negative_numbers_are_short(void **state)
{
    static const gint64 values[] = {0, -1, 1, -2, 2, -64};
    static const guint8 expected[] = {0, 1, 2, 3, 4, 127};
    g_autoptr(GByteArray) out = g_byte_array_new();
    for (gsize i = 0; i < G_N_ELEMENTS(values); i++)
        bytes_put_signed(out, values[i]);
    assert_int_equal(out->len, sizeof expected);
    assert_memory_equal(out->data, expected, sizeof expected);
}

static void test_fixed_width_is_little_endian(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    bytes_put_u32(out, 0x01020304);
    bytes_put_u64(out, G_GUINT64_CONSTANT(0x05060708090a0b0c));
    assert_int_equal(out->len, 12);
    assert_memory_equal(out->data, "\x04\x03\x02\x01\x0c\x0b\x0a\x09\x08\x07\x06\x05", 12);
}

static void test_varint_refuses_overflow(void **state)
{
    static const char *const cases[] = {
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",     /* bit 64 */
        "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x7f",     /* bits 63 to 69 */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x01", /* eleven bytes */
        "\x80",                                         /* cut off */
        "\xff\xff\xff",
        "",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        gboolean good;
        assert_true(parse_varint((const guint8 *)cases[i], strlen(cases[i]), &good) == 0);
        assert_false(good);
    }
}

static void test_every_truncation_is_bad(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    bytes_put_u32(out, 7);
    bytes_put_u64(out, 8);
    bytes_put_varint(out, 300);
    bytes_put_blob(out, "hello", 5);
    for (gsize length = 0; length <= out->len; length++) {
        g_autofree guint8 *copy = exact_copy(out->data, length);
        BytesReader in = bytes_reader(copy, length);
        (void)bytes_get_u32(&in);
        (void)bytes_get_u64(&in);
        (void)bytes_get_varint(&in);
        g_autofree char *text = bytes_get_string(&in, 100);
        assert_true(bytes_reader_done(&in) == (length == out->len));
        assert_true((text != NULL) == (length == out->len));
    }
}

static void test_bad_reader_stays_bad(void **state)
{
    static const guint8 data[] = {1, 2, 3, 1, 'x'};
    BytesReader in = bytes_reader(data, sizeof data);
    assert_true(bytes_get_u64(&in) == 0);
    assert_true(in.bad);
    assert_ptr_equal(in.at, in.end); /* so that a loop over what is left ends */
    gsize length = 99;
    assert_int_equal(bytes_get_u32(&in), 0);
    assert_true(bytes_get_varint(&in) == 0);
    assert_true(bytes_get_signed(&in) == 0);
    assert_null(bytes_get_blob(&in, 10, &length));
    assert_int_equal(length, 0);
    assert_null(bytes_get_string(&in, 10));
    assert_false(bytes_reader_done(&in));
}

static void test_blob_is_bounded(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    bytes_put_blob(out, "hello", 5);
    gsize length;

    BytesReader in = bytes_reader(out->data, out->len);
    assert_ptr_equal(bytes_get_blob(&in, 5, &length), out->data + 1);
    assert_int_equal(length, 5);
    assert_true(bytes_reader_done(&in));

    in = bytes_reader(out->data, out->len);
    assert_null(bytes_get_blob(&in, 4, &length));
    assert_true(in.bad);

    /* A stated length near 2^64 must not wrap around the pointer. */
    g_byte_array_set_size(out, 0);
    bytes_put_varint(out, G_MAXUINT64 - 3);
    g_byte_array_append(out, (const guint8 *)"abc", 3);
    in = bytes_reader(out->data, out->len);
    assert_null(bytes_get_blob(&in, G_MAXSIZE, &length));
    assert_int_equal(length, 0);
    assert_true(in.bad);
}

static void test_empty_blob_is_not_bad(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    bytes_put_blob(out, NULL, 0);
    BytesReader in = bytes_reader(out->data, out->len);
    gsize length = 99;
    assert_non_null(bytes_get_blob(&in, 0, &length));
    assert_int_equal(length, 0);
    assert_true(bytes_reader_done(&in));

    in = bytes_reader(out->data, out->len);
    g_autofree char *text = bytes_get_string(&in, 0);
    assert_string_equal(text, "");
}

static void test_string_refuses_a_zero_byte(void **state)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    bytes_put_blob(out, "a\0b", 3);
    BytesReader in = bytes_reader(out->data, out->len);
    assert_null(bytes_get_string(&in, 10));
    assert_true(in.bad);
}

static void test_no_bytes_at_all(void **state)
{
    BytesReader in = bytes_reader(NULL, 0);
    assert_true(bytes_reader_done(&in));
    assert_int_equal(bytes_get_u32(&in), 0);
    assert_true(in.bad);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varint_has_known_bytes),
        cmocka_unit_test(test_numbers_round_trip_at_every_bit_width),
        cmocka_unit_test(test_small_negative_numbers_are_short),
        cmocka_unit_test(test_fixed_width_is_little_endian),
        cmocka_unit_test(test_varint_refuses_overflow),
        cmocka_unit_test(test_every_truncation_is_bad),
        cmocka_unit_test(test_bad_reader_stays_bad),
        cmocka_unit_test(test_blob_is_bounded),
        cmocka_unit_test(test_empty_blob_is_not_bad),
        cmocka_unit_test(test_string_refuses_a_zero_byte),
        cmocka_unit_test(test_no_bytes_at_all),
    };
    return cmocka_run_group_tests_name("unit/base/bytes", tests, NULL, NULL);
}
