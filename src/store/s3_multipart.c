#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "store/s3_xml.h"

static gboolean nothing_said(const char *what, const char *where, GError **error)
{
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "%s %s: the server's answer does not say what came of it", what,
                     where);
}

/* Where the copy comes from, and that it is still what it was. */
static void add_source(const S3Store *s3, GPtrArray *headers, const StoreSource *source)
{
    g_autoptr(GString) from = g_string_new("/");
    g_string_append(from, s3->bucket);
    g_string_append_c(from, '/');
    http_encode(from, s3->prefix, -1, TRUE);
    http_encode(from, source->key, -1, TRUE);
    if (source->version) {
        g_string_append(from, "?versionId=");
        http_encode(from, source->version, -1, FALSE);
    }
    s3_headers_add(headers, "x-amz-copy-source", from->str);
    if (source->if_match)
        s3_headers_add(headers, "x-amz-copy-source-if-match", source->if_match);
    /* Radosgw does not know the condition by S3's name. */
    if (source->if_match && (s3->provider->can & PROVIDER_CEPH_CONDITIONS))
        s3_headers_add(headers, "x-amz-copy-if-match", source->if_match);
}

static gboolean changed_source(const S3Store *s3, const StoreSource *source, GError **error)
{
    g_autofree char *where = s3_name(s3, source->key);
    return error_set(error, BACKAPP_ERROR_CONFLICT, "cannot copy %s: it is not the object that was expected", where);
}

/* For servers that ignore conditions: it still is what it was after the copy. */
static gboolean check_source(Store *store, const StoreSource *source, GError **error)
{
    S3Store *s3 = s3_of(store);
    if (!source->if_match || (s3->provider->can & PROVIDER_CONDITIONS))
        return TRUE;
    g_autoptr(StoreObject) object = s3_head(store, source->key, source->version, error);
    return object && (strcmp(object->etag, source->if_match) == 0 || changed_source(s3, source, error));
}

/* For servers that ignore If-None-Match here. Somebody may still come between; that is what they leave us. */
static gboolean check_absent(Store *store, const char *key, const StorePut *how, GError **error)
{
    S3Store *s3 = s3_of(store);
    if (!how->if_absent || (s3->provider->can & PROVIDER_CONDITIONS))
        return TRUE;
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) object = s3_head(store, key, NULL, &local);
    g_autofree char *where = s3_name(s3, key);
    if (object)
        return error_set(error, BACKAPP_ERROR_CONFLICT, "cannot write %s: there is such an object already", where);
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

static gboolean is_md5(const char *etag)
{
    return strlen(etag) == 32 && strspn(etag, "0123456789abcdef") == 32;
}

/* The ETag in the answer to a copy. NULL with an error if it has none: nothing proves then that it was made. */
static char *copied_etag(const S3Store *s3, const S3Answer *answer, const char *key, GError **error)
{
    const GByteArray *body = answer->http.body;
    g_autofree char *text = body ? s3_xml_text(body->data, body->len, "ETag") : NULL;
    char *etag = s3_etag_unquoted(text);
    if (etag)
        return etag;
    g_autofree char *where = s3_name(s3, key);
    nothing_said("cannot copy to", where, error);
    return NULL;
}

gboolean s3_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how, StoreResult *result,
                 GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autoptr(GPtrArray) headers = s3_headers_new();
    s3_headers_put(s3, headers, how);
    s3_headers_add(headers, "x-amz-metadata-directive", "REPLACE");
    add_source(s3, headers, source);
    if (how->if_absent)
        s3_headers_add(headers, "If-None-Match", "*");
    if (!check_absent(store, key, how, error))
        return FALSE;
    S3Request request = {.kind = STORE_REQUEST_COPY,
                         .method = "PUT",
                         .key = key,
                         .headers = headers,
                         .body = &(StoreBody){0},
                         .error_in_body = TRUE,
                         .what = "cannot copy to",
                         .permission = "s3:PutObject, and s3:GetObject of the source,"};
    g_auto(S3Answer) answer = {0};
    if (!s3_perform(s3, &request, &answer, error))
        return FALSE;
    result->etag = copied_etag(s3, &answer, key, error);
    result->version = g_strdup(s3_answer_header(&answer, "x-amz-version-id"));
    if (!result->etag)
        return FALSE;
    /* A server that ignored the condition gives itself away where both are MD5s. */
    gboolean other = (s3->provider->can & PROVIDER_ETAG_MD5) && source->if_match && is_md5(source->if_match) &&
                     is_md5(result->etag) && !s3->sse && strcmp(source->if_match, result->etag) != 0;
    return !other || changed_source(s3, source, error);
}

