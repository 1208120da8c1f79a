#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "store/s3_time.h"

void s3_headers_put(const S3Store *s3, GPtrArray *headers, const StorePut *how)
{
    s3_headers_add(headers, "Content-Type", how->content_type ? how->content_type : "application/octet-stream");
    if (how->storage_class && strcmp(how->storage_class, "STANDARD") != 0)
        s3_headers_add(headers, "x-amz-storage-class", how->storage_class);
    if (how->mtime)
        s3_headers_add(headers, "x-amz-meta-mtime", how->mtime);
    if (s3->sse)
        s3_headers_add(headers, "x-amz-server-side-encryption", s3->sse);
    if (s3->sse && s3->sse_kms_key)
        s3_headers_add(headers, "x-amz-server-side-encryption-aws-kms-key-id", s3->sse_kms_key);
    if (how->lock_mode) {
        g_autofree char *until = s3_time_format_iso(how->lock_until);
        s3_headers_add(headers, "x-amz-object-lock-mode", how->lock_mode);
        if (until)
            s3_headers_add(headers, "x-amz-object-lock-retain-until-date", until);
    }
}

/* Where an ETag is known to be the MD5, and the MD5 was computed anyway, the two have to agree. */
static gboolean check_etag(const S3Store *s3, const S3Answer *answer, const char *key, const char *etag, GError **error)
{
    const char *encryption = s3_answer_header(answer, "x-amz-server-side-encryption");
    if (!answer->md5 || !etag || !(s3->provider->can & PROVIDER_ETAG_MD5) ||
        (encryption && strcmp(encryption, "AES256") != 0) || g_ascii_strcasecmp(etag, answer->md5) == 0)
        return TRUE;
    g_autofree char *where = s3_name(s3, key);
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s was stored with the MD5 %.64s, and sent with %s", where, etag,
                     answer->md5);
}

static gboolean not_absent(const S3Store *s3, const char *key, GError **error)
{
    g_autofree char *where = s3_name(s3, key);
    return error_set(error, BACKAPP_ERROR_CONFLICT, "cannot write %s: there is such an object already", where);
}

/* Radosgw forgets If-None-Match in buckets that keep versions. There the oldest of versions that were written at the same
 * time is the one that found nothing: whoever finds an older one than his own takes his back. */
static gboolean check_was_absent(Store *store, const char *key, const char *version, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autoptr(StoreList) list = s3_list(store, key, NULL, TRUE, error);
    const StoreObject *object = NULL;
    gboolean mine = FALSE;
    int got = 0;
    while ((got = store_list_next(list, &object, error)) > 0 && strcmp(object->key, key) == 0) {
        if (mine && object->delete_marker)
            return TRUE;
        if (mine)
            return s3_delete_one(store, key, version, error) && not_absent(s3, key, error);
        mine = g_strcmp0(object->version, version) == 0;
    }
    return got >= 0;
}

gboolean s3_put(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autoptr(GPtrArray) headers = s3_headers_new();
    s3_headers_put(s3, headers, how);
    if (how->if_absent)
        s3_headers_add(headers, "If-None-Match", "*");
    S3Request request = {.kind = STORE_REQUEST_PUT,
                         .method = "PUT",
                         .key = key,
                         .headers = headers,
                         .body = body,
                         .object = TRUE,
                         .whole = !how->if_absent, /* a second try would find the first */
                         .md5 = how->lock_mode != NULL,
                         .what = "cannot write",
                         .permission = how->lock_mode ? "s3:PutObject and s3:PutObjectRetention" : "s3:PutObject"};
    g_auto(S3Answer) answer = {0};
    if (!s3_perform(s3, &request, &answer, error))
        return FALSE;
    result->etag = s3_answer_etag(&answer);
    result->version = g_strdup(s3_answer_header(&answer, "x-amz-version-id"));
    if (!result->etag) {
        g_autofree char *where = s3_name(s3, key);
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot write %s: the answer is not that of an S3 server",
                         where);
    }
    if (!check_etag(s3, &answer, key, result->etag, error))
        return FALSE;
    gboolean forgotten = how->if_absent && result->version && (s3->provider->can & PROVIDER_CEPH_CONDITIONS);
    return !forgotten || check_was_absent(store, key, result->version, error);
}

