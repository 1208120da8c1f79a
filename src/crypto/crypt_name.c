#include "crypto/crypt_name.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>

/* Base32hex keeps the order of the bytes it encodes. One case only, so that no two names meet on a file system that
 * does not tell cases apart; lower, as rclone has it. */
static const char digits[] = "0123456789abcdefghijklmnopqrstuv";

#define BITS        5
#define DAMAGED_MAX 100 /* bytes of a damaged name in a message */

struct CryptName {
    Siv *siv;
    GString *associated; /* reused from call to call */
};

CryptName *crypt_name_new(const guint8 key[SIV_KEY_BYTES])
{
    CryptName *names = g_new0(CryptName, 1);
    names->siv = siv_new(key, SIV_KEY_BYTES);
    names->associated = g_string_new(NULL);
    return names;
}

void crypt_name_free(CryptName *names)
{
    if (!names)
        return;
    siv_free(names->siv);
    g_string_free(names->associated, TRUE);
    g_free(names);
}

static gsize encoded_length(gsize bytes)
{
    return (bytes * 8 + BITS - 1) / BITS;
}

gsize crypt_name_length(gsize length)
{
    return encoded_length(length + SIV_TAG_BYTES);
}

/* Writes encoded_length(length) characters and a zero. */
static void encode(const guint8 *bytes, gsize length, char *out)
{
    guint32 bits = 0;
    int held = 0;
    for (gsize i = 0; i < length; i++) {
        bits = (bits << 8) | bytes[i];
        held += 8;
        while (held >= BITS) {
            held -= BITS;
            *out++ = digits[(bits >> held) & 31];
        }
    }
    if (held > 0)
        *out++ = digits[(bits << (BITS - held)) & 31];
    *out = '\0';
}

/* Writes length * 5 / 8 bytes. FALSE if the text is not what encode gives for any bytes. */
static gboolean decode(const char *text, gsize length, guint8 *out)
{
    guint32 bits = 0;
    int held = 0;
    gsize bytes = length * BITS / 8;
    if (encoded_length(bytes) != length)
        return FALSE;
    for (gsize i = 0; i < length; i++) {
        const char *digit = memchr(digits, text[i], sizeof digits - 1);
        if (!digit)
            return FALSE;
        bits = (bits << BITS) | (guint32)(digit - digits);
        held += BITS;
        if (held >= 8) {
            held -= 8;
            *out++ = (guint8)(bits >> held);
        }
    }
    return (bits & ((1U << held) - 1)) == 0;
}

/* The folder's encrypted path with a slash before and after: never empty, which siv_seal asks for. */
static gboolean set_folder(CryptName *names, const char *folder, gsize length, GError **error)
{
    if (length > CRYPT_NAME_PATH_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "an encrypted path has %zu bytes, more than %d", length,
                         CRYPT_NAME_PATH_MAX);
    g_string_assign(names->associated, "/");
    g_string_append_len(names->associated, folder, (gssize)length);
    if (length > 0)
        g_string_append_c(names->associated, '/');
    return TRUE;
}

static gboolean is_dots(const char *name, gsize length)
{
    return (length == 1 && name[0] == '.') || (length == 2 && name[0] == '.' && name[1] == '.');
}

/* Appends the encrypted segment to out, which may hold the folder. */
static gboolean encrypt_segment(CryptName *names, const char *folder, gsize folder_length, const char *name,
                                gsize length, GString *out, GError **error)
{
    if (length == 0 || length > CRYPT_NAME_MAX || is_dots(name, length)) {
        g_autofree char *shown = human_name(name, (gssize)MIN(length, DAMAGED_MAX));
        return error_set(error, BACKAPP_ERROR_INVALID, "\"%s\" is no name that can be encrypted", shown);
    }
    if (!set_folder(names, folder, folder_length, error))
        return FALSE;
    guint8 sealed[CRYPT_NAME_MAX + SIV_TAG_BYTES];
    siv_seal(names->siv, names->associated->str, names->associated->len, name, length, sealed);
    gsize before = out->len;
    g_string_set_size(out, before + crypt_name_length(length));
    encode(sealed, length + SIV_TAG_BYTES, out->str + before);
    return TRUE;
}

