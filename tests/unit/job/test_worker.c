#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "job/child.h"
#include "job/message.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static JobSpec *make_spec(JobType type, const char *how)
{
    JobSpec *spec = job_spec_new(type);
    if (type == JOB_MIRROR)
        g_ptr_array_add(spec->sources, g_strdup("/proc"));
    JobDestination destination = {.path = g_strconcat("/nonexistent/", how, NULL)};
    g_array_append_val(spec->destinations, destination);
    return spec;
}

static JobChild *start(const JobSpec *spec)
{
    g_autoptr(GError) error = NULL;
    JobChild *child = job_child_start(g_getenv("STUB_WORKER"), spec, 60000, &error);
    assert_null(error);
    return child;
}

/* All events of the run; the last one is the done event. A note on confinement is left out. */
static GPtrArray *finish(JobChild *child)
{
    GPtrArray *events = g_ptr_array_new_with_free_func((GDestroyNotify)event_free);
    for (Event *event; (event = job_child_next(child, -1, NULL));)
        g_ptr_array_add(events, event);
    assert_true(events->len > 0);
    return events;
}

static GPtrArray *run(const JobSpec *spec)
{
    g_autoptr(JobChild) child = start(spec);
    return finish(child);
}

static const Event *last(const GPtrArray *events)
{
    return g_ptr_array_index(events, events->len - 1);
}

/* The only event of the type; NULL if there is none. */
static const Event *find(const GPtrArray *events, EventType type)
{
    const Event *found = NULL;
    for (guint i = 0; i < events->len; i++) {
        const Event *event = g_ptr_array_index(events, i);
        if (event->type != type)
            continue;
        assert_null(found);
        found = event;
    }
    return found;
}

static void assert_told(const GPtrArray *events, const char *path, const char *message)
{
    for (guint i = 0; i < events->len; i++) {
        const Event *event = g_ptr_array_index(events, i);
        if (event->type == EVENT_WARNING && g_strcmp0(event->message, message) == 0 &&
            g_strcmp0(event->path, path) == 0)
            return;
    }
    fail_msg("the engine was not told \"%s\" (%s)", message, path ? path : "no path");
}

static Event *wait_for_stage(JobChild *child)
{
    for (Event *event; (event = job_child_next(child, -1, NULL)); event_free(event))
        if (event->type == EVENT_STAGE)
            return event;
    return NULL;
}

static void test_every_status(void **state)
{
    static const struct {
        const char *how;
        JobStatus status;
        const char *code, *hash;
    } cases[] = {
        {"fine", JOB_COMPLETED, NULL, NULL},      {"partial", JOB_PARTIAL, NULL, NULL},
        {"fail", JOB_FAILED, "NO_SPACE", NULL},   {"refuse", JOB_REFUSED, "CONFLICT", "c0ffee"},
        {"damaged", JOB_FAILED, "CORRUPT", NULL}, {"noise", JOB_COMPLETED, NULL, NULL},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, cases[i].how);
        g_autoptr(GPtrArray) events = run(spec);
        const Event *done = last(events);
        if (done->status != cases[i].status || g_strcmp0(done->error_code, cases[i].code) != 0 ||
            g_strcmp0(done->plan_hash, cases[i].hash) != 0)
            fail_msg("%s: %s %s %s", cases[i].how, job_status_name(done->status), done->error_code,
                     done->error_message);
        assert_non_null(find(events, EVENT_SUMMARY));
    }
}

static void test_the_summary_has_every_number(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "fine");
    spec->options.verify = TRUE;
    g_autoptr(GPtrArray) events = run(spec);
    const json_t *stats = find(events, EVENT_SUMMARY)->summary;
    json_t *wanted =
        json_pack("{s:{s:i,s:i,s:f,s:f,s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i},s:{s:i,s:i,s:i},s:s,s:b,s:b}",
                  "stage1", "filesTransferred", 4, "bytesTransferred", 250, "speedupRatio", 4.0, "duration", 1.5,
                  "localPath", "/nonexistent/fine", "filesTotal", 10, "bytesTotal", 1000, "filesCreated", 1,
                  "filesChanged", 2, "metadataChanged", 1, "filesDeleted", 3, "filesUnchanged", 5, "filesSkipped", 6,
                  "vanished", 7, "unreadable", 8, "changedDuringRead", 9, "verify", "verified", 11, "unproven", 0,
                  "damaged", 0, "destinationId", "the-id", "dryRun", 0, "recovered", 0);
    assert_non_null(wanted);
    g_autofree char *text = json_dumps(stats, JSON_SORT_KEYS);
    if (!json_equal(stats, wanted))
        fail_msg("%s", text);
    json_decref(wanted);
}

