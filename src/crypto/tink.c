#include "crypto/tink.h"

#include "base/error.h"
#include "crypto/secret.h"
#include "crypto/tink_format.h"

#include <string.h>

typedef enum {
    STREAM_NONE,   /* not begun, or finished */
    STREAM_OPEN,   /* takes bytes */
    STREAM_FAILED, /* takes none until it is begun again */
} StreamState;

struct TinkEncryptor {
    TinkSegments segments;
    StreamState state;
    guint64 index;  /* of the segment in buffer */
    gsize start;    /* where its content begins: behind the header in the first one */
    gsize used;     /* where its content ends */
    guint8 *buffer; /* one segment; content is encrypted in place */
};

struct TinkDecryptor {
    TinkSegments segments;
    StreamState state;
    guint8 *associated;
    gsize associated_length;
    guint8 header[TINK_HEADER_BYTES];
    gsize header_used;
    guint64 index;  /* of the segment in buffer */
    gsize used;     /* its bytes so far */
    guint8 *buffer; /* one segment as it came */
    guint8 *plain;  /* one segment decrypted; apart from buffer, which may be looked at again for the error's sake */
};

struct TinkReader {
    TinkSegments segments;
    guint64 cipher; /* 0: no stream yet */
};

static gboolean check_open(StreamState state, GError **error)
{
    g_assert(state != STREAM_NONE);
    return state == STREAM_OPEN ||
           error_set(error, BACKAPP_ERROR_INTERNAL, "encrypted data was used again after it had failed");
}

TinkEncryptor *tink_encryptor_new_format(const TinkFormat *format, const guint8 *key)
{
    TinkEncryptor *encryptor = g_new0(TinkEncryptor, 1);
    tink_segments_init(&encryptor->segments, format, key);
    encryptor->buffer = g_malloc(format->segment_bytes);
    return encryptor;
}

TinkEncryptor *tink_encryptor_new(const guint8 key[TINK_KEY_BYTES])
{
    return tink_encryptor_new_format(&tink_format_1mb, key);
}

gboolean tink_encryptor_begin_fixed(TinkEncryptor *encryptor, const void *associated, gsize associated_length,
                                    const guint8 *header, GError **error)
{
    encryptor->state = STREAM_FAILED;
    if (!tink_segments_begin(&encryptor->segments, TRUE, associated, associated_length, header, error))
        return FALSE;
    encryptor->start = tink_format_header(encryptor->segments.format);
    encryptor->used = encryptor->start;
    encryptor->index = 0;
    memcpy(encryptor->buffer, header, encryptor->start);
    encryptor->state = STREAM_OPEN;
    return TRUE;
}

gboolean tink_encryptor_begin(TinkEncryptor *encryptor, const void *associated, gsize associated_length, GError **error)
{
    guint8 header[TINK_HEADER_BYTES];
    gsize length = tink_format_header(encryptor->segments.format);
    header[0] = (guint8)length;
    secret_random(header + 1, length - 1);
    return tink_encryptor_begin_fixed(encryptor, associated, associated_length, header, error);
}

/* Encrypts `length` bytes as the segment at hand and gives it to the sink; then the next one is at hand. */
static gboolean emit(TinkEncryptor *encryptor, gboolean last, const guint8 *plain, gsize length, TinkSink sink,
                     gpointer user, GError **error)
{
    if (encryptor->index > G_MAXUINT32)
        return error_set(error, BACKAPP_ERROR_INVALID, "more than 4 PiB cannot be encrypted as one: split it");
    tink_segments_seal(&encryptor->segments, encryptor->index, last, plain, length,
                       encryptor->buffer + encryptor->start);
    if (!sink(encryptor->buffer, encryptor->start + length + TINK_TAG_BYTES, user, error))
        return FALSE;
    encryptor->index++;
    encryptor->start = 0;
    encryptor->used = 0;
    return TRUE;
}

static gboolean add_content(TinkEncryptor *encryptor, const guint8 *data, gsize length, TinkSink sink, gpointer user,
                            GError **error)
{
    const gsize end = encryptor->segments.format->segment_bytes - TINK_TAG_BYTES;
    while (length > 0) {
        gsize room = end - encryptor->used;
        /* A segment is encrypted only when a byte follows, since the last one is marked. */
        if (room == 0) {
            if (!emit(encryptor, FALSE, encryptor->buffer + encryptor->start, end - encryptor->start, sink, user,
                      error))
                return FALSE;
            continue;
        }
        gsize piece = MIN(room, length);
        if (encryptor->used == encryptor->start && length > room) {
            if (!emit(encryptor, FALSE, data, piece, sink, user, error))
                return FALSE;
        } else {
            memcpy(encryptor->buffer + encryptor->used, data, piece);
            encryptor->used += piece;
        }
        data += piece;
        length -= piece;
    }
    return TRUE;
}

