/*
 * Facts about the file system below a descriptor or path: space, type, mounts. Any thread.
 */
#pragma once

#include <glib.h>

typedef struct {
    guint64 free_bytes; /* usable by this process */
    guint64 total_bytes;
    guint64 free_inodes; /* G_MAXUINT64 where the file system has no such limit */
    guint64 block_size;
    char type[16]; /* "ext4", "xfs", "btrfs", "tmpfs", "vfat", "exfat", "ntfs", "fuse", ... "0x..." if unknown */
    gboolean read_only;
} FsFacts;

/* Reads the facts of the file system that holds fd. */
gboolean facts_read(int fd, FsFacts *facts, GError **error);

/* TRUE if the directory at `path` is the root of a mount (its mount id or device differs from its parent's, or it is
 * "/"). */
gboolean facts_is_mount_point(const char *path);

/* TRUE if /etc/fstab (or `fstab` if not NULL) names the absolute path as a mount point. Escapes (\040) are understood;
 * lines over 8 KiB are skipped. */
gboolean facts_in_fstab(const char *path, const char *fstab);

/* The boot id of the running kernel (36 characters), or "unknown". */
char *facts_boot_id(void);

/* What is another one after a boot, and after the file system that holds fd was mounted anew: the boot id, a blank, and
 * "u" with the kernel's unique mount id (Linux 6.8), or "m" with the mount id, which may come again, and the device. At
 * most 79 characters; "unknown" if it cannot be told. The caller frees. */
char *facts_session(int fd);

/* Writes everything of the file system that holds fd to disk (syncfs); reports what it says. */
gboolean facts_sync(int fd, const char *what, GError **error);
