/*
 * Job specs about retention and drills: what is read and printed, and what is refused.
 */
#include "../base/cmocka_all.h"
#include "base/error.h"
#include "job/spec.h"

#include <string.h>

#define HEAD(type)      "{\"version\":1,\"type\":\"" type "\",\"store\":{\"url\":\"s3://b/p\"}"
#define RETENTION(rest) HEAD("archive-retention") ",\"options\":{\"retention\":{" rest "}}}"
#define DRILL(rest)     HEAD("drill") ",\"sources\":[\"/s\"],\"options\":{\"drill\":{" rest "}}}"

static JobSpec *parse(const char *line, GError **error)
{
    return job_spec_parse(line, strlen(line), error);
}

static void assert_refused(const char *line, const char *part)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(line, &error);
    if (spec)
        fail_msg("taken: %.200s", line);
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
}

/* What was printed is read as the same again. */
static JobSpec *parse_twice(const char *line)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) once = parse(line, &error);
    if (!once)
        fail_msg("%s", error->message);
    g_autofree char *printed = job_spec_print(once);
    JobSpec *twice = parse(printed, &error);
    if (!twice)
        fail_msg("%s: %s", printed, error->message);
    return twice;
}

static void test_retention(void **state)
{
    (void)state;
    g_autoptr(JobSpec) spec = parse_twice(
        RETENTION("\"count\":3,\"days\":30,\"keepLast\":1,\"keepHourly\":2,\"keepDaily\":7,\"keepWeekly\":4,"
                  "\"keepMonthly\":\"unlimited\",\"keepYearly\":9,\"keepWithin\":\"1y6m\",\"timezone\":\"UTC\","
                  "\"unfinished\":true"));
    const JobRetentionOptions *rules = &spec->options.retention;
    assert_int_equal(spec->type, JOB_ARCHIVE_RETENTION);
    assert_int_equal(rules->count, 3);
    assert_int_equal(rules->days, 30);
    assert_int_equal(rules->last, 1);
    assert_int_equal(rules->hourly, 2);
    assert_int_equal(rules->daily, 7);
    assert_int_equal(rules->weekly, 4);
    assert_int_equal(rules->monthly, JOB_KEEP_ALL);
    assert_int_equal(rules->yearly, 9);
    assert_string_equal(rules->within, "1y6m");
    assert_string_equal(rules->time_zone, "UTC");
    assert_true(rules->unfinished);
}

static void test_drill(void **state)
{
    (void)state;
    g_autoptr(JobSpec) spec = parse_twice(DRILL("\"files\":5,\"maxBytes\":5000000000,\"seed\":4294967295"));
    assert_int_equal(spec->type, JOB_DRILL);
    assert_int_equal(spec->options.drill.files, 5);
    assert_int_equal(spec->options.drill.max_bytes, G_GUINT64_CONSTANT(5000000000));
    assert_int_equal(spec->options.drill.seed, G_MAXUINT32);
    assert_int_equal(spec->sources->len, 1);
}

static void test_refused(void **state)
{
    (void)state;
    assert_refused(RETENTION("\"keepLast\":-1"), "keepLast");
    assert_refused(RETENTION("\"keepLast\":\"all\""), "unlimited");
    assert_refused(RETENTION("\"keepDaily\":2147483648"), "keepDaily");
    assert_refused(RETENTION("\"days\":36501"), "days");
    assert_refused(RETENTION("\"keepForever\":1"), "keepForever");
    assert_refused(DRILL("\"files\":10001"), "files");
    assert_refused("{\"version\":1,\"type\":\"archive-retention\"}", "store");
    assert_refused("{\"version\":1,\"type\":\"drill\"}", "store");
    assert_refused(HEAD("archive-retention") ",\"sources\":[\"/s\"]}", "sources");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_drill),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
