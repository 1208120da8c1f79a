/*
 * The options of `backapp mirror` and how they become a job spec. No input or output but the working directory and, for
 * a remote destination, RSYNC_PASSWORD, which is taken out of the environment. One thread.
 */
#pragma once

#include "cli/options.h"
#include "job/spec.h"

/* The table of `backapp mirror`. */
extern const OptionDef mirror_option_defs[];

/* The job that the command line asks for. NULL with INVALID, which names the option or operand that is wrong. */
JobSpec *mirror_options_build(const OptionArgs *args, GError **error);

/* The path as a worker in the same working directory may be given it: absolute where that can be had. Remote
 * destinations stay as they are. The caller frees. */
char *mirror_options_absolute(const char *path);

/* INVALID if the mirror's destination is on another host: then nothing could be copied on from it. */
gboolean mirror_options_check_local(const char *destination, GError **error);
