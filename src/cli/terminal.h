/*
 * What a person sees while a job runs: lines of text and, on a terminal, one line of progress that is redrawn in place.
 *
 * A Terminal writes ordinary lines to one stream and warnings to another (both are the caller's) and keeps the progress
 * line out of their way. Once a stream cannot be written any more (its reader went away, its disk is full), it is left
 * alone: a backup does not stop for that. One thread.
 */
#pragma once

#include "job/event.h"

#include <stdio.h>

typedef struct Terminal Terminal;

/* A Terminal on these streams. live: `out` is a terminal that can redraw a line. */
Terminal *terminal_new(FILE *out, FILE *err, gboolean live);

/* TRUE if the stream is a terminal that understands how to clear a line. */
gboolean terminal_is_live(FILE *out);

/* Writes one line to `out`, to `err`. The text must be printable already; the newline is added. */
void terminal_line(Terminal *terminal, const char *format, ...) G_GNUC_PRINTF(2, 3);
void terminal_error(Terminal *terminal, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Writes bytes that carry their own newline (an event's JSON) to `out`. */
void terminal_raw(Terminal *terminal, const char *text);

/* Shows where a stage stands: live at most ten times a second as a bar, otherwise at most every ten seconds as a line.
 * `stage` is the stage in words. */
void terminal_progress(Terminal *terminal, const char *stage, const Event *progress);

/* Clears the progress line. */
void terminal_clear(Terminal *terminal);

/* Clears the progress line and frees; NULL is a no-op. The streams stay open. */
void terminal_free(Terminal *terminal);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Terminal, terminal_free)

/* The pure parts. */

/* A progress event as one line of at most `columns` columns, no control characters. The caller frees. */
char *terminal_format_bar(const char *stage, const Event *progress, guint columns);

/* The same as a line of words of any length. The caller frees. */
char *terminal_format_words(const char *stage, const Event *progress);

/* Columns that printable UTF-8 takes on a terminal: wide characters take two, combining ones none. */
guint terminal_columns(const char *text);

/* The end of printable UTF-8 text that fits in `columns`, with "..." before it if something was cut. Cuts between
 * characters. The caller frees. */
char *terminal_cut(const char *text, guint columns);

/* A message of several words made safe to print: as human_name, but backslashes stay single, since a message may hold
 * names that were made printable before. The caller frees. */
char *terminal_safe(const char *message);