char *s3_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autoptr(GPtrArray) headers = s3_headers_new();
    s3_headers_put(s3, headers, how);
    S3Request request = {.kind = STORE_REQUEST_PUT,
                         .method = "POST",
                         .key = key,
                         .query = "uploads=",
                         .headers = headers,
                         .body = &(StoreBody){0},
                         .what = "cannot begin the upload of",
                         .permission = "s3:PutObject"};
    g_auto(S3Answer) answer = {0};
    if (!s3_perform(s3, &request, &answer, error))
        return NULL;
    const GByteArray *body = answer.http.body;
    g_autofree char *id = body ? s3_xml_text(body->data, body->len, "UploadId") : NULL;
    if (id && *id != '\0')
        return g_steal_pointer(&id);
    g_autofree char *where = s3_name(s3, key);
    nothing_said("cannot begin the upload of", where, error);
    return NULL;
}

static char *part_query(const char *upload, guint number)
{
    g_autoptr(GString) query = g_string_new(NULL);
    if (number > 0)
        g_string_append_printf(query, "partNumber=%u", number);
    s3_query_add(query, "uploadId", upload);
    return g_strdup(query->str);
}

gboolean s3_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body, char **etag,
                 GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autofree char *query = part_query(upload, number);
    S3Request request = {.kind = STORE_REQUEST_PUT,
                         .method = "PUT",
                         .key = key,
                         .query = query,
                         .body = body,
                         .object = TRUE,
                         .what = "cannot send a part of",
                         .permission = "s3:PutObject"};
    g_auto(S3Answer) answer = {0};
    if (!s3_perform(s3, &request, &answer, error))
        return FALSE;
    *etag = s3_answer_etag(&answer);
    g_autofree char *where = *etag ? NULL : s3_name(s3, key);
    return *etag || nothing_said("cannot send a part of", where, error);
}

gboolean s3_copy_part(Store *store, const char *key, const char *upload, guint number, const StoreSource *source,
                      guint64 offset, guint64 length, char **etag, GError **error)
{
    S3Store *s3 = s3_of(store);
    if (length == 0 || offset + length < offset)
        return error_set(error, BACKAPP_ERROR_INVALID, "a part of %" G_GUINT64_FORMAT " bytes cannot be copied",
                         length);
    g_autofree char *query = part_query(upload, number);
    g_autofree char *range =
        g_strdup_printf("bytes=%" G_GUINT64_FORMAT "-%" G_GUINT64_FORMAT, offset, offset + length - 1);
    g_autoptr(GPtrArray) headers = s3_headers_new();
    add_source(s3, headers, source);
    s3_headers_add(headers, "x-amz-copy-source-range", range);
    S3Request request = {.kind = STORE_REQUEST_COPY,
                         .method = "PUT",
                         .key = key,
                         .query = query,
                         .headers = headers,
                         .body = &(StoreBody){0},
                         .error_in_body = TRUE,
                         .what = "cannot copy a part of",
                         .permission = "s3:PutObject, and s3:GetObject of the source,"};
    g_auto(S3Answer) answer = {0};
    if (!s3_perform(s3, &request, &answer, error))
        return FALSE;
    *etag = copied_etag(s3, &answer, key, error);
    if (*etag && check_source(store, source, error))
        return TRUE;
    g_clear_pointer(etag, g_free);
    return FALSE;
}

