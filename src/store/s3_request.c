#include "store/s3.h"

#include <string.h>

#include "crypto/digest.h"
#include "net/sigv4.h"

#define RETRY_AFTER_MAX_S 20
#define SKEW_MAX_S        300 /* S3 refuses from 15 minutes on */
#define CRC_MIN_BYTES     (64 * 1024)

/* What an answer may teach, each at most once for a request. */
typedef enum { FIX_REGION = 1, FIX_CLOCK = 2, FIX_KEYS = 4, FIX_MD5 = 8, FIX_CRC = 16 } Fix;

typedef struct {
    char sha256[SIGV4_HEX]; /* or UNSIGNED-PAYLOAD */
    char *md5;              /* base64 */
    char *md5_hex;
    char *crc;
} Payload;

static void payload_clear(Payload *payload)
{
    g_free(payload->md5);
    g_free(payload->md5_hex);
    g_free(payload->crc);
    *payload = (Payload){0};
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Payload, payload_clear)

/* What one sending was made with. */
typedef struct {
    S3Place *place;
    S3CredentialsValue value;
    gint64 skew;
} Attempt;

static void attempt_clear(Attempt *attempt)
{
    s3_credentials_value_clear(&attempt->value);
    s3_place_unref(attempt->place);
    attempt->place = NULL;
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Attempt, attempt_clear)

void s3_answer_clear(S3Answer *answer)
{
    http_response_clear(&answer->http);
    g_clear_pointer(&answer->code, g_free);
    g_clear_pointer(&answer->md5, g_free);
}

const char *s3_answer_header(const S3Answer *answer, const char *name)
{
    return http_response_header(&answer->http, name);
}

char *s3_etag_unquoted(const char *etag)
{
    gsize length = etag ? strlen(etag) : 0;
    if (length >= 2 && etag[0] == '"' && etag[length - 1] == '"') {
        etag++;
        length -= 2;
    }
    return length > 0 ? g_strndup(etag, length) : NULL;
}

char *s3_answer_etag(const S3Answer *answer)
{
    return s3_etag_unquoted(s3_answer_header(answer, "etag"));
}

char *s3_name(const S3Store *s3, const char *key)
{
    return key ? g_strdup_printf("s3://%s/%s%s", s3->bucket, s3->prefix, key) : g_strdup_printf("s3://%s", s3->bucket);
}

S3Place *s3_place_now(S3Store *s3)
{
    g_mutex_lock(&s3->lock);
    S3Place *place = s3_place_ref(s3->place);
    g_mutex_unlock(&s3->lock);
    return place;
}

/* The endpoint after a redirect. host: where the answer pointed, or NULL. The scheme stays: nothing that a server says
 * switches TLS off; nor does it lead to another provider. */
static char *endpoint_after(const S3Store *s3, const S3Place *old, const char *region, const char *host)
{
    if (s3->provider->endpoint && strcmp(region, old->region) != 0)
        return provider_endpoint(s3->provider, region, NULL);
    if (!host)
        return s3->endpoint ? g_strdup(s3->endpoint) : provider_endpoint(s3->provider, region, NULL);
    gsize bucket = strlen(s3->bucket);
    if (strncmp(host, s3->bucket, bucket) == 0 && host[bucket] == '.')
        host += bucket + 1;
    g_autofree char *name = s3_endpoint_host(host, NULL);
    if (!name || provider_of_host(name) != s3->provider)
        return NULL;
    return g_strconcat(old->tls ? "https://" : "http://", host, NULL);
}

/* Puts another region and endpoint in force; another thread may have done so already. TRUE if what is in force now is
 * not what was used. */
static gboolean move_place(S3Store *s3, const S3Place *used, const char *region, const char *host)
{
    g_autofree char *endpoint = endpoint_after(s3, used, region, host);
    S3Place *place = endpoint ? s3_place_new(endpoint, s3->bucket, region, s3->path_style, NULL) : NULL;
    if (!place)
        return FALSE;
    gboolean other = strcmp(place->region, used->region) != 0 || strcmp(place->origin, used->origin) != 0;
    g_mutex_lock(&s3->lock);
    S3Place *before = s3->place;
    s3->place = place;
    g_mutex_unlock(&s3->lock);
    s3_place_unref(before);
    return other;
}

gint64 s3_time_now(S3Store *s3)
{
    return g_get_real_time() / G_USEC_PER_SEC + atomic_load(&s3->skew);
}

