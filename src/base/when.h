/*
 * Points in time as people name them. Pure functions; any thread.
 */
#pragma once

#include <glib.h>

/* The last second (since 1970) that `text` stands for: of a day, "2026-11-20", its end in local time; of a time,
 * "2026-11-20T02:00:00Z" (ISO 8601; without a zone local time; without colons too), itself. FALSE if it is neither. */
gboolean when_parse(const char *text, gint64 *until);
/* TRUE if it is a day. */
gboolean when_is_day(const char *text);
/* Seconds since 1970 as "2026-11-20T02:00:00Z"; "?" if no calendar has it. The caller frees. */
char *when_show(gint64 seconds);
