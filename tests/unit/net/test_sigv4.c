/* Signatures against what AWS has published: the examples of the S3 API reference and the Signature Version 4 suite. */
#include "../base/cmocka_all.h"

#include "crypto/digest.h"
#include "net/sigv4_parts.h"

#include <string.h>

#define EMPTY_HASH "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

static const SigCredentials s3_keys = {.access_key = "AKIAIOSFODNN7EXAMPLE",
                                       .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};
#define SUITE_SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
#define S3_TIME      1369353600 /* 2013-05-24T00:00:00Z */
#define SUITE_TIME   1440938160 /* 2015-08-30T12:36:00Z */

static SigRequest s3_request(const char *method, const char *path, const char *query)
{
    return (SigRequest){.method = method,
                        .host = "examplebucket.s3.amazonaws.com",
                        .path = path,
                        .query = query,
                        .region = "us-east-1",
                        .service = "s3",
                        .time = S3_TIME};
}

static GPtrArray *header_list(const char *const *lines)
{
    GPtrArray *headers = g_ptr_array_new_with_free_func(g_free);
    for (; lines && *lines; lines++)
        g_ptr_array_add(headers, g_strdup(*lines));
    return headers;
}

static void check_s3(const SigRequest *request, const char *hash, const char *const *lines, const char *signed_names,
                     const char *signature)
{
    g_autoptr(GPtrArray) headers = header_list(lines);
    sigv4_sign(request, &s3_keys, hash, headers);
    g_autofree char *wanted = g_strdup_printf(
        "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=%s,Signature=%s",
        signed_names, signature);
    assert_string_equal(headers->pdata[headers->len - 1], wanted);
}

