#include "cmocka_all.h"

#include "base/error.h"
#include "base/human.h"

#include <math.h>
#include <string.h>

#define KIB G_GUINT64_CONSTANT(1024)

static void assert_owned_string(char *actual, const char *expected)
{
    g_autofree char *owned = actual;
    assert_string_equal(owned, expected);
}

static void test_size(void **state)
{
    assert_owned_string(human_size(0), "0 B");
    assert_owned_string(human_size(1023), "1023 B");
    assert_owned_string(human_size(1024), "1.0 KiB");
    assert_owned_string(human_size(1536), "1.5 KiB");
    assert_owned_string(human_size(1024 * KIB - 1), "1.0 MiB");
    assert_owned_string(human_size(1023 * KIB + 512), "1023.5 KiB");
    assert_owned_string(human_size(3435973837), "3.2 GiB");
    assert_owned_string(human_size(KIB * KIB * KIB * KIB * KIB), "1.0 PiB");
    assert_owned_string(human_size(G_MAXUINT64), "16.0 EiB");
}

static void test_duration(void **state)
{
    assert_owned_string(human_duration(0.4), "0.4 s");
    assert_owned_string(human_duration(9.94), "9.9 s");
    assert_owned_string(human_duration(9.96), "10 s");
    assert_owned_string(human_duration(12.2), "12 s");
    assert_owned_string(human_duration(59.7), "1 min");
    assert_owned_string(human_duration(185), "3 min 5 s");
    assert_owned_string(human_duration(2 * 3600 + 600), "2 h 10 min");
    assert_owned_string(human_duration(3 * 86400 + 4 * 3600 + 59), "3 d 4 h");
    assert_owned_string(human_duration(-5), "0.0 s");
    assert_owned_string(human_duration((double)NAN), "0.0 s");
    g_autofree char *forever = human_duration((double)INFINITY);
    assert_non_null(strstr(forever, " d"));
}

static void test_count(void **state)
{
    assert_owned_string(human_count(0), "0");
    assert_owned_string(human_count(999), "999");
    assert_owned_string(human_count(1000), "1,000");
    assert_owned_string(human_count(1234567), "1,234,567");
    assert_owned_string(human_count(G_MAXUINT64), "18,446,744,073,709,551,615");
}

static void test_parse_size_accepts(void **state)
{
    static const struct {
        const char *text;
        guint64 bytes;
    } cases[] = {
        {"0", 0},
        {"10", 10},
        {"10B", 10},
        {"10K", 10 * KIB},
        {"10k", 10 * KIB},
        {"1.5G", 3 * KIB * KIB * KIB / 2},
        {"64MiB", 64 * KIB * KIB},
        {"3 GB", 3 * KIB * KIB * KIB},
        {"0.001K", 1},
        {"1.000000000000000000000000000001T", KIB * KIB * KIB * KIB},
        {"1.99999999999999999999999999999P", 2 * KIB * KIB * KIB * KIB * KIB - 1},
        {"0.50000000000000000000000000000000000000000000000000000000000000000000000000000000000000K", 512},
        {"8191P", 8191 * KIB * KIB * KIB * KIB * KIB},
        {"9223372036854775807", G_MAXINT64},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint64 bytes = 99;
        g_autoptr(GError) error = NULL;
        if (!human_parse_size(cases[i].text, &bytes, &error))
            fail_msg("%s: %s", cases[i].text, error->message);
        if (bytes != cases[i].bytes)
            fail_msg("%s gave %" G_GUINT64_FORMAT, cases[i].text, bytes);
    }
}

static void test_parse_size_refuses(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "K",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1  K",
        "1KK",
        "1iB",
        "1Ki",
        "1.",
        ".5G",
        "1.5",
        "1.5B",
        "1,5G",
        "1e3",
        "0x10",
        "1 K B",
        "1KB ",
        "1Z",
        "1BB",
        "1.G",
        "1.-G",
        "inf",
        "nan",
        "8192P",
        "9223372036854775808",
        "1KiBiB",
        "18446744073709551616",
        "1.5 ",
        "1\n",
        "99999999999999999999999999",
        "36893488147419103232K",
        "18446744073709551625",
        "18014398509481985K",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint64 bytes = 99;
        g_autoptr(GError) error = NULL;
        if (human_parse_size(cases[i], &bytes, &error))
            fail_msg("'%s' was taken for %" G_GUINT64_FORMAT, cases[i], bytes);
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
        assert_true(bytes == 99);
    }
    guint64 bytes;
    assert_false(human_parse_size(NULL, &bytes, NULL));
}

static void test_parse_size_error_is_safe_to_print(void **state)
{
    guint64 bytes;
    g_autoptr(GError) error = NULL;
    assert_false(human_parse_size("\033[2J", &bytes, &error));
    assert_null(strchr(error->message, '\033'));
    assert_non_null(strstr(error->message, "\\x1B[2J"));
}

