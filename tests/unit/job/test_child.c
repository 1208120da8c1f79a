#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "job/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static JobSpec *make_spec(const char *run_id)
{
    JobSpec *spec = job_spec_new(JOB_MIRROR);
    spec->run_id = g_strdup(run_id);
    g_ptr_array_add(spec->sources, g_strdup("/src"));
    JobDestination destination = {.path = g_strdup("/dst")};
    g_array_append_val(spec->destinations, destination);
    return spec;
}

static JobChild *start(const char *run_id, guint grace_ms)
{
    g_autoptr(JobSpec) spec = make_spec(run_id);
    g_autoptr(GError) error = NULL;
    JobChild *child = job_child_start(g_getenv("FAKE_WORKER"), spec, grace_ms, &error);
    assert_null(error);
    assert_non_null(child);
    return child;
}

/* The done event; *others counts what came before it. Checks that nothing comes after it. */
static Event *run_to_end(JobChild *child, guint *others)
{
    Event *done = NULL;
    guint count = 0;
    for (Event *event; (event = job_child_next(child, -1, NULL));) {
        assert_null(done);
        if (event->type == EVENT_DONE) {
            done = event;
            continue;
        }
        count++;
        event_free(event);
    }
    assert_non_null(done);
    assert_int_equal(job_child_pid(child), 0);
    if (others)
        *others = count;
    return done;
}

static void assert_failed(const Event *done, const char *part)
{
    assert_int_equal(done->status, JOB_FAILED);
    assert_string_equal(done->error_code, "INTERNAL");
    if (!strstr(done->error_message, part))
        fail_msg("\"%s\" does not say \"%s\"", done->error_message, part);
}

static void test_events_come_in_order(void **state)
{
    g_autoptr(JobChild) child = start("plain", 1000);
    assert_true(job_child_pid(child) > 0);
    g_autoptr(Event) stage = job_child_next(child, -1, NULL);
    assert_int_equal(stage->type, EVENT_STAGE);
    assert_string_equal(stage->name, "scan");
    g_autoptr(Event) summary = job_child_next(child, -1, NULL);
    assert_int_equal(summary->type, EVENT_SUMMARY);
    assert_non_null(json_object_get(summary->summary, "stage1"));
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_int_equal(done->status, JOB_REFUSED);
    assert_string_equal(done->plan_hash, "ab");
    assert_string_equal(done->error_code, "CONFLICT");
}

static void test_a_crash_names_the_signal(void **state)
{
    guint others = 0;
    g_autoptr(JobChild) child = start("segv", 1000);
    g_autoptr(Event) done = run_to_end(child, &others);
    assert_int_equal(others, 1);
    assert_failed(done, "SIGSEGV");
}

static void test_an_early_end_names_the_code(void **state)
{
    g_autoptr(JobChild) child = start("silent", 1000);
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_failed(done, "code 7");
}

static void test_a_kill_from_outside_is_a_failure(void **state)
{
    g_autoptr(JobChild) child = start("deaf", 60000);
    event_free(job_child_next(child, -1, NULL));
    assert_int_equal(kill(job_child_pid(child), SIGKILL), 0);
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_failed(done, "SIGKILL");
}

static void test_cancel_ends_a_plain_worker(void **state)
{
    g_autoptr(JobChild) child = start("obey", 60000);
    event_free(job_child_next(child, -1, NULL));
    job_child_cancel(child);
    guint others = 0;
    g_autoptr(Event) done = run_to_end(child, &others);
    assert_int_equal(done->status, JOB_CANCELLED);
}

static void test_cancel_kills_a_deaf_worker(void **state)
{
    g_autoptr(JobChild) child = start("deaf", 50);
    event_free(job_child_next(child, -1, NULL));
    job_child_cancel(child);
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_int_equal(done->status, JOB_CANCELLED);
    assert_non_null(strstr(done->error_message, "killed"));
}

static gpointer cancel_soon(gpointer child)
{
    g_usleep(50000);
    job_child_cancel(child);
    return NULL;
}

static void test_cancel_wakes_a_waiting_thread(void **state)
{
    g_autoptr(JobChild) child = start("deaf", 50);
    event_free(job_child_next(child, -1, NULL));
    GThread *thread = g_thread_new("cancel", cancel_soon, child);
    g_autoptr(Event) done = run_to_end(child, NULL);
    g_thread_join(thread);
    assert_int_equal(done->status, JOB_CANCELLED);
}

static void test_garbage_is_a_failure(void **state)
{
    guint others = 0;
    g_autoptr(JobChild) child = start("garbage", 1000);
    g_autoptr(Event) done = run_to_end(child, &others);
    assert_int_equal(others, 0);
    assert_failed(done, "protocol");
}

static void test_a_line_without_end_is_a_failure(void **state)
{
    g_autoptr(JobChild) child = start("long", 1000);
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_failed(done, "1 MiB");
}

static void test_a_cut_line_is_no_event(void **state)
{
    g_autoptr(JobChild) child = start("cut", 1000);
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_failed(done, "before it was done");
}

