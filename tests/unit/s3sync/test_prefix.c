#include "../base/cmocka_all.h"

#include <string.h>

#include "base/error.h"
#include "engine/s3sync/prefix.h"

#define JULY_NIGHT    1720305000 /* 2024-07-06T22:30:00Z: already the 7th in Paris */
#define BEFORE_CHANGE 1711846799 /* 2024-03-31T00:59:59Z: one second before summer time in Paris */

static void expect(const char *base, const char *template, const PrefixValues *values, const char *want, gboolean dated)
{
    gboolean found = !dated;
    g_autoptr(GError) error = NULL;
    g_autofree char *have = prefix_expand(base, template, values, &found, &error);
    if (have == NULL)
        fail_msg("%s", error->message);
    assert_string_equal(have, want);
    assert_int_equal(found, dated);
}

static void test_joined_and_normal(void **state)
{
    PrefixValues values = {.timezone = "UTC"};
    (void)state;
    expect(NULL, NULL, &values, "", FALSE);
    expect("", "/", &values, "", FALSE);
    expect("a", NULL, &values, "a/", FALSE);
    expect("/a//b/", "c//", &values, "a/b/c/", FALSE);
    expect(NULL, "x y/\xc3\xa9", &values, "x y/\xc3\xa9/", FALSE);
}

static void test_words(void **state)
{
    PrefixValues values = {.time = JULY_NIGHT, .timezone = "UTC", .config = "my/config", .host = "box"};
    (void)state;
    expect("base", "YYYY-MM-DD", &values, "base/2024-07-06/", TRUE);
    expect("base", "{host}-{config}/d-{date}-{time}/x", &values, "base/box-my-config/d-2024-07-06-223000/x/", TRUE);
    expect("{config}", NULL, &values, "my-config/", FALSE);
    values.config = NULL;
    expect("{config}/x", NULL, &values, "x/", FALSE);
}

static void test_dates_are_those_of_the_schedule(void **state)
{
    PrefixValues values = {.time = JULY_NIGHT, .timezone = "Europe/Paris"};
    (void)state;
    expect(NULL, "{date}/{time}", &values, "2024-07-07/003000/", TRUE);
    values.timezone = "America/New_York";
    expect(NULL, "{date}/{time}", &values, "2024-07-06/183000/", TRUE);
    /* The hour that summer time leaves out. */
    values = (PrefixValues){.time = BEFORE_CHANGE, .timezone = "Europe/Paris"};
    expect(NULL, "{date}-{time}", &values, "2024-03-31-015959/", TRUE);
    values.time++;
    expect(NULL, "{date}-{time}", &values, "2024-03-31-030000/", TRUE);
}

static void test_what_is_wrong(void **state)
{
    static const char *const TEMPLATES[] = {"{word}", "a/../b", "a/./b", "{}", "\xff"};
    PrefixValues values = {.timezone = "UTC"};
    (void)state;
    for (guint i = 0; i < G_N_ELEMENTS(TEMPLATES); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(prefix_expand(NULL, TEMPLATES[i], &values, NULL, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    values.timezone = "Mars/Olympus";
    g_autoptr(GError) error = NULL;
    assert_null(prefix_expand(NULL, "x", &values, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

static void test_what_all_dates_share(void **state)
{
    PrefixValues values = {.time = JULY_NIGHT, .timezone = "UTC", .host = "box"};
    (void)state;
    g_autofree char *middle = prefix_common("a/{host}", "b/x-{date}/c", &values, NULL);
    g_autofree char *early = prefix_common("YYYY-MM-DD", "b", &values, NULL);
    g_autofree char *none = prefix_common("a", "b", &values, NULL);
    assert_string_equal(middle, "a/box/b/");
    assert_string_equal(early, "");
    assert_string_equal(none, "a/b/");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joined_and_normal),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_dates_are_those_of_the_schedule),
        cmocka_unit_test(test_what_is_wrong),
        cmocka_unit_test(test_what_all_dates_share),
    };
    return cmocka_run_group_tests_name("s3sync/prefix", tests, NULL, NULL);
}
