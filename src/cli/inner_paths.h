/*
 * The PATHs behind a STORE on the command line: files and folders inside a backup. Pure functions; one thread.
 */
#pragma once

#include "cli/options.h"
#include "job/spec.h"

/* Appends the operands from number `first` on to spec->options.restore.paths as a backup keeps them: no slash before or
 * behind, no "./". One that means all of it leaves none there. FALSE with INVALID for one with "." or ".." in it. */
gboolean inner_paths_add(JobSpec *spec, const OptionArgs *args, guint first, GError **error);
