#include "crypto/key.h"

#include "base/error.h"
#include "crypto/algorithms.h"
#include "crypto/digest.h"
#include "crypto/secret.h"

#include <jansson.h>
#include <openssl/err.h>
#include <string.h>

#define FORMAT       "backapp key"
#define VERSION      1
#define SALT_BYTES   32
#define NONCE_BYTES  12
#define TAG_BYTES    16
#define SEALED_BYTES (KEY_BYTES + TAG_BYTES)
#define BASE64_CHARS 44 /* of KEY_BYTES */

struct Key {
    guint8 bytes[KEY_BYTES];
};

/* What a record holds. */
typedef struct {
    KdfCost cost;
    guint8 salt[SALT_BYTES], nonce[NONCE_BYTES], sealed[SEALED_BYTES];
} Record;

Key *key_generate(void)
{
    Key *key = g_new0(Key, 1);
    secret_random(key->bytes, KEY_BYTES);
    return key;
}

Key *key_from_base64(const char *text, const char *what, GError **error)
{
    while (g_ascii_isspace(*text))
        text++;
    gsize length = strlen(text);
    while (length > 0 && g_ascii_isspace(text[length - 1]))
        length--;
    char trimmed[BASE64_CHARS + 1] = "";
    if (length == BASE64_CHARS)
        memcpy(trimmed, text, BASE64_CHARS);
    Key *key = g_new0(Key, 1);
    gboolean good = digest_parse_base64(trimmed, key->bytes, KEY_BYTES);
    secret_wipe(trimmed, sizeof trimmed);
    if (good)
        return key;
    key_free(key);
    error_set(error, BACKAPP_ERROR_INVALID,
              "%s is not a key: it has to be 32 random bytes in base64, which are 44 characters (made by `openssl rand "
              "-base64 32`)",
              what);
    return NULL;
}

const guint8 *key_bytes(const Key *key)
{
    return key->bytes;
}

void key_derive(const Key *key, const char *purpose, guint8 *out, gsize length)
{
    kdf_hkdf_sha256(key->bytes, KEY_BYTES, NULL, 0, purpose, strlen(purpose), out, length);
}

void key_free(Key *key)
{
    secret_free(key, sizeof *key);
}

static gboolean check_passphrase(const char *passphrase, GError **error)
{
    gsize length = strlen(passphrase);
    if (length == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "the passphrase is empty");
    return length <= KEY_PASSPHRASE_MAX ||
           error_set(error, BACKAPP_ERROR_INVALID, "the passphrase has %zu bytes, more than %d", length,
                     KEY_PASSPHRASE_MAX);
}

/* What the sealed key is bound to. */
static char *describe(const KdfCost *cost)
{
    return g_strdup_printf(FORMAT " %d scrypt %u %u %u", VERSION, cost->log2_n, cost->r, cost->p);
}

/* AES-256-GCM under the key that scrypt makes of the passphrase. NULL with the errors of kdf_scrypt. */
static EVP_CIPHER_CTX *start(gboolean encrypt, const char *passphrase, const Record *record, GError **error)
{
    guint8 outer[KEY_BYTES];
    if (!kdf_scrypt(passphrase, strlen(passphrase), record->salt, SALT_BYTES, &record->cost, outer, sizeof outer,
                    error))
        return NULL;
    g_autofree char *bound = describe(&record->cost);
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int written = 0;
    algorithms_require(context != NULL &&
                       EVP_CipherInit_ex2(context, algorithms_aes_gcm(sizeof outer), outer, record->nonce,
                                          encrypt ? 1 : 0, NULL) == 1 &&
                       EVP_CipherUpdate(context, NULL, &written, (const guint8 *)bound, (int)strlen(bound)) == 1);
    secret_wipe(outer, sizeof outer);
    return context;
}

static gboolean seal(const Key *key, const char *passphrase, Record *record, GError **error)
{
    EVP_CIPHER_CTX *context = start(TRUE, passphrase, record, error);
    if (!context)
        return FALSE;
    int written = 0;
    algorithms_require(EVP_EncryptUpdate(context, record->sealed, &written, key->bytes, KEY_BYTES) == 1 &&
                       EVP_EncryptFinal_ex(context, record->sealed + KEY_BYTES, &written) == 1 &&
                       EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, record->sealed + KEY_BYTES) == 1);
    EVP_CIPHER_CTX_free(context);
    return TRUE;
}