static void test_options_reach_the_engine(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "tell");
    JobOptions *options = &spec->options;
    g_ptr_array_add(spec->sources, g_strdup("/dev/\xff"));
    g_array_index(spec->destinations, JobDestination, 0).expected_id = g_strdup("me");
    options->delete_extraneous = options->checksum = options->exclude_caches = options->verify = options->dry_run =
        TRUE;
    options->acls = FALSE;
    options->exclude_if_present = g_strdup(".no");
    options->exclude_larger_than = 99;
    options->max_delete_percent = 12;
    options->keep_versions_days = 3;
    options->keep_versions_count = 4;
    options->confirm = g_strdup("hash");
    options->jobs = 2;
    options->ssh_user = g_strdup("u");
    options->ssh_port = 22;
    spec->rsync_password = g_strdup("p\xff");
    g_ptr_array_add(options->exclude_patterns, g_strdup("*.o"));
    g_autoptr(GPtrArray) events = run(spec);
    assert_told(events, "/proc", "source 0");
    assert_told(events, "/dev/\xff", "source 1");
    assert_told(events, "/nonexistent/tell", "destination id=me");
    assert_told(events, NULL,
                "delete=1 links=1 acls=0 xattrs=1 checksum=1 one=0 caches=1 inplace=0 verify=1 force=0 dry=1");
    assert_told(events, NULL, "present=.no larger=99 percent=12 days=3 count=4 confirm=hash jobs=2 rsync=0");
    assert_told(events, NULL, "ssh=u,(null),(null),22 password=p\xef\xbf\xbd");
    assert_told(events, NULL, "patterns=1 a.o=2 a.c=0");
}

static void test_rules_reach_the_engine(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "tell");
    JobRule rules[] = {{TRUE, g_strdup("a.o")}, {FALSE, g_strdup("*")}};
    g_array_append_vals(spec->options.rules, rules, G_N_ELEMENTS(rules));
    g_autoptr(GPtrArray) events = run(spec);
    assert_told(events, NULL, "patterns=1 a.o=1 a.c=2");
    g_autoptr(JobSpec) plain = make_spec(JOB_MIRROR, "tell");
    g_autoptr(GPtrArray) plain_events = run(plain);
    assert_told(plain_events, NULL, "patterns=0 a.o=0 a.c=0");
}

static void test_items_only_when_asked_for(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "fine");
    g_autoptr(GPtrArray) without = run(spec);
    assert_null(find(without, EVENT_ITEM));
    spec->options.items = TRUE;
    g_autoptr(GPtrArray) with = run(spec);
    assert_string_equal(find(with, EVENT_ITEM)->path, "name");
}

static void test_recover_and_verify(void **state)
{
    g_autoptr(JobSpec) recover = make_spec(JOB_RECOVER, "fine");
    g_autoptr(GPtrArray) recovered = run(recover);
    assert_int_equal(last(recovered)->status, JOB_COMPLETED);
    assert_true(json_is_true(json_object_get(find(recovered, EVENT_SUMMARY)->summary, "recovered")));
    g_autoptr(JobSpec) no_mirror = make_spec(JOB_RECOVER, "fail");
    g_autoptr(GPtrArray) failed = run(no_mirror);
    assert_string_equal(last(failed)->error_code, "NOT_FOUND");
    g_autoptr(JobSpec) verify = make_spec(JOB_VERIFY, "fine");
    verify->options.jobs = 3;
    g_autoptr(GPtrArray) verified = run(verify);
    assert_int_equal(last(verified)->status, JOB_COMPLETED);
    assert_told(verified, NULL, "jobs=3 sources=(null)");
    const json_t *stats = json_object_get(find(verified, EVENT_SUMMARY)->summary, "verify");
    assert_int_equal(json_integer_value(json_object_get(stats, "verified")), 3);
    assert_int_equal(json_integer_value(json_object_get(stats, "unproven")), 1);
    g_autoptr(JobSpec) missing = make_spec(JOB_VERIFY, "missing");
    g_autoptr(GPtrArray) damaged = run(missing);
    assert_int_equal(last(damaged)->status, JOB_FAILED);
    assert_string_equal(last(damaged)->error_code, "CORRUPT");
}

static void test_cancel(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "work");
    g_autoptr(JobChild) child = start(spec);
    event_free(wait_for_stage(child));
    job_child_cancel(child);
    g_autoptr(GPtrArray) events = finish(child);
    assert_int_equal(last(events)->status, JOB_CANCELLED);
    assert_string_equal(last(events)->error_code, "CANCELLED");
}

static void test_the_cancel_message_is_enough(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "work");
    g_autoptr(JobChild) child = start(spec);
    event_free(wait_for_stage(child));
    assert_true(job_child_send(child, "{\"type\":\"cancel\"}", NULL));
    g_autoptr(GPtrArray) events = finish(child);
    assert_int_equal(last(events)->status, JOB_CANCELLED);
}

