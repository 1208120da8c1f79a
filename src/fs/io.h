/*
 * Whole reads and writes at an offset, over interruptions and short results. Any thread; descriptors stay the caller's.
 */
#pragma once

#include <glib.h>

/* Reads up to `length` bytes at `offset` into data; fewer only at the end of the file. Returns how many, or -1 with errno. */
gssize io_read_at(int fd, guint8 *data, gsize length, guint64 offset);

/* Writes all `length` bytes at `offset`. FALSE with errno; then some of them may have been written. */
gboolean io_write_at(int fd, const guint8 *data, gsize length, guint64 offset);
