#include "base/bytes.h"

#include <string.h>

enum { VARINT_MAX_BYTES = 10 };

static void append(GByteArray *out, const void *data, gsize length)
{
    /* GByteArray counts in guint; a longer field would wrap around silently. */
    g_assert(length <= G_MAXUINT - out->len);
    g_byte_array_append(out, data, (guint)length);
}

void bytes_put_varint(GByteArray *out, guint64 value)
{
    guint8 buffer[VARINT_MAX_BYTES];
    gsize used = 0;
    for (; value >= 0x80; value >>= 7)
        buffer[used++] = (guint8)(value | 0x80);
    buffer[used++] = (guint8)value;
    append(out, buffer, used);
}

void bytes_put_signed(GByteArray *out, gint64 value)
{
    /* Zig-zag keeps small negative numbers short; on unsigned values, so that no shift overflows. */
    guint64 bits = (guint64)value << 1;
    bytes_put_varint(out, value < 0 ? ~bits : bits);
}

void bytes_put_u32(GByteArray *out, guint32 value)
{
    guint32 little = GUINT32_TO_LE(value);
    append(out, &little, sizeof little);
}

void bytes_put_u64(GByteArray *out, guint64 value)
{
    guint64 little = GUINT64_TO_LE(value);
    append(out, &little, sizeof little);
}

void bytes_put_blob(GByteArray *out, const void *data, gsize length)
{
    bytes_put_varint(out, length);
    if (length > 0)
        append(out, data, length);
}

BytesReader bytes_reader(const void *data, gsize length)
{
    /* NULL plus an offset is undefined, even for 0; an empty reader points at something real. */
    static const guint8 nothing[1];
    const guint8 *start = data && length > 0 ? data : nothing;
    gsize usable = data ? length : 0;
    return (BytesReader){.at = start, .end = start + usable, .bad = !data && length > 0};
}

static void spoil(BytesReader *in)
{
    in->at = in->end;
    in->bad = TRUE;
}

/* The next `length` bytes, or NULL and bad. */
static const guint8 *take(BytesReader *in, guint64 length)
{
    if (in->bad || length > (guint64)(in->end - in->at)) {
        spoil(in);
        return NULL;
    }
    const guint8 *start = in->at;
    in->at += length;
    return start;
}

guint64 bytes_get_varint(BytesReader *in)
{
    guint64 value = 0;
    for (guint i = 0; i < VARINT_MAX_BYTES; i++) {
        const guint8 *byte = take(in, 1);
        if (!byte)
            return 0;
        guint64 bits = *byte & 0x7f;
        /* The tenth byte has room for one bit only: whatever else it says would be lost. */
        if (i == VARINT_MAX_BYTES - 1 && *byte > 1)
            break;
        value |= bits << (7 * i);
        if (!(*byte & 0x80))
            return value;
    }
    spoil(in);
    return 0;
}

gint64 bytes_get_signed(BytesReader *in)
{
    guint64 bits = bytes_get_varint(in);
    return (gint64)((bits >> 1) ^ (0 - (bits & 1)));
}

guint32 bytes_get_u32(BytesReader *in)
{
    guint32 little = 0;
    const guint8 *data = take(in, sizeof little);
    if (data)
        memcpy(&little, data, sizeof little);
    return GUINT32_FROM_LE(little);
}

guint64 bytes_get_u64(BytesReader *in)
{
    guint64 little = 0;
    const guint8 *data = take(in, sizeof little);
    if (data)
        memcpy(&little, data, sizeof little);
    return GUINT64_FROM_LE(little);
}

const guint8 *bytes_get_blob(BytesReader *in, gsize max, gsize *length)
{
    *length = 0;
    guint64 stated = bytes_get_varint(in);
    if (stated > max)
        spoil(in);
    const guint8 *data = take(in, in->bad ? 0 : stated);
    if (data)
        *length = (gsize)stated;
    return data;
}

char *bytes_get_string(BytesReader *in, gsize max)
{
    gsize length;
    const guint8 *data = bytes_get_blob(in, max, &length);
    if (data && length > 0 && memchr(data, 0, length)) {
        spoil(in);
        return NULL;
    }
    return data ? g_strndup((const char *)data, length) : NULL;
}

gboolean bytes_reader_done(const BytesReader *in)
{
    return !in->bad && in->at == in->end;
}
