/*
 * Limits of the worker process: CPU and I/O priority, memory. Called by the worker's main thread before others start,
 * so that threads and child programs inherit them.
 */
#pragma once

#include "job/spec.h"

/* Applies what the limits ask for to this process. A limit the system refuses is no reason not to back up: it becomes a
 * sentence in notes (of char *). Bandwidth is not among them (base/rate.h). */
void resources_apply(const JobLimits *limits, GPtrArray *notes);

/* Sets the nice value of every thread of this process, at any time. DENIED if it is lower than the present one and the
 * user may not raise priorities. */
gboolean resources_set_nice(int nice, GError **error);
