/*
 * What the parts of archive_verify share. One thread.
 */
#pragma once

#include "base/run_stage.h"
#include "engine/archive/chain.h"
#include "engine/archive/sweep.h"
#include "engine/archive/verify.h"

typedef struct {
    const ArchivePlace *place;
    guint threads;
    const CancelFlag *cancel;
    RunSink *sink;
    RunStage stage; /* files, and bytes of volumes */
    ArchiveVerifyStats *stats;
    Chain *chain;
    GPtrArray *sizes; /* of guint64 *: of each point's volumes as they are in the store, as for sweep.h */
    gboolean index_damaged;
} VerifyRun;

/* Warns of something damaged or missing, and counts it. path NULL: it is no single file. */
void verify_bad(VerifyRun *run, gboolean missing, const char *path, const char *message);

/* Reads every archive of the chain from its first byte to its last and compares each of the point's files with its hash
 * as it goes by. What is to be compared lies sorted in temporary files. */
gboolean verify_contents(VerifyRun *run, GError **error);
