#include "crypto/algorithms.h"

#include <openssl/kdf.h>

typedef struct {
    EVP_MD *sha256;
    EVP_MAC *hmac;
    EVP_KDF *hkdf;
    EVP_KDF *scrypt;
    EVP_CIPHER *aes_128_gcm;
    EVP_CIPHER *aes_256_gcm;
    EVP_CIPHER *aes_128_siv;
    EVP_CIPHER *aes_256_siv;
} Algorithms;

void algorithms_require(gboolean worked)
{
    if (!worked)
        g_error("cryptography does not work: no memory, or the OpenSSL installation is broken");
}

/* What a policy took away (scrypt under FIPS) is NULL here and only missed by who uses it. */
static gpointer look_up(gpointer unused)
{
    static Algorithms all;
    all.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    all.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    all.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    all.scrypt = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
    all.aes_128_gcm = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    all.aes_256_gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL);
    all.aes_128_siv = EVP_CIPHER_fetch(NULL, "AES-128-SIV", NULL);
    all.aes_256_siv = EVP_CIPHER_fetch(NULL, "AES-256-SIV", NULL);
    return &all;
}

static const Algorithms *all_algorithms(void)
{
    static GOnce once = G_ONCE_INIT;
    return g_once(&once, look_up, NULL);
}

const EVP_MD *algorithms_sha256(void)
{
    algorithms_require(all_algorithms()->sha256 != NULL);
    return all_algorithms()->sha256;
}

EVP_MAC *algorithms_hmac(void)
{
    algorithms_require(all_algorithms()->hmac != NULL);
    return all_algorithms()->hmac;
}

EVP_KDF *algorithms_hkdf(void)
{
    algorithms_require(all_algorithms()->hkdf != NULL);
    return all_algorithms()->hkdf;
}

EVP_KDF *algorithms_scrypt(void)
{
    algorithms_require(all_algorithms()->scrypt != NULL);
    return all_algorithms()->scrypt;
}

const EVP_CIPHER *algorithms_aes_gcm(gsize key_bytes)
{
    const EVP_CIPHER *cipher = key_bytes == 16   ? all_algorithms()->aes_128_gcm
                               : key_bytes == 32 ? all_algorithms()->aes_256_gcm
                                                 : NULL;
    algorithms_require(cipher != NULL);
    return cipher;
}

const EVP_CIPHER *algorithms_aes_siv(gsize key_bytes)
{
    const EVP_CIPHER *cipher = key_bytes == 32   ? all_algorithms()->aes_128_siv
                               : key_bytes == 64 ? all_algorithms()->aes_256_siv
                                                 : NULL;
    algorithms_require(cipher != NULL);
    return cipher;
}
