/*
 * Writing and reading the little-endian binary fields that our own files are made of. The writer appends to a
 * GByteArray; the reader walks over bytes it does not own and never reads outside them: after the first field that
 * does not fit it is `bad`, and every later read gives zero or empty.
 */
#pragma once

#include <glib.h>

/* Appends an unsigned LEB128 number (1 to 10 bytes). */
void bytes_put_varint(GByteArray *out, guint64 value);
/* Appends a zig-zag signed LEB128 number. */
void bytes_put_signed(GByteArray *out, gint64 value);
/* Appends 4 or 8 bytes, little-endian. */
void bytes_put_u32(GByteArray *out, guint32 value);
void bytes_put_u64(GByteArray *out, guint64 value);
/* Appends a varint length and the bytes. data may be NULL if length is 0. */
void bytes_put_blob(GByteArray *out, const void *data, gsize length);

typedef struct {
    const guint8 *at, *end;
    gboolean bad;
} BytesReader;

/* A reader over `length` bytes that stay the caller's and must outlive it. */
BytesReader bytes_reader(const void *data, gsize length);
guint64 bytes_get_varint(BytesReader *in);
gint64 bytes_get_signed(BytesReader *in);
guint32 bytes_get_u32(BytesReader *in);
guint64 bytes_get_u64(BytesReader *in);
/* A length-prefixed blob of at most `max` bytes: a pointer into the reader's bytes and its length; NULL and bad if it
 * is longer or does not fit. */
const guint8 *bytes_get_blob(BytesReader *in, gsize max, gsize *length);
/* Like bytes_get_blob, copied and zero-terminated; NULL and bad also if it holds a zero byte. The caller frees. */
char *bytes_get_string(BytesReader *in, gsize max);
/* TRUE if nothing was bad and all was read. */
gboolean bytes_reader_done(const BytesReader *in);
