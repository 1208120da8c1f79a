/*
 * What an interrupted run left in the stage and a new run may use again. The stage log (.backapp/stage/log) names each
 * complete file by a 128-bit digest of its path, its source's identity (device, inode, size, mtime, ctime) and of what
 * was kept of it, so a staged file is used only for exactly the source it was made from, and only if it surely reached
 * the disk: neither was the machine rebooted since nor the drive mounted anew, or a checkpoint (syncfs) came after it. 16
 * bytes of memory a file that was left.
 *
 * The stage of an interrupted run is renamed to stage.old.N; files are moved out of it one by one. At most three are
 * kept. resume_take and resume_done may be called from any thread, the others from the one that opened it.
 */
#pragma once

#include "base/cancel.h"
#include "engine/mirror/destination.h"
#include "fs/attrs.h"
#include "fs/meta.h"

typedef struct Resume Resume;

/* Sets the stage aside, makes a new stage with tree/ and an empty log. `filter` are the attributes that this run keeps:
 * what a run with others left is not used. */
Resume *resume_open(Destination *dest, const AttrsFilter *filter, RunSink *sink, const CancelFlag *cancel,
                    GError **error);

/* The open directory stage/tree. */
int resume_tree_fd(const Resume *resume);

/* Moves a file that an earlier run left for exactly this source to `name` in the stage directory `dir_fd`. TRUE if
 * there was one. */
gboolean resume_take(Resume *resume, const char *path, const FileMeta *source, int dir_fd, const char *name);

/* Notes that the file at `path` is complete in the stage. */
gboolean resume_done(Resume *resume, const char *path, const FileMeta *source, GError **error);

/* Syncs the destination's file system and notes that all before it is durable. No file may be in the making. */
gboolean resume_checkpoint(Resume *resume, GError **error);

/* Nothing more will be staged: the log is closed, for some file systems (FUSE) keep a removed file, and so the folder of
 * the stage, as long as it is open. */
gboolean resume_close_log(Resume *resume, GError **error);

/* Removes what older runs left. */
gboolean resume_drop_old(Destination *dest, const CancelFlag *cancel, GError **error);

void resume_free(Resume *resume);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Resume, resume_free)
