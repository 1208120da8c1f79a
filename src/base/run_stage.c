#include "base/run_stage.h"

void run_stage_begin(RunStage *stage, RunSink *sink, const char *name, guint64 expected_files, guint64 expected_bytes)
{
    stage->expected_files = expected_files;
    stage->expected_bytes = expected_bytes;
    atomic_store(&stage->files_done, 0);
    atomic_store(&stage->bytes_done, 0);
    sink->stage(sink, name);
}

void run_stage_add(RunStage *stage, RunSink *sink, guint64 files, guint64 bytes, const char *path)
{
    guint64 files_done = atomic_fetch_add(&stage->files_done, files) + files;
    guint64 bytes_done = atomic_fetch_add(&stage->bytes_done, bytes) + bytes;
    RunProgress progress = {.files_done = files_done,
                            .files_total = stage->expected_files,
                            .bytes_done = bytes_done,
                            .bytes_total = stage->expected_bytes,
                            .current_file = path};
    sink->progress(sink, &progress);
}
