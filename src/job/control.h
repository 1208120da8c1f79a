/*
 * The worker's ear: a thread that reads later messages from the parent while the engine runs, and ends the run when the
 * parent is gone. Signals reach it through the same eventfd that stops it.
 */
#pragma once

#include "base/cancel.h"
#include "base/rate.h"
#include "job/line_reader.h"
#include "job/sink.h"

/* How long the engine may go on after the parent is gone, before the process is ended hard; ms. */
#define CONTROL_GRACE_MS 4000

typedef struct Control Control;

typedef struct {
    int in_fd;          /* messages; its end of file means that the parent is gone */
    int wake_fd;        /* eventfd: written to by the signal handler after it set cancel */
    LineReader *reader; /* what was read of in_fd already; the thread's until control_stop */
    CancelFlag *cancel;
    Sink *sink;
    Rate *rate;
} ControlOptions;

/* Starts the thread. What the options point to must outlive it. NULL with TRANSIENT if there can be no more threads. */
Control *control_start(const ControlOptions *options, GError **error);

/* Ends and joins the thread, frees. NULL is a no-op. */
void control_stop(Control *control);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Control, control_stop)
