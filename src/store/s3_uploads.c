#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "store/s3_time.h"
#include "store/s3_xml.h"

/* S3's limit. */
#define PARTS_MAX 10000

static void replace(char **slot, const char *text, gsize length)
{
    g_free(*slot);
    *slot = g_strndup(text, length);
}

/* A list of uploads or parts being read: one page after another into an array. */
typedef struct {
    const S3Store *s3;
    GPtrArray *uploads; /* one of these two */
    GArray *parts;
    StoreUpload upload; /* being read */
    StorePart part;
    gboolean truncated, encoded;
    char *next; /* the last part's number */
} Gathering;

static gboolean check_root(gpointer user_data, guint depth, const char *name, GError **error)
{
    const Gathering *g = user_data;
    const char *wanted = g->uploads ? "ListMultipartUploadsResult" : "ListPartsResult";
    return depth != 1 || strcmp(name, wanted) == 0 ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "the server's answer is no list, but %s", name);
}

static gboolean gather(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                       GError **error)
{
    Gathering *g = user_data;
    guint64 number = 0;
    if (depth == 3 && strcmp(name, "Key") == 0) {
        replace(&g->upload.key, text, length);
    } else if (depth == 3 && strcmp(name, "UploadId") == 0) {
        replace(&g->upload.id, text, length);
    } else if (depth == 3 && strcmp(name, "Initiated") == 0) {
        (void)s3_time_parse_iso(text, &g->upload.started);
    } else if (depth == 3 && strcmp(name, "PartNumber") == 0) {
        g->part.number = g_ascii_string_to_unsigned(text, 10, 1, PARTS_MAX, &number, NULL) ? (guint)number : 0;
    } else if (depth == 3 && strcmp(name, "ETag") == 0) {
        g_free(g->part.etag);
        g->part.etag = s3_etag_unquoted(text);
    } else if (depth == 3 && strcmp(name, "Size") == 0) {
        (void)g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &g->part.size, NULL);
    } else if (depth == 2 && strcmp(name, "IsTruncated") == 0) {
        g->truncated = strcmp(text, "true") == 0;
    } else if (depth == 2 && strcmp(name, "EncodingType") == 0) {
        g->encoded = strcmp(text, "url") == 0;
    } else if (depth == 2 && strcmp(name, "NextPartNumberMarker") == 0) {
        replace(&g->next, text, length);
    } else if (depth == 2 && strcmp(name, "Upload") == 0 && g->uploads && g->upload.key && g->upload.id) {
        g_ptr_array_add(g->uploads, g_memdup2(&g->upload, sizeof g->upload));
        g->upload = (StoreUpload){0};
    } else if (depth == 2 && strcmp(name, "Part") == 0 && g->parts && g->part.number > 0 && g->part.etag) {
        g_array_append_val(g->parts, g->part);
        g->part = (StorePart){0};
    }
    return TRUE;
}

static void gathering_clear(Gathering *g)
{
    g_free(g->upload.key);
    g_free(g->upload.id);
    g_free(g->part.etag);
    g_free(g->next);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Gathering, gathering_clear)

/* Fetches a page of uploads or parts. Markers are left for the next one. */
static gboolean gather_page(S3Store *s3, Gathering *g, const char *key, const char *query, GError **error)
{
    static const S3XmlHandler handler = {.open = check_root, .close = gather};
    S3Request request = {.kind = STORE_REQUEST_LIST,
                         .method = "GET",
                         .key = key,
                         .query = query,
                         .what = key ? "cannot list the parts of" : "cannot list unfinished uploads of",
                         .permission = key ? "s3:ListMultipartUploadParts" : "s3:ListBucketMultipartUploads"};
    g_auto(S3Answer) answer = {0};
    if (!s3_perform(s3, &request, &answer, error))
        return FALSE;
    g->truncated = FALSE;
    const GByteArray *body = answer.http.body;
    if (!body || body->len == 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the server's list is empty");
    if (!s3_xml_parse(body->data, body->len, &handler, g, error))
        return FALSE;
    return !g->truncated || g->uploads || g->next ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "the server's list goes on, and does not say where");
}

