#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "base/human.h"
#include "store/s3_time.h"
#include "store/s3_xml.h"

#define PAGE_KEYS "1000"

/* One entry of a page; texts are offsets into the page's, 0 for none. */
typedef struct {
    gsize key, etag, version, storage_class;
    guint64 size;
    gint64 modified;
    gboolean latest, delete_marker, has_size;
} Entry;

/* A page of a list as it was read. */
typedef struct {
    GArray *entries;
    GString *text; /* zero-terminated strings; the first byte is a zero, for "none" */
    char *token, *key_marker, *version_marker;
    gboolean truncated, encoded;
    Entry entry; /* being read */
    gboolean in_entry;
} Page;

typedef struct {
    StoreList list; /* first */
    S3Store *s3;
    char *prefix, *start_after;
    gboolean versions;
    Page *page;
    guint at; /* of the page's entries: the next */
    gboolean any_page;
    char *last; /* key that was given last */
    GThread *fetching;
    StoreObject object; /* given to the caller */
} List;

/* What a thread that fetches brings back. */
typedef struct {
    Page *page;
    GError *error;
} Fetched;

static void page_free(Page *page)
{
    if (!page)
        return;
    g_array_unref(page->entries);
    g_string_free(page->text, TRUE);
    g_free(page->token);
    g_free(page->key_marker);
    g_free(page->version_marker);
    g_free(page);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Page, page_free)

static Page *page_new(void)
{
    Page *page = g_new0(Page, 1);
    page->entries = g_array_sized_new(FALSE, FALSE, sizeof(Entry), 1000);
    page->text = g_string_sized_new(64 * 1024);
    g_string_append_c(page->text, '\0');
    return page;
}

static gsize keep(Page *page, const char *text, gsize length)
{
    gsize at = page->text->len;
    g_string_append_len(page->text, text, (gssize)length);
    g_string_append_c(page->text, '\0');
    return at;
}

static gboolean is_entry(const char *name)
{
    return strcmp(name, "Contents") == 0 || strcmp(name, "Version") == 0 || strcmp(name, "DeleteMarker") == 0;
}

static gboolean open_element(gpointer user_data, guint depth, const char *name, GError **error)
{
    Page *page = user_data;
    if (depth == 2 && is_entry(name)) {
        page->entry = (Entry){.latest = *name == 'C', .delete_marker = *name == 'D'};
        page->in_entry = TRUE;
    }
    return TRUE;
}

static void take_field(Page *page, const char *name, const char *text, gsize length)
{
    Entry *entry = &page->entry;
    if (strcmp(name, "Key") == 0)
        entry->key = keep(page, text, length);
    else if (strcmp(name, "Size") == 0)
        entry->has_size = g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &entry->size, NULL);
    else if (strcmp(name, "LastModified") == 0)
        (void)s3_time_parse_iso(text, &entry->modified);
    else if (strcmp(name, "ETag") == 0 && length >= 2 && text[0] == '"' && text[length - 1] == '"')
        entry->etag = keep(page, text + 1, length - 2);
    else if (strcmp(name, "ETag") == 0)
        entry->etag = keep(page, text, length);
    else if (strcmp(name, "VersionId") == 0)
        entry->version = keep(page, text, length);
    else if (strcmp(name, "StorageClass") == 0 && length > 0)
        entry->storage_class = keep(page, text, length);
    else if (strcmp(name, "IsLatest") == 0)
        entry->latest = strcmp(text, "true") == 0;
}

static void replace(char **slot, const char *text, gsize length)
{
    g_free(*slot);
    *slot = g_strndup(text, length);
}

static gboolean close_element(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                              GError **error)
{
    Page *page = user_data;
    if (depth == 3 && page->in_entry) {
        take_field(page, name, text, length);
    } else if (depth == 2 && page->in_entry) {
        page->in_entry = FALSE;
        if (page->entry.key == 0 || (!page->entry.has_size && !page->entry.delete_marker))
            return error_set(error, BACKAPP_ERROR_CORRUPT, "the server's list has an entry without key or size");
        g_array_append_val(page->entries, page->entry);
    } else if (depth == 2 && strcmp(name, "IsTruncated") == 0) {
        page->truncated = strcmp(text, "true") == 0;
    } else if (depth == 2 && strcmp(name, "EncodingType") == 0) {
        page->encoded = strcmp(text, "url") == 0;
    } else if (depth == 2 && strcmp(name, "NextContinuationToken") == 0) {
        replace(&page->token, text, length);
    } else if (depth == 2 && strcmp(name, "NextKeyMarker") == 0) {
        replace(&page->key_marker, text, length);
    } else if (depth == 2 && strcmp(name, "NextVersionIdMarker") == 0) {
        replace(&page->version_marker, text, length);
    }
    return TRUE;
}

