#include "crypto/kdf.h"

#include "base/error.h"
#include "crypto/algorithms.h"
#include "crypto/secret.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>

/* A parameter only for the call; OpenSSL's type is not const but nothing writes. An empty one has an address too: for
 * some parameters NULL would mean "not given". */
static OSSL_PARAM octets(const char *name, const void *bytes, gsize length)
{
    return OSSL_PARAM_construct_octet_string(name, (void *)(length > 0 ? bytes : ""), length);
}

void kdf_hkdf(const char *digest, const guint8 *key, gsize key_length, const guint8 *salt, gsize salt_length,
              const void *info, gsize info_length, guint8 *out, gsize out_length)
{
    g_assert(info_length <= KDF_INFO_MAX);
    const OSSL_PARAM settings[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)digest, 0),
        octets(OSSL_KDF_PARAM_KEY, key, key_length),
        octets(OSSL_KDF_PARAM_SALT, salt, salt_length),
        octets(OSSL_KDF_PARAM_INFO, info, info_length),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(algorithms_hkdf());
    algorithms_require(context != NULL && EVP_KDF_derive(context, out, out_length, settings) == 1);
    EVP_KDF_CTX_free(context);
}

void kdf_hkdf_sha256(const guint8 *key, gsize key_length, const guint8 *salt, gsize salt_length, const void *info,
                     gsize info_length, guint8 *out, gsize out_length)
{
    kdf_hkdf("SHA256", key, key_length, salt, salt_length, info, info_length, out, out_length);
}

static guint64 memory_of(const KdfCost *cost)
{
    return (G_GUINT64_CONSTANT(128) << cost->log2_n) * cost->r;
}

gboolean kdf_cost_valid(const KdfCost *cost)
{
    return cost->log2_n >= 1 && cost->log2_n <= KDF_LOG2_N_MAX && cost->r >= 1 && cost->r <= KDF_R_MAX &&
           cost->p >= 1 && cost->p <= KDF_P_MAX && memory_of(cost) <= KDF_MEMORY_MAX;
}

gboolean kdf_scrypt(const char *passphrase, gsize passphrase_length, const guint8 *salt, gsize salt_length,
                    const KdfCost *cost, guint8 *out, gsize out_length, GError **error)
{
    if (!kdf_cost_valid(cost))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "scrypt with N = 2^%u, r = %u, p = %u is outside of what is accepted (at most 2^%d, %d, %d, "
                         "and 256 MiB of memory)",
                         cost->log2_n, cost->r, cost->p, KDF_LOG2_N_MAX, KDF_R_MAX, KDF_P_MAX);
    guint64 n = G_GUINT64_CONSTANT(1) << cost->log2_n;
    guint32 r = cost->r;
    guint32 p = cost->p;
    guint64 memory = 2 * KDF_MEMORY_MAX; /* OpenSSL's own limit counts its smaller buffers too */
    const OSSL_PARAM settings[] = {
        octets(OSSL_KDF_PARAM_PASSWORD, passphrase, passphrase_length),
        octets(OSSL_KDF_PARAM_SALT, salt, salt_length),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &n),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &r),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &p),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &memory),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX *context = EVP_KDF_CTX_new(algorithms_scrypt());
    algorithms_require(context != NULL);
    gboolean good = EVP_KDF_derive(context, out, out_length, settings) == 1;
    EVP_KDF_CTX_free(context);
    if (good)
        return TRUE;
    ERR_clear_error();
    secret_wipe(out, out_length);
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "no memory for scrypt (it needs %" G_GUINT64_FORMAT " MiB)",
                     memory_of(cost) >> 20);
}
