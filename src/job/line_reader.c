#include "job/line_reader.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define READ_SIZE 65536

void line_reader_init(LineReader *reader, gsize max, gboolean take_rest)
{
    *reader = (LineReader){.buffer = g_byte_array_new(), .max = max, .take_rest = take_rest};
}

int line_reader_fill(LineReader *reader, int fd)
{
    char piece[READ_SIZE];
    ssize_t got;
    do
        got = read(fd, piece, sizeof piece);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -1;
    if (got == 0) {
        reader->end = TRUE;
        return 0;
    }
    if (reader->start > 0) {
        g_byte_array_remove_range(reader->buffer, 0, (guint)reader->start);
        reader->start = 0;
    }
    g_byte_array_append(reader->buffer, (const guint8 *)piece, (guint)got);
    explicit_bzero(piece, (size_t)got);
    return 1;
}

/* Drops what belongs to a line that is too long. TRUE once its newline was found. */
static gboolean skip_line(LineReader *reader)
{
    const guint8 *at = reader->buffer->data + reader->start;
    gsize left = reader->buffer->len - reader->start;
    const guint8 *newline = left > 0 ? memchr(at, '\n', left) : NULL;
    if (!newline) {
        reader->start = reader->buffer->len;
        return FALSE;
    }
    reader->start += (gsize)(newline - at) + 1;
    reader->skipping = FALSE;
    return TRUE;
}

LineResult line_reader_next(LineReader *reader, const char **line, gsize *length)
{
    if (reader->skipping && !skip_line(reader))
        return LINE_NONE;
    gsize left = reader->buffer->len - reader->start;
    if (left == 0)
        return LINE_NONE;
    const guint8 *at = reader->buffer->data + reader->start;
    const guint8 *newline = memchr(at, '\n', left);
    gsize found = newline ? (gsize)(newline - at) : left;
    if (found > reader->max) {
        reader->skipping = TRUE;
        return LINE_TOO_LONG;
    }
    if (!newline && !(reader->end && reader->take_rest))
        return LINE_NONE;
    *line = (const char *)at;
    *length = found;
    reader->start += found + (newline ? 1 : 0);
    return LINE_READY;
}

void line_reader_clear(LineReader *reader)
{
    if (!reader->buffer)
        return;
    if (reader->buffer->len > 0)
        explicit_bzero(reader->buffer->data, reader->buffer->len);
    g_byte_array_unref(reader->buffer);
    reader->buffer = NULL;
}
