#include "crypto/tink_format.h"

#include "base/error.h"
#include "crypto/algorithms.h"
#include "crypto/kdf.h"
#include "crypto/secret.h"

#include <openssl/err.h>
#include <string.h>

#define NONCE_BYTES 12

const TinkFormat tink_format_1mb = {"SHA256", TINK_KEY_BYTES, TINK_KEY_BYTES, TINK_SEGMENT_BYTES};

gsize tink_format_header(const TinkFormat *format)
{
    return 1 + format->derived_bytes + TINK_PREFIX_BYTES;
}

/* Content of each segment but the first, which has the header less, and the last. */
static guint64 full(const TinkFormat *format)
{
    return format->segment_bytes - TINK_TAG_BYTES;
}

guint64 tink_format_segment_of(const TinkFormat *format, guint64 plain_offset)
{
    return (plain_offset + tink_format_header(format)) / full(format);
}

guint64 tink_format_cipher_size(const TinkFormat *format, guint64 plain)
{
    guint64 segments = plain > 0 ? tink_format_segment_of(format, plain - 1) + 1 : 1;
    return tink_format_header(format) + plain + segments * TINK_TAG_BYTES;
}

gboolean tink_format_plain_size(const TinkFormat *format, guint64 cipher, guint64 *plain, GError **error)
{
    /* The header fills the space that it takes from the first segment, so segments begin at multiples of their size. */
    guint64 header = tink_format_header(format);
    guint64 before = cipher > 0 ? (cipher - 1) / format->segment_bytes : 0; /* segments before the last */
    guint64 rest = cipher - before * format->segment_bytes;                 /* bytes of the last one */
    guint64 least = before == 0 ? header + TINK_TAG_BYTES : TINK_TAG_BYTES + 1;
    if (rest < least || before > G_MAXUINT32)
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "encrypted data cannot have %" G_GUINT64_FORMAT " bytes: it was cut off, or is something else",
                         cipher);
    *plain = cipher - header - (before + 1) * TINK_TAG_BYTES;
    return TRUE;
}

gboolean tink_format_span(const TinkFormat *format, guint64 cipher, guint64 index, TinkSpan *span)
{
    guint64 plain = 0;
    if (!tink_format_plain_size(format, cipher, &plain, NULL) || index > (cipher - 1) / format->segment_bytes)
        return FALSE;
    guint64 header = tink_format_header(format);
    guint64 end = (index + 1) * format->segment_bytes;
    span->last = end >= cipher;
    span->cipher_offset = index > 0 ? index * format->segment_bytes : header;
    span->cipher_length = (gsize)(MIN(end, cipher) - span->cipher_offset);
    span->plain_offset = index > 0 ? index * full(format) - header : 0;
    span->plain_length = span->cipher_length - TINK_TAG_BYTES;
    return TRUE;
}

void tink_segments_init(TinkSegments *segments, const TinkFormat *format, const guint8 *key)
{
    g_assert(format->key_bytes <= TINK_KEY_BYTES && format->segment_bytes <= TINK_SEGMENT_BYTES &&
             format->segment_bytes > tink_format_header(format) + TINK_TAG_BYTES);
    segments->format = format;
    memcpy(segments->key, key, format->key_bytes);
    segments->context = EVP_CIPHER_CTX_new();
    algorithms_require(segments->context != NULL);
}

gboolean tink_segments_begin(TinkSegments *segments, gboolean encrypt, const void *associated, gsize associated_length,
                             const guint8 *header, GError **error)
{
    const TinkFormat *format = segments->format;
    if (associated_length > TINK_ASSOCIATED_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "what names encrypted data has %zu bytes, more than %d: shorten its name", associated_length,
                         TINK_ASSOCIATED_MAX);
    guint8 key[TINK_KEY_BYTES];
    kdf_hkdf(format->digest, segments->key, format->key_bytes, header + 1, format->derived_bytes, associated,
             associated_length, key, format->derived_bytes);
    memcpy(segments->prefix, header + 1 + format->derived_bytes, TINK_PREFIX_BYTES);
    /* The key schedule is made here, once a stream; a segment only sets its nonce. */
    algorithms_require(EVP_CipherInit_ex2(segments->context, algorithms_aes_gcm(format->derived_bytes), key, NULL,
                                          encrypt ? 1 : 0, NULL) == 1);
    secret_wipe(key, sizeof key);
    return TRUE;
}

static void set_nonce(TinkSegments *segments, guint64 index, gboolean last)
{
    g_assert(index <= G_MAXUINT32);
    guint8 nonce[NONCE_BYTES];
    guint32 number = GUINT32_TO_BE((guint32)index);
    memcpy(nonce, segments->prefix, TINK_PREFIX_BYTES);
    memcpy(nonce + TINK_PREFIX_BYTES, &number, sizeof number);
    nonce[NONCE_BYTES - 1] = last ? 1 : 0;
    algorithms_require(EVP_CipherInit_ex2(segments->context, NULL, NULL, nonce, -1, NULL) == 1);
}

void tink_segments_seal(TinkSegments *segments, guint64 index, gboolean last, const guint8 *plain, gsize length,
                        guint8 *out)
{
    int written = 0;
    set_nonce(segments, index, last);
    algorithms_require((length == 0 || EVP_EncryptUpdate(segments->context, out, &written, plain, (int)length) == 1) &&
                       EVP_EncryptFinal_ex(segments->context, out + length, &written) == 1 &&
                       EVP_CIPHER_CTX_ctrl(segments->context, EVP_CTRL_AEAD_GET_TAG, TINK_TAG_BYTES, out + length) ==
                           1);
}

gboolean tink_segments_open(TinkSegments *segments, guint64 index, gboolean last, const guint8 *data, gsize length,
                            guint8 *out)
{
    int written = 0;
    gsize plain = length - TINK_TAG_BYTES;
    guint8 tag[TINK_TAG_BYTES]; /* a copy, since the decrypted bytes may lie where data does */
    memcpy(tag, data + plain, sizeof tag);
    set_nonce(segments, index, last);
    algorithms_require(EVP_CIPHER_CTX_ctrl(segments->context, EVP_CTRL_AEAD_SET_TAG, TINK_TAG_BYTES, tag) == 1 &&
                       (plain == 0 || EVP_DecryptUpdate(segments->context, out, &written, data, (int)plain) == 1));
    guint8 nothing[TINK_TAG_BYTES];
    gboolean good = EVP_DecryptFinal_ex(segments->context, nothing, &written) == 1;
    if (!good)
        ERR_clear_error();
    return good;
}

void tink_segments_clear(TinkSegments *segments)
{
    EVP_CIPHER_CTX_free(segments->context);
    secret_wipe(segments, sizeof *segments);
}

guint64 tink_cipher_size(guint64 plain)
{
    return tink_format_cipher_size(&tink_format_1mb, plain);
}

gboolean tink_plain_size(guint64 cipher, guint64 *plain, GError **error)
{
    return tink_format_plain_size(&tink_format_1mb, cipher, plain, error);
}

guint64 tink_segment_of(guint64 plain_offset)
{
    return tink_format_segment_of(&tink_format_1mb, plain_offset);
}

gboolean tink_segment_span(guint64 cipher, guint64 index, TinkSpan *span)
{
    return tink_format_span(&tink_format_1mb, cipher, index, span);
}
