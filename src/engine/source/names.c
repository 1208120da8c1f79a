#include "engine/source/names.h"

#include <string.h>

#include "base/error.h"
#include "crypto/crypt_name.h"
#include "crypto/digest.h"
#include "crypto/secret.h"
#include "fs/dir.h"

#define OWN_DIR     ".backapp/"
#define TRASH_DIR   ".trash/"
#define LONG_DIR    ".backapp/long/"
#define S3_KEY_MAX  1024
#define QUOTE       "\xe2\x80\x9b" /* U+201B, stands before what is to be taken as it is, and before hex digits */
#define QUOTE_BYTES 3
#define WIDE_SLASH  "\xef\xbc\x8f" /* U+FF0F */
#define NULL_SYMBOL "\xe2\x90\x80" /* U+2400 */
#define WIDE_DOT    "\xef\xbc\x8e" /* U+FF0E */

struct S3Names {
    gboolean encrypted, as_they_are;
    guint8 key[SIV_KEY_BYTES];
    GMutex lock;
    GPtrArray *idle; /* of CryptName: one serves one thread at a time */
};

S3Names *names_new(const guint8 *name_key)
{
    S3Names *names = g_new0(S3Names, 1);
    g_mutex_init(&names->lock);
    names->idle = g_ptr_array_new_with_free_func((GDestroyNotify)crypt_name_free);
    names->encrypted = name_key != NULL;
    if (name_key != NULL)
        memcpy(names->key, name_key, SIV_KEY_BYTES);
    return names;
}

S3Names *names_new_paths(void)
{
    S3Names *names = names_new(NULL);
    names->as_they_are = TRUE;
    return names;
}

void names_free(S3Names *names)
{
    if (names == NULL)
        return;
    g_ptr_array_unref(names->idle);
    g_mutex_clear(&names->lock);
    secret_wipe(names->key, sizeof names->key);
    g_free(names);
}

/* Reading the structure stays possible from any thread: what changes is only which contexts are idle. */
static CryptName *take_context(const S3Names *names)
{
    S3Names *own = (S3Names *)names;
    g_mutex_lock(&own->lock);
    CryptName *context = own->idle->len > 0 ? g_ptr_array_steal_index_fast(own->idle, own->idle->len - 1) : NULL;
    g_mutex_unlock(&own->lock);
    return context != NULL ? context : crypt_name_new(names->key);
}

static void give_context(const S3Names *names, CryptName *context)
{
    S3Names *own = (S3Names *)names;
    g_mutex_lock(&own->lock);
    g_ptr_array_add(own->idle, context);
    g_mutex_unlock(&own->lock);
}

static gboolean begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* A file name that rclone's local side reads as a quoted dot or two: it becomes the same key, not a quoted quote. */
static gboolean is_quoted_dots(const char *name)
{
    return strcmp(name, QUOTE WIDE_DOT) == 0 || strcmp(name, QUOTE WIDE_DOT QUOTE WIDE_DOT) == 0;
}

static gboolean is_plain_ascii(const char *name)
{
    while (*name != '\0' && (guchar)*name < 0x80)
        name++;
    return *name == '\0';
}

/* What a quote makes of the character behind it in a local name, as rclone reads it: another one. */
static gboolean is_quotable(const char *text)
{
    return begins(text, QUOTE) || begins(text, WIDE_SLASH) || begins(text, NULL_SYMBOL);
}

/*
 * What rclone makes of a local name on its way to S3. Its local side takes wide slashes and dots and null symbols as
 * standing for the characters that a file name cannot have, its S3 side writes them so again: they stay as they are,
 * also quoted, and so does a quoted quote. A byte that is no UTF-8 becomes a quote and two hex digits. A quote that
 * quotes nothing is a name that rclone cannot read at all: here its bytes are written like those, so that it has a key
 * of its own.
 */
