/*
 * Staging: everything new is written to .backapp/stage/tree, at the same relative paths that it will have, new
 * directories as whole subtrees. The mirror itself is not touched.
 */
#pragma once

#include "engine/mirror/plan.h"
#include "engine/mirror/resume.h"
#include "engine/mirror/run.h"

/* Copies what the plan names, several files at a time, then makes links and gives new directories their metadata.
 * Source files that cannot be read are warnings; what cannot be written is an error (NO_SPACE, ...). Returns with all
 * in the stage, not yet synced. */
gboolean stage_run(MirrorRun *run, Plan *plan, Resume *resume, GError **error);
