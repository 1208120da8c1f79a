#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "base/human.h"
#include "store/s3_page.h"

#define PAGE_KEYS "1000"

typedef struct {
    StoreList list; /* first */
    S3Store *s3;
    char *prefix, *start_after;
    gboolean versions;
    S3Page *page;
    guint at; /* of the page's entries: the next */
    gboolean any_page;
    char *last; /* key that was given last */
    GThread *fetching;
    StoreObject object; /* given to the caller */
} List;

/* What a thread that fetches brings back. */
typedef struct {
    S3Page *page;
    GError *error;
} Fetched;

/* The last entry is where the next page begins. The server's own markers are encoded by some and not by others. */
static void add_version_markers(GString *query, const S3Page *after)
{
    guint count = after->entries->len;
    const S3Entry *last = count > 0 ? &g_array_index(after->entries, S3Entry, count - 1) : NULL;
    const char *version = last && last->version > 0 ? after->text->str + last->version : after->version_marker;
    s3_query_add(query, "key-marker", last ? after->text->str + last->key : after->key_marker);
    if (version && *version != '\0')
        s3_query_add(query, "version-id-marker", version);
}

static char *list_query(const List *list, const S3Page *after)
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
static S3Page *fetch_page(const List *list, const S3Page *after, GError **error)
{
    g_autofree char *query = list_query(list, after);
    S3Request request = {.kind = STORE_REQUEST_LIST,
                         .method = "GET",
                         .query = query,
                         .what = "cannot list",
                         .permission = list->versions ? "s3:ListBucketVersions" : "s3:ListBucket"};
    g_auto(S3Answer) answer = {0};
    g_autoptr(S3Page) page = s3_page_new(list->versions);
    if (!s3_perform(list->s3, &request, &answer, error))
        return NULL;
    gboolean good = s3_page_parse(page, answer.http.body, error);
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

static S3Page *collect_fetched(List *list, GError **error)
{
    Fetched *fetched = g_thread_join(g_steal_pointer(&list->fetching));
    S3Page *page = fetched->page;
    if (fetched->error)
        g_propagate_error(error, fetched->error);
    g_free(fetched);
    return page;
}

/* A server that sends the same page for ever would otherwise hold us for ever. */
static gboolean check_progress(const List *list, const S3Page *page, GError **error)
{
    const S3Page *before = list->page;
    if (!before || !page->truncated || g_strcmp0(page->token, before->token) != 0 ||
        g_strcmp0(page->key_marker, before->key_marker) != 0 ||
        g_strcmp0(page->version_marker, before->version_marker) != 0)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s lists the same page again and again", list->s3->store.url);
}

/* Makes the next page current and has the one behind it fetched meanwhile. After an error the same may be tried again. */
static gboolean turn_page(List *list, GError **error)
{
    g_autoptr(S3Page) fresh = list->fetching ? collect_fetched(list, error) : fetch_page(list, list->page, error);
    if (!fresh || !check_progress(list, fresh, error))
        return FALSE;
    s3_page_free(list->page);
    S3Page *page = list->page = g_steal_pointer(&fresh);
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

static const char *text_at(const S3Page *page, gsize at, const char *none)
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
    const S3Page *page = list->page;
    const S3Entry *entry = &g_array_index(page->entries, S3Entry, list->at);
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
        s3_page_free(collect_fetched(list, NULL));
    s3_page_free(list->page);
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
