/*
 * Sizes, durations, rates and names as people read and write them. Pure functions; returned strings are the caller's.
 */
#pragma once

#include <glib.h>

/* "0 B", "1023 B", "1.0 KiB", "3.2 GiB": binary units, one decimal from KiB on. */
char *human_size(guint64 bytes);

/* "0.4 s", "12 s", "3 min 5 s", "2 h 10 min", "3 d 4 h". */
char *human_duration(double seconds);

/* 1234567 as "1,234,567". */
char *human_count(guint64 count);

/* Parses "10", "10K", "1.5G", "64MiB", "3 GB" (K, M, G, T, P are powers of 1024; a trailing B or iB may follow). FALSE
 * with INVALID for anything else, for negative numbers and for what does not fit in 63 bits. */
gboolean human_parse_size(const char *text, guint64 *bytes, GError **error);

/* Parses a whole decimal number from min to max. `what` names it in the error ("--jobs"). */
gboolean human_parse_number(const char *text, guint64 min, guint64 max, const char *what, guint64 *value,
                            GError **error);

/* A name from a file system, safe to print on a terminal: valid UTF-8 without control, format (bidi) or private-use
 * characters stays; every other byte becomes \xHH, a backslash \\, newline \n, tab \t. length -1: zero-terminated. */
char *human_name(const char *bytes, gssize length);
