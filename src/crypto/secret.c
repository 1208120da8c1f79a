#include "crypto/secret.h"

#include "crypto/algorithms.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <string.h>

void secret_random(void *out, gsize length)
{
    algorithms_require(length == 0 || RAND_priv_bytes_ex(NULL, out, length, 0) == 1);
}

gboolean secret_equal(const void *a, const void *b, gsize length)
{
    return length == 0 || CRYPTO_memcmp(a, b, length) == 0;
}

void secret_wipe(void *secret, gsize length)
{
    if (secret)
        OPENSSL_cleanse(secret, length);
}

guint8 *secret_copy(const void *bytes, gsize length)
{
    guint8 *copy = g_malloc(length + 1);
    if (length > 0)
        memcpy(copy, bytes, length);
    copy[length] = 0;
    return copy;
}

void secret_free(void *secret, gsize length)
{
    secret_wipe(secret, length);
    g_free(secret);
}
