#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "job/event.h"
#include "job/spec.h"

#include <math.h>
#include <string.h>

static Event *parse(const char *line, GError **error)
{
    return event_parse(line, strlen(line), error);
}

/* Printed and parsed again; the printed line is one line below the limit. */
static Event *pass(const Event *event)
{
    g_autofree char *line = event_print(event);
    gsize length = strlen(line);
    assert_true(length <= JOB_LINE_MAX);
    assert_ptr_equal(strchr(line, '\n'), line + length - 1);
    g_autoptr(GError) error = NULL;
    Event *again = event_parse(line, length, &error);
    if (!again)
        fail_msg("%s: %.200s", error->message, line);
    g_autofree char *twice = event_print(again);
    assert_string_equal(line, twice);
    return again;
}

static void test_progress(void **state)
{
    g_autoptr(Event) event = event_new(EVENT_PROGRESS);
    event->files_done = 3;
    event->files_total = 7;
    event->bytes_done = 123456789012345;
    event->bytes_total = G_MAXUINT64; /* more than JSON holds */
    event->percentage = 33.333333;
    event->rate = 1e9 / 3;
    event->path = g_strdup("dir/file \u00e4");
    g_autoptr(Event) again = pass(event);
    assert_int_equal(again->files_done, 3);
    assert_int_equal(again->files_total, 7);
    assert_int_equal(again->bytes_done, 123456789012345);
    assert_int_equal(again->bytes_total, G_MAXINT64);
    assert_true(fabs(again->percentage - 33.33) < 1e-9);
    assert_true(fabs(again->rate - 333333333) < 1e-3);
    assert_true(again->eta < 0);
    assert_string_equal(again->path, event->path);
    event->rate = NAN;
    event->eta = INFINITY;
    g_autoptr(Event) unknown = pass(event);
    assert_true(unknown->rate < 0 && unknown->eta < 0);
}

static void test_any_name_passes(void **state)
{
    static const char *const names[] = {"", "a\nb\x1b[31m", "\xff\xfe", "\xed\xa0\x80", "\xf4\x90\x80\x80", "x\\u0000"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(Event) event = event_new(EVENT_WARNING);
        event->code = g_strdup("unreadable");
        event->path = g_strdup(names[i]);
        event->message = g_strdup("");
        g_autoptr(Event) again = pass(event);
        assert_string_equal(again->path, names[i]);
        assert_string_equal(again->code, "unreadable");
    }
}

static void test_a_name_that_is_not_utf8_has_a_printable_form(void **state)
{
    g_autoptr(Event) event = event_new(EVENT_ITEM);
    event->action = g_strdup("create");
    event->kind = g_strdup("file");
    event->path = g_strdup("a\xff");
    event->bytes_done = 5;
    event->files_done = 6;
    g_autofree char *line = event_print(event);
    assert_non_null(strstr(line, "\"path\":{\"b64\":\"Yf8=\"}"));
    assert_non_null(strstr(line, "\"pathPrintable\":\"a\\\\xFF\""));
    g_autoptr(Event) again = pass(event);
    assert_string_equal(again->action, "create");
    assert_string_equal(again->kind, "file");
    assert_int_equal(again->bytes_done, 5);
    assert_int_equal(again->files_done, 6);
}

static void test_a_message_is_always_text(void **state)
{
    g_autoptr(Event) event = event_new(EVENT_WARNING);
    event->message = g_strdup("cannot read a\xff");
    g_autoptr(Event) again = pass(event);
    assert_true(g_utf8_validate(again->message, -1, NULL));
}

static void test_the_longest_names_fit_in_a_line(void **state)
{
    static const char worst[] = {'a', '\x01', '\xff', '"'};
    for (guint i = 0; i < G_N_ELEMENTS(worst); i++) {
        g_autoptr(Event) event = event_new(EVENT_WARNING);
        event->path = g_strnfill(JOB_LINE_MAX, worst[i]);
        event->message = g_strnfill(JOB_LINE_MAX, worst[i]);
        event->code = g_strdup("unreadable");
        g_autoptr(Event) again = pass(event);
        assert_true(strlen(again->path) >= 60 * 1024);
    }
}

static void test_done(void **state)
{
    static const char *const names[] = {"completed", "partial", "failed", "refused", "cancelled"};
    static const int codes[] = {0, 3, 1, 4, 130};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(Event) event = event_new(EVENT_DONE);
        event->status = (JobStatus)i;
        event->error_code = g_strdup("CONFLICT");
        event->error_message = g_strdup("why");
        event->plan_hash = g_strdup("ab");
        g_autoptr(Event) again = pass(event);
        assert_int_equal(again->status, i);
        assert_string_equal(again->error_code, "CONFLICT");
        assert_string_equal(again->error_message, "why");
        assert_string_equal(again->plan_hash, "ab");
        assert_string_equal(job_status_name((JobStatus)i), names[i]);
        assert_int_equal(job_status_exit_code((JobStatus)i), codes[i]);
    }
}

static void test_summary_and_stage(void **state)
{
    g_autoptr(Event) event = event_new(EVENT_SUMMARY);
    event->summary = json_pack("{s:{s:i}}", "stage1", "filesTotal", 9);
    g_autoptr(Event) again = pass(event);
    assert_true(json_equal(event->summary, again->summary));
    g_autoptr(Event) stage = event_new(EVENT_STAGE);
    stage->name = g_strdup("scan");
    g_autoptr(Event) stage_again = pass(stage);
    assert_string_equal(stage_again->name, "scan");
    g_autoptr(Event) need = event_new(EVENT_NEED);
    need->name = g_strdup("credentials");
    g_autoptr(Event) need_again = pass(need);
    assert_int_equal(need_again->type, EVENT_NEED);
}

static void test_unknown_keys_are_ignored(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Event) event = parse("{\"type\":\"stage\",\"name\":\"x\",\"new\":[1]}", &error);
    assert_null(error);
    assert_string_equal(event->name, "x");
}

static void test_what_is_no_event_is_refused(void **state)
{
    static const char *const lines[] = {
        "",
        "null",
        "{}",
        "{\"type\":7}",
        "{\"type\":\"news\"}",
        "{\"type\":\"stage\"}",
        "{\"type\":\"stage\",\"name\":1}",
        "{\"type\":\"done\"}",
        "{\"type\":\"done\",\"status\":\"fine\"}",
        "{\"type\":\"done\",\"status\":\"failed\",\"error\":\"x\"}",
        "{\"type\":\"summary\",\"stats\":[]}",
        "{\"type\":\"progress\",\"files\":-1}",
        "{\"type\":\"progress\",\"rate\":\"fast\"}",
        "{\"type\":\"warning\",\"message\":\"x\",\"path\":{\"b64\":\"?\"}}",
    };
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(GError) error = NULL;
        if (parse(lines[i], &error))
            fail_msg("taken: %s", lines[i]);
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_any_name_passes),
        cmocka_unit_test(test_a_name_that_is_not_utf8_has_a_printable_form),
        cmocka_unit_test(test_a_message_is_always_text),
        cmocka_unit_test(test_the_longest_names_fit_in_a_line),
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_summary_and_stage),
        cmocka_unit_test(test_unknown_keys_are_ignored),
        cmocka_unit_test(test_what_is_no_event_is_refused),
    };
    return cmocka_run_group_tests_name("job/event", tests, NULL, NULL);
}