/* Keys can be decoded only at the end: the element that says whether they are encoded may follow them. */
static gboolean parse_page(Page *page, const GByteArray *body, GError **error)
{
    static const S3XmlHandler handler = {.open = open_element, .close = close_element};
    if (!body || !s3_xml_parse(body->data, body->len, &handler, page, error))
        return body || error_set(error, BACKAPP_ERROR_CORRUPT, "the server's list is empty");
    if (!page->encoded)
        return TRUE;
    for (guint i = 0; i < page->entries->len; i++)
        s3_url_decode(page->text->str + g_array_index(page->entries, Entry, i).key);
    return TRUE;
}

/* The last entry is where the next page begins. The server's own markers are encoded by some and not by others. */
static void add_version_markers(GString *query, const Page *after)
{
    guint count = after->entries->len;
    const Entry *last = count > 0 ? &g_array_index(after->entries, Entry, count - 1) : NULL;
    const char *version = last && last->version > 0 ? after->text->str + last->version : after->version_marker;
    s3_query_add(query, "key-marker", last ? after->text->str + last->key : after->key_marker);
    if (version && *version != '\0')
        s3_query_add(query, "version-id-marker", version);
}

static char *list_query(const List *list, const Page *after)
{
    g_autoptr(GString) query = g_string_new(list->versions ? "versions=" : "list-type=2");
    g_autofree char *prefix = g_strconcat(list->s3->prefix, list->prefix, NULL);
    s3_query_add(query, "encoding-type", "url");
    s3_query_add(query, "max-keys", PAGE_KEYS);
    if (*prefix != '\0')
        s3_query_add(query, "prefix", prefix);
    if (!after && list->start_after) {
        g_autofree char *start = g_strconcat(list->s3->prefix, list->start_after, NULL);
        s3_query_add(query, list->versions ? "key-marker" : "start-after", start);
    } else if (after && list->versions) {
        add_version_markers(query, after);
    } else if (after) {
        s3_query_add(query, "continuation-token", after->token);
    }
    return g_strdup(query->str);
}

/* The page behind another, or the first. Only reads the list's fixed fields: another thread may be giving out `after`. */
static Page *fetch_page(const List *list, const Page *after, GError **error)
{
    g_autofree char *query = list_query(list, after);
    S3Request request = {.kind = STORE_REQUEST_LIST,
                         .method = "GET",
                         .query = query,
                         .what = "cannot list",
                         .permission = list->versions ? "s3:ListBucketVersions" : "s3:ListBucket"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(Page) page = page_new();
    if (!s3_perform(list->s3, &request, &answer, error))
        return NULL;
    gboolean good = parse_page(page, answer.http.body, error);
    if (good && page->truncated && !(list->versions ? page->key_marker : page->token))
        good = error_set(error, BACKAPP_ERROR_CORRUPT, "the server's list goes on, and does not say where");
    if (good)
        return g_steal_pointer(&page);
    g_prefix_error(error, "cannot list %s: ", list->s3->store.url);
    return NULL;
}

static gpointer fetch_next(gpointer data)
{
    const List *list = data;
    Fetched *fetched = g_new0(Fetched, 1);
    fetched->page = fetch_page(list, list->page, &fetched->error);
    return fetched;
}

static Page *collect_fetched(List *list, GError **error)
{
    Fetched *fetched = g_thread_join(g_steal_pointer(&list->fetching));
    Page *page = fetched->page;
    if (fetched->error)
        g_propagate_error(error, fetched->error);
    g_free(fetched);
    return page;
}

/* A server that sends the same page for ever would otherwise hold us for ever. */
static gboolean check_progress(const List *list, const Page *page, GError **error)
{
    const Page *before = list->page;
    if (!before || !page->truncated || g_strcmp0(page->token, before->token) != 0 ||
        g_strcmp0(page->key_marker, before->key_marker) != 0 ||
        g_strcmp0(page->version_marker, before->version_marker) != 0)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists the same page again and again", list->s3->store.url);
}

/* Makes the next page current and has the one behind it fetched meanwhile. After an error the same may be tried again. */
static gboolean turn_page(List *list, GError **error)
{
    g_autoptr(Page) fresh = list->fetching ? collect_fetched(list, error) : fetch_page(list, list->page, error);
    if (!fresh || !check_progress(list, fresh, error))
        return FALSE;
    page_free(list->page);
    Page *page = list->page = g_steal_pointer(&fresh);
    list->at = 0;
    list->any_page = TRUE;
    if (page->truncated)
        list->fetching = g_thread_try_new("s3-list", fetch_next, list, NULL); /* without a thread: when it is needed */
    return TRUE;
}

static gboolean check_order(List *list, const char *key, GError **error)
{
    int order = list->last ? strcmp(list->last, key) : -1;
    if (order < 0 || (order == 0 && list->versions)) {
        if (order < 0) {
            g_free(list->last);
            list->last = g_strdup(key);
        }
        return TRUE;
    }
    g_autofree char *first = human_name(list->last, -1);
    g_autofree char *second = human_name(key, -1);
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists out of order: %s before %s", list->s3->store.url, first,
                     second);
}

