/*
 * Turning a staged plan into the journal: what of it really lies in the stage, with inode numbers and final metadata.
 */
#pragma once

#include "engine/mirror/journal.h"
#include "engine/mirror/plan.h"
#include "engine/mirror/run.h"

/* Puts one record for each entry of the plan that the replay has to do. What could not be staged is left out: the
 * destination keeps what it has there. Paths whose proofs no longer count (patched, removed, displaced directories) are added to `unproven` (of char *, owned by it). */
gboolean prepare_journal(MirrorRun *run, Plan *plan, int tree_fd, JournalWriter *writer, GPtrArray *unproven,
                         GError **error);
