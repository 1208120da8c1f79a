#include "cmocka_all.h"

#include "base/error.h"
#include "base/log.h"

#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Standard error goes to a file in memory between capture_begin and capture_end. */
static int saved_stderr, memory_file;

static void capture_begin(void)
{
    memory_file = memfd_create("log", MFD_CLOEXEC);
    saved_stderr = dup(STDERR_FILENO);
    assert_true(memory_file >= 0 && saved_stderr >= 0);
    assert_int_equal(dup2(memory_file, STDERR_FILENO), STDERR_FILENO);
}

static char *capture_end(void)
{
    assert_int_equal(dup2(saved_stderr, STDERR_FILENO), STDERR_FILENO);
    off_t size = lseek(memory_file, 0, SEEK_END);
    assert_true(size >= 0);
    char *text = g_malloc0((gsize)size + 1);
    assert_int_equal(pread(memory_file, text, (gsize)size, 0), size);
    assert_int_equal(close(memory_file), 0);
    assert_int_equal(close(saved_stderr), 0);
    return text;
}

/* The lines without the last newline, which must be there. */
static char **split_lines(char *text)
{
    assert_true(g_str_has_suffix(text, "\n"));
    text[strlen(text) - 1] = '\0';
    return g_strsplit(text, "\n", -1);
}

static void assert_is_time(const char *text)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd.dddZ";
    for (gsize i = 0; i < sizeof shape - 1; i++) {
        if (shape[i] == 'd')
            assert_true(g_ascii_isdigit(text[i]));
        else
            assert_int_equal(text[i], shape[i]);
    }
}

static void test_default_is_text_from_info_on(void **state)
{
    capture_begin();
    log_debug("hidden");
    log_info("shown %d", 1);
    log_warning("shown %d", 2);
    g_autofree char *text = capture_end();
    g_auto(GStrv) lines = split_lines(text);
    assert_int_equal(g_strv_length(lines), 2);
    assert_is_time(lines[0]);
    assert_string_equal(lines[0] + 24, " INFO shown 1");
    assert_string_equal(lines[1] + 24, " WARNING shown 2");
}

static void test_level_hides_what_is_lower(void **state)
{
    log_setup(LOG_LEVEL_ERROR, FALSE);
    capture_begin();
    log_warning("hidden");
    g_warning("hidden too");
    log_error("shown");
    g_autofree char *text = capture_end();
    assert_true(g_str_has_suffix(text, " ERROR shown\n"));
    assert_null(strstr(text, "hidden"));
}

static void test_text_is_one_printable_line(void **state)
{
    log_setup(LOG_LEVEL_INFO, FALSE);
    capture_begin();
    log_info("a\nb\033[2J\xff \\x1B \xe2\x80\x8b");
    g_autofree char *text = capture_end();
    /* An escape that human_name made is not escaped again. */
    assert_string_equal(text + 24, " INFO a\\nb\\x1B[2J\\xFF \\x1B \\xE2\\x80\\x8B\n");
}

static void test_json_is_valid_for_any_message(void **state)
{
    static const struct {
        const char *message, *expected;
    } cases[] = {
        {"plain", "plain"},
        {"", ""},
        {"say \"hi\"", "say \"hi\""},
        {"back\\slash", "back\\slash"},
        {"\\", "\\"},
        {"\\\"", "\\\""},
        {"line\nbreak\ttab\r", "line\\nbreak\\ttab\\x0D"},
        {"\x01\x1f\x7f", "\\x01\\x1F\\x7F"},
        {"gr\xc3\xbcn \xf0\x9f\x98\x80", "gr\xc3\xbcn \xf0\x9f\x98\x80"},
        {"bad \xff\xc3", "bad \\xFF\\xC3"},
        {"u+2028 \xe2\x80\xa8", "u+2028 \\xE2\\x80\\xA8"},
    };
    log_setup(LOG_LEVEL_DEBUG, TRUE);
    capture_begin();
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        log_debug("%s", cases[i].message);
    g_autofree char *text = capture_end();
    g_auto(GStrv) lines = split_lines(text);
    assert_int_equal(g_strv_length(lines), G_N_ELEMENTS(cases));
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        json_error_t problem;
        json_t *object = json_loads(lines[i], JSON_REJECT_DUPLICATES, &problem);
        if (!object)
            fail_msg("%s: %s", problem.text, lines[i]);
        assert_int_equal(json_object_size(object), 3);
        assert_is_time(json_string_value(json_object_get(object, "time")));
        assert_string_equal(json_string_value(json_object_get(object, "level")), "debug");
        assert_string_equal(json_string_value(json_object_get(object, "message")), cases[i].expected);
        json_decref(object);
    }
}

static void test_glib_messages_come_here_too(void **state)
{
    log_setup(LOG_LEVEL_DEBUG, TRUE);
    capture_begin();
    g_debug("from %s", "glib");
    g_message("from \"glib\"");
    g_log("another-domain", G_LOG_LEVEL_WARNING, "from glib");
    g_critical("from glib");
    g_autofree char *text = capture_end();
    g_auto(GStrv) lines = split_lines(text);
    assert_int_equal(g_strv_length(lines), 4);
    assert_non_null(strstr(lines[0], "\"level\":\"debug\",\"message\":\"from glib\"}"));
    assert_non_null(strstr(lines[1], "\"level\":\"info\",\"message\":\"from \\\"glib\\\"\"}"));
    assert_non_null(strstr(lines[2], "\"level\":\"warning\",\"message\":\"from glib\"}"));
    assert_non_null(strstr(lines[3], "\"level\":\"error\",\"message\":\"from glib\"}"));
}

enum { WRITERS = 4, LINES_EACH = 200 };

static void *write_many(void *data)
{
    for (int i = 0; i < LINES_EACH; i++)
        log_info("thread %d line %d of a length that would show torn writes: %0200d", GPOINTER_TO_INT(data), i, 0);
    return NULL;
}

static void test_lines_of_threads_do_not_mix(void **state)
{
    log_setup(LOG_LEVEL_INFO, TRUE);
    capture_begin();
    pthread_t threads[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, GINT_TO_POINTER(i)), 0);
    for (int i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    g_autofree char *text = capture_end();
    g_auto(GStrv) lines = split_lines(text);
    assert_int_equal(g_strv_length(lines), WRITERS * LINES_EACH);
    for (char **line = lines; *line; line++) {
        json_t *object = json_loads(*line, 0, NULL);
        assert_non_null(object);
        json_decref(object);
    }
}

static void test_parse_level(void **state)
{
    LogLevel level = LOG_LEVEL_ERROR;
    g_autoptr(GError) error = NULL;
    assert_true(log_parse_level("debug", &level, NULL));
    assert_int_equal(level, LOG_LEVEL_DEBUG);
    assert_true(log_parse_level("warning", &level, NULL));
    assert_int_equal(level, LOG_LEVEL_WARNING);
    assert_false(log_parse_level("DEBUG", &level, NULL));
    assert_false(log_parse_level(NULL, &level, NULL));
    assert_false(log_parse_level("loud", &level, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    assert_int_equal(level, LOG_LEVEL_WARNING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_is_text_from_info_on), /* first: nothing has called log_setup yet */
        cmocka_unit_test(test_level_hides_what_is_lower),     cmocka_unit_test(test_text_is_one_printable_line),
        cmocka_unit_test(test_json_is_valid_for_any_message), cmocka_unit_test(test_glib_messages_come_here_too),
        cmocka_unit_test(test_lines_of_threads_do_not_mix),   cmocka_unit_test(test_parse_level),
    };
    return cmocka_run_group_tests_name("unit/base/log", tests, NULL, NULL);
}