static const char *text_at(const Page *page, gsize at, const char *none)
{
    return at > 0 ? page->text->str + at : none;
}

static int list_next(StoreList *base, const StoreObject **object, GError **error)
{
    List *list = (List *)(void *)base;
    while (!list->any_page || list->at >= list->page->entries->len) {
        if (list->any_page && !list->page->truncated)
            return 0;
        if (!turn_page(list, error))
            return -1;
    }
    const Page *page = list->page;
    const Entry *entry = &g_array_index(page->entries, Entry, list->at);
    const char *key = page->text->str + entry->key;
    gsize skip = strlen(list->s3->prefix);
    if (strncmp(key, list->s3->prefix, skip) != 0 || strncmp(key + skip, list->prefix, strlen(list->prefix)) != 0) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists keys that were not asked for", list->s3->store.url);
        return -1;
    }
    key += skip;
    if (!check_order(list, key, error))
        return -1;
    list->at++;
    list->object = (StoreObject){.key = key,
                                 .size = entry->size,
                                 .modified = entry->modified,
                                 .etag = text_at(page, entry->etag, ""),
                                 .version = text_at(page, entry->version, NULL),
                                 .storage_class = text_at(page, entry->storage_class, "STANDARD"),
                                 .latest = entry->latest,
                                 .delete_marker = entry->delete_marker};
    *object = &list->object;
    return 1;
}

static void list_free(StoreList *base)
{
    List *list = (List *)(void *)base;
    if (list->fetching)
        page_free(collect_fetched(list, NULL));
    page_free(list->page);
    g_free(list->prefix);
    g_free(list->start_after);
    g_free(list->last);
    g_free(list);
}

StoreList *s3_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error)
{
    List *list = g_new0(List, 1);
    list->list = (StoreList){.next = list_next, .free = list_free};
    list->s3 = s3_of(store);
    list->prefix = g_strdup(prefix);
    list->start_after = g_strdup(start_after);
    list->versions = versions;
    return &list->list;
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
        g->part.number = g_ascii_string_to_unsigned(text, 10, 1, 10000, &number, NULL) ? (guint)number : 0;
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
    static const S3XmlHandler handler = {.close = gather};
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
    if (!body || !s3_xml_parse(body->data, body->len, &handler, g, error))
        return body || error_set(error, BACKAPP_ERROR_CORRUPT, "the server's list is empty");
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

/* Without the store's prefix, as they were begun. */
static void localize_uploads(const S3Store *s3, GPtrArray *uploads)
{
    gsize skip = strlen(s3->prefix);
    for (guint i = 0; i < uploads->len; i++) {
        StoreUpload *upload = uploads->pdata[i];
        if (strncmp(upload->key, s3->prefix, skip) == 0)
            memmove(upload->key, upload->key + skip, strlen(upload->key + skip) + 1);
    }
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
    } while (g.truncated);
    localize_uploads(s3, uploads);
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
        if (!gather_page(s3, &g, key, query->str, error))
            return NULL;
        if (g.truncated && parts->len == before) {
            error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists empty pages of parts", store->url);
            return NULL;
        }
    } while (g.truncated);
    return g_steal_pointer(&parts);
}
