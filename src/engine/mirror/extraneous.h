/*
 * What the destination has and the source has not: whole subtrees that a deletion would take, and what in them the
 * rules protect. Called by the walk's threads.
 */
#pragma once

#include "engine/mirror/run.h"

typedef struct {
    guint64 entries;    /* that would go, the top included */
    guint64 files;      /* of them not directories */
    guint64 bytes;      /* of regular files */
    gboolean protected; /* an excluded name lies inside, so the top must stay */
} ExtraneousCount;

/* Counts the subtree of directory `name` in dst_fd. `path` is its path below the destination, `source_path` the path
 * that patterns see. CONFLICT names a directory that lies on another file system. An unreadable directory counts as
 * protected. */
gboolean extraneous_count(const MirrorRun *run, int dst_fd, const char *name, const char *source_path,
                          ExtraneousCount *count, GError **error);

/* One subtree or file that may go; `relative` is its path relative to the top's parent directory. */
typedef gboolean (*ExtraneousRemovable)(const char *relative, const FileMeta *meta, const ExtraneousCount *count,
                                        gpointer user_data, GError **error);

/* For a subtree `name` with protected entries: calls `removable` for each of the largest parts of it that may go. */
gboolean extraneous_each_removable(const MirrorRun *run, int dst_fd, const char *name, const char *source_path,
                                   ExtraneousRemovable removable, gpointer user_data, GError **error);

/* TRUE if the rules say that this path of the destination is not ours to delete. */
gboolean extraneous_is_protected(const MirrorRun *run, const char *source_path, gboolean is_directory);

/* FALSE with CONFLICT if a directory of the destination is on another file system or subvolume than its root, or if
 * something else of it is a mount point: neither can be renamed. */
gboolean extraneous_check_boundary(const MirrorRun *run, const FileMeta *meta, const char *path, GError **error);
