/*
 * Runs one job in a worker process and shows it, cancelling it on SIGINT, SIGTERM and SIGHUP: the first signal asks the
 * worker to stop, the second kills it. The handlers are the process's: one run at a time, from the main thread.
 */
#pragma once

#include "cli/command.h"
#include "job/event.h"
#include "job/spec.h"

typedef struct {
    JobStatus status;
    char *destination_id; /* from the summary; NULL if it has none; owned */
} RunOutcome;

/* Runs the job to its end. Returns the exit code: 0, 1, 3, 4 or 130. outcome is cleared by run_outcome_clear. */
int run_job(const JobSpec *spec, gboolean json, RunOutcome *outcome);

/* The whole of a command that builds a job from its options and runs it: the usage error of what build refuses, else
 * run_job with --json as given. Returns the exit code. */
int run_command_job(const Command *command, const OptionArgs *args,
                    JobSpec *(*build)(const OptionArgs *args, GError **error));

/* Frees the strings inside. */
void run_outcome_clear(RunOutcome *outcome);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RunOutcome, run_outcome_clear)
