/*
 * What a file system can hold, found out by trying. Any thread.
 */
#pragma once

#include <glib.h>

typedef struct {
    gboolean symlinks, hard_links;
    gboolean owners; /* chown works and is kept (only root can find out; else TRUE) */
    gboolean modes;  /* permission bits are kept */
    gboolean xattrs, acls;
    gboolean fifos, devices;      /* mkfifo; mknod (only root can; else FALSE) */
    gboolean case_sensitive;      /* "a" and "A" are two files */
    gboolean any_name;            /* names with : ? * \ or a trailing dot, and bytes that are no UTF-8 */
    gboolean stable_inodes;       /* a file's inode number stays over rename and reopening */
    gboolean reflink;             /* FICLONE works within it */
    guint64 mtime_granularity_ns; /* 1 where every nanosecond is kept */
    guint64 max_file_size;        /* G_MAXUINT64 if there is no small limit */
} FsAbilities;

/* Tries everything in a fresh subdirectory "probe" of dir_fd that is removed again; one that is left of a killed run is
 * removed first, so one caller at a time. `type` is FsFacts.type. FALSE if nothing can be written there. */
gboolean probe_abilities(int dir_fd, const char *type, FsAbilities *abilities, GError **error);

/* The step to which the file system rounds times, in nanoseconds: tried with the file `name` in dir_fd, which loses its
 * mtime. `assumed` if it cannot be tried. */
guint64 probe_time_granularity(int dir_fd, const char *name, guint64 assumed);

/* What can be assumed of a file system of this type, and seen at the open directory fd (-1: there is none), without
 * writing to it. */
void probe_look(int fd, const char *type, FsAbilities *abilities);