static void test_s3_get_object(void **state)
{
    SigRequest request = s3_request("GET", "/test.txt", NULL);
    const char *const lines[] = {"Range: bytes=0-9", NULL};
    check_s3(&request, EMPTY_HASH, lines, "host;range;x-amz-content-sha256;x-amz-date",
             "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_s3_put_object(void **state)
{
    SigRequest request = s3_request("PUT", "/test%24file.text", "");
    /* What is not signed may stand among the headers. */
    const char *const lines[] = {"Date: Fri, 24 May 2013 00:00:00 GMT",
                                 "x-amz-storage-class: REDUCED_REDUNDANCY",
                                 "Content-Length: 21",
                                 "User-Agent: any",
                                 "Expect: 100-continue",
                                 "Accept-Encoding: identity",
                                 NULL};
    g_autofree char *hash = digest_sha256_hex("Welcome to Amazon S3.", 21);
    check_s3(&request, hash, lines, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
             "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_s3_get_lifecycle(void **state)
{
    SigRequest request = s3_request("GET", "/", "lifecycle");
    check_s3(&request, EMPTY_HASH, NULL, "host;x-amz-content-sha256;x-amz-date",
             "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void test_s3_list_objects(void **state)
{
    SigRequest request = s3_request("GET", "/", "prefix=J&max-keys=2");
    check_s3(&request, EMPTY_HASH, NULL, "host;x-amz-content-sha256;x-amz-date",
             "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_s3_presigned(void **state)
{
    SigRequest request = s3_request("GET", "/test.txt", NULL);
    g_autofree char *query = sigv4_presign(&request, &s3_keys, 86400, NULL);
    assert_string_equal(query, "X-Amz-Algorithm=AWS4-HMAC-SHA256"
                               "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"
                               "&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
                               "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

/* One case of the suite. A host line of its own stands in the headers where the case has one. */
typedef struct {
    const char *name, *method, *path, *query, *body, *signature;
    const char *headers[6];
} Case;

#define DATE "X-Amz-Date:20150830T123600Z"
static const Case suite[] = {
    {"get-vanilla", "GET", "/", NULL, "", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", {DATE}},
    {"get-vanilla-query-order-key-case",
     "GET",
     "/",
     "Param2=value2&Param1=value1",
     "",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
     {DATE}},
    {"get-vanilla-empty-query-key",
     "GET",
     "/",
     "Param1=value1",
     "",
     "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
     {DATE}},
    {"get-vanilla-query-unreserved",
     "GET",
     "/",
     "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz="
     "-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
     "",
     "9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
     {DATE}},
    {"get-unreserved",
     "GET",
     "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
     NULL,
     "",
     "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
     {DATE}},
    {"get-utf8",
     "GET",
     "/%E1%88%B4",
     NULL,
     "",
     "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
     {DATE}},
    {"get-space",
     "GET",
     "/example%20space/",
     NULL,
     "",
     "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
     {DATE}},
    {"get-header-key-duplicate",
     "GET",
     "/",
     NULL,
     "",
     "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
     {"My-Header1:value2", "My-Header1:value2", "My-Header1:value1", DATE}},
    {"get-header-value-trim",
     "GET",
     "/",
     NULL,
     "",
     "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
     {"My-Header1: value1", "My-Header2: \"a   b   c\"", DATE}},
    {"post-vanilla", "POST", "/", NULL, "", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b", {DATE}},
    {"post-sts-header-before",
     "POST",
     "/",
     NULL,
     "",
     "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
     {DATE,
      "X-Amz-Security-Token:AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRX"
      "mxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5V"
      "SXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX"
      "9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="}},
    {"post-x-www-form-urlencoded",
     "POST",
     "/",
     NULL,
     "Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
     {"Content-Type:application/x-www-form-urlencoded", DATE}},
};

static void test_suite(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(suite); i++) {
        const Case *one = &suite[i];
        const SigRequest request = {.method = one->method,
                                    .host = "example.amazonaws.com",
                                    .path = one->path,
                                    .query = one->query,
                                    .region = "us-east-1",
                                    .service = "service",
                                    .time = SUITE_TIME};
        g_autoptr(GPtrArray) headers = header_list(one->headers);
        g_autoptr(GString) canonical = g_string_new(NULL);
        g_autoptr(GString) names = g_string_new(NULL);
        g_autofree char *hash = digest_sha256_hex(one->body, strlen(one->body));
        SigDate date = sigv4_date(SUITE_TIME);
        char signature[SIGV4_HEX];
        sigv4_canonical(&request, request.query, headers, hash, canonical, names);
        sigv4_signature(&request, &date, SUITE_SECRET, canonical, signature);
        if (strcmp(signature, one->signature) != 0)
            print_error("%s signs:\n%s\n", one->name, canonical->str);
        assert_string_equal(signature, one->signature);
    }
}

static void test_headers_of_a_signed_request(void **state)
{
    const SigCredentials keys = {"AKID", "secret", "the/token=="};
    SigRequest request = s3_request("PUT", "/k", NULL);
    g_autoptr(GPtrArray) headers = header_list(NULL);
    sigv4_sign(&request, &keys, "UNSIGNED-PAYLOAD", headers);
    assert_int_equal(headers->len, 4);
    assert_string_equal(headers->pdata[0], "x-amz-date: 20130524T000000Z");
    assert_string_equal(headers->pdata[1], "x-amz-security-token: the/token==");
    assert_string_equal(headers->pdata[2], "x-amz-content-sha256: UNSIGNED-PAYLOAD");
    assert_non_null(
        strstr(headers->pdata[3], "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token,"));
}

static char *canonical_query(const char *query)
{
    GString *out = g_string_new(NULL);
    sigv4_canonical_query(out, query);
    return g_string_free(out, FALSE);
}

static void test_query_is_sorted_by_name_first(void **state)
{
    static const char *const cases[][2] = {
        {"b&a", "a=&b="},  {"a-b=1&a=2", "a=2&a-b=1"}, {"a=b&a=a&a", "a=&a=a&a=b"}, {"", ""},
        {"&&x=1&", "x=1"}, {"x=a=b", "x=a=b"},         {"B=1&a=1", "B=1&a=1"},      {"%2F=1&a=1", "%2F=1&a=1"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = canonical_query(cases[i][0]);
        assert_string_equal(got, cases[i][1]);
    }
}

static void test_presigned_keeps_query_headers_and_token(void **state)
{
    const SigCredentials keys = {"AKID", "secret", "to/k+n"};
    SigRequest request = s3_request("PUT", "/k", "uploadId=x&partNumber=1");
    const char *const lines[] = {"x-amz-storage-class: STANDARD_IA", NULL};
    g_autoptr(GPtrArray) headers = header_list(lines);
    g_autofree char *query = sigv4_presign(&request, &keys, 604800, headers);
    assert_non_null(strstr(query, "X-Amz-Expires=604800&X-Amz-Security-Token=to%2Fk%2Bn&X-Amz-SignedHeaders=host%3B"
                                  "x-amz-storage-class&partNumber=1&uploadId=x&X-Amz-Signature="));
    g_autofree char *again = sigv4_presign(&request, &keys, 604800, headers);
    assert_string_equal(query, again);
}

/* The same request under another secret, region, service or day: the cache must not mix them up. */
static void test_cache_tells_keys_apart(void **state)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    static const char *const secrets[] = {"one", "two", "on", "onetwo"};
    static const char *const regions[] = {"a", "b", "aa"};
    for (guint round = 0; round < 2; round++) {
        for (guint i = 0; i < 4 * 3 * 2 * 2; i++) {
            SigRequest request = s3_request("GET", "/", NULL);
            SigDate date = sigv4_date(S3_TIME + (i % 2) * 86400);
            request.region = regions[i / 2 % 3];
            request.service = i / 6 % 2 ? "s3" : "sts";
            g_autoptr(GString) same = g_string_new("canonical");
            char signature[SIGV4_HEX];
            sigv4_signature(&request, &date, secrets[i / 12], same, signature);
            assert_true(g_hash_table_add(seen, g_strdup(signature)) == (round == 0));
        }
    }
}

static gpointer sign_many(gpointer secret)
{
    const SigCredentials keys = {"AKID", secret, NULL};
    char *first = NULL;
    for (guint i = 0; i < 500; i++) {
        SigRequest request = s3_request("GET", "/", NULL);
        g_autoptr(GPtrArray) headers = header_list(NULL);
        sigv4_sign(&request, &keys, EMPTY_HASH, headers);
        const char *line = headers->pdata[headers->len - 1];
        if (!first)
            first = g_strdup(line);
        if (strcmp(first, line) != 0)
            return NULL;
    }
    g_free(first);
    return secret;
}

static void test_threads_share_the_cache(void **state)
{
    char secrets[12][8];
    GThread *threads[G_N_ELEMENTS(secrets)];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        (void)g_snprintf(secrets[i], sizeof secrets[i], "s%u", i);
        threads[i] = g_thread_new("sign", sign_many, secrets[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        assert_ptr_equal(g_thread_join(threads[i]), secrets[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_s3_get_object),
        cmocka_unit_test(test_s3_put_object),
        cmocka_unit_test(test_s3_get_lifecycle),
        cmocka_unit_test(test_s3_list_objects),
        cmocka_unit_test(test_s3_presigned),
        cmocka_unit_test(test_suite),
        cmocka_unit_test(test_headers_of_a_signed_request),
        cmocka_unit_test(test_query_is_sorted_by_name_first),
        cmocka_unit_test(test_presigned_keeps_query_headers_and_token),
        cmocka_unit_test(test_cache_tells_keys_apart),
        cmocka_unit_test(test_threads_share_the_cache),
    };
    return cmocka_run_group_tests_name("unit/net/sigv4", tests, NULL, NULL);
}
