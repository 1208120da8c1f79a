/*
 * Putting what is planned into the stream: headers and contents, read once, hashed on the way. A file that changes while
 * it is read is cut or padded to the size in its header and stored once more at the end.
 */
#pragma once

#include "engine/archive/create_plan.h"

/* Ends the entry that an interrupted run had begun and whose rest is not in the tar: goes on with its file if that is as
 * it was, else with zeros, and then it is stored anew with the plan. *possible is FALSE if neither can be done. */
gboolean create_write_rest(CreateRun *run, const RunsOpen *open, gboolean *possible, GError **error);

/* Carries the plan out, then what has to be stored once more, then ends the tar. FALSE ends the run; what concerns one
 * file is a warning. */
gboolean create_write_all(CreateRun *run, CreatePlan *plan, GError **error);