static void test_sigint_cancels(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "work");
    g_autoptr(JobChild) child = start(spec);
    event_free(wait_for_stage(child));
    assert_int_equal(kill(job_child_pid(child), SIGINT), 0);
    g_autoptr(GPtrArray) events = finish(child);
    assert_int_equal(last(events)->status, JOB_CANCELLED);
}

static void test_a_crash_of_the_engine_is_a_failed_run(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "crash");
    spec->rsync_password = g_strdup("no core dump"); /* nor here in the test */
    g_autoptr(GPtrArray) events = run(spec);
    assert_int_equal(last(events)->status, JOB_FAILED);
    assert_non_null(strstr(last(events)->error_message, "SIGABRT"));
    assert_null(strstr(last(events)->error_message, "core"));
}

static void test_bandwidth_can_be_lifted(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "slow");
    spec->limits.bandwidth = 65536;
    g_autoptr(JobChild) child = start(spec);
    event_free(wait_for_stage(child));
    gint64 begin = g_get_monotonic_time();
    const Message limits = {MESSAGE_LIMITS, .bandwidth = 0, .nice = MESSAGE_NOT_GIVEN};
    g_autofree char *line = message_print(&limits);
    assert_true(job_child_send(child, line, NULL));
    g_autoptr(GPtrArray) events = finish(child);
    assert_int_equal(last(events)->status, JOB_COMPLETED);
    /* Ten seconds if it was not lifted. */
    assert_true(g_get_monotonic_time() - begin < 8 * G_USEC_PER_SEC);
}

static void test_odd_messages_are_noted(void **state)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, "work");
    g_autoptr(JobChild) child = start(spec);
    event_free(wait_for_stage(child));
    g_autofree char *large = g_strnfill(JOB_LINE_MAX, 'x');
    assert_true(job_child_send(child, "{\"type\":\"presigned\",\"urls\":[]}", NULL));
    assert_true(job_child_send(child, "rubbish", NULL));
    assert_true(job_child_send(child, large, NULL));
    assert_true(job_child_send(child, "{\"type\":\"cancel\"}", NULL));
    g_autoptr(GPtrArray) events = finish(child);
    guint notes = 0;
    for (guint i = 0; i < events->len; i++) {
        const Event *event = g_ptr_array_index(events, i);
        notes += event->type == EVENT_WARNING && strstr(event->message, "ignored") != NULL;
    }
    assert_int_equal(notes, 3);
    assert_int_equal(last(events)->status, JOB_CANCELLED);
}

/* A worker of which we hold the pipes ourselves. */
static pid_t start_raw(const char *how, int *in_fd, int *out_fd)
{
    g_autoptr(JobSpec) spec = make_spec(JOB_MIRROR, how);
    g_autofree char *line = job_spec_print(spec);
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execl(g_getenv("STUB_WORKER"), "backapp", "worker", NULL);
        _exit(99);
    }
    close(in[0]);
    close(out[1]);
    assert_int_equal(write(in[1], line, strlen(line)), (ssize_t)strlen(line));
    *in_fd = in[1];
    *out_fd = out[0];
    return pid;
}

/* Waits until something of the worker's output came, so that it runs. */
static void await_output(int out_fd)
{
    char byte;
    assert_int_equal(read(out_fd, &byte, 1), 1);
}

static int exit_code_of(pid_t pid)
{
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_the_end_of_input_cancels(void **state)
{
    int in_fd, out_fd;
    pid_t pid = start_raw("work", &in_fd, &out_fd);
    await_output(out_fd);
    close(in_fd);
    assert_int_equal(exit_code_of(pid), 130);
    close(out_fd);
}

static void test_output_that_nobody_reads_cancels(void **state)
{
    int in_fd, out_fd;
    pid_t pid = start_raw("work", &in_fd, &out_fd);
    await_output(out_fd);
    close(out_fd);
    assert_int_equal(exit_code_of(pid), 130);
    close(in_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status),
        cmocka_unit_test(test_the_summary_has_every_number),
        cmocka_unit_test(test_options_reach_the_engine),
        cmocka_unit_test(test_rules_reach_the_engine),
        cmocka_unit_test(test_items_only_when_asked_for),
        cmocka_unit_test(test_recover_and_verify),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_the_cancel_message_is_enough),
        cmocka_unit_test(test_sigint_cancels),
        cmocka_unit_test(test_a_crash_of_the_engine_is_a_failed_run),
        cmocka_unit_test(test_bandwidth_can_be_lifted),
        cmocka_unit_test(test_odd_messages_are_noted),
        cmocka_unit_test(test_the_end_of_input_cancels),
        cmocka_unit_test(test_output_that_nobody_reads_cancels),
    };
    if (!g_getenv("STUB_WORKER")) {
        print_message("STUB_WORKER does not say where the stub worker is\n");
        return 77;
    }
    return cmocka_run_group_tests_name("job/worker", tests, NULL, NULL);
}