/* Facts of an object from the headers of a GET or HEAD. */
static StoreObject *object_of(const S3Answer *answer, const char *key, guint64 size)
{
    StoreObject *object = g_new0(StoreObject, 1);
    const char *modified = s3_answer_header(answer, "last-modified");
    const char *class = s3_answer_header(answer, "x-amz-storage-class");
    char *etag = s3_answer_etag(answer);
    object->key = g_strdup(key);
    object->size = size;
    if (modified)
        (void)s3_time_parse_http(modified, &object->modified);
    object->etag = etag ? etag : g_strdup("");
    object->version = g_strdup(s3_answer_header(answer, "x-amz-version-id"));
    object->storage_class = g_strdup(class ? class : "STANDARD");
    object->latest = TRUE;
    object->mtime = g_strdup(s3_answer_header(answer, "x-amz-meta-mtime"));
    object->restore = g_strdup(s3_answer_header(answer, "x-amz-restore"));
    return object;
}

static char *version_query(const char *version)
{
    if (!version)
        return NULL;
    g_autoptr(GString) query = g_string_new(NULL);
    s3_query_add(query, "versionId", version);
    return g_strdup(query->str);
}

static gboolean read_length(const S3Answer *answer, guint64 *length)
{
    const char *text = s3_answer_header(answer, "content-length");
    return text && g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, length, NULL);
}

StoreObject *s3_head(Store *store, const char *key, const char *version, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autofree char *query = version_query(version);
    S3Request request = {.kind = STORE_REQUEST_HEAD,
                         .method = "HEAD",
                         .key = key,
                         .query = query,
                         .what = "cannot look up",
                         .permission = version ? "s3:GetObjectVersion" : "s3:GetObject"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(GError) local = NULL;
    guint64 size = 0;
    if (!s3_perform(s3, &request, &answer, &local)) {
        /* That is how the version of a deletion is answered. */
        if (answer.http.status == 405 && s3_answer_header(&answer, "x-amz-delete-marker"))
            store_no_object(key, error);
        else
            g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    if (!read_length(&answer, &size)) {
        g_autofree char *where = s3_name(s3, key);
        error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot look up %s: the answer has no length", where);
        return NULL;
    }
    StoreObject *object = object_of(&answer, key, size);
    object->latest = version == NULL;
    return object;
}

/* A read under way. */
typedef struct {
    const S3Answer *answer;
    const StoreRange *range;
    StoreWrite write;
    gpointer user_data;
    gboolean begun;      /* the answer's headers were looked at */
    guint64 total, want; /* the object's size; bytes that are to come */
    guint64 given;
} Reading;

/* "bytes 0-9/200" */
static gboolean parse_content_range(const char *text, guint64 *first, guint64 *last, guint64 *total)
{
    if (!text || !g_str_has_prefix(text, "bytes "))
        return FALSE;
    g_auto(GStrv) parts = g_strsplit_set(text + 6, "-/", 4);
    return g_strv_length(parts) == 3 && g_ascii_string_to_unsigned(parts[0], 10, 0, G_MAXINT64, first, NULL) &&
           g_ascii_string_to_unsigned(parts[1], 10, *first, G_MAXINT64, last, NULL) &&
           g_ascii_string_to_unsigned(parts[2], 10, *last + 1, G_MAXINT64, total, NULL);
}

/* Is this the part that was asked for? Before the first byte is handed on. */
static gboolean begin_reading(Reading *reading, GError **error)
{
    const HttpResponse *response = &reading->answer->http;
    guint64 first = 0, last = 0;
    reading->begun = TRUE;
    if (response->status == 206) {
        if (!parse_content_range(s3_answer_header(reading->answer, "content-range"), &first, &last, &reading->total) ||
            first != reading->range->offset)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "the server answered with another part of the object");
        reading->want = MIN(reading->range->length, reading->total - first);
        return last - first + 1 == reading->want ||
               error_set(error, BACKAPP_ERROR_CORRUPT, "the server answered with a part of another length");
    }
    /* No partial answer: the whole object. */
    if (!read_length(reading->answer, &reading->total))
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "the answer has no length");
    if (reading->range->offset > 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "the server does not know ranges");
    reading->want = MIN(reading->range->length, reading->total);
    return TRUE;
}

static gboolean receive(gpointer user_data, const void *data, gsize length, GError **error)
{
    Reading *reading = user_data;
    if (!reading->begun && !begin_reading(reading, error))
        return FALSE;
    gsize take = (gsize)MIN(length, reading->want - reading->given);
    reading->given += take;
    return take == 0 || reading->write(reading->user_data, data, take, error);
}

static char *range_header(const StoreRange *range)
{
    if (range->length == G_MAXUINT64 || range->offset + range->length < range->offset)
        return g_strdup_printf("bytes=%" G_GUINT64_FORMAT "-", range->offset);
    return g_strdup_printf("bytes=%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, range->offset,
                           range->offset + range->length - 1);
}

