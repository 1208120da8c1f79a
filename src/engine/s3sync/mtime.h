/*
 * A file's time as it stands in an object's metadata: seconds since 1970 with up to nine decimals, zeros at the end
 * left out, as rclone writes and reads it. Pure; any thread.
 */
#pragma once

#include <glib.h>

/* Room for the longest one. */
#define MTIME_TEXT_BYTES 40

/* Writes the time to text. ns is 0 to 999,999,999. */
void mtime_format(gint64 seconds, guint32 ns, char text[MTIME_TEXT_BYTES]);

/* Reads one; what is finer than a nanosecond is cut. FALSE if it is none, or NULL. */
gboolean mtime_parse(const char *text, gint64 *seconds, guint32 *ns);
