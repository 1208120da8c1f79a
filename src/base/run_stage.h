/*
 * How far the stage of a run is, counted by all threads that work on it and told to the sink. Engines keep one in what
 * their parts share. run_stage_begin is for one thread while nobody counts, run_stage_add for any.
 */
#pragma once

#include <stdatomic.h>

#include "base/run_sink.h"

typedef struct {
    guint64 expected_files, expected_bytes;
    atomic_uint_fast64_t files_done, bytes_done;
} RunStage;

/* Announces a stage and starts its numbers anew; 0: not known. */
void run_stage_begin(RunStage *stage, RunSink *sink, const char *name, guint64 expected_files, guint64 expected_bytes);

/* Adds to the stage's numbers and reports them; path is what was worked on, or NULL. */
void run_stage_add(RunStage *stage, RunSink *sink, guint64 files, guint64 bytes, const char *path);
