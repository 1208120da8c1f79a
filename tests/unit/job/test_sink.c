#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "job/line_reader.h"
#include "job/sink.h"
#include "job/spec.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    CancelFlag cancel;
    int read_fd, write_fd;
    Sink *sink;
    RunSink *out;
} Fixture;

static int set_up(void **state)
{
    Fixture *fixture = g_new0(Fixture, 1);
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    fixture->read_fd = fds[0];
    fixture->write_fd = fds[1];
    fixture->sink = sink_new(fds[1], TRUE, &fixture->cancel);
    fixture->out = sink_run_sink(fixture->sink);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    sink_free(fixture->sink);
    if (fixture->read_fd >= 0)
        close(fixture->read_fd);
    if (fixture->write_fd >= 0)
        close(fixture->write_fd);
    g_free(fixture);
    return 0;
}

/* Closes the writing end and gives all events. */
static GPtrArray *collect(Fixture *fixture)
{
    g_auto(LineReader) reader;
    line_reader_init(&reader, JOB_LINE_MAX, FALSE);
    close(fixture->write_fd);
    fixture->write_fd = -1;
    GPtrArray *events = g_ptr_array_new_with_free_func((GDestroyNotify)event_free);
    while (line_reader_fill(&reader, fixture->read_fd) > 0) {
        const char *line;
        gsize length;
        while (line_reader_next(&reader, &line, &length) == LINE_READY) {
            Event *event = event_parse(line, length, NULL);
            assert_non_null(event);
            g_ptr_array_add(events, event);
        }
    }
    return events;
}

static void test_reports_become_events(void **state)
{
    Fixture *fixture = *state;
    fixture->out->stage(fixture->out, "scan");
    fixture->out->warning(fixture->out, "unreadable", "a\xff", "cannot read");
    const RunItem item = {"delete", "directory", "old", 0, 12};
    fixture->out->item(fixture->out, &item);
    sink_note(fixture->sink, "unconfined");
    g_autoptr(GPtrArray) events = collect(fixture);
    assert_int_equal(events->len, 4);
    const Event *warning = g_ptr_array_index(events, 1);
    assert_string_equal(warning->path, "a\xff");
    assert_string_equal(warning->code, "unreadable");
    const Event *deleted = g_ptr_array_index(events, 2);
    assert_string_equal(deleted->action, "delete");
    assert_int_equal(deleted->files_done, 12);
    const Event *note = g_ptr_array_index(events, 3);
    assert_string_equal(note->code, "note");
    assert_null(note->path);
}

static void test_items_only_when_wanted(void **state)
{
    CancelFlag cancel = {0};
    g_autoptr(Sink) sink = sink_new(STDOUT_FILENO, FALSE, &cancel);
    assert_null(sink_run_sink(sink)->item);
}

static void test_progress_is_thinned_and_its_end_is_kept(void **state)
{
    Fixture *fixture = *state;
    fixture->out->stage(fixture->out, "copy");
    gint64 start = g_get_monotonic_time();
    for (guint64 i = 1; i <= 100000; i++) {
        const RunProgress progress = {i, 100000, i * 10, 1000000, "file"};
        fixture->out->progress(fixture->out, &progress);
    }
    fixture->out->stage(fixture->out, "commit");
    double seconds = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    g_autoptr(GPtrArray) events = collect(fixture);
    guint lines = 0;
    const Event *last = NULL;
    for (guint i = 0; i < events->len; i++) {
        const Event *event = g_ptr_array_index(events, i);
        if (event->type == EVENT_PROGRESS)
            last = event, lines++;
    }
    assert_true(lines >= 2 && (double)lines <= 4 * (seconds + 1));
    assert_int_equal(last->files_done, 100000);
    assert_true(last->percentage >= 99.99);
    assert_int_equal(((const Event *)g_ptr_array_index(events, events->len - 1))->type, EVENT_STAGE);
}

