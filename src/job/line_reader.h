/*
 * Cuts what comes from a descriptor into lines of bounded length. The reader does not own the descriptor. One thread.
 */
#pragma once

#include <glib.h>

typedef struct {
    GByteArray *buffer; /* what was read and not yet given out */
    gsize max;          /* longest line, without its newline */
    gsize start;        /* where the next line begins in the buffer */
    gboolean skipping;  /* within a line that is too long */
    gboolean take_rest; /* what has no newline before the end of file is a line too */
    gboolean end;       /* end of file was seen */
} LineReader;

typedef enum { LINE_NONE, LINE_READY, LINE_TOO_LONG } LineResult;

/* A reader for lines of at most `max` bytes. take_rest: what stands between the last newline and the end of file is a
 * line. */
void line_reader_init(LineReader *reader, gsize max, gboolean take_rest);

/* Reads once from fd: 1 something came, 0 end of file, -1 an error (errno; EAGAIN where the descriptor does not block).
 */
int line_reader_fill(LineReader *reader, int fd);

/* The next whole line, without its newline, valid until the next call with this reader. LINE_NONE: read more.
 * LINE_TOO_LONG comes once a line, which is dropped. */
LineResult line_reader_next(LineReader *reader, const char **line, gsize *length);

/* Wipes and frees the buffer. */
void line_reader_clear(LineReader *reader);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(LineReader, line_reader_clear)
