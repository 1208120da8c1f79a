#include "store/s3_url.h"

#include <string.h>

#include "base/error.h"
#include "base/human.h"
#include "net/http.h"

#define BUCKET_MAX 255 /* names from before 2018 */

/* An endpoint taken apart. All but tls points into the text that was given. */
typedef struct {
    gboolean tls;
    const char *host;
    gsize host_length; /* without the port */
    const char *authority;
    gsize authority_length;
    const char *path;
    gsize path_length;
} Endpoint;

static gboolean split_endpoint(const char *text, Endpoint *endpoint, GError **error)
{
    *endpoint = (Endpoint){.tls = TRUE};
    const char *at = text;
    if (g_ascii_strncasecmp(at, "https://", 8) == 0) {
        at += 8;
    } else if (g_ascii_strncasecmp(at, "http://", 7) == 0) {
        at += 7;
        endpoint->tls = FALSE;
    }
    endpoint->authority = at;
    endpoint->authority_length = strcspn(at, "/");
    endpoint->path = at + endpoint->authority_length;
    endpoint->path_length = strlen(endpoint->path);
    while (endpoint->path_length > 0 && endpoint->path[endpoint->path_length - 1] == '/')
        endpoint->path_length--;
    endpoint->host = at;
    gsize bracket = *at == '[' ? strcspn(at, "]") : 0; /* an IPv6 address has colons of its own */
    endpoint->host_length = MIN(bracket + strcspn(at + bracket, ":/"), endpoint->authority_length);
    gboolean good = endpoint->host_length > 0 && endpoint->authority_length < 512 && endpoint->path_length < 512;
    for (const char *byte = at; *byte != '\0'; byte++)
        good = good && *byte > ' ' && *byte < 0x7f && strchr("@?#\\\"<>", *byte) == NULL;
    const char *port = endpoint->host + endpoint->host_length;
    if (good && *port == ':') {
        gsize digits = strspn(port + 1, "0123456789");
        good = digits > 0 && digits <= 5 && port + 1 + digits == endpoint->path;
    }
    if (good)
        return TRUE;
    /* What stands before an @ may be keys. */
    const char *keys_end = strrchr(text, '@');
    g_autofree char *shown = human_name(keys_end ? keys_end : text, -1);
    return error_set(error, BACKAPP_ERROR_INVALID, "%s%s is not an endpoint: give https://HOST or http://HOST:PORT",
                     keys_end ? "..." : "", shown);
}

char *s3_endpoint_host(const char *endpoint, GError **error)
{
    Endpoint parts;
    if (!split_endpoint(endpoint, &parts, error))
        return NULL;
    return g_ascii_strdown(parts.host, (gssize)parts.host_length);
}

gboolean s3_host_is_plain(const char *host)
{
    return *host == '[' || g_ascii_strcasecmp(host, "localhost") == 0 || host[strspn(host, "0123456789.")] == '\0';
}

static gboolean check_bucket(const char *bucket, gboolean *dns, gboolean *dots, GError **error)
{
    gsize length = strlen(bucket);
    gboolean good = length >= 3 && length <= BUCKET_MAX;
    *dns = length <= 63;
    *dots = FALSE;
    for (const char *at = bucket; *at != '\0'; at++) {
        if (*at == '.')
            *dots = TRUE;
        else if (!g_ascii_islower(*at) && !g_ascii_isdigit(*at) && *at != '-')
            *dns = FALSE;
        good = good && (g_ascii_isalnum(*at) || strchr("-._", *at) != NULL);
    }
    if (good && (!g_ascii_isalnum(bucket[0]) || !g_ascii_isalnum(bucket[length - 1])))
        *dns = FALSE;
    if (good && strcmp(bucket, "...") != 0 && bucket[0] != '.')
        return TRUE;
    g_autofree char *shown = human_name(bucket, -1);
    return error_set(error, BACKAPP_ERROR_INVALID,
                     "%s is not a bucket's name: 3 to 63 lower-case letters, digits, hyphens and dots", shown);
}

/* The port is left out of the host if it is the scheme's: clients send none, so the signature must not have it. */
static gsize host_with_port(const Endpoint *parts)
{
    const char *port = parts->tls ? ":443" : ":80";
    const char *has = parts->host + parts->host_length;
    gsize length = parts->authority_length - parts->host_length;
    return length == strlen(port) && strncmp(has, port, length) == 0 ? parts->host_length : parts->authority_length;
}

S3Place *s3_place_new(const char *endpoint, const char *bucket, const char *region, int path_style, GError **error)
{
    Endpoint parts;
    gboolean dns = FALSE;
    gboolean dots = FALSE;
    if (!split_endpoint(endpoint, &parts, error) || !check_bucket(bucket, &dns, &dots, error))
        return NULL;
    g_autofree char *base = g_ascii_strdown(parts.authority, (gssize)host_with_port(&parts));
    g_autofree char *base_path = g_strndup(parts.path, parts.path_length);
    S3Place *place = g_atomic_rc_box_new0(S3Place);
    place->tls = parts.tls;
    place->virtual_host = path_style == 0 && dns && !(dots && parts.tls);
    place->host = place->virtual_host ? g_strdup_printf("%s.%s", bucket, base) : g_steal_pointer(&base);
    place->path = place->virtual_host ? g_steal_pointer(&base_path) : g_strdup_printf("%s/%s", base_path, bucket);
    place->origin = g_strdup_printf("%s://%s", parts.tls ? "https" : "http", place->host);
    place->region = g_strdup(region);
    return place;
}

S3Place *s3_place_ref(S3Place *place)
{
    return g_atomic_rc_box_acquire(place);
}

static void clear_place(gpointer data)
{
    S3Place *place = data;
    g_free(place->origin);
    g_free(place->host);
    g_free(place->path);
    g_free(place->region);
}

void s3_place_unref(S3Place *place)
{
    if (place)
        g_atomic_rc_box_release_full(place, clear_place);
}

GString *s3_place_path(const S3Place *place, const char *prefix, const char *key)
{
    GString *path = g_string_sized_new(256);
    g_string_append(path, place->path);
    if (!key) {
        if (path->len == 0 || place->virtual_host)
            g_string_append_c(path, '/');
        return path;
    }
    g_string_append_c(path, '/');
    http_encode(path, prefix, -1, TRUE);
    http_encode(path, key, -1, TRUE);
    return path;
}

gsize s3_url_decode(char *text)
{
    char *out = text;
    for (const char *at = text; *at != '\0'; at++) {
        int high = *at == '%' ? g_ascii_xdigit_value(at[1]) : -1;
        int low = high >= 0 ? g_ascii_xdigit_value(at[2]) : -1;
        if (low >= 0 && (high | low) != 0) {
            *out++ = (char)(high << 4 | low);
            at += 2;
        } else {
            *out++ = *at == '+' ? ' ' : *at;
        }
    }
    *out = '\0';
    return (gsize)(out - text);
}
