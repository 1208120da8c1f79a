/*
 * The parent's side of a worker: starts `backapp worker`, hands it the spec, streams its events, cancels it, reaps it.
 * A worker that dies or breaks the protocol becomes a failed run whose error names the signal or exit code. One
 * JobChild belongs to one thread, but job_child_cancel may be called from any (and from a signal handler).
 */
#pragma once

#include "job/event.h"
#include "job/spec.h"

typedef struct JobChild JobChild;

/* Starts the worker (program: path of the backapp binary; NULL: /proc/self/exe) with posix_spawn, all other descriptors
 * closed on exec, and writes the spec. Standard error of the worker is inherited. grace_ms: time between SIGTERM and
 * SIGKILL on cancel. */
JobChild *job_child_start(const char *program, const JobSpec *spec, guint grace_ms, GError **error);

/* Waits for the next event and returns it (the caller frees), NULL at the end. At most max_wait_ms (-1: for ever);
 * *timed_out tells. Exactly one EVENT_DONE comes in every case, made up here if the worker could not send it. */
Event *job_child_next(JobChild *child, int max_wait_ms, gboolean *timed_out);

/* Asks the worker to stop: the cancel message and SIGTERM now, SIGKILL after the grace time (seen to by
 * job_child_next). Async-signal-safe. */
void job_child_cancel(JobChild *child);

/* Sends a later message line ({"type":"pause"} ...). */
gboolean job_child_send(JobChild *child, const char *line, GError **error);

/* The worker's process id, 0 once reaped. */
int job_child_pid(const JobChild *child);

/* Kills what still runs, reaps, frees. NULL is a no-op. */
void job_child_free(JobChild *child);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(JobChild, job_child_free)
