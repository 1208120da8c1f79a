/*
 * `backapp restore --to-tar` and `--to-zip`: a point as one stream, in the shell's own process, since the worker's output
 * carries events. The main thread.
 */
#pragma once

#include "cli/command.h"
#include "job/spec.h"

enum { OPT_TO_TAR = 2200, OPT_TO_ZIP };

/* clang-format off */
#define ROW_TO_TAR {"to-tar", 0, "FILE", "Instead of restoring write a tar to FILE, or to standard output if it is -.", OPT_TO_TAR}
#define ROW_TO_ZIP {"to-zip", 0, "FILE", "Likewise, a zip: without owners, attributes and links.", OPT_TO_ZIP}
/* clang-format on */

/* TRUE if one of them was given. */
gboolean restore_export_wanted(const OptionArgs *args);

/* Does it with a spec that has the store and the paths (job_spec_free is the caller's). Returns the exit code. */
int restore_export_run(const JobSpec *spec, const OptionArgs *args);

/* INVALID if options are given that only a restore to a directory does something with, or two places to write to. */
gboolean restore_export_check(const OptionArgs *args, GError **error);
