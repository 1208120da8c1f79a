/*
 * What an HTTP server says before the body, line by line; the same bytes as a date, a URL for the log and a query to
 * sign. What must hold: a header that was taken is found by its name and has no line end in it; a secret in a URL does
 * not come out again; sorting a sorted query changes nothing.
 */
#include "net/http_private.h"
#include "net/sigv4_parts.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECRET "S3CR3T"

static void check_headers(const HttpResponse *response)
{
    g_assert_true(response->status <= 999 && response->server_time >= 0);
    for (guint i = 0; i < response->headers->len; i++) {
        const char *line = response->headers->pdata[i];
        const char *colon = strstr(line, ": ");
        g_assert_nonnull(colon);
        g_autofree char *name = g_strndup(line, (gsize)(colon - line));
        g_assert_nonnull(http_response_header(response, name));
        g_assert_null(strchr(name, ':'));
        g_assert_null(strchr(line, '\n'));
    }
}

static void feed_lines(const char *text, gsize length)
{
    g_auto(HttpResponse) response;
    http_response_init(&response);
    for (gsize at = 0; at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        gsize line = end ? (gsize)(end - (text + at)) + 1 : length - at;
        g_autoptr(GError) error = NULL;
        g_assert_true(http_response_add_line(&response, text + at, line, &error) || error);
        at += line;
    }
    check_headers(&response);
}

static void hide_secrets(const char *text)
{
    g_autofree char *shown = http_redact_url(text);
    g_autofree char *line = http_redact_header(text);
    g_assert_true(strlen(shown) <= 6 * strlen(text) + 6 && strlen(line) <= strlen(text) + 7);
    if (!strchr(text, '?') || strstr(text, SECRET))
        return;
    g_autofree char *signed_url = g_strconcat(text, "&X-Amz-Signature=" SECRET, NULL);
    g_autofree char *hidden = http_redact_url(signed_url);
    g_assert_null(strstr(hidden, SECRET));
}

static void sort_query(const char *text)
{
    g_autoptr(GString) once = g_string_new(NULL);
    g_autoptr(GString) twice = g_string_new(NULL);
    sigv4_canonical_query(once, text);
    sigv4_canonical_query(twice, once->str);
    g_assert_true(g_string_equal(once, twice));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    feed_lines((const char *)data, size);
    g_autofree char *text = g_strndup((const char *)data, size);
    g_assert_true(http_parse_date(text) >= 0);
    g_autofree char *host = http_host_port(text);
    g_assert_true(strlen(host) <= strlen(text) + strlen(":443"));
    hide_secrets(text);
    sort_query(text);
    g_autoptr(GString) encoded = g_string_new(NULL);
    http_encode(encoded, (const char *)data, (gssize)size, FALSE);
    g_autofree char *decoded = g_uri_unescape_string(encoded->str, NULL);
    g_assert_true(strlen(text) < size || (decoded && strcmp(decoded, text) == 0));
    return 0;
}
