#include "store/s3_error.h"

#include <string.h>

#include "base/human.h"
#include "store/s3_xml.h"

#define SHOWN_MAX 300

/* What a Code means. The list is of those where the status alone would mislead, or where there is something to do. */
typedef struct {
    const char *code;
    BackappError meaning;
    const char *advice; /* NULL: nothing beyond what the code says */
} Meaning;

static const Meaning meanings[] = {
    {"AccessDenied", BACKAPP_ERROR_DENIED, NULL}, /* advice: the permission */
    {"AccountProblem", BACKAPP_ERROR_DENIED, "look at the account with the provider"},
    {"AllAccessDisabled", BACKAPP_ERROR_DENIED, "look at the account with the provider"},
    {"AuthorizationHeaderMalformed", BACKAPP_ERROR_DENIED, "set the bucket's region"},
    {"BadDigest", BACKAPP_ERROR_CORRUPT, "the bytes changed on their way, or while they were read"},
    {"BandwidthLimitExceeded", BACKAPP_ERROR_TRANSIENT, NULL},
    {"BucketNotEmpty", BACKAPP_ERROR_CONFLICT, NULL},
    {"ConditionalRequestConflict", BACKAPP_ERROR_TRANSIENT, NULL},
    {"EntityTooSmall", BACKAPP_ERROR_INVALID, "a part other than the last is too small"},
    {"ExpiredToken", BACKAPP_ERROR_DENIED, "the session has ended: get new credentials"},
    {"IncompleteBody", BACKAPP_ERROR_TRANSIENT, NULL},
    {"InsufficientStorage", BACKAPP_ERROR_NO_SPACE, "the store is full"},
    {"InternalError", BACKAPP_ERROR_TRANSIENT, NULL},
    {"InvalidAccessKeyId", BACKAPP_ERROR_DENIED, "the access key is not known there: check key and endpoint"},
    {"InvalidDigest", BACKAPP_ERROR_CORRUPT, NULL},
    {"InvalidObjectState", BACKAPP_ERROR_CONFLICT, "the object is in a cold storage class: thaw it first"},
    {"InvalidPart", BACKAPP_ERROR_CONFLICT, "a part of the upload is missing or was replaced: start it anew"},
    {"InvalidToken", BACKAPP_ERROR_DENIED, "the session token is not valid: get new credentials"},
    {"MethodNotAllowed", BACKAPP_ERROR_INVALID, "the store does not offer this"},
    {"NoSuchBucket", BACKAPP_ERROR_NOT_FOUND, "create the bucket, or correct its name, region or endpoint"},
    {"NotImplemented", BACKAPP_ERROR_INVALID, "the store does not offer this"},
    {"ObjectLocked", BACKAPP_ERROR_CONFLICT, "the object is locked"},
    {"ObjectNotInActiveTierError", BACKAPP_ERROR_CONFLICT, "the object is in a cold storage class: thaw it first"},
    {"OperationAborted", BACKAPP_ERROR_TRANSIENT, NULL},
    {"PermanentRedirect", BACKAPP_ERROR_INVALID, "the bucket is elsewhere: set its region or endpoint"},
    {"PreconditionFailed", BACKAPP_ERROR_CONFLICT, "it is not (or no longer) as it was expected to be"},
    {"QuotaExceeded", BACKAPP_ERROR_NO_SPACE, "the quota is used up: raise it, or delete something"},
    {"RequestTimeTooSkewed", BACKAPP_ERROR_DENIED, "set this machine's clock"},
    {"RequestTimeout", BACKAPP_ERROR_TRANSIENT, NULL},
    {"RestoreAlreadyInProgress", BACKAPP_ERROR_CONFLICT, "it is being thawed"},
    {"ServiceUnavailable", BACKAPP_ERROR_TRANSIENT, NULL},
    {"SignatureDoesNotMatch", BACKAPP_ERROR_DENIED, "the secret key is wrong: check it"},
    {"SlowDown", BACKAPP_ERROR_TRANSIENT, NULL},
    {"StorageFull", BACKAPP_ERROR_NO_SPACE, "the store is full"},
    {"Throttling", BACKAPP_ERROR_TRANSIENT, NULL},
    {"ThrottlingException", BACKAPP_ERROR_TRANSIENT, NULL},
    {"TooManyRequests", BACKAPP_ERROR_TRANSIENT, NULL},
    {"TransferCapExceeded", BACKAPP_ERROR_NO_SPACE, "the account's cap is reached: raise it with the provider"},
    {"StorageCapExceeded", BACKAPP_ERROR_NO_SPACE, "the account's cap is reached: raise it with the provider"},
    {"XAmzContentSHA256Mismatch", BACKAPP_ERROR_CORRUPT, "the bytes changed on their way, or while they were read"},
    {"XMinioStorageFull", BACKAPP_ERROR_NO_SPACE, "the store is full"},
};

/* Other Codes for "there is none of that": NoSuchKey, NoSuchUpload, NoSuchLifecycleConfiguration,
 * ServerSideEncryptionConfigurationNotFoundError, ... */
static gboolean is_absence(const char *code)
{
    return strncmp(code, "NoSuch", 6) == 0 || strcmp(code, "NotFound") == 0 || strstr(code, "NotFoundError") != NULL;
}

static const Meaning *find_meaning(const char *code)
{
    for (gsize i = 0; i < G_N_ELEMENTS(meanings); i++)
        if (strcmp(meanings[i].code, code) == 0)
            return &meanings[i];
    return NULL;
}

