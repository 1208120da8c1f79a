/*
 * Directories by descriptor. Paths are relative to an open root, have no leading slash and no "." or ".." components;
 * "" is the root itself. No component is followed if it is a symbolic link, and a path may be longer than PATH_MAX.
 * All functions may be called from any thread; a DirNames belongs to one thread at a time.
 */
#pragma once

#include "base/cancel.h"

/* Opens the directory `path` below root_fd (O_RDONLY | O_DIRECTORY | O_CLOEXEC). Returns the descriptor, or -1:
 * NOT_FOUND, DENIED, CONFLICT if a component is not a directory (or is a symlink). errno is kept for callers that tell
 * cases apart. */
int dir_open(int root_fd, const char *path, GError **error);

/* Opens the parent of `path` (not empty) and points *base at the last component inside `path`. Errors as dir_open. */
int dir_open_parent(int root_fd, const char *path, const char **base, GError **error);

/* TRUE for the path of something below a root: not empty, no empty component, none that is "." or ".."; so without a slash
 * at either end. For paths from outside. */
gboolean dir_is_inner_path(const char *path);

/* Makes `path` and its missing parents below root_fd, mode 0700 (given mode for the last one). Existing ones stay. */
gboolean dir_make_path(int root_fd, const char *path, guint32 mode, GError **error);

/* TRUE if the directory fd is in_fd's, or lies somewhere below it, across mounts too. Needs no permission to read them. */
gboolean dir_lies_in(int fd, int in_fd);

/* fsyncs an open directory. `what` names it in the error. */
gboolean dir_sync(int dir_fd, const char *what, GError **error);

/* One entry of a directory: its name, valid during the call, and its d_type (DT_UNKNOWN where the file system does not
 * tell). FALSE with an error ends the reading. May not read another directory itself. */
typedef gboolean (*DirEntryFunc)(const char *name, guint8 type, gpointer user_data, GError **error);

/* Calls func for each entry of dir_fd (its position is rewound first) but "." and "..", in the order of the file system.
 * cancel may be NULL. */
gboolean dir_each(int dir_fd, DirEntryFunc func, gpointer user_data, const CancelFlag *cancel, GError **error);

/* The names in one directory, sorted by their bytes, without "." and "..". A name costs its length + 6 bytes. */
typedef struct {
    GByteArray *arena; /* type byte, then the zero-terminated name, one after another */
    GArray *offsets;   /* guint32 into arena, in sorted order */
} DirNames;

/* Reads all names of dir_fd (its position is rewound first) into `names`, which is initialised here; at most 50,000,000
 * names or 4 GiB of them (INVALID beyond). cancel may be NULL. On error names is left cleared. */
gboolean dir_names_read(int dir_fd, DirNames *names, const CancelFlag *cancel, GError **error);

/* Number of names. */
guint dir_names_count(const DirNames *names);

/* The i-th name; valid until cleared. */
const char *dir_names_get(const DirNames *names, guint i);

/* The i-th entry's d_type (DT_UNKNOWN where the file system does not tell). */
guint8 dir_names_type(const DirNames *names, guint i);

/* Frees what is inside; a cleared or zeroed one is fine. */
void dir_names_clear(DirNames *names);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DirNames, dir_names_clear)

/* A descriptor that closes itself at the end of its scope (for reading; where close's result matters, call fd_close).
 */
typedef int AutoFd;
void fd_clear(int *fd);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(AutoFd, fd_clear)

/* Closes *fd, sets it to -1, and reports what close says. */
gboolean fd_close(int *fd, const char *what, GError **error);

/* Takes the descriptor out of an AutoFd variable. */
int fd_steal(int *fd);