static void test_four_lines_a_second_hold_over_stages(void **state)
{
    Fixture *fixture = *state;
    gint64 start = g_get_monotonic_time();
    for (guint64 i = 1; i <= 200; i++) {
        const RunProgress progress = {i, 0, 0, 0, NULL};
        fixture->out->stage(fixture->out, "s");
        fixture->out->progress(fixture->out, &progress);
        fixture->out->progress(fixture->out, &progress);
    }
    double seconds = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    g_autoptr(GPtrArray) events = collect(fixture);
    guint lines = 0;
    for (guint i = 0; i < events->len; i++)
        lines += ((const Event *)g_ptr_array_index(events, i))->type == EVENT_PROGRESS;
    assert_true(lines > 0 && (double)lines <= 4 * (seconds + 1));
}

static gpointer report(gpointer data)
{
    Fixture *fixture = data;
    for (guint i = 0; i < 500; i++)
        fixture->out->warning(fixture->out, "changed", "some/path/or/other", "a message of some length");
    return NULL;
}

static void test_lines_of_many_threads_do_not_mix(void **state)
{
    Fixture *fixture = *state;
    GThread *threads[4];
    /* More than the pipe holds: it must be read meanwhile. */
    int big = fcntl(fixture->write_fd, F_SETPIPE_SZ, 1024 * 1024);
    if (big < 0)
        skip();
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("report", report, fixture);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    g_autoptr(GPtrArray) events = collect(fixture);
    assert_int_equal(events->len, 2000);
}

typedef struct {
    Fixture *fixture;
    gint passed;
} Engine;

static gpointer make_progress(gpointer data)
{
    Engine *engine = data;
    const RunProgress progress = {1, 2, 3, 4, "f"};
    engine->fixture->out->progress(engine->fixture->out, &progress);
    g_atomic_int_set(&engine->passed, 1);
    return NULL;
}

static void test_a_pause_holds_until_resumed(void **state)
{
    Engine engine = {.fixture = *state};
    sink_pause(engine.fixture->sink, TRUE);
    GThread *thread = g_thread_new("engine", make_progress, &engine);
    g_usleep(50000);
    assert_int_equal(g_atomic_int_get(&engine.passed), 0);
    /* A warning is heard in a pause, too. */
    sink_note(engine.fixture->sink, "still here");
    sink_pause(engine.fixture->sink, FALSE);
    g_thread_join(thread);
    assert_int_equal(g_atomic_int_get(&engine.passed), 1);
}

static void test_cancel_ends_a_pause(void **state)
{
    Engine engine = {.fixture = *state};
    sink_pause(engine.fixture->sink, TRUE);
    GThread *thread = g_thread_new("engine", make_progress, &engine);
    g_usleep(10000);
    cancel_set(&engine.fixture->cancel);
    g_thread_join(thread);
    assert_int_equal(g_atomic_int_get(&engine.passed), 1);
}

static void test_a_commit_is_not_paused(void **state)
{
    Fixture *fixture = *state;
    fixture->out->stage(fixture->out, "commit");
    sink_pause(fixture->sink, TRUE);
    const RunProgress progress = {1, 2, 3, 4, "f"};
    fixture->out->progress(fixture->out, &progress); /* would hang */
}

static void test_nobody_reads_cancels(void **state)
{
    Fixture *fixture = *state;
    signal(SIGPIPE, SIG_IGN);
    close(fixture->read_fd);
    fixture->read_fd = -1;
    assert_false(cancel_is_set(&fixture->cancel));
    fixture->out->stage(fixture->out, "scan");
    assert_true(cancel_is_set(&fixture->cancel));
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_reports_become_events),
        cmocka_unit_test(test_items_only_when_wanted),
        WITH_FIXTURE(test_progress_is_thinned_and_its_end_is_kept),
        WITH_FIXTURE(test_four_lines_a_second_hold_over_stages),
        WITH_FIXTURE(test_lines_of_many_threads_do_not_mix),
        WITH_FIXTURE(test_a_pause_holds_until_resumed),
        WITH_FIXTURE(test_cancel_ends_a_pause),
        WITH_FIXTURE(test_a_commit_is_not_paused),
        WITH_FIXTURE(test_nobody_reads_cancels),
    };
    return cmocka_run_group_tests_name("job/sink", tests, NULL, NULL);
}