/* The document that names the parts. Servers are not all strict about their order, so we are. */
static GString *parts_document(const StorePart *parts, guint count, GError **error)
{
    g_autoptr(GString) text =
        g_string_new("<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (guint i = 0; i < count; i++) {
        if (parts[i].number < 1 || !parts[i].etag || (i > 0 && parts[i].number <= parts[i - 1].number)) {
            error_set(error, BACKAPP_ERROR_INVALID, "the parts of an upload are not in order, or lack an ETag");
            return NULL;
        }
        g_string_append_printf(text, "<Part><PartNumber>%u</PartNumber><ETag>&quot;", parts[i].number);
        s3_xml_append(text, parts[i].etag);
        g_string_append(text, "&quot;</ETag></Part>");
    }
    g_string_append(text, "</CompleteMultipartUpload>");
    return g_steal_pointer(&text);
}

/* Radosgw does not say the ETag of what it completed. The object does; and it has to be the one that the parts make, not
 * what was there before or what somebody else wrote. */
static gboolean look_at_completed(Store *store, const char *key, const StorePart *parts, guint count,
                                  const StorePut *how, StoreResult *result, GError **error)
{
    g_autoptr(StoreObject) object = s3_head(store, key, NULL, error);
    if (!object)
        return FALSE;
    if (!store_made_of_parts(object, parts, count, how)) {
        g_autofree char *where = s3_name(s3_of(store), key);
        return error_set(error, BACKAPP_ERROR_TRANSIENT,
                         "cannot complete the upload of %s: the server says it did, but the object is another one",
                         where);
    }
    result->etag = g_strdup(object->etag);
    if (!result->version)
        result->version = g_strdup(object->version);
    return TRUE;
}

/* Radosgw says of an upload that was aborted, and of one that is being completed, the same: that a completion is in
 * progress. Its parts tell which it is. */
static gboolean is_gone(Store *store, const char *key, const char *upload, const GError *failure)
{
    if (!error_is(failure, BACKAPP_ERROR_TRANSIENT) || !strstr(failure->message, "already in progress"))
        return FALSE;
    g_autoptr(GError) local = NULL;
    g_autoptr(GArray) parts = s3_list_parts(store, key, upload, &local);
    return !parts && error_is(local, BACKAPP_ERROR_NOT_FOUND);
}

gboolean s3_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                     const StorePut *how, StoreResult *result, GError **error)
{
    S3Store *s3 = s3_of(store);
    if (count == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "an upload of no parts cannot be completed");
    g_autoptr(GString) document = parts_document(parts, count, error);
    if (!document || !check_absent(store, key, how, error))
        return FALSE;
    g_autofree char *query = part_query(upload, 0);
    g_autoptr(GPtrArray) headers = s3_headers_new();
    s3_headers_add(headers, "Content-Type", "application/xml");
    if (how->if_absent)
        s3_headers_add(headers, "If-None-Match", "*");
    StoreBody body = {.data = document->str, .length = document->len};
    S3Request request = {.kind = STORE_REQUEST_PUT,
                         .method = "POST",
                         .key = key,
                         .query = query,
                         .headers = headers,
                         .body = &body,
                         .error_in_body = TRUE,
                         .what = "cannot complete the upload of",
                         .permission = "s3:PutObject"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(GError) local = NULL;
    if (!s3_perform(s3, &request, &answer, &local)) {
        if (is_gone(store, key, upload, local))
            return store_no_upload(key, upload, error);
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    const GByteArray *said = answer.http.body;
    g_autofree char *text = said ? s3_xml_text(said->data, said->len, "ETag") : NULL;
    result->etag = s3_etag_unquoted(text);
    result->version = g_strdup(s3_answer_header(&answer, "x-amz-version-id"));
    if (result->etag || look_at_completed(store, key, parts, count, how, result, error))
        return TRUE;
    store_result_clear(result);
    return FALSE;
}

gboolean s3_abort(Store *store, const char *key, const char *upload, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autofree char *query = part_query(upload, 0);
    S3Request request = {.kind = STORE_REQUEST_PUT,
                         .method = "DELETE",
                         .key = key,
                         .query = query,
                         .what = "cannot abort the upload of",
                         .permission = "s3:AbortMultipartUpload"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(GError) local = NULL;
    if (s3_perform(s3, &request, &answer, &local) || g_strcmp0(answer.code, "NoSuchUpload") == 0)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}
