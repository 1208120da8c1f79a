/*
 * Small files that are written whole or not at all: temporary file, fsync, rename, fsync of the directory. Any thread.
 */
#pragma once

#include <glib.h>

/* Writes `name` in dir_fd with exactly these bytes and the mode, replacing what was there. */
gboolean atomic_write(int dir_fd, const char *name, const void *data, gsize length, guint32 mode, GError **error);

/* Reads `name` in dir_fd whole, at most max bytes (CORRUPT beyond). *data is zero-terminated, the caller's. NOT_FOUND
 * if there is none, CONFLICT if it is no regular file. Symlinks are not followed. */
gboolean atomic_read(int dir_fd, const char *name, gsize max, char **data, gsize *length, GError **error);