static void test_parse_number(void **state)
{
    guint64 value = 99;
    g_autoptr(GError) error = NULL;
    assert_true(human_parse_number("1", 1, 64, "--jobs", &value, NULL));
    assert_true(value == 1);
    assert_true(human_parse_number("064", 1, 64, "--jobs", &value, NULL));
    assert_true(value == 64);
    assert_true(human_parse_number("18446744073709551615", 0, G_MAXUINT64, "x", &value, NULL));
    assert_true(value == G_MAXUINT64);
    static const char *const wrong[] = {
        "", "0", "65", "-1", "+1", " 1", "1 ", "1.0", "x", "18446744073709551617", "18446744073709551625"};
    value = 99;
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++)
        assert_false(human_parse_number(wrong[i], 1, 64, "--jobs", &value, NULL));
    assert_false(human_parse_number(NULL, 1, 64, "--jobs", &value, NULL));
    assert_true(value == 99);
    assert_false(human_parse_number("many", 1, 64, "--jobs", &value, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    assert_string_equal(error->message, "--jobs must be a whole number from 1 to 64, not 'many'");
}

static void test_name_keeps_what_is_harmless(void **state)
{
    static const char *const names[] = {
        "", "a b.txt", "\"'$`!", "grün", "日本語", "\xf0\x9f\x98\x80", "e\xcc\x81", "\xc2\xa0",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        assert_owned_string(human_name(names[i], -1), names[i]);
}

static void test_name_escapes(void **state)
{
    static const struct {
        const char *name, *shown;
    } cases[] = {
        {"a\\b", "a\\\\b"},
        {"a\nb\tc", "a\\nb\\tc"},
        {"\033[31m", "\\x1B[31m"},
        {"\x7f\r\x01", "\\x7F\\x0D\\x01"},
        {"\xc2\x9b", "\\xC2\\x9B"},                   /* C1: CSI */
        {"\xc2\x85", "\\xC2\\x85"},                   /* C1: next line */
        {"\xc2\xad", "\\xC2\\xAD"},                   /* soft hyphen */
        {"\xe2\x80\x8b", "\\xE2\\x80\\x8B"},          /* zero width space */
        {"\xe2\x80\xa8", "\\xE2\\x80\\xA8"},          /* line separator */
        {"\xe2\x80\xa9", "\\xE2\\x80\\xA9"},          /* paragraph separator */
        {"\xef\xbb\xbf", "\\xEF\\xBB\\xBF"},          /* byte order mark */
        {"\xee\x80\x80", "\\xEE\\x80\\x80"},          /* private use */
        {"\xf3\xa0\x81\x81", "\\xF3\\xA0\\x81\\x81"}, /* a tag letter */
        {"\xf4\x80\x80\x80", "\\xF4\\x80\\x80\\x80"}, /* plane 16, private use */
        {"\xed\xa0\x80", "\\xED\\xA0\\x80"},          /* an unpaired surrogate */
        {"\xf4\x90\x80\x80", "\\xF4\\x90\\x80\\x80"}, /* above U+10FFFF */
        {"\xc0\xaf", "\\xC0\\xAF"},                   /* overlong '/' */
        {"\xff\xfe", "\\xFF\\xFE"},
        {"gr\xfcn", "gr\\xFCn"},      /* Latin-1 */
        {"a\xe2\x82", "a\\xE2\\x82"}, /* cut off */
        {"\xe2\x82z\xc3\xbc", "\\xE2\\x82z\xc3\xbc"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_owned_string(human_name(cases[i].name, -1), cases[i].shown);
}

/* By number: a literal with them would mislead the reader of this file. */
static void test_name_escapes_every_bidi_control(void **state)
{
    static const gunichar characters[] = {0x061c, 0x200e, 0x200f, 0x202a, 0x202b, 0x202c, 0x202d,
                                          0x202e, 0x2066, 0x2067, 0x2068, 0x2069, 0x206a, 0x206f};
    for (gsize i = 0; i < G_N_ELEMENTS(characters); i++) {
        char name[16] = "x";
        int length = g_unichar_to_utf8(characters[i], name + 1);
        g_autoptr(GString) expected = g_string_new("x");
        for (int j = 1; j <= length; j++)
            g_string_append_printf(expected, "\\x%02X", (guint)(guint8)name[j]);
        g_string_append_c(expected, 'y');
        name[length + 1] = 'y';
        assert_owned_string(human_name(name, -1), expected->str);
    }
}

static void test_name_with_a_length(void **state)
{
    assert_owned_string(human_name("a\0b", 3), "a\\x00b");
    assert_owned_string(human_name("abc", 2), "ab");
    /* The third byte of the euro sign lies behind the end and must not be looked at. */
    assert_owned_string(human_name("\xe2\x82\xac", 2), "\\xE2\\x82");
    assert_owned_string(human_name("abc", 0), "");
}

static void test_name_is_printable_whatever_the_bytes(void **state)
{
    guint32 seed = 12345;
    for (int round = 0; round < 20000; round++) {
        char bytes[8];
        for (gsize i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525 + 1013904223;
            /* Mostly lead and continuation bytes: plain random bytes hardly ever make a long sequence. */
            bytes[i] = (char)(seed & 0x10000000 ? 0xc0 + (seed >> 16) % 0x40 : 0x80 + (seed >> 16) % 0x40);
        }
        g_autofree char *exact = g_memdup2(bytes, sizeof bytes);
        g_autofree char *shown = human_name(exact, sizeof bytes);
        assert_true(g_utf8_validate(shown, -1, NULL));
        for (const char *at = shown; *at; at = g_utf8_next_char(at)) {
            GUnicodeType type = g_unichar_type(g_utf8_get_char(at));
            assert_true(type != G_UNICODE_CONTROL && type != G_UNICODE_FORMAT && type != G_UNICODE_PRIVATE_USE);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_size),
        cmocka_unit_test(test_duration),
        cmocka_unit_test(test_count),
        cmocka_unit_test(test_parse_size_accepts),
        cmocka_unit_test(test_parse_size_refuses),
        cmocka_unit_test(test_parse_size_error_is_safe_to_print),
        cmocka_unit_test(test_parse_number),
        cmocka_unit_test(test_name_keeps_what_is_harmless),
        cmocka_unit_test(test_name_escapes),
        cmocka_unit_test(test_name_escapes_every_bidi_control),
        cmocka_unit_test(test_name_with_a_length),
        cmocka_unit_test(test_name_is_printable_whatever_the_bytes),
    };
    return cmocka_run_group_tests_name("unit/base/human", tests, NULL, NULL);
}
