#include "store/s3_page.h"

#include <string.h>

#include "base/error.h"
#include "store/s3_time.h"
#include "store/s3_url.h"
#include "store/s3_xml.h"

void s3_page_free(S3Page *page)
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

S3Page *s3_page_new(gboolean versions)
{
    S3Page *page = g_new0(S3Page, 1);
    page->versions = versions;
    page->entries = g_array_sized_new(FALSE, FALSE, sizeof(S3Entry), 1000);
    page->text = g_string_sized_new(64 * 1024);
    g_string_append_c(page->text, '\0');
    return page;
}

static gsize keep(S3Page *page, const char *text, gsize length)
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
    S3Page *page = user_data;
    /* Anything else that is sent with status 200 would pass for an empty list. */
    if (depth == 1 && (page->versions ? strstr(name, "Version") == NULL : strcmp(name, "ListBucketResult") != 0))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the server's answer is no list, but %s", name);
    if (depth == 2 && is_entry(name)) {
        page->entry = (S3Entry){.latest = *name == 'C', .delete_marker = *name == 'D'};
        page->in_entry = TRUE;
    }
    return TRUE;
}

static void take_field(S3Page *page, const char *name, const char *text, gsize length)
{
    S3Entry *entry = &page->entry;
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
    S3Page *page = user_data;
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
gboolean s3_page_parse(S3Page *page, const GByteArray *body, GError **error)
{
    static const S3XmlHandler handler = {.open = open_element, .close = close_element};
    if (!body || body->len == 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the server's list is empty");
    if (!s3_xml_parse(body->data, body->len, &handler, page, error))
        return FALSE;
    if (!page->encoded)
        return TRUE;
    for (guint i = 0; i < page->entries->len; i++)
        s3_url_decode(page->text->str + g_array_index(page->entries, S3Entry, i).key);
    return TRUE;
}
