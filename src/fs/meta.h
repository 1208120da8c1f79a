/*
 * What a file system knows about a file besides its content: type, mode, owner, times, size, identity; reading,
 * comparing and applying it. Extended attributes and ACLs are in attrs.h. Pure values; any thread.
 */
#pragma once

#include "base/bytes.h"

typedef struct {
    guint32 mode; /* type and permission bits as in st_mode */
    guint32 uid, gid;
    guint32 nlink;
    gint64 mtime_s; /* seconds since 1970, may be negative */
    gint64 ctime_s;
    guint32 mtime_ns, ctime_ns; /* 0 .. 999,999,999 */
    guint64 size;
    guint64 blocks; /* of 512 bytes */
    guint64 ino, dev, rdev;
    guint64 mount; /* mount id, 0 where the kernel does not tell */
} FileMeta;

/* Which inode it is: the key of a hash table, whose values may be structures that begin with one. */
typedef struct {
    guint64 dev, ino;
} InodeKey;
guint inode_key_hash(gconstpointer key);
gboolean inode_key_equal(gconstpointer a, gconstpointer b);

/* Reads the metadata of `name` in dir_fd (name "" means the descriptor itself) without following a symlink. FALSE with
 * errno kept: NOT_FOUND if it vanished. `name` is only used in the error. */
gboolean meta_read(int dir_fd, const char *name, FileMeta *meta, GError **error);

/* "file", "directory", "symlink", "fifo", "socket", "device". Static. */
const char *meta_kind(guint32 mode);

/* TRUE if both mtimes are equal; granularity_ns > 1 compares rounded down to it (FAT: 2 s). */
gboolean meta_same_mtime(const FileMeta *a, const FileMeta *b, guint64 granularity_ns);

typedef enum {
    META_MODE = 1 << 0,
    META_OWNER = 1 << 1,
    META_MTIME = 1 << 2,
    META_ALL = META_MODE | META_OWNER | META_MTIME,
} MetaParts;

/* Which of the parts differ between what is wanted and what is there. A symlink's mode never differs. Owner: a process
 * that is not root cannot give files away; then only the group counts, and only if the process is in it (as rsync
 * does). */
MetaParts meta_difference(const FileMeta *want, const FileMeta *have, guint64 granularity_ns);

/* Gives `name` in dir_fd (or the open descriptor fd if it is >= 0; fd may be -1) the wanted owner, mode and mtime
 * (parts), in the order owner, mode, time, because chown clears setuid. What cannot be set because the process is not
 * root is not an error: the parts not set are returned in *failed (may be NULL) so that the caller can warn. Real I/O
 * errors are FALSE. */
gboolean meta_apply(int dir_fd, const char *name, int fd, const FileMeta *want, MetaParts parts, MetaParts *failed,
                    GError **error);

/* Appends all fields but the mount id to out, and reads them back; damaged bytes leave the reader bad. */
void meta_encode(const FileMeta *meta, GByteArray *out);
void meta_decode(BytesReader *in, FileMeta *meta);
