/*
 * The insides of tink.h: the format with its sizes as parameters, and the encryption of one segment. Everything of ours
 * has the one format that tink.h promises; the published test vectors have others, and tests reach the ends of small
 * segments sooner. For tink.c and tests.
 */
#pragma once

#include <openssl/evp.h>

#include "crypto/tink.h"

#define TINK_PREFIX_BYTES 7

typedef struct {
    const char *digest;  /* of HKDF, OpenSSL's name */
    gsize key_bytes;     /* of the master key, at most TINK_KEY_BYTES */
    gsize derived_bytes; /* of a stream's AES key and of its salt: 16 or 32 */
    gsize segment_bytes; /* more than header and tag, at most TINK_SEGMENT_BYTES */
} TinkFormat;

/* AES256_GCM_HKDF_1MB. */
extern const TinkFormat tink_format_1mb;

/* Bytes of a header: its own length, salt, prefix. */
gsize tink_format_header(const TinkFormat *format);

/* As the functions of tink.h without "format" in their names. */
guint64 tink_format_cipher_size(const TinkFormat *format, guint64 plain);
gboolean tink_format_plain_size(const TinkFormat *format, guint64 cipher, guint64 *plain, GError **error);
guint64 tink_format_segment_of(const TinkFormat *format, guint64 plain_offset);
gboolean tink_format_span(const TinkFormat *format, guint64 cipher, guint64 index, TinkSpan *span);
TinkEncryptor *tink_encryptor_new_format(const TinkFormat *format, const guint8 *key);
TinkDecryptor *tink_decryptor_new_format(const TinkFormat *format, const guint8 *key);
TinkReader *tink_reader_new_format(const TinkFormat *format, const guint8 *key);

/* Like tink_encryptor_begin with a given header, whose salt and prefix are not random: only for known answers. */
gboolean tink_encryptor_begin_fixed(TinkEncryptor *encryptor, const void *associated, gsize associated_length,
                                    const guint8 *header, GError **error);

/* A master key and the state for the segments of one stream in one direction. */
typedef struct {
    const TinkFormat *format;
    EVP_CIPHER_CTX *context;
    guint8 key[TINK_KEY_BYTES];
    guint8 prefix[TINK_PREFIX_BYTES];
} TinkSegments;

void tink_segments_init(TinkSegments *segments, const TinkFormat *format, const guint8 *key);

/* Derives the stream's key from its header. INVALID if the associated data is too long. */
gboolean tink_segments_begin(TinkSegments *segments, gboolean encrypt, const void *associated, gsize associated_length,
                             const guint8 *header, GError **error);

/* Encrypts `length` bytes to out, which is plain or does not overlap it and has room for the tag after them. */
void tink_segments_seal(TinkSegments *segments, guint64 index, gboolean last, const guint8 *plain, gsize length,
                        guint8 *out);

/* Decrypts `length` (at least the tag's) bytes to out, which is data or does not overlap it. FALSE, with out of no
 * meaning, if they are not what was sealed as this segment. */
gboolean tink_segments_open(TinkSegments *segments, guint64 index, gboolean last, const guint8 *data, gsize length,
                            guint8 *out);

/* Wipes what it holds. */
void tink_segments_clear(TinkSegments *segments);