static void test_a_wrong_exit_code_is_a_failure(void **state)
{
    g_autoptr(JobChild) child = start("lie", 1000);
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_failed(done, "code 9");
}

static void test_a_flood_arrives_whole(void **state)
{
    guint others = 0;
    g_autoptr(JobChild) child = start("flood", 1000);
    g_autoptr(Event) done = run_to_end(child, &others);
    assert_int_equal(others, 20000);
    assert_int_equal(done->status, JOB_PARTIAL);
}

static void test_waiting_has_an_end(void **state)
{
    g_autoptr(JobChild) child = start("deaf", 50);
    event_free(job_child_next(child, -1, NULL));
    gboolean timed_out = FALSE;
    assert_null(job_child_next(child, 20, &timed_out));
    assert_true(timed_out);
    assert_null(job_child_next(child, 0, &timed_out));
    assert_true(timed_out);
}

static void test_messages_arrive(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobChild) child = start("obey", 60000);
    event_free(job_child_next(child, -1, NULL));
    assert_true(job_child_send(child, "{\"type\":\"pause\"}", &error));
    g_autoptr(Event) heard = job_child_next(child, -1, NULL);
    assert_string_equal(heard->message, "heard 17");
    assert_true(job_child_send(child, "{\"type\":\"cancel\"}\n", &error));
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_int_equal(done->status, JOB_CANCELLED);
    assert_false(job_child_send(child, "{}", &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
}

static void test_a_large_spec_passes_a_small_pipe(void **state)
{
    g_autoptr(JobSpec) spec = make_spec("echo");
    for (guint i = 0; i < 230; i++)
        g_ptr_array_add(spec->options.exclude_patterns, g_strnfill(4000, 'p'));
    g_autofree char *line = job_spec_print(spec);
    g_autofree char *length = g_strdup_printf("%zu", strlen(line));
    g_autoptr(GError) error = NULL;
    g_autoptr(JobChild) child = job_child_start(g_getenv("FAKE_WORKER"), spec, 1000, &error);
    assert_non_null(child);
    g_autoptr(Event) heard = job_child_next(child, -1, NULL);
    assert_string_equal(heard->message, length);
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_int_equal(done->status, JOB_COMPLETED);
}

static void test_a_spec_too_large_is_refused(void **state)
{
    g_autoptr(JobSpec) spec = make_spec("echo");
    for (guint i = 0; i < 300; i++)
        g_ptr_array_add(spec->options.exclude_patterns, g_strnfill(4000, 'p'));
    g_autoptr(GError) error = NULL;
    assert_null(job_child_start(g_getenv("FAKE_WORKER"), spec, 1000, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

static void test_no_descriptor_is_inherited(void **state)
{
    int leaky = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, as a careless library would */
    assert_true(leaky >= 0);
    g_autoptr(JobChild) child = start("descriptors", 1000);
    g_autoptr(Event) count = job_child_next(child, -1, NULL);
    assert_string_equal(count->message, "3");
    g_autoptr(Event) done = run_to_end(child, NULL);
    assert_int_equal(done->status, JOB_COMPLETED);
    close(leaky);
}

static void test_a_missing_program_is_named(void **state)
{
    g_autoptr(JobSpec) spec = make_spec("plain");
    g_autoptr(GError) error = NULL;
    assert_null(job_child_start("/nonexistent/backapp", spec, 1000, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    assert_non_null(strstr(error->message, "/nonexistent/backapp"));
}

static void test_free_kills(void **state)
{
    JobChild *child = start("deaf", 60000);
    event_free(job_child_next(child, -1, NULL));
    pid_t pid = job_child_pid(child);
    job_child_free(child);
    assert_int_equal(kill(pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    job_child_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_come_in_order),
        cmocka_unit_test(test_a_crash_names_the_signal),
        cmocka_unit_test(test_an_early_end_names_the_code),
        cmocka_unit_test(test_a_kill_from_outside_is_a_failure),
        cmocka_unit_test(test_cancel_ends_a_plain_worker),
        cmocka_unit_test(test_cancel_kills_a_deaf_worker),
        cmocka_unit_test(test_cancel_wakes_a_waiting_thread),
        cmocka_unit_test(test_garbage_is_a_failure),
        cmocka_unit_test(test_a_line_without_end_is_a_failure),
        cmocka_unit_test(test_a_cut_line_is_no_event),
        cmocka_unit_test(test_a_wrong_exit_code_is_a_failure),
        cmocka_unit_test(test_a_flood_arrives_whole),
        cmocka_unit_test(test_waiting_has_an_end),
        cmocka_unit_test(test_messages_arrive),
        cmocka_unit_test(test_a_large_spec_passes_a_small_pipe),
        cmocka_unit_test(test_a_spec_too_large_is_refused),
        cmocka_unit_test(test_no_descriptor_is_inherited),
        cmocka_unit_test(test_a_missing_program_is_named),
        cmocka_unit_test(test_free_kills),
    };
    if (!g_getenv("FAKE_WORKER")) {
        print_message("FAKE_WORKER does not say where the fake worker is\n");
        return 77;
    }
    return cmocka_run_group_tests_name("job/child", tests, NULL, NULL);
}