GPtrArray *s3_headers_new(void)
{
    return g_ptr_array_new_full(16, g_free);
}

void s3_headers_add(GPtrArray *headers, const char *name, const char *value)
{
    g_ptr_array_add(headers, g_strconcat(name, ": ", value, NULL));
}

void s3_query_add(GString *query, const char *name, const char *value)
{
    if (query->len > 0)
        g_string_append_c(query, '&');
    g_string_append(query, name);
    g_string_append_c(query, '=');
    if (value)
        http_encode(query, value, -1, FALSE);
}

static void to_hex(const guint8 *bytes, gsize length, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (gsize i = 0; i < length; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * length] = '\0';
}

static gboolean hash_payload(const StoreBody *body, Payload *payload, GError **error)
{
    static const char nothing[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    guint8 sha256[HASH_BYTES];
    if (!body || body->length == 0) {
        memcpy(payload->sha256, nothing, sizeof nothing);
        return TRUE;
    }
    if (body->sha256) {
        memcpy(sha256, body->sha256, sizeof sha256);
    } else if (!body->read) {
        digest_sha256(body->data, body->length, sha256);
    } else {
        g_autoptr(Hash) hash = hash_new();
        if (!store_body_hash(body, hash, error))
            return FALSE;
        hash_finish(hash, sha256);
    }
    to_hex(sha256, sizeof sha256, payload->sha256);
    return TRUE;
}

static gboolean md5_payload(const StoreBody *body, Payload *payload, GError **error)
{
    guint8 md5[HASH_BYTES];
    char hex[2 * HASH_MD5_BYTES + 1];
    g_autoptr(Hash) hash = hash_new_md5(error);
    if (!hash || !store_body_hash(body, hash, error))
        return FALSE;
    hash_finish(hash, md5);
    to_hex(md5, HASH_MD5_BYTES, hex);
    payload->md5 = digest_base64(md5, HASH_MD5_BYTES);
    payload->md5_hex = g_strdup(hex);
    return TRUE;
}

static gboolean crc_payload(const StoreBody *body, Payload *payload, GError **error)
{
    g_autofree guint8 *buffer = body->read ? g_malloc(STORE_PIECE_BYTES) : NULL;
    guint32 crc = 0;
    const guint8 *data = NULL;
    gsize length = 0;
    for (guint64 offset = 0; offset < body->length; offset += length) {
        if (!store_body_piece(body, offset, buffer, &data, &length, error))
            return FALSE;
        crc = digest_crc32c(crc, data, length);
    }
    payload->crc = digest_crc32c_base64(crc);
    g_strlcpy(payload->sha256, "UNSIGNED-PAYLOAD", sizeof payload->sha256);
    return TRUE;
}

/* CRC32C is a tenth of SHA-256's work where the processor has no instructions for that, and S3 proves it just as well;
 * only against an attacker on the line TLS must then do alone. */
static gboolean crc_is_cheaper(S3Store *s3, const S3Request *request, const S3Place *place)
{
    return request->whole && place->tls && (s3->provider->can & PROVIDER_CRC32C) && !request->body->sha256 &&
           request->body->length >= CRC_MIN_BYTES && !atomic_load(&s3->crc_refused);
}

static gboolean make_payload(S3Store *s3, const S3Request *request, Payload *payload, GError **error)
{
    payload_clear(payload);
    if (!request->body)
        return hash_payload(NULL, payload, error);
    g_autoptr(S3Place) place = s3_place_now(s3);
    gboolean md5 = request->md5 || (request->object && atomic_load(&s3->md5_wanted));
    if (md5 && !md5_payload(request->body, payload, error))
        return FALSE;
    if (!md5 && crc_is_cheaper(s3, request, place))
        return crc_payload(request->body, payload, error);
    return hash_payload(request->body, payload, error);
}

/* All headers: the caller's as they are, and ours behind them. */
static GPtrArray *collect_headers(const S3Request *request, const Payload *payload)
{
    GPtrArray *headers = s3_headers_new();
    for (guint i = 0; request->headers && i < request->headers->len; i++)
        g_ptr_array_add(headers, g_strdup(request->headers->pdata[i]));
    if (payload->md5)
        s3_headers_add(headers, "Content-MD5", payload->md5);
    if (payload->crc)
        s3_headers_add(headers, "x-amz-checksum-crc32c", payload->crc);
    return headers;
}

static gboolean send_once(S3Store *s3, const S3Request *request, const Payload *payload, const Attempt *attempt,
                          S3Answer *answer, GError **error)
{
    const S3Place *place = attempt->place;
    static const char no_bytes[1] = "";
    g_autoptr(GString) path = s3_place_path(place, s3->prefix, request->key);
    g_autofree char *url = g_strconcat(place->origin, path->str, request->query ? "?" : NULL, request->query, NULL);
    g_autoptr(GPtrArray) headers = collect_headers(request, payload);
    SigRequest sign = {.method = request->method,
                       .host = place->host,
                       .path = path->str,
                       .query = request->query,
                       .region = place->region,
                       .service = "s3",
                       .time = g_get_real_time() / G_USEC_PER_SEC + attempt->skew};
    sigv4_sign(&sign, &attempt->value.keys, payload->sha256, headers);
    const StoreBody *body = request->body;
    HttpBody sent = {.data = no_bytes};
    if (body && body->length > 0)
        sent = (HttpBody){.data = body->data, .length = body->length, .read = body->read, .user_data = body->user_data};
    HttpRequest http = {.method = request->method,
                        .url = url,
                        .headers = headers,
                        .body = body ? &sent : NULL,
                        .write = request->write,
                        .write_data = request->write_data,
                        .max_memory = S3_ANSWER_MAX};
    store_tally_request(&s3->tally, request->kind);
    gboolean good = http_perform(s3->http, &http, &answer->http, error);
    atomic_fetch_add(&s3->tally.sent, sent.length);
    atomic_fetch_add(&s3->tally.received, answer->http.body_bytes);
    return good;
}

/* A HEAD's refusal says nothing but its status. */
static gboolean may_be(const S3Request *request, const S3Failure *failure, guint status, const char *code)
{
    if (strcmp(request->method, "HEAD") == 0 && *failure->code == '\0')
        return failure->status == status;
    return strcmp(failure->code, code) == 0;
}

static gboolean learn_region(S3Store *s3, const S3Failure *failure, const S3Place *used)
{
    gboolean redirect = failure->status == 301 || failure->status == 307 || failure->status == 308;
    if ((!redirect && failure->status != 400 && failure->status != 403) ||
        (!failure->region && (!redirect || !failure->endpoint)))
        return FALSE;
    const char *region = failure->region ? failure->region : used->region;
    if (!redirect && strcmp(region, used->region) == 0)
        return FALSE;
    return move_place(s3, used, region, redirect ? failure->endpoint : NULL);
}

static gboolean learn_clock(S3Store *s3, const S3Request *request, const S3Failure *failure, const S3Answer *answer,
                            gint64 used)
{
    if (answer->http.server_time == 0 || !may_be(request, failure, 403, "RequestTimeTooSkewed"))
        return FALSE;
    gint64 skew = answer->http.server_time - g_get_real_time() / G_USEC_PER_SEC;
    if (ABS(skew - used) < SKEW_MAX_S)
        return FALSE;
    atomic_store(&s3->skew, skew);
    return TRUE;
}

static gboolean learn_keys(S3Store *s3, const S3Request *request, const S3Failure *failure,
                           const S3CredentialsValue *value)
{
    if (!may_be(request, failure, 400, "ExpiredToken") && !may_be(request, failure, 403, "ExpiredToken") &&
        strcmp(failure->code, "InvalidToken") != 0 && strcmp(failure->code, "InvalidAccessKeyId") != 0 &&
        strcmp(failure->code, "ExpiredTokenException") != 0 && strcmp(failure->code, "TokenRefreshRequired") != 0)
        return FALSE;
    return s3_credentials_expired(s3->credentials, value);
}

/* A bucket with a default retention takes no object without one. */
static gboolean learn_md5(S3Store *s3, const S3Request *request, const S3Failure *failure)
{
    if (!request->object || failure->status != 400 || !failure->message || !strstr(failure->message, "Content-MD5"))
        return FALSE;
    atomic_store(&s3->md5_wanted, TRUE);
    return TRUE;
}

static gboolean learn_crc(S3Store *s3, const S3Failure *failure, const Payload *payload)
{
    if (!payload->crc || (failure->status != 400 && failure->status != 501) || strcmp(failure->code, "BadDigest") == 0)
        return FALSE;
    atomic_store(&s3->crc_refused, TRUE);
    return TRUE;
}

/* Who checked the CRC32C says so. Otherwise nobody has proven what arrived: it is sent again with a signed SHA-256. */
static gboolean crc_ignored(S3Store *s3, const Payload *payload, const S3Answer *answer)
{
    if (!payload->crc || g_strcmp0(s3_answer_header(answer, "x-amz-checksum-crc32c"), payload->crc) == 0)
        return FALSE;
    atomic_store(&s3->crc_refused, TRUE);
    return TRUE;
}

/* What could be put right before the request is sent again; 0 if nothing. */
static Fix learn(S3Store *s3, const S3Request *request, const S3Failure *failure, const S3Answer *answer,
                 const Attempt *used, const Payload *payload, Fix done)
{
    if (!(done & FIX_REGION) && learn_region(s3, failure, used->place))
        return FIX_REGION;
    if (!(done & FIX_CLOCK) && learn_clock(s3, request, failure, answer, used->skew))
        return FIX_CLOCK;
    if (!(done & FIX_KEYS) && learn_keys(s3, request, failure, &used->value))
        return FIX_KEYS;
    if (!(done & FIX_MD5) && learn_md5(s3, request, failure))
        return FIX_MD5;
    if (!(done & FIX_CRC) && learn_crc(s3, failure, payload))
        return FIX_CRC;
    return 0;
}

/* The caller's wait before the next try knows nothing of what the server asked for, so it is kept here. */
static gboolean wait_as_told(S3Store *s3, const S3Answer *answer, GError **error)
{
    const char *text = s3_answer_header(answer, "retry-after");
    guint64 seconds = 0;
    if (!text || !g_ascii_string_to_unsigned(text, 10, 0, 86400, &seconds, NULL))
        return TRUE;
    return store_wait_us(MIN(seconds, RETRY_AFTER_MAX_S) * G_USEC_PER_SEC, s3->cancel, error);
}

static gboolean refuse(S3Store *s3, const S3Request *request, const S3Failure *failure, S3Answer *answer,
                       GError **error)
{
    if (s3_failure_is_slow_down(failure))
        atomic_fetch_add(&s3->slow_downs, 1);
    if (s3_failure_code(failure) == BACKAPP_ERROR_TRANSIENT && !wait_as_told(s3, answer, error))
        return FALSE;
    g_free(answer->code);
    answer->code = g_strdup(failure->code);
    g_autofree char *where = s3_name(s3, request->key);
    g_autofree char *resource = request->key ? g_strdup_printf("arn:aws:s3:::%s/%s*", s3->bucket, s3->prefix)
                                             : g_strdup_printf("arn:aws:s3:::%s", s3->bucket);
    S3Deed deed = {.what = request->what, .where = where, .permission = request->permission, .resource = resource};
    return s3_failure_set(failure, &deed, error);
}

gboolean s3_perform(S3Store *s3, const S3Request *request, S3Answer *answer, GError **error)
{
    g_auto(Payload) payload = {0};
    Fix done = 0;
    if (!make_payload(s3, request, &payload, error))
        return FALSE;
    for (;;) {
        g_auto(Attempt) attempt = {.place = s3_place_now(s3), .skew = atomic_load(&s3->skew)};
        s3_answer_clear(answer);
        if (!s3_credentials_get(s3->credentials, &attempt.value, error))
            return FALSE;
        if (!send_once(s3, request, &payload, &attempt, answer, error)) {
            g_autofree char *where = s3_name(s3, request->key);
            g_prefix_error(error, "%s %s: ", request->what, where);
            return FALSE;
        }
        gboolean good = answer->http.status < 300 && !(request->error_in_body && s3_failure_in_body(&answer->http));
        if (good && crc_ignored(s3, &payload, answer)) {
            atomic_fetch_add(&s3->tally.retries, 1);
            if (!make_payload(s3, request, &payload, error))
                return FALSE;
            continue;
        }
        if (good) {
            answer->md5 = g_steal_pointer(&payload.md5_hex);
            return TRUE;
        }
        g_auto(S3Failure) failure = {0};
        s3_failure_read(&failure, &answer->http);
        Fix fix = learn(s3, request, &failure, answer, &attempt, &payload, done);
        if (fix == 0)
            return refuse(s3, request, &failure, answer, error);
        done |= fix;
        atomic_fetch_add(&s3->tally.retries, 1);
        if ((fix & (FIX_MD5 | FIX_CRC)) && !make_payload(s3, request, &payload, error))
            return FALSE;
    }
}