static Key *open_sealed(Record *record, const char *passphrase, GError **error)
{
    EVP_CIPHER_CTX *context = start(FALSE, passphrase, record, error);
    if (!context)
        return NULL;
    g_autoptr(Key) key = g_new0(Key, 1);
    guint8 rest[TAG_BYTES];
    int written = 0;
    algorithms_require(EVP_DecryptUpdate(context, key->bytes, &written, record->sealed, KEY_BYTES) == 1 &&
                       EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, TAG_BYTES, record->sealed + KEY_BYTES) == 1);
    gboolean fits = EVP_DecryptFinal_ex(context, rest, &written) == 1;
    EVP_CIPHER_CTX_free(context);
    if (fits)
        return g_steal_pointer(&key);
    ERR_clear_error();
    error_set(error, BACKAPP_ERROR_DENIED, "wrong passphrase");
    return NULL;
}

/* A checksum that needs no passphrase, so damage and a wrong passphrase can be told apart. */
static char *sum_of(const KdfCost *cost, const char *salt, const char *nonce, const char *sealed)
{
    g_autofree char *bound = describe(cost);
    g_autofree char *all = g_strjoin(" ", bound, salt, nonce, sealed, NULL);
    return digest_sha256_hex(all, strlen(all));
}

char *key_wrap(const Key *key, const char *passphrase, const KdfCost *cost, GError **error)
{
    Record record = {.cost = cost ? *cost : KEY_COST_DEFAULT};
    secret_random(record.salt, SALT_BYTES);
    secret_random(record.nonce, NONCE_BYTES);
    if (!check_passphrase(passphrase, error) || !seal(key, passphrase, &record, error))
        return NULL;
    g_autofree char *salt = digest_base64(record.salt, SALT_BYTES);
    g_autofree char *nonce = digest_base64(record.nonce, NONCE_BYTES);
    g_autofree char *sealed = digest_base64(record.sealed, SEALED_BYTES);
    g_autofree char *sum = sum_of(&record.cost, salt, nonce, sealed);
    return g_strdup_printf("{\n"
                           "  \"format\": \"" FORMAT "\",\n"
                           "  \"version\": %d,\n"
                           "  \"kdf\": \"scrypt\",\n"
                           "  \"log2N\": %u,\n"
                           "  \"r\": %u,\n"
                           "  \"p\": %u,\n"
                           "  \"salt\": \"%s\",\n"
                           "  \"nonce\": \"%s\",\n"
                           "  \"key\": \"%s\",\n"
                           "  \"sum\": \"%s\"\n"
                           "}\n",
                           VERSION, record.cost.log2_n, record.cost.r, record.cost.p, salt, nonce, sealed, sum);
}

static gboolean damaged(GError **error)
{
    return error_set(
        error, BACKAPP_ERROR_CORRUPT,
        "the record of the master key is damaged: put back a copy of it, nothing can be decrypted without");
}

static gboolean read_fields(json_t *root, Record *record, GError **error)
{
    const char *format = NULL;
    const char *kdf = NULL;
    const char *salt = NULL;
    const char *nonce = NULL;
    const char *sealed = NULL;
    const char *sum = NULL;
    json_int_t version = 0;
    json_int_t log2_n = 0;
    json_int_t r = 0;
    json_int_t p = 0;
    if (json_unpack(root, "{s:s, s:I}", "format", &format, "version", &version) != 0 || strcmp(format, FORMAT) != 0 ||
        version < VERSION)
        return damaged(error);
    if (version > VERSION)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the record of the master key was written by a newer version of backapp: update this one");
    if (json_unpack(root, "{s:s, s:I, s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s !}", "format", &format, "version",
                    &version, "kdf", &kdf, "log2N", &log2_n, "r", &r, "p", &p, "salt", &salt, "nonce", &nonce, "key",
                    &sealed, "sum", &sum) != 0 ||
        strcmp(kdf, "scrypt") != 0 || log2_n < 0 || log2_n > G_MAXINT || r < 0 || r > G_MAXINT || p < 0 || p > G_MAXINT)
        return damaged(error);
    record->cost = (KdfCost){.log2_n = (guint)log2_n, .r = (guint)r, .p = (guint)p};
    g_autofree char *expected = sum_of(&record->cost, salt, nonce, sealed);
    if (strcmp(sum, expected) != 0 || !digest_parse_base64(salt, record->salt, SALT_BYTES) ||
        !digest_parse_base64(nonce, record->nonce, NONCE_BYTES) ||
        !digest_parse_base64(sealed, record->sealed, SEALED_BYTES))
        return damaged(error);
    return TRUE;
}

static gboolean read_record(const char *text, gsize length, Record *record, GError **error)
{
    json_t *root = length <= KEY_RECORD_MAX ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL) : NULL;
    gboolean good = root ? read_fields(root, record, error) : damaged(error);
    json_decref(root);
    return good;
}

Key *key_unwrap(const char *record, gsize length, const char *passphrase, GError **error)
{
    Record fields;
    if (!read_record(record, length, &fields, error) || !check_passphrase(passphrase, error))
        return NULL;
    return open_sealed(&fields, passphrase, error);
}