/* Nothing of an object: its facts, and whether the range is one. */
static gboolean get_nothing(Store *store, const StoreRange *range, StoreObject **object, GError **error)
{
    g_autoptr(StoreObject) facts = s3_head(store, range->key, range->version, error);
    guint64 length = 0;
    if (!facts || !store_range_cut(range, facts->size, &length, error))
        return FALSE;
    if (length > 0)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "%s changed while it was read", range->key);
    if (range->if_match && strcmp(range->if_match, facts->etag) != 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT, "%s is not the object that was expected", range->key);
    if (object)
        *object = g_steal_pointer(&facts);
    return TRUE;
}

static gboolean finish_reading(S3Store *s3, Reading *reading, const StoreRange *range, StoreObject **object,
                               GError **error)
{
    if (!reading->begun && !begin_reading(reading, error))
        return FALSE;
    if (reading->given != reading->want) {
        g_autofree char *where = s3_name(s3, range->key);
        return error_set(error, BACKAPP_ERROR_TRANSIENT,
                         "cannot read %s: it ended after %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes", where,
                         reading->given, reading->want);
    }
    if (object) {
        *object = object_of(reading->answer, range->key, reading->total);
        (*object)->latest = range->version == NULL;
    }
    return TRUE;
}

gboolean s3_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data, StoreObject **object,
                GError **error)
{
    S3Store *s3 = s3_of(store);
    if (range->length == 0)
        return get_nothing(store, range, object, error);
    g_autoptr(GPtrArray) headers = s3_headers_new();
    if (range->offset > 0 || range->length != G_MAXUINT64) {
        g_autofree char *header = range_header(range);
        s3_headers_add(headers, "Range", header);
    }
    if (range->if_match) {
        g_autofree char *quoted = g_strdup_printf("\"%s\"", range->if_match);
        s3_headers_add(headers, "If-Match", quoted);
    }
    g_autofree char *query = version_query(range->version);
    g_auto(S3Answer) answer = {0};
    Reading reading = {.answer = &answer, .range = range, .write = write, .user_data = user_data};
    S3Request request = {.kind = STORE_REQUEST_GET,
                         .method = "GET",
                         .key = range->key,
                         .query = query,
                         .headers = headers,
                         .write = receive,
                         .write_data = &reading,
                         .what = "cannot read",
                         .permission = range->version ? "s3:GetObjectVersion" : "s3:GetObject"};
    g_autoptr(GError) local = NULL;
    if (s3_perform(s3, &request, &answer, &local))
        return finish_reading(s3, &reading, range, object, error);
    /* Whoever goes on behind what has come needs to know what it is a part of. */
    if (object && reading.want > 0)
        *object = object_of(&answer, range->key, reading.total);
    /* No range of an empty object can be satisfied, but from its first byte on there is nothing to complain of. */
    if (answer.http.status == 416)
        return get_nothing(store, range, object, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean s3_delete_one(Store *store, const char *key, const char *version, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autofree char *query = version_query(version);
    S3Request request = {.kind = STORE_REQUEST_DELETE,
                         .method = "DELETE",
                         .key = key,
                         .query = query,
                         .what = "cannot delete",
                         .permission = version ? "s3:DeleteObjectVersion" : "s3:DeleteObject"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(GError) local = NULL;
    if (s3_perform(s3, &request, &answer, &local))
        return TRUE;
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND) && g_strcmp0(answer.code, "NoSuchBucket") != 0)
        return TRUE;
    /* Locks are refused with the same AccessDenied as a missing permission. */
    GError *locked = version && error_is(local, BACKAPP_ERROR_DENIED) ? s3_lock_conflict(s3, key, version) : NULL;
    g_propagate_error(error, locked ? locked : g_steal_pointer(&local));
    return FALSE;
}

char *s3_presign(Store *store, const char *method, const char *key, guint expires_s, GError **error)
{
    static const char *const methods[] = {"GET", "PUT", "HEAD", "DELETE", NULL};
    S3Store *s3 = s3_of(store);
    if (!g_strv_contains(methods, method) || expires_s < 1 || expires_s > 604800) {
        error_set(error, BACKAPP_ERROR_INVALID, "cannot presign %s for %u s: GET, PUT, HEAD, DELETE for up to 7 days",
                  method, expires_s);
        return NULL;
    }
    g_auto(S3CredentialsValue) value = {0};
    if (!s3_credentials_get(s3->credentials, &value, error))
        return NULL;
    g_autoptr(S3Place) place = s3_place_now(s3);
    g_autoptr(GString) path = s3_place_path(place, s3->prefix, key);
    SigRequest sign = {.method = method,
                       .host = place->host,
                       .path = path->str,
                       .region = place->region,
                       .service = "s3",
                       .time = s3_time_now(s3)};
    g_autofree char *query = sigv4_presign(&sign, &value.keys, expires_s, NULL);
    return g_strconcat(place->origin, path->str, "?", query, NULL);
}
