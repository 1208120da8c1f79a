/* What the HTTP client reads and writes without a network: header lines, dates, what a log may show, percent signs. */
#include "../base/cmocka_all.h"

#include "base/error.h"
#include "net/http_private.h"

#include <string.h>

static gboolean add(HttpResponse *response, const char *line, GError **error)
{
    return http_response_add_line(response, line, strlen(line), error);
}

static void test_headers_are_found_by_their_name(void **state)
{
    g_auto(HttpResponse) response;
    http_response_init(&response);
    assert_true(add(&response, "HTTP/1.1 206 Partial Content\r\n", NULL));
    assert_true(add(&response, "X-AMZ-Version-Id:  v1 \t\r\n", NULL));
    assert_true(add(&response, "x-amz-version: other\r\n", NULL));
    assert_true(add(&response, "Empty:\r\n", NULL));
    assert_true(add(&response, "no header\r\n", NULL));
    assert_true(add(&response, ": no name\r\n", NULL));
    assert_true(add(&response, "\r\n", NULL));
    assert_int_equal(response.status, 206);
    assert_int_equal(response.headers->len, 3);
    assert_string_equal(http_response_header(&response, "x-amz-version-id"), "v1");
    assert_string_equal(http_response_header(&response, "x-amz-version"), "other");
    assert_string_equal(http_response_header(&response, "empty"), "");
    assert_null(http_response_header(&response, "x-amz"));
    assert_int_equal(response.body->len, 0);
    assert_int_equal(response.body->data[0], 0);
}

static void test_a_status_line_begins_anew(void **state)
{
    g_auto(HttpResponse) response;
    http_response_init(&response);
    assert_true(add(&response, "HTTP/1.1 100 Continue\r\n", NULL));
    assert_true(add(&response, "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", NULL));
    assert_true(add(&response, "HTTP/1.0 200\r\n", NULL));
    assert_int_equal(response.status, 200);
    assert_int_equal(response.headers->len, 0);
    assert_int_equal(response.server_time, 0);
    static const char *const bad[] = {"HTTP/1.1\r\n", "HTTP/1.1 20\r\n", "HTTP/1.1 abc\r\n", "HTTP/1.1200 OK\r\n"};
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(add(&response, bad[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_TRANSIENT));
    }
}

static void test_dates(void **state)
{
    static const struct {
        const char *text;
        gint64 seconds;
    } cases[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Tue, 29 Feb 2000 12:00:00 GMT", 951825600},
        {"Thu, 31 Dec 2099 23:59:59 GMT", 4102444799},
        {"Mon, 01 Mar 2100 00:00:00 GMT", 4107542400},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Sun, 06 Nov 1994 25:49:37 GMT", 0},
        {"Sun, 06 Xxx 1994 08:49:37 GMT", 0},
        {"", 0},
        {"never", 0},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_int_equal(http_parse_date(cases[i].text), cases[i].seconds);
    /* The quick way and libcurl's agree. */
    for (gint64 day = 1; day < 60000; day += 17) {
        g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(day * 86400 + day);
        g_autofree char *text = g_date_time_format(time, "%a, %d %b %Y %H:%M:%S GMT");
        assert_int_equal(http_parse_date(text), day * 86400 + day);
    }
}

static void test_secret_headers_are_not_shown(void **state)
{
    static const char *const cases[][2] = {
        {"Authorization: AWS4-HMAC-SHA256 x", "Authorization: [...]"},
        {"x-amz-security-token: t", "x-amz-security-token: [...]"},
        {"X-aws-ec2-metadata-token: t", "X-aws-ec2-metadata-token: [...]"},
        {"set-cookie: a=b", "set-cookie: [...]"},
        {"x-amz-server-side-encryption-customer-key: k", "x-amz-server-side-encryption-customer-key: [...]"},
        {"Proxy-Authorization:x", "Proxy-Authorization: [...]"},
        {"ETag: \"token\"", "ETag: \"token\""},
        {"x-amz-date: 1", "x-amz-date: 1"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *shown = http_redact_header(cases[i][0]);
        assert_string_equal(shown, cases[i][1]);
    }
}

static void test_secrets_in_urls_are_not_shown(void **state)
{
    static const char *const cases[][2] = {
        {"https://h/b/k", "https://h/b/k"},
        {"https://h/token=x/k?list-type=2", "https://h/token=x/k?list-type=2"},
        {"https://user:pass@h:9000/b", "https://[...]@h:9000/b"},
        {"https://h/b@c", "https://h/b@c"},
        {"https://h/k?X-Amz-Signature=ab&X-Amz-Expires=5", "https://h/k?X-Amz-Signature=[...]&X-Amz-Expires=5"},
        {"https://h/k?a=1&X-Amz-Credential=AKID%2Fx&X-Amz-Security-Token=t",
         "https://h/k?a=1&X-Amz-Credential=[...]&X-Amz-Security-Token=[...]"},
        {"https://h/k?X-Amz-Sign%61ture=ab", "https://h/k?X-Amz-Sign%61ture=[...]"},
        {"https://h/?WebIdentityToken=a=b", "https://h/?WebIdentityToken=[...]"},
        {"h?&&x", "h?&&x"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *shown = http_redact_url(cases[i][0]);
        assert_string_equal(shown, cases[i][1]);
    }
}

static void test_host_and_port_of_a_url(void **state)
{
    static const char *const cases[][2] = {
        {"https://s3.test/b/k:1", "s3.test:443"},
        {"http://s3.test", "s3.test:80"},
        {"http://h:9000/x@y", "h:9000"},
        {"https://u:p@h/", "h:443"},
        {"http://[::1]/", "[::1]:80"},
        {"http://[::1]:7480/", "[::1]:7480"},
        {"HTTPS://H?q", "H:443"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *shown = http_host_port(cases[i][0]);
        assert_string_equal(shown, cases[i][1]);
    }
}

static void test_percent_encoding(void **state)
{
    char all[256];
    for (guint i = 0; i < sizeof all; i++)
        all[i] = (char)i;
    g_autoptr(GString) out = g_string_new("x");
    http_encode(out, "a/b c~", -1, TRUE);
    http_encode(out, "/+%", 2, FALSE);
    assert_string_equal(out->str, "xa/b%20c~%2F%2B");
    g_string_truncate(out, 0);
    http_encode(out, all, sizeof all, FALSE);
    /* 66 characters stay. */
    assert_int_equal(out->len, 66 + 3 * (256 - 66));
    g_autoptr(GBytes) back = g_uri_unescape_bytes(out->str, -1, NULL, NULL);
    assert_int_equal(g_bytes_get_size(back), sizeof all);
    assert_memory_equal(g_bytes_get_data(back, NULL), all, sizeof all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers_are_found_by_their_name),
        cmocka_unit_test(test_a_status_line_begins_anew),
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_secret_headers_are_not_shown),
        cmocka_unit_test(test_secrets_in_urls_are_not_shown),
        cmocka_unit_test(test_host_and_port_of_a_url),
        cmocka_unit_test(test_percent_encoding),
    };
    return cmocka_run_group_tests_name("unit/net/http_text", tests, NULL, NULL);
}
