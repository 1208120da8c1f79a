#include "store/s3_credentials_private.h"

#include "base/error.h"
#include "crypto/secret.h"
#include "store/s3_time.h"
#include "store/s3_xml.h"

#include <jansson.h>
#include <string.h>

S3Keys *s3_keys_new(const char *access_key, const char *secret_key, const char *session_token, gint64 expires)
{
    S3Keys *keys = g_new0(S3Keys, 1);
    g_atomic_ref_count_init(&keys->references);
    keys->access_key = g_strdup(access_key);
    keys->secret_key = g_strdup(secret_key);
    keys->session_token = session_token && *session_token ? g_strdup(session_token) : NULL;
    keys->expires = expires;
    return keys;
}

S3Keys *s3_keys_ref(S3Keys *keys)
{
    g_atomic_ref_count_inc(&keys->references);
    return keys;
}

void s3_keys_unref(S3Keys *keys)
{
    if (!keys || !g_atomic_ref_count_dec(&keys->references))
        return;
    g_free(keys->access_key);
    s3_secret_free(keys->secret_key);
    s3_secret_free(keys->session_token);
    g_free(keys);
}

/* What an answer said, in memory that is not ours to keep. */
typedef struct {
    const char *access_key, *secret_key, *session_token, *expiration;
} Said;

/* They go into headers as they are. */
static gboolean is_plain(const char *text)
{
    for (; *text; text++)
        if (!g_ascii_isgraph(*text))
            return FALSE;
    return TRUE;
}

static S3Keys *keys_of(const Said *said, GError **error)
{
    gint64 expires = 0;
    if (!said->access_key || !said->secret_key || *said->access_key == '\0' || *said->secret_key == '\0') {
        error_set(error, BACKAPP_ERROR_CORRUPT, "the answer has no keys in it");
        return NULL;
    }
    if (!is_plain(said->access_key) || !is_plain(said->secret_key) ||
        (said->session_token && !is_plain(said->session_token))) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "the answer has keys with characters that keys have not");
        return NULL;
    }
    if (said->expiration && !s3_time_parse_iso(said->expiration, &expires)) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "the answer's Expiration is not a time");
        return NULL;
    }
    return s3_keys_new(said->access_key, said->secret_key, said->session_token, expires);
}

/* jansson does not wipe what it frees. */
static void wipe_strings(json_t *object)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (json_is_string(value))
            secret_wipe((char *)json_string_value(value), json_string_length(value));
    }
}

S3Keys *s3_keys_from_json(const char *text, gsize length, GError **error)
{
    json_t *root = json_loadb(text, length, 0, NULL);
    S3Keys *keys = NULL;
    const char *code = json_string_value(json_object_get(root, "Code"));
    if (!json_is_object(root)) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "the answer is not a JSON object");
    } else if (code && strcmp(code, "Success") != 0) {
        error_set(error, BACKAPP_ERROR_DENIED, "it says %.100s", code);
    } else {
        Said said = {.access_key = json_string_value(json_object_get(root, "AccessKeyId")),
                     .secret_key = json_string_value(json_object_get(root, "SecretAccessKey")),
                     .session_token = json_string_value(json_object_get(root, "Token")),
                     .expiration = json_string_value(json_object_get(root, "Expiration"))};
        keys = keys_of(&said, error);
        wipe_strings(root);
    }
    json_decref(root);
    return keys;
}

/* The texts of STS's Credentials element. */
typedef struct {
    char *access_key, *secret_key, *session_token, *expiration;
} Texts;

static gboolean take_element(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                             GError **error)
{
    Texts *texts = user_data;
    char **place = strcmp(name, "AccessKeyId") == 0       ? &texts->access_key
                   : strcmp(name, "SecretAccessKey") == 0 ? &texts->secret_key
                   : strcmp(name, "SessionToken") == 0    ? &texts->session_token
                   : strcmp(name, "Expiration") == 0      ? &texts->expiration
                                                          : NULL;
    if (place && !*place)
        *place = g_strndup(text, length);
    return TRUE;
}

S3Keys *s3_keys_from_xml(const char *text, gsize length, GError **error)
{
    static const S3XmlHandler handler = {.close = take_element};
    Texts texts = {0};
    S3Keys *keys = NULL;
    if (s3_xml_parse(text, length, &handler, &texts, error)) {
        Said said = {texts.access_key, texts.secret_key, texts.session_token, texts.expiration};
        keys = keys_of(&said, error);
    }
    g_free(texts.access_key);
    s3_secret_free(texts.secret_key);
    s3_secret_free(texts.session_token);
    g_free(texts.expiration);
    return keys;
}
