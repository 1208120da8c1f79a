/*
 * Making one entry in the stage. Any thread.
 */
#pragma once

#include "engine/mirror/plan.h"
#include "engine/mirror/resume.h"
#include "engine/mirror/run.h"

/* Where one entry comes from and goes to. */
typedef struct {
    int src_fd, stage_fd; /* its open parents */
    const char *name;
    const char *path;     /* below the destination, for messages and the resume log */
    const FileMeta *want; /* what the plan saw */
    guint flags;          /* PlanFlags */
    guint32 have_mode;    /* of what is in the destination */
} StageItem;

/* Copies the file, symlink, fifo, socket or device. TRUE also if the source could not be read (a warning was sent and
 * nothing is staged); FALSE if the stage could not be written, or CANCELLED. */
gboolean stage_item(MirrorRun *run, Resume *resume, const StageItem *item, GError **error);

/* Gives an open directory of the stage the metadata of its source. src_fd may be -1 (it vanished): then attributes are
 * left out. */
gboolean stage_directory_meta(MirrorRun *run, int src_fd, int stage_fd, const char *path, const FileMeta *want,
                              GError **error);
