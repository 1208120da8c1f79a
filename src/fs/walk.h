/*
 * A parallel walk whose output is in order. Several threads visit directories ahead of time; one thread (the caller of
 * walk_run) receives what they found in depth-first order, children in the order in which their directory named them.
 *
 * A visit appends records (opaque bytes) and names children; a child's subtree comes out at the place where it was
 * named, between the records put before and after it. Memory: a directory waiting to be visited costs about 80 bytes
 * and its name; records waiting for their turn are at most 16 MiB in all (one directory's records beyond 1 MiB go to
 * an unlinked temporary file), at most 4,096 directories are visited ahead. The order does not depend on the number of
 * threads.
 */
#pragma once

#include "base/cancel.h"

typedef struct Walk Walk;
typedef struct WalkDir WalkDir; /* a directory being visited; owned by the walk */

typedef struct {
    /* Visits one directory, in any of the walk's threads. FALSE aborts the whole walk with that error; what only
     * concerns this directory is put as a record instead. Never NULL. */
    gboolean (*visit)(WalkDir *dir, gpointer visit_data, GError **error);
    /* One record, in order, in the caller's thread. Never NULL. */
    gboolean (*record)(const guint8 *data, gsize length, gpointer user_data, GError **error);
    /* The directory `path` (with the tag it was named with) begins or is complete, in order, in the caller's thread.
     * May be NULL. */
    gboolean (*enter)(const char *path, guint tag, gpointer user_data, GError **error);
    gboolean (*leave)(const char *path, guint tag, gpointer user_data, GError **error);
    gpointer visit_data; /* shared by the visiting threads */
    gpointer user_data;  /* only used in the caller's thread */
} WalkFuncs;

/* Walks from the root (path "", tag root_tag) with `threads` (>= 1) visiting threads. temp_fd is a directory for
 * spilled records, or -1 for $TMPDIR. Returns when all is done, or FALSE with the first error or CANCELLED. */
gboolean walk_run(guint threads, guint root_tag, int temp_fd, const WalkFuncs *funcs, const CancelFlag *cancel,
                  GError **error);

/* For visit: the directory's path relative to the root ("" for the root; valid during the visit) and its tag. */
const char *walk_dir_path(WalkDir *dir);
guint walk_dir_tag(WalkDir *dir);

/* For visit: appends one record (at most 1 MiB). */
gboolean walk_dir_put(WalkDir *dir, const void *data, gsize length, GError **error);

/* For visit: names a child directory to be walked, with a tag of the caller's. */
void walk_dir_child(WalkDir *dir, const char *name, guint tag);