static void append_plain(const char *name, GString *out)
{
    if (is_plain_ascii(name) || is_quoted_dots(name)) {
        g_string_append(out, name);
        return;
    }
    while (*name != '\0') {
        gunichar c = (guchar)*name < 0x80 ? (guchar)*name : g_utf8_get_char_validated(name, -1);
        gboolean valid = c != (gunichar)-1 && c != (gunichar)-2;
        gboolean is_quote = begins(name, QUOTE);
        gssize length = valid ? g_utf8_next_char(name) - name : 1;
        if (is_quote && is_quotable(name + length))
            length += g_utf8_next_char(name + length) - (name + length);
        else if (is_quote || !valid) {
            for (gssize i = 0; i < length; i++)
                g_string_append_printf(out, QUOTE "%02X", (guchar)name[i]);
            name += length;
            continue;
        }
        g_string_append_len(out, name, length);
        name += length;
    }
}

static gboolean is_hex(char c)
{
    return g_ascii_isdigit(c) || (c >= 'A' && c <= 'F');
}

/* The reverse, for one segment; what append_plain never writes is noticed by writing it again. */
static void append_decoded(const char *segment, GString *out)
{
    if (is_quoted_dots(segment)) {
        g_string_append(out, segment);
        return;
    }
    while (*segment != '\0') {
        const char *behind = begins(segment, QUOTE) ? segment + QUOTE_BYTES : NULL;
        if (behind != NULL && is_hex(behind[0]) && is_hex(behind[1])) {
            int byte = g_ascii_xdigit_value(behind[0]) * 16 + g_ascii_xdigit_value(behind[1]);
            if (byte != 0)
                g_string_append_c(out, (char)byte);
            segment = behind + 2;
        } else if (behind != NULL && begins(behind, QUOTE)) {
            g_string_append(out, QUOTE QUOTE);
            segment = behind + QUOTE_BYTES;
        } else {
            g_string_append_c(out, *segment++);
        }
    }
}

void names_child_key(const S3Names *names, const char *parent_key, const char *name, GString *out)
{
    if (parent_key[0] != '\0') {
        g_string_append(out, parent_key);
        g_string_append_c(out, '/');
    }
    if (names->as_they_are) {
        g_string_append(out, name);
        return;
    }
    if (!names->encrypted) {
        append_plain(name, out);
        return;
    }
    CryptName *context = take_context(names);
    g_autofree char *segment = crypt_name_encrypt_segment(context, parent_key, name, NULL);
    give_context(names, context);
    g_assert(segment != NULL); /* no file system has names of 4,096 bytes */
    g_string_append(out, segment);
}

static char *decode_plain(const S3Names *names, const char *key)
{
    g_auto(GStrv) segments = g_strsplit(key, "/", -1);
    g_autoptr(GString) path = g_string_new(NULL);
    g_autoptr(GString) again = g_string_new(NULL);
    for (guint i = 0; segments[i] != NULL; i++) {
        if (i > 0)
            g_string_append_c(path, '/');
        gsize start = path->len;
        append_decoded(segments[i], path);
        if (i > 0)
            g_string_append_c(again, '/');
        append_plain(path->str + start, again);
    }
    return strcmp(again->str, key) == 0 ? g_strdup(path->str) : NULL;
}

char *names_path(const S3Names *names, const char *key, GError **error)
{
    g_autofree char *path = NULL;
    if (names->encrypted) {
        CryptName *context = take_context(names);
        path = crypt_name_decrypt(context, key, NULL);
        give_context(names, context);
    } else {
        path = names->as_they_are ? g_strdup(key) : decode_plain(names, key);
    }
    if (path == NULL || !dir_is_inner_path(path)) {
        error_set(error, BACKAPP_ERROR_INVALID, "no file has this object's key");
        return NULL;
    }
    return g_steal_pointer(&path);
}

gboolean names_is_long(gsize prefix_length, const char *key)
{
    return prefix_length + strlen(key) > S3_KEY_MAX;
}

char *names_long_key(const char *key)
{
    g_autofree char *hash = digest_sha256_hex(key, strlen(key));
    return g_strconcat(LONG_DIR, hash, NULL);
}

gboolean names_is_own_key(const char *key)
{
    return begins(key, OWN_DIR) || begins(key, TRASH_DIR);
}

gboolean names_is_own_root(const char *name)
{
    return begins(name, ".backapp") || strcmp(name, ".trash") == 0;
}
