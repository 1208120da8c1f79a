/*
 * What is encrypted and comes from a store. The first byte says what the input is: a stream, content and what is done to
 * its stream, a record of the master key, or an encrypted name. What must hold: nothing is read outside the input;
 * content comes back as it was; nothing that was changed is taken, and nothing at all that was not made with the key.
 */
#include "base/error.h"
#include "crypto/crypt_name.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "crypto/tink_format.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Segments of a few bytes, so that short inputs have several. */
static const TinkFormat format = {"SHA256", 32, 32, 64};
static const guint8 key[SIV_KEY_BYTES] = {1, 2, 3};

static gboolean collect(const guint8 *data, gsize length, gpointer user, GError **error)
{
    g_byte_array_append(user, data, (guint)length);
    return TRUE;
}

/* The content, or NULL. The pieces grow from `piece` bytes on. */
static GByteArray *decrypt_pieces(const guint8 *data, gsize size, gsize piece)
{
    static TinkDecryptor *decryptor;
    if (!decryptor)
        decryptor = tink_decryptor_new_format(&format, key);
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    gboolean good = tink_decryptor_begin(decryptor, "fuzz", 4, NULL);
    for (gsize at = 0; good && at < size; piece += 3) {
        gsize next = MIN(piece + 1, size - at);
        good = tink_decryptor_update(decryptor, data + at, next, collect, out, &error);
        at += next;
    }
    good = good && tink_decryptor_finish(decryptor, collect, out, &error);
    g_assert_true(good || error_is(error, BACKAPP_ERROR_CORRUPT));
    return good ? g_steal_pointer(&out) : NULL;
}

static GByteArray *encrypt_pieces(const guint8 *data, gsize size, gsize piece)
{
    static TinkEncryptor *encryptor;
    if (!encryptor)
        encryptor = tink_encryptor_new_format(&format, key);
    GByteArray *out = g_byte_array_new();
    gboolean good = tink_encryptor_begin(encryptor, "fuzz", 4, NULL);
    for (gsize at = 0; good && at < size; piece += 5) {
        gsize next = MIN(piece + 1, size - at);
        good = tink_encryptor_update(encryptor, data + at, next, collect, out, NULL);
        at += next;
    }
    g_assert_true(good && tink_encryptor_finish(encryptor, collect, out, NULL));
    return out;
}

/* Single segments of what decrypts as a whole, and of what does not: the same. */
static void read_segments(const guint8 *data, gsize size, const GByteArray *whole)
{
    g_autoptr(TinkReader) reader = tink_reader_new_format(&format, key);
    if (size < TINK_HEADER_BYTES || !tink_reader_begin(reader, "fuzz", 4, data, size, NULL))
        return;
    gboolean good = TRUE;
    TinkSpan span;
    for (guint64 index = 0; tink_format_span(&format, size, index, &span); index++) {
        guint8 out[64];
        g_assert_cmpuint(span.cipher_offset + span.cipher_length, <=, size);
        gboolean read = tink_reader_segment(reader, index, data + span.cipher_offset, span.cipher_length, out, NULL);
        good = good && read;
        g_assert_true(!read || !whole || span.plain_length == 0 ||
                      memcmp(out, whole->data + span.plain_offset, span.plain_length) == 0);
    }
    g_assert_true(good == (whole != NULL));
}

/* Two bytes of instructions (which change, and where), then the content. */
static void round_trip(const guint8 *data, gsize size)
{
    if (size < 2)
        return;
    guint8 how = data[0];
    g_autoptr(GByteArray) stream = encrypt_pieces(data + 2, size - 2, how % 70);
    g_autoptr(GByteArray) back = decrypt_pieces(stream->data, stream->len, how % 67);
    g_assert_true(back && back->len == size - 2 && (back->len == 0 || memcmp(back->data, data + 2, back->len) == 0));
    g_assert_cmpuint(stream->len, ==, tink_format_cipher_size(&format, size - 2));
    read_segments(stream->data, stream->len, back);
    guint at = data[1] * stream->len / 256;
    guint segment = (guint)format.segment_bytes;
    if (how % 4 == 0)
        stream->data[at] ^= (guint8)(1U << (how / 4 % 8));
    else if (how % 4 == 1)
        g_byte_array_set_size(stream, at);
    else if (how % 4 == 2)
        g_byte_array_append(stream, data, (guint)(1 + at % size));
    else if (at + segment <= stream->len)
        g_byte_array_remove_range(stream, at, segment);
    else
        g_byte_array_remove_index(stream, at);
    g_autoptr(GByteArray) changed = decrypt_pieces(stream->data, stream->len, how % 61);
    g_assert_null(changed);
    read_segments(stream->data, stream->len, NULL);
}

static void read_key(const guint8 *data, gsize size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Key) unwrapped = key_unwrap((const char *)data, size, "passphrase", &error);
    g_assert_true((unwrapped == NULL) == (error != NULL));
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autoptr(Key) plain = key_from_base64(text, "fuzz", NULL);
    g_autofree char *again = plain ? digest_base64(key_bytes(plain), KEY_BYTES) : NULL;
    g_assert_true(!again || strstr(text, again));
}

/* What decrypts encrypts to the same; what can be a name comes back. */
static void convert_name(const guint8 *data, gsize size)
{
    static CryptName *names;
    if (!names)
        names = crypt_name_new(key);
    g_autofree char *text = g_strndup((const char *)data, size);
    g_autofree char *plain = crypt_name_decrypt(names, text, NULL);
    if (plain) {
        g_autofree char *same = crypt_name_encrypt(names, plain, 0, 0, NULL);
        g_assert_cmpstr(same, ==, text);
    }
    g_autofree char *encrypted = crypt_name_encrypt(names, text, 0, 0, NULL);
    if (encrypted) {
        g_autofree char *back = crypt_name_decrypt(names, encrypted, NULL);
        g_assert_cmpstr(back, ==, text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const guint8 *rest = data + 1;
    gsize left = size - 1;
    if (data[0] == 's') {
        g_autoptr(GByteArray) content = decrypt_pieces(rest, left, 0);
        read_segments(rest, left, content);
    } else if (data[0] == 'k') {
        read_key(rest, left);
    } else if (data[0] == 'n') {
        convert_name(rest, left);
    } else {
        round_trip(rest, left);
    }
    return 0;
}
