/*
 * What was last seen in a bucket under one prefix: an SQLite file per destination, so that neither HEADs nor (if wanted)
 * lists are needed. It is a cache: without it everything is found out again; what it says of an object counts only while
 * the store shows the same ETag and size (or, when nothing is listed, while nobody else has written: `generation`). A row
 * is written after the store's answer. Rows come back in key order. One thread at a time, but catalogue_put and
 * catalogue_remove may be called from any.
 */
#pragma once

#include "crypto/hash.h"

typedef struct Catalogue Catalogue;

typedef struct {
    const char *key;
    guint64 object_size;
    guint64 size; /* of the file */
    gint64 mtime_s, ctime_s;
    guint32 mtime_ns, ctime_ns;
    guint64 ino;
    const char *etag, *version, *storage_class; /* version may be NULL */
    guint64 part_size;                          /* 0: no hashes */
    guint8 hash[HASH_BYTES];                    /* as S3Entry.hash */
    const guint8 *parts; /* parts_count * HASH_BYTES, for an object of several parts; else NULL */
    guint parts_count;
} CatalogueRow;

/* Opens or makes the file `path` for a destination (its URL with prefix, checked: CONFLICT if the file is of another).
 * A damaged file is moved aside (path.damaged) and made anew: *fresh tells. An unfinished run in it: *unfinished. LOCKED
 * if another process has it. */
Catalogue *catalogue_open(const char *path, const char *destination, gboolean *fresh, gboolean *unfinished,
                          GError **error);

/* Small named values ("generation", "listed" (seconds since 1970), ...). get: NULL if there is none; the caller frees. */
char *catalogue_get_value(Catalogue *catalogue, const char *name, GError **error);
gboolean catalogue_set_value(Catalogue *catalogue, const char *name, const char *value, GError **error);

/* Marks a run as begun (durable), and as ended. */
gboolean catalogue_begin_run(Catalogue *catalogue, GError **error);
gboolean catalogue_end_run(Catalogue *catalogue, GError **error);

/* A stream of all rows in key order. parts is only filled by catalogue_find. */
typedef struct CatalogueReader CatalogueReader;
CatalogueReader *catalogue_reader_new(Catalogue *catalogue, GError **error);
int catalogue_reader_next(CatalogueReader *reader, const CatalogueRow **row, GError **error); /* 1, 0 at the end, -1 */
void catalogue_reader_free(CatalogueReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CatalogueReader, catalogue_reader_free)

/* One row with its parts: 1, 0 if there is none, -1. Freed with catalogue_row_free. */
int catalogue_find(Catalogue *catalogue, const char *key, CatalogueRow **row, GError **error);
void catalogue_row_free(CatalogueRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CatalogueRow, catalogue_row_free)

/* Writes or removes a row; batched, durable at the latest with catalogue_flush. */
gboolean catalogue_put(Catalogue *catalogue, const CatalogueRow *row, GError **error);
gboolean catalogue_remove(Catalogue *catalogue, const char *key, GError **error);
gboolean catalogue_flush(Catalogue *catalogue, GError **error);

/* At most this many keys are given by catalogue_wrong. */
#define CATALOGUE_WRONG_MAX 100000

/* Notes that the object under the key is not what it should be, whatever the store says of it; its row goes. It is so until
 * a row is put for the key. */
gboolean catalogue_add_wrong(Catalogue *catalogue, const char *key, GError **error);
/* The keys noted (of char *, a set), usually none; the caller unrefs. */
GHashTable *catalogue_wrong(Catalogue *catalogue, GError **error);

/* Unfinished multipart uploads of ours, to resume them: key, upload id, file's size, mtime and part size. */
typedef struct {
    char *key, *id;
    guint64 size, part_size;
    gint64 mtime_s, ctime_s, started;
    guint32 mtime_ns, ctime_ns;
    guint64 ino;
} CatalogueUpload;
gboolean catalogue_put_upload(Catalogue *catalogue, const CatalogueUpload *upload, GError **error); /* durable */
gboolean catalogue_remove_upload(Catalogue *catalogue, const char *id, GError **error);
int catalogue_find_upload(Catalogue *catalogue, const char *key, CatalogueUpload *upload,
                          GError **error);                          /* 1, 0, -1 */
GPtrArray *catalogue_uploads(Catalogue *catalogue, GError **error); /* of CatalogueUpload *, freed with it */
void catalogue_upload_clear(CatalogueUpload *upload);

/* Closes; NULL is a no-op. */
void catalogue_free(Catalogue *catalogue);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Catalogue, catalogue_free)
