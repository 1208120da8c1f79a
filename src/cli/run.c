#include "cli/run.h"

#include "cli/job_options.h"
#include "cli/report.h"
#include "cli/summary.h"
#include "job/child.h"

#include <signal.h>

/* A worker that is putting a plan in place finishes that first; on a slow disk it takes its time. */
#define GRACE_MS 60000
/* How soon a signal is seen when the worker has nothing to say. */
#define POLL_MS 100

/* How many signals asked to stop. */
static volatile sig_atomic_t stops;

static void count_stop(int number)
{
    if (stops < 2)
        stops = stops + 1;
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (guint i = 0; i < G_N_ELEMENTS(numbers); i++) {
        struct sigaction action = {0}, before = {0};
        action.sa_handler = count_stop;
        sigemptyset(&action.sa_mask);
        /* What was started to be left alone (nohup, a shell's background job) stays so. */
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(numbers[i], &action, NULL);
    }
}

/* Passes new signals on to the worker. */
static void pass_stops(JobChild *child, Report *report, int *passed)
{
    while (*passed < stops) {
        gboolean kill_it = ++*passed == 2;
        report_cancelling(report, kill_it);
        if (!kill_it)
            job_child_cancel(child);
        else if (job_child_pid(child) > 0)
            kill(job_child_pid(child), SIGKILL);
    }
}

static void watch(JobChild *child, Report *report, RunOutcome *outcome)
{
    int passed = 0;
    for (;;) {
        gboolean timed_out = FALSE;
        g_autoptr(Event) event = job_child_next(child, POLL_MS, &timed_out);
        if (!event && !timed_out)
            return;
        /* A worker that was killed on request did not fail. */
        if (event && event->type == EVENT_DONE && event->status == JOB_FAILED && passed == 2)
            event->status = JOB_CANCELLED;
        if (event && event->type == EVENT_DONE)
            outcome->status = event->status;
        if (event)
            report_event(report, event);
        pass_stops(child, report, &passed);
    }
}

int run_job(const JobSpec *spec, gboolean json, RunOutcome *outcome)
{
    outcome->status = JOB_FAILED;
    catch_signals();
    g_autoptr(Terminal) terminal = terminal_new(stdout, stderr, !json && terminal_is_live(stdout));
    g_autoptr(GError) error = NULL;
    g_autoptr(JobChild) child = job_child_start(NULL, spec, GRACE_MS, &error);
    if (!child) {
        terminal_error(terminal, "backapp: failed: %s", error->message);
        return job_status_exit_code(JOB_FAILED);
    }
    g_autoptr(Report) report = report_new(spec, json, terminal);
    watch(child, report, outcome);
    outcome->destination_id = g_strdup(summary_text(report_summary(report), "destinationId"));
    return job_status_exit_code(outcome->status);
}

int run_command_job(const Command *command, const OptionArgs *args,
                    JobSpec *(*build)(const OptionArgs *args, GError **error))
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = build(args, &error);
    if (!spec)
        return command_usage_error(command, error);
    g_auto(RunOutcome) outcome = {0};
    return run_job(spec, options_has(args, OPT_JSON), &outcome);
}

void run_outcome_clear(RunOutcome *outcome)
{
    g_clear_pointer(&outcome->destination_id, g_free);
}
