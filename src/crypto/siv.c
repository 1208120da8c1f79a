#include "crypto/siv.h"

#include "crypto/algorithms.h"
#include "crypto/secret.h"

#include <openssl/err.h>
#include <string.h>

struct Siv {
    EVP_CIPHER_CTX *sealing;
    EVP_CIPHER_CTX *opening;
    gsize key_length;
    guint8 key[SIV_KEY_BYTES];
};

Siv *siv_new(const guint8 *key, gsize key_length)
{
    g_assert(key_length == SIV_KEY_BYTES || key_length == SIV_KEY_BYTES / 2);
    Siv *siv = g_new0(Siv, 1);
    siv->key_length = key_length;
    memcpy(siv->key, key, key_length);
    siv->sealing = EVP_CIPHER_CTX_new();
    siv->opening = EVP_CIPHER_CTX_new();
    algorithms_require(siv->sealing != NULL && siv->opening != NULL);
    return siv;
}

void siv_seal(Siv *siv, const void *associated, gsize associated_length, const void *plain, gsize length, guint8 *out)
{
    g_assert(length >= 1 && length <= SIV_MAX_BYTES && associated_length >= 1 && associated_length <= SIV_MAX_BYTES);
    EVP_CIPHER_CTX *context = siv->sealing;
    int written = 0;
    /* The key is set each time: OpenSSL's SIV does one message a key. */
    algorithms_require(EVP_EncryptInit_ex2(context, algorithms_aes_siv(siv->key_length), siv->key, NULL, NULL) == 1 &&
                       EVP_EncryptUpdate(context, NULL, &written, associated, (int)associated_length) == 1 &&
                       EVP_EncryptUpdate(context, out + SIV_TAG_BYTES, &written, plain, (int)length) == 1 &&
                       EVP_EncryptFinal_ex(context, out + SIV_TAG_BYTES + length, &written) == 1 &&
                       EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, SIV_TAG_BYTES, out) == 1);
}

gboolean siv_open(Siv *siv, const void *associated, gsize associated_length, const guint8 *sealed, gsize length,
                  guint8 *out)
{
    g_assert(length <= SIV_MAX_BYTES + SIV_TAG_BYTES && associated_length >= 1 && associated_length <= SIV_MAX_BYTES);
    if (length <= SIV_TAG_BYTES)
        return FALSE;
    EVP_CIPHER_CTX *context = siv->opening;
    int written = 0;
    gsize plain_length = length - SIV_TAG_BYTES;
    algorithms_require(EVP_DecryptInit_ex2(context, algorithms_aes_siv(siv->key_length), siv->key, NULL, NULL) == 1 &&
                       EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, SIV_TAG_BYTES, (void *)sealed) == 1 &&
                       EVP_DecryptUpdate(context, NULL, &written, associated, (int)associated_length) == 1);
    gboolean good = EVP_DecryptUpdate(context, out, &written, sealed + SIV_TAG_BYTES, (int)plain_length) == 1 &&
                    EVP_DecryptFinal_ex(context, out + plain_length, &written) == 1;
    if (!good) {
        ERR_clear_error();
        memset(out, 0, plain_length);
    }
    return good;
}

void siv_free(Siv *siv)
{
    if (!siv)
        return;
    EVP_CIPHER_CTX_free(siv->sealing);
    EVP_CIPHER_CTX_free(siv->opening);
    secret_wipe(siv, sizeof *siv);
    g_free(siv);
}
