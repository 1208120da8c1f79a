/*
 * Runs a program to its end, without a shell and without a terminal: a session and process group of its own, standard
 * input from /dev/null, all other descriptors closed, signals at their defaults, and it is told to end (SIGTERM) when
 * the thread that started it ends. Blocks; the callbacks come in the calling thread.
 */
#pragma once

#include "base/cancel.h"

/* One line of its output without its end (a newline or carriage return), zero-terminated; is_error: of standard error.
 * Longer than 64 KiB is cut. */
typedef void (*RsyncLineFunc)(gpointer data, const char *line, gboolean is_error);

/* Runs argv[0] (a path) with this environment. *status is what waitpid gave. When cancel is set, the process group gets
 * SIGTERM and after five seconds SIGKILL; that is no error here: the caller looks at the flag. FALSE if it could not be
 * started (NOT_FOUND, DENIED, ...) or watched; then nothing of it runs any more. */
gboolean rsync_process_run(char *const *argv, char *const *envp, RsyncLineFunc on_line, gpointer data,
                           const CancelFlag *cancel, int *status, GError **error);
