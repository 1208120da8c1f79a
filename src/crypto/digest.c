#include "crypto/digest.h"

#include "crypto/algorithms.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <string.h>

void digest_sha256(const void *data, gsize length, guint8 out[HASH_BYTES])
{
    algorithms_require(EVP_Digest(length > 0 ? data : "", length, out, NULL, algorithms_sha256(), NULL) == 1);
}

char *digest_sha256_hex(const void *data, gsize length)
{
    guint8 hash[HASH_BYTES];
    digest_sha256(data, length, hash);
    return digest_hex(hash, sizeof hash);
}

char *digest_md5_base64(const void *data, gsize length, GError **error)
{
    g_autoptr(Hash) hash = hash_new_md5(error);
    if (!hash)
        return NULL;
    guint8 out[HASH_BYTES];
    hash_update(hash, data, length);
    hash_finish(hash, out);
    return digest_base64(out, HASH_MD5_BYTES);
}

void digest_hmac_sha256(const void *key, gsize key_length, const void *data, gsize length, guint8 out[HASH_BYTES])
{
    char name[] = "SHA256";
    const OSSL_PARAM settings[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                                   OSSL_PARAM_construct_end()};
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(algorithms_hmac());
    algorithms_require(context != NULL);
    /* A NULL key would mean "the key of before", so an empty one needs an address too. */
    algorithms_require(EVP_MAC_init(context, key_length > 0 ? key : (const void *)"", key_length, settings) == 1 &&
                       (length == 0 || EVP_MAC_update(context, data, length) == 1) &&
                       EVP_MAC_final(context, out, NULL, HASH_BYTES) == 1);
    EVP_MAC_CTX_free(context);
}

#define CRC32C_POLYNOMIAL 0x82f63b78U
#define CRC32C_SLICES     8

typedef guint32 Crc32cTable[CRC32C_SLICES][256];

/* slice[k][b]: what byte b does to the checksum when k more bytes follow it. */
static gpointer make_table(gpointer unused)
{
    static Crc32cTable table;
    for (guint32 byte = 0; byte < 256; byte++) {
        guint32 crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? CRC32C_POLYNOMIAL : 0);
        table[0][byte] = crc;
    }
    for (int slice = 1; slice < CRC32C_SLICES; slice++)
        for (guint32 byte = 0; byte < 256; byte++)
            table[slice][byte] = (table[slice - 1][byte] >> 8) ^ table[0][table[slice - 1][byte] & 0xff];
    return table;
}

static guint64 load_le64(const guint8 *at)
{
    guint64 word;
    memcpy(&word, at, sizeof word);
    return GUINT64_FROM_LE(word);
}

guint32 digest_crc32c_portable(guint32 crc, const void *data, gsize length)
{
    static GOnce once = G_ONCE_INIT;
    const guint32(*table)[256] = g_once(&once, make_table, NULL);
    const guint8 *at = data;
    crc = ~crc;
    for (; length >= CRC32C_SLICES; length -= CRC32C_SLICES, at += CRC32C_SLICES) {
        guint64 word = load_le64(at) ^ crc;
        crc = 0;
        for (int i = 0; i < CRC32C_SLICES; i++)
            crc ^= table[CRC32C_SLICES - 1 - i][(word >> (8 * i)) & 0xff];
    }
    for (; length > 0; length--)
        crc = (crc >> 8) ^ table[0][(crc ^ *at++) & 0xff];
    return ~crc;
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static guint32 crc32c_sse42(guint32 crc, const void *data, gsize length)
{
    const guint8 *at = data;
    guint64 wide = ~crc;
    for (; length >= 8; length -= 8, at += 8)
        wide = __builtin_ia32_crc32di(wide, load_le64(at));
    guint32 narrow = (guint32)wide;
    for (; length > 0; length--)
        narrow = __builtin_ia32_crc32qi(narrow, *at++);
    return ~narrow;
}
#endif

guint32 digest_crc32c(guint32 crc, const void *data, gsize length)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("sse4.2"))
        return crc32c_sse42(crc, data, length);
#endif
    return digest_crc32c_portable(crc, data, length);
}

char *digest_crc32c_base64(guint32 crc)
{
    guint32 highest_first = GUINT32_TO_BE(crc);
    return digest_base64((const guint8 *)&highest_first, sizeof highest_first);
}

char *digest_hex(const guint8 *bytes, gsize length)
{
    static const char digits[] = "0123456789abcdef";
    char *text = g_malloc(2 * length + 1);
    for (gsize i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 0xf];
    }
    text[2 * length] = '\0';
    return text;
}

char *digest_base64(const guint8 *bytes, gsize length)
{
    return length > 0 ? g_base64_encode(bytes, length) : g_strdup("");
}

static int base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static gboolean parse_base64(const char *text, guint8 *out, gsize length)
{
    guint32 bits = 0;
    int held = 0;
    gsize written = 0;
    while (written < length) {
        int value = base64_value(*text);
        if (value < 0)
            return FALSE;
        text++;
        bits = (bits << 6) | (guint32)value;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[written++] = (guint8)(bits >> held);
            bits &= (1U << held) - 1;
        }
    }
    /* Bits that carry nothing have to be zero, else several texts would mean the same bytes. */
    return bits == 0 && strcmp(text, length % 3 == 1 ? "==" : length % 3 == 2 ? "=" : "") == 0;
}

gboolean digest_parse_base64(const char *text, guint8 *out, gsize length)
{
    gboolean good = parse_base64(text, out, length);
    if (!good)
        OPENSSL_cleanse(out, length);
    return good;
}

gboolean digest_parse_hex(const char *text, guint8 *out, gsize length)
{
    if (strlen(text) != 2 * length)
        return FALSE;
    for (gsize i = 0; i < length; i++) {
        int high = g_ascii_xdigit_value(text[2 * i]);
        int low = g_ascii_xdigit_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return FALSE;
        out[i] = (guint8)(high << 4 | low);
    }
    return TRUE;
}
