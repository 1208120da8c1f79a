/*
 * One page of a list of objects or versions, from the server's XML: entries in the order they came in, with their texts
 * in one block. A page belongs to one thread at a time. For the driver and its tests.
 */
#pragma once

#include <glib.h>

/* One entry of a page; texts are offsets into the page's, 0 for none. */
typedef struct {
    gsize key, etag, version, storage_class;
    guint64 size;
    gint64 modified;
    gboolean latest, delete_marker, has_size;
} S3Entry;

/* A page of a list as it was read. */
typedef struct {
    GArray *entries;
    GString *text; /* zero-terminated strings; the first byte is a zero, for "none" */
    char *token, *key_marker, *version_marker;
    gboolean versions, truncated, encoded;
    S3Entry entry; /* being read */
    gboolean in_entry;
} S3Page;

/* An empty page, of versions or of objects. */
S3Page *s3_page_new(gboolean versions);

/* Reads a page from an answer. CORRUPT if it is not one. */
gboolean s3_page_parse(S3Page *page, const GByteArray *body, GError **error);

/* Frees; NULL is a no-op. */
void s3_page_free(S3Page *page);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Page, s3_page_free)
