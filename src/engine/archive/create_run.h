/*
 * What the parts of one run of archive_create share, and its counts. The thread that runs it uses it, the stream's thread
 * only what is said here.
 */
#pragma once

#include "base/run_stage.h"
#include "engine/archive/archive.h"
#include "engine/archive/chain.h"
#include "engine/archive/runs.h"
#include "engine/archive/stream.h"

/* One of the sources. */
typedef struct {
    const char *path; /* as it was given */
    char *folder;     /* in the archive; "" for an only one */
    int root_fd;
} CreateSource;

typedef struct {
    const ArchiveOptions *options;
    ArchiveStats *stats;
    GArray *sources; /* of CreateSource, in the order of their folders */
    Chain *chain;    /* of the parent; NULL for a full one */
    Runs *runs;
    ArchiveStream *stream;
    RunStage stage;
    gboolean logs_beginnings; /* a run that is interrupted can go on: entries are noted when they begin */
    guint64 unread;           /* files that are not in the archive as they are now */
} CreateRun;

/* What concerns one file: a warning, and the run is partial. path is that in the archive. */
void create_warn(CreateRun *run, const char *code, const char *path, const char *message);
/* A remark; path may be NULL. */
void create_note(CreateRun *run, const char *path, const char *message);
/* The path in its source of what has this path in the archive. */
const char *create_path_in_source(const CreateSource *source, const char *path);
/* The path in the archive of what has this path in its source; appends to out, which is emptied before. */
const char *create_archive_path(const CreateSource *source, const char *path, GString *out);
