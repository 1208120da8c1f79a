#include "engine/retention/rules.h"

#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define DAY 86400
/* 2026-11-20T12:00:00Z, a Friday. */
#define NOW G_GINT64_CONSTANT(1795176000)

/* One letter a point, as they came: K stays, g goes. */
static char *decide(const RetentionPoint *points, guint count, const RetentionRules *rules, const char *zone_name)
{
    g_autoptr(GTimeZone) zone = g_time_zone_new_identifier(zone_name);
    g_autoptr(GArray) verdicts = retention_decide(points, count, rules, NOW, zone);
    GString *out = g_string_new(NULL);
    for (guint i = 0; i < verdicts->len; i++) {
        const RetentionVerdict *verdict = &g_array_index(verdicts, RetentionVerdict, i);
        assert_non_null(verdict->why);
        assert_int_not_equal(verdict->why[0], '\0');
        g_string_append_c(out, verdict->keep ? 'K' : 'g');
    }
    return g_string_free(out, FALSE);
}

static void expect(const RetentionPoint *points, guint count, const RetentionRules *rules, const char *wanted)
{
    g_autofree char *found = decide(points, count, rules, "UTC");
    assert_string_equal(found, wanted);
}

static void test_no_rule_keeps_all(void **state)
{
    (void)state;
    const RetentionPoint points[] = {{NOW - 9000 * (gint64)DAY, FALSE}, {0, TRUE}};
    const RetentionRules rules = {0};
    expect(points, 2, &rules, "KK");
    expect(points, 0, &rules, "");
}

static void test_any_rule_keeps(void **state)
{
    (void)state;
    const RetentionPoint points[] = {
        {NOW - 1 * DAY, TRUE}, {NOW - 2 * DAY, TRUE}, {NOW - 3 * DAY, TRUE}, {NOW - 40 * DAY, TRUE}};
    expect(points, 4, &(RetentionRules){.count = 2}, "KKgg");
    expect(points, 4, &(RetentionRules){.last = 2, .days = 3}, "KKKg");
    expect(points, 4, &(RetentionRules){.last = 1, .monthly = 2}, "KggK");
    expect(points, 4, &(RetentionRules){.last = RETENTION_ALL}, "KKKK");
    expect(points, 4, &(RetentionRules){.within = {.days = 2}}, "KKgg");
}

static void test_the_newest_complete_stays(void **state)
{
    (void)state;
    const RetentionPoint points[] = {
        {NOW - 300 * DAY, TRUE}, {NOW - 1 * DAY, FALSE}, {NOW - 400 * DAY, TRUE}, {NOW - 2 * DAY, FALSE}};
    expect(points, 4, &(RetentionRules){.last = 1}, "KKgg");
    expect(points, 4, &(RetentionRules){.days = 7}, "KKgK");
    const RetentionPoint partial[] = {{NOW - 300 * DAY, FALSE}, {NOW - 200 * DAY, FALSE}};
    expect(partial, 2, &(RetentionRules){.days = 7}, "gK");
}

/* A clock that was years ahead must not push out what is good: not by counts, and not by "within". */
static void test_the_future_counts_for_nothing(void **state)
{
    (void)state;
    const RetentionPoint points[] = {
        {NOW + 900 * DAY, TRUE}, {NOW + 1, TRUE}, {NOW, TRUE}, {NOW - 1 * DAY, TRUE}, {NOW - 9 * DAY, TRUE}};
    expect(points, 5, &(RetentionRules){.last = 2}, "KKKKg");
    expect(points, 5, &(RetentionRules){.within = {.days = 2}}, "KKKKg");
    expect(points, 2, &(RetentionRules){.last = 1}, "KK");
}

static void test_the_oldest_stays_while_there_are_fewer(void **state)
{
    (void)state;
    const RetentionPoint points[] = {{NOW, TRUE}, {NOW - 3600, TRUE}, {NOW - 7200, TRUE}};
    expect(points, 3, &(RetentionRules){.daily = 1}, "Kgg");
    expect(points, 3, &(RetentionRules){.daily = 2}, "KgK");
}

/* Two points of one UTC day are of two days in Auckland; in the hour that comes twice in Berlin one stays. */
static void test_days_end_where_the_zone_says(void **state)
{
    (void)state;
    const RetentionPoint points[] = {{NOW - 3600, TRUE}, {NOW - 2 * 3600, TRUE}, {NOW - 2 * DAY, TRUE}};
    const RetentionRules rules = {.daily = 2};
    g_autofree char *here = decide(points, 3, &rules, "UTC"), *there = decide(points, 3, &rules, "Pacific/Auckland");
    assert_string_equal(here, "KgK");
    assert_string_equal(there, "KKg");
    const gint64 second_two = 1792890000; /* 2026-10-25T02:00+01:00 */
    const RetentionPoint twice[] = {{second_two + 60, TRUE}, {second_two - 3540, TRUE}, {second_two - 9000, TRUE}};
    const RetentionRules hourly = {.hourly = 2};
    g_autofree char *berlin = decide(twice, 3, &hourly, "Europe/Berlin");
    assert_string_equal(berlin, "KgK");
}

/* 2025-12-29 and 2026-01-02 are of one ISO week, and of two years. */
static void test_weeks_at_a_year_boundary(void **state)
{
    (void)state;
    const gint64 monday = 1766966400, friday = 1767312000;
    const RetentionPoint points[] = {
        {friday, TRUE}, {monday, TRUE}, {monday - 8 * DAY, TRUE}, {monday - 20 * DAY, TRUE}};
    expect(points, 4, &(RetentionRules){.weekly = 2}, "KgKg");
    expect(points, 4, &(RetentionRules){.yearly = 2}, "KKgg");
}

static void test_spans(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",   "30", "d", "0d", "30d30d", "3h1d", "1x", "-1d", "1d ", "999999999999y",
                                        "3 d"};
    RetentionSpan span;
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(retention_parse_span(wrong[i], &span, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    assert_true(retention_parse_span("2y5m1w3d7h", &span, NULL));
    assert_int_equal(span.years, 2);
    assert_int_equal(span.months, 5);
    assert_int_equal(span.days, 10);
    assert_int_equal(span.hours, 7);
    g_autofree char *text = retention_print_span(&span);
    assert_string_equal(text, "2y5m10d7h");
}

static void test_counts_and_words(void **state)
{
    (void)state;
    guint count = 0;
    assert_true(retention_parse_count("unlimited", "--keep-last", &count, NULL));
    assert_int_equal(count, RETENTION_ALL);
    assert_true(retention_parse_count("7", "--keep-last", &count, NULL));
    assert_int_equal(count, 7);
    assert_false(retention_parse_count("0", "--keep-last", &count, NULL));
    g_autofree char *none = retention_describe(&(RetentionRules){0});
    assert_string_equal(none, "all points");
    g_autofree char *some =
        retention_describe(&(RetentionRules){.count = 3, .last = 7, .weekly = 4, .yearly = RETENTION_ALL, .days = 30});
    assert_string_equal(some, "the newest 7, 4 weekly, all yearly, what is not older than 30 days");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_rule_keeps_all),
        cmocka_unit_test(test_any_rule_keeps),
        cmocka_unit_test(test_the_newest_complete_stays),
        cmocka_unit_test(test_the_future_counts_for_nothing),
        cmocka_unit_test(test_the_oldest_stays_while_there_are_fewer),
        cmocka_unit_test(test_days_end_where_the_zone_says),
        cmocka_unit_test(test_weeks_at_a_year_boundary),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_counts_and_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
