#include "../base/cmocka_all.h"
#include "engine/s3sync/mtime.h"

static void check(gint64 seconds, guint32 ns, const char *want)
{
    char text[MTIME_TEXT_BYTES];
    gint64 back_s = 0;
    guint32 back_ns = 0;
    mtime_format(seconds, ns, text);
    assert_string_equal(text, want);
    assert_true(mtime_parse(text, &back_s, &back_ns));
    assert_int_equal(back_s, seconds);
    assert_int_equal(back_ns, ns);
}

static void test_as_rclone_writes(void **state)
{
    check(0, 0, "0");
    check(1700000000, 0, "1700000000");
    check(1700000000, 123456789, "1700000000.123456789");
    check(1700000000, 120000000, "1700000000.12");
    check(1700000000, 1, "1700000000.000000001");
    check(-1, 0, "-1");
    check(-1, 250000000, "-0.75");
    check(-10, 999999999, "-9.000000001");
}

static void test_reads_others(void **state)
{
    gint64 seconds = 0;
    guint32 ns = 0;
    assert_true(mtime_parse("5.5000000009", &seconds, &ns));
    assert_int_equal(seconds, 5);
    assert_int_equal(ns, 500000000);
    const char *const bad[] = {"", "x", "1x", ".5", "-", "1.5x", " 1", "1 ", "9999999999999999999999", "1e5"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++)
        assert_false(mtime_parse(bad[i], &seconds, &ns));
    assert_false(mtime_parse(NULL, &seconds, &ns));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_rclone_writes), cmocka_unit_test(test_reads_others)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
