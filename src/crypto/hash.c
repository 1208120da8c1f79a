#include "crypto/hash.h"

#include "base/error.h"
#include "crypto/algorithms.h"

struct Hash {
    const EVP_MD *algorithm;
    EVP_MD *fetched; /* the same, if it has to be freed */
    EVP_MD_CTX *context;
};

static void require(gboolean worked)
{
    if (!worked)
        g_error("hashing does not work: no memory, or the OpenSSL installation is broken");
}

static Hash *hash_of(const EVP_MD *algorithm, int bytes)
{
    require(algorithm && EVP_MD_get_size(algorithm) == bytes);
    Hash *hash = g_new0(Hash, 1);
    hash->algorithm = algorithm;
    hash->context = EVP_MD_CTX_new();
    require(hash->context != NULL);
    hash_reset(hash);
    return hash;
}

Hash *hash_new(void)
{
    return hash_of(algorithms_sha256(), HASH_BYTES);
}

Hash *hash_new_md5(GError **error)
{
    EVP_MD *algorithm = EVP_MD_fetch(NULL, "MD5", NULL);
    if (!algorithm) {
        error_set(error, BACKAPP_ERROR_INVALID, "MD5 is switched off by this system's cryptography policy");
        return NULL;
    }
    Hash *hash = hash_of(algorithm, HASH_MD5_BYTES);
    hash->fetched = algorithm;
    return hash;
}

void hash_update(Hash *hash, const void *data, gsize length)
{
    if (length > 0)
        require(EVP_DigestUpdate(hash->context, data, length) == 1);
}

void hash_finish(Hash *hash, guint8 out[HASH_BYTES])
{
    require(EVP_DigestFinal_ex(hash->context, out, NULL) == 1);
    hash_reset(hash);
}

void hash_reset(Hash *hash)
{
    require(EVP_DigestInit_ex2(hash->context, hash->algorithm, NULL) == 1);
}

void hash_free(Hash *hash)
{
    if (!hash)
        return;
    EVP_MD_CTX_free(hash->context);
    EVP_MD_free(hash->fetched);
    g_free(hash);
}
