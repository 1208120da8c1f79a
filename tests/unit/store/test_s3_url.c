#include "../base/cmocka_all.h"

#include "base/error.h"
#include "store/s3_url.h"

#include <string.h>

typedef struct {
    const char *endpoint, *bucket;
    int path_style;
    const char *origin, *host, *path;
} Case;

static void test_places(void **state)
{
    static const Case cases[] = {
        {"https://s3.eu-west-3.amazonaws.com", "photos", 0, "https://photos.s3.eu-west-3.amazonaws.com",
         "photos.s3.eu-west-3.amazonaws.com", ""},
        {"https://s3.eu-west-3.amazonaws.com/", "photos", 1, "https://s3.eu-west-3.amazonaws.com",
         "s3.eu-west-3.amazonaws.com", "/photos"},
        {"http://127.0.0.1:9000", "photos", 1, "http://127.0.0.1:9000", "127.0.0.1:9000", "/photos"},
        {"S3.Example.COM", "photos", 0, "https://photos.s3.example.com", "photos.s3.example.com", ""},
        /* clients leave the scheme's own port out of the Host header */
        {"https://s3.example.com:443", "photos", 1, "https://s3.example.com", "s3.example.com", "/photos"},
        {"http://s3.example.com:80/", "photos", 1, "http://s3.example.com", "s3.example.com", "/photos"},
        {"https://s3.example.com:80", "photos", 1, "https://s3.example.com:80", "s3.example.com:80", "/photos"},
        {"https://gate.example.com/s3/v1//", "photos", 1, "https://gate.example.com", "gate.example.com",
         "/s3/v1/photos"},
        {"http://[::1]:9000", "photos", 1, "http://[::1]:9000", "[::1]:9000", "/photos"},
        /* no certificate has a name with more dots; and host names are lower-case letters, digits and hyphens */
        {"https://s3.example.com", "my.photos", 0, "https://s3.example.com", "s3.example.com", "/my.photos"},
        {"http://s3.example.com", "my.photos", 0, "http://my.photos.s3.example.com", "my.photos.s3.example.com", ""},
        {"https://s3.example.com", "My_Photos", 0, "https://s3.example.com", "s3.example.com", "/My_Photos"},
        {"https://s3.example.com", "photos-", 0, "https://s3.example.com", "s3.example.com", "/photos-"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(S3Place) place =
            s3_place_new(cases[i].endpoint, cases[i].bucket, "eu-west-3", cases[i].path_style, &error);
        assert_non_null(place);
        assert_string_equal(place->origin, cases[i].origin);
        assert_string_equal(place->host, cases[i].host);
        assert_string_equal(place->path, cases[i].path);
        assert_string_equal(place->region, "eu-west-3");
    }
}

static void test_what_is_no_place(void **state)
{
    static const char *const cases[][2] = {
        {"", "photos"},
        {"https://", "photos"},
        {"ftp://s3.example.com", "photos"},
        {"https://user@s3.example.com", "photos"},
        {"https://s3.example.com:x", "photos"},
        {"https://s3.example.com:123456", "photos"},
        {"https://s3.example.com:9000x/", "photos"},
        {"https://s3.example.com?a=b", "photos"},
        {"https://s3.exa mple.com", "photos"},
        {"https://s3.example.com\r\nX: y", "photos"},
        {"https://s3.example.com", "ab"},
        {"https://s3.example.com", "a/b/c"},
        {"https://s3.example.com", "photos?x"},
        {"https://s3.example.com", "..."},
        {"https://s3.example.com", "caf\xc3\xa9"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(s3_place_new(cases[i][0], cases[i][1], "x", 1, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
}

static void test_paths_of_keys(void **state)
{
    g_autoptr(S3Place) path_style = s3_place_new("http://h:1", "photos", "r", 1, NULL);
    g_autoptr(S3Place) virtual_host = s3_place_new("http://h:1", "photos", "r", 0, NULL);
    GString *paths[] = {
        s3_place_path(path_style, "a b/", "c+d%/\xc3\xa9/../~x"),
        s3_place_path(virtual_host, "", "/k//"),
        s3_place_path(path_style, "p/", NULL),
        s3_place_path(virtual_host, "p/", NULL),
    };
    static const char *const wanted[] = {"/photos/a%20b/c%2Bd%25/%C3%A9/../~x", "//k//", "/photos", "/"};
    for (gsize i = 0; i < G_N_ELEMENTS(paths); i++) {
        assert_string_equal(paths[i]->str, wanted[i]);
        g_string_free(paths[i], TRUE);
    }
}

static void test_decoding(void **state)
{
    static const char *const cases[][2] = {
        {"a%20b+c%2Bd%2f%C3%A9", "a b c+d/\xc3\xa9"},
        {"%", "%"},
        {"%2", "%2"},
        {"%zz%41", "%zzA"},
        {"%00x", "%00x"},
        {"", ""},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = g_strdup(cases[i][0]);
        gsize length = s3_url_decode(text);
        assert_string_equal(text, cases[i][1]);
        assert_int_equal(length, strlen(cases[i][1]));
    }
}

static void test_hosts(void **state)
{
    g_autofree char *host = s3_endpoint_host("https://S3.fr-par.scw.cloud:443/x", NULL);
    assert_string_equal(host, "s3.fr-par.scw.cloud");
    assert_true(s3_host_is_plain("127.0.0.1"));
    assert_true(s3_host_is_plain("[::1]"));
    assert_true(s3_host_is_plain("localhost"));
    assert_false(s3_host_is_plain("s3.localhost"));
    assert_false(s3_host_is_plain("1.2.3.example"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),        cmocka_unit_test(test_what_is_no_place),
        cmocka_unit_test(test_paths_of_keys), cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_hosts),
    };
    return cmocka_run_group_tests_name("unit/store/s3_url", tests, NULL, NULL);
}
