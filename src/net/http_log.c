#include "net/http_private.h"

#include "base/log.h"

#include <string.h>

#define HIDDEN "[...]"

static gboolean name_contains(const char *name, gsize length, const char *part)
{
    gsize part_length = strlen(part);
    for (gsize i = 0; i + part_length <= length; i++)
        if (g_ascii_strncasecmp(name + i, part, part_length) == 0)
            return TRUE;
    return FALSE;
}

/* Rather hides too much: a new secret header will hardly have a name without one of these in it. */
static gboolean is_secret(const char *name, gsize length)
{
    static const char *const parts[] = {"authorization", "token",  "signature", "credential",
                                        "key",           "cookie", "secret",    "password"};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        if (name_contains(name, length, parts[i]))
            return TRUE;
    return FALSE;
}

char *http_redact_header(const char *line)
{
    gsize name = strcspn(line, ":;");
    if (!is_secret(line, name))
        return g_strdup(line);
    return g_strdup_printf("%.*s: " HIDDEN, (int)name, line);
}

/* A query name may be percent-encoded to look like no secret. */
static gboolean is_secret_parameter(const char *name, gsize length)
{
    g_autofree char *decoded = g_uri_unescape_segment(name, name + length, NULL);
    return !decoded || is_secret(decoded, strlen(decoded));
}

char *http_redact_url(const char *url)
{
    const char *host = http_after_scheme(url);
    gsize authority = strcspn(host, "/?#");
    const char *at = g_strrstr_len(host, (gssize)authority, "@");
    gsize query = strcspn(url, "?");
    GString *out = g_string_new_len(url, host - url);
    if (at)
        g_string_append(out, HIDDEN);
    g_string_append_len(out, at ? at : host, url + query - (at ? at : host));
    for (const char *part = url + query; *part;) {
        g_string_append_c(out, *part++);
        gsize length = strcspn(part, "&");
        gsize name = strcspn(part, "=&");
        gboolean hide = name < length && is_secret_parameter(part, name);
        g_string_append_len(out, part, (gssize)(hide ? name + 1 : length));
        if (hide)
            g_string_append(out, HIDDEN);
        part += length;
    }
    return g_string_free(out, FALSE);
}

static void log_headers(char direction, const GPtrArray *headers)
{
    for (guint i = 0; headers && i < headers->len; i++) {
        g_autofree char *shown = http_redact_header(headers->pdata[i]);
        log_debug("http %c   %s", direction, shown);
    }
}

void http_log_request(const HttpRequest *request)
{
    g_autofree char *url = http_redact_url(request->url);
    log_debug("http > %s %s (%" G_GUINT64_FORMAT " bytes)", request->method, url,
              request->body ? request->body->length : 0);
    log_headers('>', request->headers);
}

void http_log_response(const HttpTransfer *transfer)
{
    const HttpResponse *response = transfer->response;
    log_debug("http < %u (%" G_GUINT64_FORMAT " bytes, %" G_GINT64_FORMAT " ms, %s connection)", response->status,
              response->body_bytes, (g_get_monotonic_time() - transfer->started) / 1000,
              response->reused ? "reused" : "new");
    log_headers('<', response->headers);
}