/* Radosgw encodes the keys of uploads as asked, and does not say so. Then a key is decoded if it cannot be anything but
 * encoded: it has nothing that encoding would have changed. */
static gboolean looks_encoded(const char *key)
{
    for (; *key != '\0'; key++) {
        gboolean escape = *key == '%' && g_ascii_isxdigit(key[1]) && g_ascii_isxdigit(key[2]);
        if (!escape && !g_ascii_isalnum(*key) && strchr("-._~/", *key) == NULL)
            return FALSE;
    }
    return TRUE;
}

static void decode_uploads(const Gathering *g, guint from)
{
    for (guint i = from; i < g->uploads->len; i++) {
        StoreUpload *upload = g->uploads->pdata[i];
        if (g->encoded || looks_encoded(upload->key))
            s3_url_decode(upload->key);
    }
}

/* Without the store's prefix, as they were begun. What does not begin with `whole` is none of ours: a server that lists
 * it all the same must not have it aborted. */
static void localize_uploads(const S3Store *s3, GPtrArray *uploads, const char *whole)
{
    gsize skip = strlen(s3->prefix);
    for (guint i = uploads->len; i-- > 0;) {
        StoreUpload *upload = uploads->pdata[i];
        if (g_str_has_prefix(upload->key, whole))
            memmove(upload->key, upload->key + skip, strlen(upload->key + skip) + 1);
        else
            g_ptr_array_remove_index_fast(uploads, i);
    }
}

/* A page that ends where the one before did would come again for ever. */
static gboolean no_progress(const Store *store, const char *what, GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists the same page of %s again", store->url, what);
}

static gboolean same_upload(const StoreUpload *one, const StoreUpload *other)
{
    return strcmp(one->key, other->key) == 0 && strcmp(one->id, other->id) == 0;
}

GPtrArray *s3_list_uploads(Store *store, const char *prefix, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autoptr(GPtrArray) uploads = store_uploads_new();
    g_auto(Gathering) g = {.s3 = s3, .uploads = uploads};
    g_autofree char *whole = g_strconcat(s3->prefix, prefix, NULL);
    do {
        g_autoptr(GString) query = g_string_new("uploads=");
        s3_query_add(query, "encoding-type", "url");
        if (*whole != '\0')
            s3_query_add(query, "prefix", whole);
        guint before = uploads->len;
        if (before > 0) {
            const StoreUpload *last = uploads->pdata[before - 1];
            s3_query_add(query, "key-marker", last->key);
            s3_query_add(query, "upload-id-marker", last->id);
        }
        if (!gather_page(s3, &g, NULL, query->str, error))
            return NULL;
        decode_uploads(&g, before);
        if (g.truncated && uploads->len == before) {
            error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists empty pages of uploads", store->url);
            return NULL;
        }
        if (before > 0 && same_upload(uploads->pdata[before - 1], uploads->pdata[uploads->len - 1])) {
            no_progress(store, "uploads", error);
            return NULL;
        }
    } while (g.truncated);
    localize_uploads(s3, uploads, whole);
    store_uploads_sort(uploads);
    return g_steal_pointer(&uploads);
}

GArray *s3_list_parts(Store *store, const char *key, const char *upload, GError **error)
{
    S3Store *s3 = s3_of(store);
    g_autoptr(GArray) parts = store_parts_new();
    g_auto(Gathering) g = {.s3 = s3, .parts = parts};
    do {
        g_autoptr(GString) query = g_string_new(NULL);
        s3_query_add(query, "uploadId", upload);
        if (g.next)
            s3_query_add(query, "part-number-marker", g.next);
        guint before = parts->len;
        g_autofree char *marker = g_strdup(g.next);
        if (!gather_page(s3, &g, key, query->str, error))
            return NULL;
        if (parts->len > PARTS_MAX) {
            error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists more than %d parts of an upload", store->url, PARTS_MAX);
            return NULL;
        }
        if (g.truncated && parts->len == before) {
            error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists empty pages of parts", store->url);
            return NULL;
        }
        if (g.truncated && g_strcmp0(marker, g.next) == 0) {
            no_progress(store, "parts", error);
            return NULL;
        }
    } while (g.truncated);
    return g_steal_pointer(&parts);
}
