#include "../base/cmocka_all.h"

#include "store/s3_error.h"

#include <string.h>

static void answer(HttpResponse *response, guint status, const char *body, const char *header)
{
    *response =
        (HttpResponse){.status = status, .headers = g_ptr_array_new_with_free_func(g_free), .body = g_byte_array_new()};
    if (header)
        g_ptr_array_add(response->headers, g_strdup(header));
    if (body)
        g_byte_array_append(response->body, (const guint8 *)body, (guint)strlen(body));
    g_byte_array_append(response->body, (const guint8 *)"", 1);
    g_byte_array_set_size(response->body, response->body->len - 1);
}

typedef struct {
    guint status;
    const char *code;
    BackappError wanted;
} Case;

static void test_codes(void **state)
{
    static const Case cases[] = {
        {404, "NoSuchKey", BACKAPP_ERROR_NOT_FOUND},
        {404, "NoSuchBucket", BACKAPP_ERROR_NOT_FOUND},
        {404, "NoSuchUpload", BACKAPP_ERROR_NOT_FOUND},
        {400, "NoSuchVersion", BACKAPP_ERROR_NOT_FOUND},
        {404, "ServerSideEncryptionConfigurationNotFoundError", BACKAPP_ERROR_NOT_FOUND},
        {403, "AccessDenied", BACKAPP_ERROR_DENIED},
        {403, "SignatureDoesNotMatch", BACKAPP_ERROR_DENIED},
        {400, "ExpiredToken", BACKAPP_ERROR_DENIED},
        {403, "RequestTimeTooSkewed", BACKAPP_ERROR_DENIED},
        {412, "PreconditionFailed", BACKAPP_ERROR_CONFLICT},
        {403, "InvalidObjectState", BACKAPP_ERROR_CONFLICT},
        {409, "ConditionalRequestConflict", BACKAPP_ERROR_TRANSIENT},
        {409, "OperationAborted", BACKAPP_ERROR_TRANSIENT},
        {503, "SlowDown", BACKAPP_ERROR_TRANSIENT},
        {500, "InternalError", BACKAPP_ERROR_TRANSIENT},
        {200, "InternalError", BACKAPP_ERROR_TRANSIENT},
        {200, "SomethingNew", BACKAPP_ERROR_TRANSIENT},
        {400, "RequestTimeout", BACKAPP_ERROR_TRANSIENT},
        {400, "IncompleteBody", BACKAPP_ERROR_TRANSIENT},
        {403, "QuotaExceeded", BACKAPP_ERROR_NO_SPACE},
        {507, "XMinioStorageFull", BACKAPP_ERROR_NO_SPACE},
        {400, "BadDigest", BACKAPP_ERROR_CORRUPT},
        {400, "XAmzContentSHA256Mismatch", BACKAPP_ERROR_CORRUPT},
        {501, "NotImplemented", BACKAPP_ERROR_INVALID},
        {405, "MethodNotAllowed", BACKAPP_ERROR_INVALID},
        {400, "EntityTooSmall", BACKAPP_ERROR_INVALID},
        {416, "InvalidRange", BACKAPP_ERROR_INVALID},
        {400, "SomethingNew", BACKAPP_ERROR_INVALID},
        /* nothing but a status */
        {400, "", BACKAPP_ERROR_INVALID},
        {401, "", BACKAPP_ERROR_DENIED},
        {403, "", BACKAPP_ERROR_DENIED},
        {404, "", BACKAPP_ERROR_NOT_FOUND},
        {408, "", BACKAPP_ERROR_TRANSIENT},
        {409, "", BACKAPP_ERROR_CONFLICT},
        {412, "", BACKAPP_ERROR_CONFLICT},
        {429, "", BACKAPP_ERROR_TRANSIENT},
        {502, "", BACKAPP_ERROR_TRANSIENT},
        {507, "", BACKAPP_ERROR_NO_SPACE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        S3Failure failure = {.status = cases[i].status, .code = (char *)cases[i].code};
        if (s3_failure_code(&failure) != cases[i].wanted)
            fail_msg("%u %s is %s", cases[i].status, cases[i].code, error_code_name(s3_failure_code(&failure)));
    }
}

static void test_an_answer_taken_apart(void **state)
{
    g_auto(HttpResponse) response = {0};
    answer(&response, 301,
           "<?xml version=\"1.0\"?>\n<Error><Code>PermanentRedirect</Code><Message>go &lt;there&gt;</Message>"
           "<Endpoint>s3.eu.example.com</Endpoint><RequestId>R1</RequestId><HostId>x</HostId></Error>",
           "x-amz-bucket-region: eu-west-3");
    g_auto(S3Failure) failure = {0};
    s3_failure_read(&failure, &response);
    assert_string_equal(failure.code, "PermanentRedirect");
    assert_string_equal(failure.message, "go <there>");
    assert_string_equal(failure.endpoint, "s3.eu.example.com");
    assert_string_equal(failure.request_id, "R1");
    assert_string_equal(failure.region, "eu-west-3");
}

static void test_answers_that_say_little(void **state)
{
    static const char *const bodies[] = {NULL, "", "<Error>", "<html>gateway</html>", "not xml at all \x01"};
    for (gsize i = 0; i < G_N_ELEMENTS(bodies); i++) {
        g_auto(HttpResponse) response = {0};
        answer(&response, 502, bodies[i], NULL);
        g_auto(S3Failure) failure = {0};
        s3_failure_read(&failure, &response);
        assert_string_equal(failure.code, "");
        assert_int_equal(s3_failure_code(&failure), BACKAPP_ERROR_TRANSIENT);
    }
    g_auto(HttpResponse) response = {0};
    answer(&response, 307, NULL, "location: https://b.s3.other.example.com/k?x");
    g_auto(S3Failure) failure = {0};
    s3_failure_read(&failure, &response);
    assert_string_equal(failure.endpoint, "b.s3.other.example.com");
}

static void test_errors_in_good_answers(void **state)
{
    g_auto(HttpResponse) bad = {0};
    answer(&bad, 200, "<?xml version=\"1.0\"?>\n\n   \n<Error><Code>InternalError</Code></Error>", NULL);
    assert_true(s3_failure_in_body(&bad));
    static const char *const others[] = {"<Error xmlns=\"x\"><Code>InternalError</Code></Error>", "<Error\n></Error>",
                                         "<Errors/><Error >"};
    for (gsize i = 0; i < G_N_ELEMENTS(others); i++) {
        g_auto(HttpResponse) other = {0};
        answer(&other, 200, others[i], NULL);
        assert_true(s3_failure_in_body(&other));
    }
    static const char *const harmless[] = {"<Errors></Errors>", "<Error", "<Err"};
    for (gsize i = 0; i < G_N_ELEMENTS(harmless); i++) {
        g_auto(HttpResponse) other = {0};
        answer(&other, 200, harmless[i], NULL);
        assert_false(s3_failure_in_body(&other));
    }
    g_auto(HttpResponse) good = {0};
    answer(&good, 200, "<CopyObjectResult><ETag>&quot;x&quot;</ETag></CopyObjectResult>", NULL);
    assert_false(s3_failure_in_body(&good));
    g_auto(HttpResponse) empty = {0};
    answer(&empty, 200, NULL, NULL);
    assert_false(s3_failure_in_body(&empty));
}

static void test_messages(void **state)
{
    S3Failure failure = {.status = 403, .code = (char *)"AccessDenied", .request_id = (char *)"R1"};
    S3Deed deed = {"cannot write", "s3://b/k\n", "s3:PutObject", "arn:aws:s3:::b/*"};
    g_autoptr(GError) error = NULL;
    assert_false(s3_failure_set(&failure, &deed, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    assert_string_equal(error->message, "cannot write s3://b/k\\n: AccessDenied (status 403, request R1); grant "
                                        "s3:PutObject on arn:aws:s3:::b/*");
    S3Failure gone = {.status = 404, .code = (char *)""};
    g_autoptr(GError) second = NULL;
    assert_false(s3_failure_set(&gone, &deed, &second));
    assert_string_equal(second->message, "cannot write s3://b/k\\n: there is none (status 404)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_an_answer_taken_apart),
        cmocka_unit_test(test_answers_that_say_little),
        cmocka_unit_test(test_errors_in_good_answers),
        cmocka_unit_test(test_messages),
    };
    return cmocka_run_group_tests_name("unit/store/s3_error", tests, NULL, NULL);
}
