#include "base/when.h"
#include "cmocka_all.h"

static void test_parse(void **state)
{
    static const struct {
        const char *text;
        gint64 until;
    } times[] = {
        {"2026-11-20T02:00:00Z", 1795140000},
        {"2026-11-20T020000Z", 1795140000},
        {"2026-11-20T02:00:00+02:00", 1795132800},
        {"2026-11-20T02:00:00", 1795136400}, /* an hour before UTC's */
        {"2026-11-20", 1795215599},
        {"2026-03-29", 1774821599}, /* a day of 23 hours */
    };
    for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
        gint64 until = 0;
        assert_true(when_parse(times[i].text, &until));
        assert_int_equal(until, times[i].until);
        assert_int_equal(when_is_day(times[i].text), i >= 4);
    }
    static const char *const none[] = {"",           "2026",      "2026-11",    "2026-13-01",
                                       "2026-02-30", "yesterday", "2026/11/20", "2026-11-20T25:00:00Z",
                                       "2026-11-20Z"};
    for (guint i = 0; i < G_N_ELEMENTS(none); i++) {
        gint64 until;
        if (when_parse(none[i], &until) || when_is_day(none[i]))
            fail_msg("taken for a time: %s", none[i]);
    }
}

static void test_show(void **state)
{
    g_autofree char *text = when_show(1795140000), *none = when_show(G_MAXINT64);
    assert_string_equal(text, "2026-11-20T02:00:00Z");
    assert_string_equal(none, "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse), cmocka_unit_test(test_show)};
    (void)g_setenv("TZ", "Europe/Vienna", TRUE);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
