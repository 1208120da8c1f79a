/*
 * Moving entries between the trees of a replay (destination, stage, old, versions, found) by directory descriptors.
 * The last parent of each tree stays open, because records come directory by directory. One thread.
 */
#pragma once

#include "fs/meta.h"

/* One tree; start with root_fd and parent_fd = -1. */
typedef struct {
    int root_fd;   /* not owned */
    gboolean make; /* missing parents are made */
    char *parent;  /* path of parent_fd */
    int parent_fd; /* -1: none is open */
} ReplayTree;

/* The open parent of `path`, the tree's own until the next call, and *base in `path`. Directories on the way that the
 * owner may not enter are given u+rwx. -1 with errno kept: NOT_FOUND, CONFLICT, DENIED. */
int replay_tree_parent(ReplayTree *tree, const char *path, const char **base, GError **error);

/* Closes the parent; needed after a directory of the tree was moved. */
void replay_tree_forget(ReplayTree *tree);

/* The metadata at `path`: 1; 0 if nothing is there; -1 on error. */
int replay_tree_look(ReplayTree *tree, const char *path, FileMeta *meta, GError **error);

/* Gives the directory `name` in dir_fd ("" = itself) u+rwx if it lacks them. Best effort: what comes next tells. */
void replay_make_usable(int dir_fd, const char *name);

/* Renames `path` of `from` to `to_path` of `to`, replacing a non-directory there. A directory keeps its mode. */
gboolean replay_move(ReplayTree *from, const char *path, ReplayTree *to, const char *to_path, GError **error);

/* Like replay_move to the same path, but never replaces: a name that is taken gets "~2", "~3", ... */
gboolean replay_set_aside(ReplayTree *from, const char *path, ReplayTree *to, GError **error);
