/*
 * The worker's process around whatever engine runs in it: reads the spec, limits and confines itself, listens to the
 * parent, and ends with a done event. worker_main.h is this with our engines; tests have others.
 */
#pragma once

#include "base/cancel.h"
#include "base/rate.h"
#include "job/sink.h"
#include "job/spec.h"

typedef struct {
    /* Runs the job in the calling thread, reports to the sink, sends the summary. Returns the done event, not sent yet;
     * the worker frees it. */
    Event *(*run)(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink);
    /* TRUE if the destination is not a path of this machine. */
    gboolean (*is_remote)(const char *destination);
} WorkerEngine;

/* Runs the whole worker on these descriptors, which stay the caller's; where they are the standard ones, those are
 * turned to /dev/null and to standard error. The calling process is changed for good: confinement, limits, and
 * afterwards it ignores SIGTERM and SIGINT. Returns its exit code (0, 1, 3, 4, 130). */
int worker_process(int in_fd, int out_fd, const WorkerEngine *engine);

/* The done event of a job that failed, or was cancelled, with this error. The caller frees. */
Event *worker_done_failed(const GError *error);