static gboolean take_element(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                             GError **error)
{
    S3Failure *failure = user_data;
    char **slot = strcmp(name, "Code") == 0        ? &failure->code
                  : strcmp(name, "Message") == 0   ? &failure->message
                  : strcmp(name, "RequestId") == 0 ? &failure->request_id
                  : strcmp(name, "Region") == 0    ? &failure->region
                  : strcmp(name, "Endpoint") == 0  ? &failure->endpoint
                                                   : NULL;
    /* Depth 3: some answers wrap <Error> into another element. */
    if (slot && !*slot && (depth == 2 || depth == 3) && length > 0)
        *slot = g_strndup(text, MIN(length, SHOWN_MAX));
    return TRUE;
}

void s3_failure_read(S3Failure *failure, const HttpResponse *response)
{
    static const S3XmlHandler handler = {.close = take_element};
    failure->status = response->status;
    if (response->body && response->body->len > 0)
        (void)s3_xml_parse(response->body->data, response->body->len, &handler, failure, NULL);
    const char *region = http_response_header(response, "x-amz-bucket-region");
    if (region && *region != '\0') {
        g_free(failure->region);
        failure->region = g_strdup(region);
    }
    /* The host of a redirect: "https://bucket.s3.example.com/key" */
    const char *location = http_response_header(response, "location");
    const char *host = location ? strstr(location, "://") : NULL;
    if (host && !failure->endpoint)
        failure->endpoint = g_strndup(host + 3, strcspn(host + 3, "/?"));
    if (!failure->request_id)
        failure->request_id = g_strdup(http_response_header(response, "x-amz-request-id"));
    /* HEAD has no body to say it. */
    if (!failure->code)
        failure->code = g_strdup(response->status == 412 ? "PreconditionFailed" : "");
}

void s3_failure_clear(S3Failure *failure)
{
    g_free(failure->code);
    g_free(failure->message);
    g_free(failure->request_id);
    g_free(failure->region);
    g_free(failure->endpoint);
    *failure = (S3Failure){0};
}

gboolean s3_failure_in_body(const HttpResponse *response)
{
    static const char tag[] = "<Error";
    /* Long operations send spaces until they know how it ended. */
    gsize length = response->body ? MIN(response->body->len, 4096) : 0;
    const char *text = length > 0 ? (const char *)response->body->data : NULL;
    for (const char *at = text; at && (at = g_strstr_len(at, text + length - at, tag)) != NULL; at += strlen(tag)) {
        gsize behind = (gsize)(at - text) + strlen(tag);
        /* With attributes too; but not another element whose name begins so. */
        if (behind < length && (text[behind] == '>' || g_ascii_isspace(text[behind])))
            return TRUE;
    }
    return FALSE;
}

static BackappError code_of_status(guint status)
{
    switch (status) {
    case 401:
    case 403:
        return BACKAPP_ERROR_DENIED;
    case 404:
    case 410:
        return BACKAPP_ERROR_NOT_FOUND;
    case 409:
    case 412:
        return BACKAPP_ERROR_CONFLICT;
    case 408:
    case 425:
    case 429:
        return BACKAPP_ERROR_TRANSIENT;
    case 501:
        return BACKAPP_ERROR_INVALID;
    case 507:
        return BACKAPP_ERROR_NO_SPACE;
    default:
        /* A 200 with an error in it is one that the server met half way. */
        return status >= 500 || status < 300 ? BACKAPP_ERROR_TRANSIENT : BACKAPP_ERROR_INVALID;
    }
}

BackappError s3_failure_code(const S3Failure *failure)
{
    const Meaning *meaning = find_meaning(failure->code);
    if (meaning)
        return meaning->meaning;
    return is_absence(failure->code) ? BACKAPP_ERROR_NOT_FOUND : code_of_status(failure->status);
}

gboolean s3_failure_is_slow_down(const S3Failure *failure)
{
    return failure->status == 503 || failure->status == 429 || strcmp(failure->code, "SlowDown") == 0;
}

static void append_advice(GString *text, const S3Failure *failure, const S3Deed *deed, BackappError code)
{
    const Meaning *meaning = find_meaning(failure->code);
    if (meaning && meaning->advice)
        g_string_append_printf(text, "; %s", meaning->advice);
    else if (code == BACKAPP_ERROR_DENIED && deed->permission)
        g_string_append_printf(text, "; grant %s on %s", deed->permission, deed->resource);
    if (failure->region && code != BACKAPP_ERROR_NOT_FOUND && failure->status >= 300 && failure->status < 400)
        g_string_append_printf(text, " (it is in %s)", failure->region);
}

gboolean s3_failure_set(const S3Failure *failure, const S3Deed *deed, GError **error)
{
    BackappError code = s3_failure_code(failure);
    g_autofree char *where = human_name(deed->where, -1);
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_append_printf(text, "%s %s: ", deed->what, where);
    if (*failure->code != '\0') {
        g_autofree char *shown = human_name(failure->code, -1);
        g_string_append(text, shown);
    } else {
        g_string_append(text, code == BACKAPP_ERROR_NOT_FOUND ? "there is none" : "the server refused");
    }
    if (failure->message) {
        g_autofree char *shown = human_name(failure->message, -1);
        g_string_append_printf(text, ": %s", shown);
    }
    g_string_append_printf(text, " (status %u", failure->status);
    if (failure->request_id && *failure->request_id != '\0') {
        g_autofree char *shown = human_name(failure->request_id, -1);
        g_string_append_printf(text, ", request %.80s", shown);
    }
    g_string_append_c(text, ')');
    append_advice(text, failure, deed, code);
    return error_set(error, code, "%s", text->str);
}
