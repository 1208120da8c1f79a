/*
 * Encryption of content in the published streaming format of the Tink library (AES256_GCM_HKDF_1MB), so that others
 * can read it; docs/formats/encryption.md has every byte. A stream is a header and segments of 1 MiB, each
 * authenticated with its number and with whether it is the last, so no part can be changed, moved, left out or added
 * unnoticed. `associated` names what the stream is for: it is not stored, the reader has to say the same.
 *
 * An encryptor, a decryptor or a reader holds one key, is made once and serves one stream after another; none of them
 * allocates per segment. Each belongs to one thread at a time and wipes its keys when it is freed. What fails because
 * the bytes are not what they were is CORRUPT and names the segment; segment 0 also fails if key or associated data
 * are others, which cannot be told apart.
 */
#pragma once

#include <glib.h>

#define TINK_KEY_BYTES     32
#define TINK_HEADER_BYTES  40
#define TINK_TAG_BYTES     16
#define TINK_SEGMENT_BYTES (1024 * 1024)

/* The longest associated data in bytes. */
#define TINK_ASSOCIATED_MAX 2048

/* The most content that one stream holds in bytes (2^32 segments). */
#define TINK_PLAIN_MAX (G_GUINT64_CONSTANT(0x100000000) * (TINK_SEGMENT_BYTES - TINK_TAG_BYTES) - TINK_HEADER_BYTES)

typedef struct TinkEncryptor TinkEncryptor;
typedef struct TinkDecryptor TinkDecryptor;
typedef struct TinkReader TinkReader;

/* Takes output: `length` bytes that stay valid during the call. An error ends the stream and is passed on. */
typedef gboolean (*TinkSink)(const guint8 *data, gsize length, gpointer user, GError **error);

/* An encryptor with a copy of the key. */
TinkEncryptor *tink_encryptor_new(const guint8 key[TINK_KEY_BYTES]);

/* Starts a stream, with a new salt and prefix; one that was not finished is forgotten. An attempt that failed is begun
 * anew, or what was written is sent again: the same header never encrypts two contents. INVALID if the associated data
 * is too long. */
gboolean tink_encryptor_begin(TinkEncryptor *encryptor, const void *associated, gsize associated_length,
                              GError **error);

/* Adds content, in pieces of any size. The sink gets whole segments, each in one call of TINK_SEGMENT_BYTES (the first
 * with the header before it), so that parts of an upload that are multiples of it begin where segments do. */
gboolean tink_encryptor_update(TinkEncryptor *encryptor, const void *data, gsize length, TinkSink sink, gpointer user,
                               GError **error);

/* Gives the last segment to the sink; without it nobody can read the stream. */
gboolean tink_encryptor_finish(TinkEncryptor *encryptor, TinkSink sink, gpointer user, GError **error);

/* Wipes and frees; NULL is a no-op. */
void tink_encryptor_free(TinkEncryptor *encryptor);

/* A decryptor with a copy of the key. */
TinkDecryptor *tink_decryptor_new(const guint8 key[TINK_KEY_BYTES]);

/* Starts a stream; one that was not finished is forgotten. INVALID if the associated data is too long. */
gboolean tink_decryptor_begin(TinkDecryptor *decryptor, const void *associated, gsize associated_length,
                              GError **error);

/* Adds what was encrypted, in pieces of any size. The sink gets content whose segment was proven, up to 1 MiB a call;
 * whether it is all of it is known only when tink_decryptor_finish succeeds. */
gboolean tink_decryptor_update(TinkDecryptor *decryptor, const void *data, gsize length, TinkSink sink, gpointer user,
                               GError **error);

/* Says that nothing more comes: gives the last segment's content to the sink. CORRUPT if the stream does not end with
 * its last segment, so was cut off or lengthened. */
gboolean tink_decryptor_finish(TinkDecryptor *decryptor, TinkSink sink, gpointer user, GError **error);

/* Wipes and frees; NULL is a no-op. */
void tink_decryptor_free(TinkDecryptor *decryptor);

/* The length of the stream for content of `plain` (at most TINK_PLAIN_MAX) bytes. */
guint64 tink_cipher_size(guint64 plain);

/* The length of the content of a stream of `cipher` bytes. CORRUPT if no stream has that length. */
gboolean tink_plain_size(guint64 cipher, guint64 *plain, GError **error);

/* The number of the segment that holds the content's byte `plain_offset`. */
guint64 tink_segment_of(guint64 plain_offset);

/* Where a segment lies in the stream and what it holds of the content. */
typedef struct {
    guint64 cipher_offset, plain_offset;
    gsize cipher_length, plain_length;
    gboolean last;
} TinkSpan;

/* The span of segment `index` in a stream of `cipher` bytes. FALSE if a stream of that length has no such segment. */
gboolean tink_segment_span(guint64 cipher, guint64 index, TinkSpan *span);

/* A reader of single segments, with a copy of the key. */
TinkReader *tink_reader_new(const guint8 key[TINK_KEY_BYTES]);

/* Turns to a stream of `cipher` bytes that begins with this header. CORRUPT if that is no header or no such length,
 * INVALID if the associated data is too long. The length is proven when the last segment is read. */
gboolean tink_reader_begin(TinkReader *reader, const void *associated, gsize associated_length,
                           const guint8 header[TINK_HEADER_BYTES], guint64 cipher, GError **error);

/* Decrypts segment `index`: data is its span of the stream, `length` its cipher_length, out has room for its
 * plain_length and may be data, but not overlap it otherwise. On failure out is zero. CORRUPT if it is damaged or not
 * this segment; INVALID if the length is not the span's. */
gboolean tink_reader_segment(TinkReader *reader, guint64 index, const guint8 *data, gsize length, guint8 *out,
                             GError **error);

/* Wipes and frees; NULL is a no-op. */
void tink_reader_free(TinkReader *reader);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(TinkEncryptor, tink_encryptor_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TinkDecryptor, tink_decryptor_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TinkReader, tink_reader_free)
