/*
 * The cryptography modules for test_crypto.py, one operation a call, so that another implementation can judge them.
 * The master key is that of the variable BACKUP_ENCRYPTION_KEY, content goes from stdin to stdout.
 *
 * usage: crypto-tool encrypt ASSOCIATED, decrypt ASSOCIATED, wrap "", unwrap RECORD, names "" or plain-names ""
 */
#include "base/error.h"
#include "crypto/crypt_name.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "crypto/tink.h"

#include <stdio.h>
#include <string.h>

#define PIECE_BYTES 65521 /* meets no boundary */

static gboolean put(const guint8 *data, gsize length, gpointer user, GError **error)
{
    return fwrite(data, 1, length, stdout) == length || error_set(error, BACKAPP_ERROR_INTERNAL, "cannot write");
}

static gboolean encrypt_stdin(const guint8 *key, const char *associated, GError **error)
{
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new(key);
    g_autofree guint8 *piece = g_malloc(PIECE_BYTES);
    gboolean good = tink_encryptor_begin(encryptor, associated, strlen(associated), error);
    for (gsize got = 1; good && got > 0;) {
        got = fread(piece, 1, PIECE_BYTES, stdin);
        good = tink_encryptor_update(encryptor, piece, got, put, NULL, error);
    }
    return good && tink_encryptor_finish(encryptor, put, NULL, error);
}

static gboolean decrypt_stdin(const guint8 *key, const char *associated, GError **error)
{
    g_autoptr(TinkDecryptor) decryptor = tink_decryptor_new(key);
    g_autofree guint8 *piece = g_malloc(PIECE_BYTES);
    gboolean good = tink_decryptor_begin(decryptor, associated, strlen(associated), error);
    for (gsize got = 1; good && got > 0;) {
        got = fread(piece, 1, PIECE_BYTES, stdin);
        good = tink_decryptor_update(decryptor, piece, got, put, NULL, error);
    }
    return good && tink_decryptor_finish(decryptor, put, NULL, error);
}

/* Each line of stdin is a path. */
static gboolean convert_names(const guint8 *key, gboolean to_plain, GError **error)
{
    g_autoptr(CryptName) names = crypt_name_new(key);
    char line[8192];
    while (fgets(line, sizeof line, stdin)) {
        line[strcspn(line, "\n")] = '\0';
        g_autofree char *converted =
            to_plain ? crypt_name_decrypt(names, line, error) : crypt_name_encrypt(names, line, 0, 0, error);
        if (!converted)
            return FALSE;
        puts(converted);
    }
    return TRUE;
}

/* The passphrase is stdin without its line end. */
static gboolean use_passphrase(const Key *key, const char *record, GError **error)
{
    char passphrase[KEY_PASSPHRASE_MAX + 2] = "";
    if (!fgets(passphrase, sizeof passphrase, stdin))
        return error_set(error, BACKAPP_ERROR_INVALID, "no passphrase");
    passphrase[strcspn(passphrase, "\n")] = '\0';
    if (!record) {
        g_autofree char *wrapped = key_wrap(key, passphrase, NULL, error);
        return wrapped && put((const guint8 *)wrapped, strlen(wrapped), NULL, error);
    }
    g_autoptr(Key) opened = key_unwrap(record, strlen(record), passphrase, error);
    g_autofree char *text = opened ? digest_base64(key_bytes(opened), KEY_BYTES) : NULL;
    return text && puts(text) >= 0;
}

static gboolean run(const char *operation, const char *argument, GError **error)
{
    const char *text = g_getenv("BACKUP_ENCRYPTION_KEY");
    g_autoptr(Key) key = key_from_base64(text ? text : "", "BACKUP_ENCRYPTION_KEY", error);
    guint8 content[TINK_KEY_BYTES];
    guint8 names[SIV_KEY_BYTES];
    if (!key)
        return FALSE;
    key_derive(key, KEY_FOR_CONTENT, content, sizeof content);
    key_derive(key, KEY_FOR_NAMES, names, sizeof names);
    if (g_str_equal(operation, "encrypt"))
        return encrypt_stdin(content, argument, error);
    if (g_str_equal(operation, "decrypt"))
        return decrypt_stdin(content, argument, error);
    if (g_str_equal(operation, "names") || g_str_equal(operation, "plain-names"))
        return convert_names(names, operation[0] == 'p', error);
    if (g_str_equal(operation, "wrap") || g_str_equal(operation, "unwrap"))
        return use_passphrase(key, operation[0] == 'u' ? argument : NULL, error);
    return error_set(error, BACKAPP_ERROR_INVALID, "unknown operation %s", operation);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    if (argc == 3 && run(argv[1], argv[2], &error) && fflush(stdout) == 0)
        return 0;
    fprintf(stderr, "%s: %s\n", error ? error_code_name((BackappError)error->code) : "usage",
            error ? error->message : "crypto-tool OPERATION ARGUMENT");
    return 1;
}