char *crypt_name_encrypt_segment(CryptName *names, const char *folder, const char *name, GError **error)
{
    gsize length = strlen(name);
    g_autoptr(GString) out = g_string_new(NULL);
    if (strchr(name, '/')) {
        error_set(error, BACKAPP_ERROR_INVALID, "a name with a slash cannot be encrypted as one");
        return NULL;
    }
    if (!encrypt_segment(names, folder, strlen(folder), name, length, out, error))
        return NULL;
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static gboolean damaged(const char *encrypted, gsize length, GError **error)
{
    g_autofree char *shown = human_name(encrypted, (gssize)MIN(length, DAMAGED_MAX));
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "the encrypted name \"%s\" is damaged, not in its folder, or was made with another key", shown);
}

/* Appends the plain segment to out. */
static gboolean decrypt_segment(CryptName *names, const char *folder, gsize folder_length, const char *encrypted,
                                gsize length, GString *out, GError **error)
{
    guint8 sealed[CRYPT_NAME_MAX + SIV_TAG_BYTES];
    char name[CRYPT_NAME_MAX];
    gsize bytes = length * BITS / 8;
    if (bytes <= SIV_TAG_BYTES || bytes > sizeof sealed || !decode(encrypted, length, sealed))
        return damaged(encrypted, length, error);
    if (!set_folder(names, folder, folder_length, error))
        return FALSE;
    gsize plain = bytes - SIV_TAG_BYTES;
    /* What was sealed is looked at as well: who has the key must still not lead a restore out of its folder. */
    if (!siv_open(names->siv, names->associated->str, names->associated->len, sealed, bytes, (guint8 *)name) ||
        is_dots(name, plain) || memchr(name, '/', plain) || memchr(name, '\0', plain))
        return damaged(encrypted, length, error);
    g_string_append_len(out, name, (gssize)plain);
    return TRUE;
}

char *crypt_name_decrypt_segment(CryptName *names, const char *folder, const char *encrypted, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    if (!decrypt_segment(names, folder, strlen(folder), encrypted, strlen(encrypted), out, error))
        return NULL;
    return g_string_free(g_steal_pointer(&out), FALSE);
}

static gboolean check_limits(const char *path, gsize segment, gsize segment_max, gsize whole, gsize path_max,
                             GError **error)
{
    gboolean long_segment = segment_max > 0 && segment > segment_max;
    if (!long_segment && (path_max == 0 || whole <= path_max))
        return TRUE;
    g_autofree char *shown = human_name(path, -1);
    return error_set(error, BACKAPP_ERROR_INVALID,
                     long_segment ? "%s: encrypted, a name in it has %zu bytes, more than %zu: shorten it"
                                  : "%s: encrypted, this path has %zu bytes or more, more than %zu: shorten it",
                     shown, long_segment ? segment : whole, long_segment ? segment_max : path_max);
}

char *crypt_name_encrypt(CryptName *names, const char *path, gsize segment_max, gsize path_max, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *at = path; *path != '\0' && at;) {
        gsize length = (gsize)(strchrnul(at, '/') - at);
        gsize folder = out->len;
        if (folder > 0)
            g_string_append_c(out, '/');
        if (!encrypt_segment(names, out->str, folder, at, length, out, error) ||
            !check_limits(path, crypt_name_length(length), segment_max, out->len, path_max, error))
            return NULL;
        at = at[length] == '/' ? at + length + 1 : NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

char *crypt_name_decrypt(CryptName *names, const char *encrypted, GError **error)
{
    g_autoptr(GString) out = g_string_new(NULL);
    for (const char *at = encrypted; *encrypted != '\0' && at;) {
        gsize length = (gsize)(strchrnul(at, '/') - at);
        gsize folder = at > encrypted ? (gsize)(at - encrypted) - 1 : 0;
        if (at > encrypted)
            g_string_append_c(out, '/');
        if (!decrypt_segment(names, encrypted, folder, at, length, out, error))
            return NULL;
        at = at[length] == '/' ? at + length + 1 : NULL;
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}