gboolean tink_encryptor_update(TinkEncryptor *encryptor, const void *data, gsize length, TinkSink sink, gpointer user,
                               GError **error)
{
    if (!check_open(encryptor->state, error))
        return FALSE;
    if (!add_content(encryptor, data, length, sink, user, error))
        encryptor->state = STREAM_FAILED;
    return encryptor->state == STREAM_OPEN;
}

gboolean tink_encryptor_finish(TinkEncryptor *encryptor, TinkSink sink, gpointer user, GError **error)
{
    if (!check_open(encryptor->state, error))
        return FALSE;
    gboolean good = emit(encryptor, TRUE, encryptor->buffer + encryptor->start, encryptor->used - encryptor->start,
                         sink, user, error);
    encryptor->state = good ? STREAM_NONE : STREAM_FAILED;
    return good;
}

void tink_encryptor_free(TinkEncryptor *encryptor)
{
    if (!encryptor)
        return;
    tink_segments_clear(&encryptor->segments);
    secret_free(encryptor->buffer, encryptor->used);
    g_free(encryptor);
}

TinkDecryptor *tink_decryptor_new_format(const TinkFormat *format, const guint8 *key)
{
    TinkDecryptor *decryptor = g_new0(TinkDecryptor, 1);
    tink_segments_init(&decryptor->segments, format, key);
    decryptor->buffer = g_malloc(format->segment_bytes);
    decryptor->plain = g_malloc(format->segment_bytes);
    decryptor->associated = g_malloc(TINK_ASSOCIATED_MAX);
    return decryptor;
}

TinkDecryptor *tink_decryptor_new(const guint8 key[TINK_KEY_BYTES])
{
    return tink_decryptor_new_format(&tink_format_1mb, key);
}

gboolean tink_decryptor_begin(TinkDecryptor *decryptor, const void *associated, gsize associated_length, GError **error)
{
    /* Kept for the header, which has not come yet. */
    decryptor->state = STREAM_FAILED;
    if (associated_length > TINK_ASSOCIATED_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "what names encrypted data has %zu bytes, more than %d",
                         associated_length, TINK_ASSOCIATED_MAX);
    if (associated_length > 0)
        memcpy(decryptor->associated, associated, associated_length);
    decryptor->associated_length = associated_length;
    decryptor->header_used = 0;
    decryptor->index = 0;
    decryptor->used = 0;
    decryptor->state = STREAM_OPEN;
    return TRUE;
}

static gboolean check_header(const TinkFormat *format, const guint8 *header, GError **error)
{
    return header[0] == tink_format_header(format) ||
           error_set(error, BACKAPP_ERROR_CORRUPT,
                     "the encrypted data is damaged in its header, or is not what backapp encrypts");
}

/* Takes bytes into the header until it is whole, and derives the key then. */
static gboolean take_header(TinkDecryptor *decryptor, const guint8 **data, gsize *length, GError **error)
{
    const gsize whole = tink_format_header(decryptor->segments.format);
    gsize piece = MIN(whole - decryptor->header_used, *length);
    if (piece == 0)
        return TRUE;
    memcpy(decryptor->header + decryptor->header_used, *data, piece);
    decryptor->header_used += piece;
    *data += piece;
    *length -= piece;
    return decryptor->header_used < whole ||
           (check_header(decryptor->segments.format, decryptor->header, error) &&
            tink_segments_begin(&decryptor->segments, FALSE, decryptor->associated, decryptor->associated_length,
                                decryptor->header, error));
}

static gboolean damaged(guint64 index, GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "segment %" G_GUINT64_FORMAT " of the encrypted data is damaged%s",
                     index,
                     index == 0 ? ", or was encrypted with another key or for another place"
                                : ": use another copy of it, or store it again");
}

/* Decrypts the segment at hand and gives its content to the sink; then the next one is at hand. */
static gboolean take_segment(TinkDecryptor *decryptor, gboolean last, const guint8 *data, gsize length, TinkSink sink,
                             gpointer user, GError **error)
{
    guint64 index = decryptor->index;
    if (index > G_MAXUINT32)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the encrypted data is longer than it can be");
    if (tink_segments_open(&decryptor->segments, index, last, data, length, decryptor->plain)) {
        decryptor->index++;
        decryptor->used = 0;
        return length == TINK_TAG_BYTES || sink(decryptor->plain, length - TINK_TAG_BYTES, user, error);
    }
    /* Whole segments that are missing at the end, or were added there, are told from damage. */
    if (!tink_segments_open(&decryptor->segments, index, !last, data, length, decryptor->plain))
        return damaged(index, error);
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     last ? "the encrypted data is cut off after segment %" G_GUINT64_FORMAT
                          : "the encrypted data goes on after its end in segment %" G_GUINT64_FORMAT,
                     index);
}

static gboolean add_stream(TinkDecryptor *decryptor, const guint8 *data, gsize length, TinkSink sink, gpointer user,
                           GError **error)
{
    const TinkFormat *format = decryptor->segments.format;
    if (!take_header(decryptor, &data, &length, error))
        return FALSE;
    while (length > 0) {
        gsize whole = format->segment_bytes - (decryptor->index == 0 ? tink_format_header(format) : 0);
        gsize room = whole - decryptor->used;
        /* As when encrypting: only the byte that follows says that a segment is not the last. */
        if (room == 0) {
            if (!take_segment(decryptor, FALSE, decryptor->buffer, whole, sink, user, error))
                return FALSE;
            continue;
        }
        gsize piece = MIN(room, length);
        if (decryptor->used == 0 && length > room) {
            if (!take_segment(decryptor, FALSE, data, piece, sink, user, error))
                return FALSE;
        } else {
            memcpy(decryptor->buffer + decryptor->used, data, piece);
            decryptor->used += piece;
        }
        data += piece;
        length -= piece;
    }
    return TRUE;
}

gboolean tink_decryptor_update(TinkDecryptor *decryptor, const void *data, gsize length, TinkSink sink, gpointer user,
                               GError **error)
{
    if (!check_open(decryptor->state, error))
        return FALSE;
    if (!add_stream(decryptor, data, length, sink, user, error))
        decryptor->state = STREAM_FAILED;
    return decryptor->state == STREAM_OPEN;
}

gboolean tink_decryptor_finish(TinkDecryptor *decryptor, TinkSink sink, gpointer user, GError **error)
{
    if (!check_open(decryptor->state, error))
        return FALSE;
    decryptor->state = STREAM_FAILED;
    gsize least = decryptor->index == 0 ? TINK_TAG_BYTES : TINK_TAG_BYTES + 1;
    if (decryptor->header_used < tink_format_header(decryptor->segments.format) || decryptor->used < least)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the encrypted data is cut off in segment %" G_GUINT64_FORMAT,
                         decryptor->index);
    if (!take_segment(decryptor, TRUE, decryptor->buffer, decryptor->used, sink, user, error))
        return FALSE;
    decryptor->state = STREAM_NONE;
    return TRUE;
}

void tink_decryptor_free(TinkDecryptor *decryptor)
{
    if (!decryptor)
        return;
    tink_segments_clear(&decryptor->segments);
    g_free(decryptor->associated);
    g_free(decryptor->buffer);
    g_free(decryptor->plain);
    g_free(decryptor);
}

TinkReader *tink_reader_new_format(const TinkFormat *format, const guint8 *key)
{
    TinkReader *reader = g_new0(TinkReader, 1);
    tink_segments_init(&reader->segments, format, key);
    return reader;
}

TinkReader *tink_reader_new(const guint8 key[TINK_KEY_BYTES])
{
    return tink_reader_new_format(&tink_format_1mb, key);
}

gboolean tink_reader_begin(TinkReader *reader, const void *associated, gsize associated_length,
                           const guint8 header[TINK_HEADER_BYTES], guint64 cipher, GError **error)
{
    guint64 plain = 0;
    reader->cipher = 0;
    if (!tink_format_plain_size(reader->segments.format, cipher, &plain, error) ||
        !check_header(reader->segments.format, header, error) ||
        !tink_segments_begin(&reader->segments, FALSE, associated, associated_length, header, error))
        return FALSE;
    reader->cipher = cipher;
    return TRUE;
}

gboolean tink_reader_segment(TinkReader *reader, guint64 index, const guint8 *data, gsize length, guint8 *out,
                             GError **error)
{
    TinkSpan span;
    if (!tink_format_span(reader->segments.format, reader->cipher, index, &span) || span.cipher_length != length)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "segment %" G_GUINT64_FORMAT " of encrypted data of %" G_GUINT64_FORMAT
                         " bytes cannot have %zu bytes",
                         index, reader->cipher, length);
    if (tink_segments_open(&reader->segments, index, span.last, data, length, out))
        return TRUE;
    memset(out, 0, span.plain_length);
    return damaged(index, error);
}

void tink_reader_free(TinkReader *reader)
{
    if (!reader)
        return;
    tink_segments_clear(&reader->segments);
    g_free(reader);
}
