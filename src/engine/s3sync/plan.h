/*
 * What a run would do, found by a streaming merge of three sorted sequences: the scan of the source, the catalogue, and
 * the list of the bucket (or, without a list, the catalogue alone). The plan lies in an unlinked temporary file; it is
 * what a dry run prints. s3plan_make runs in one thread. Memory does not grow with the number of files (hard-linked ones
 * and objects of long keys aside: scan.h, plan_list.h); about 21 MiB for a directory of 1,000,000 files.
 */
#pragma once

#include "engine/s3sync/catalogue.h"
#include "engine/s3sync/s3sync.h"
#include "engine/source/entry.h"
#include "engine/source/scan.h"

typedef enum {
    S3PLAN_KEEP = 1, /* the object is as it should be; entry with its object's facts, for the metadata tree */
    S3PLAN_UPLOAD,   /* new or changed content; with the reason "time" only the time is known to differ */
    S3PLAN_CHECK,    /* same size, but nothing is known of its mtime (no row): HEAD decides between keep and upload */
    S3PLAN_TOUCH,    /* content equal (by hash), mtime or class differs: a copy onto itself */
    S3PLAN_COPY,     /* unchanged since the last date: copied inside the store from `source` */
    S3PLAN_DELETE,   /* no longer in the source (only key, object_size, etag, version, storage_class are set) */
    S3PLAN_META,     /* no object: directory, symlink, special; for the metadata tree */
} S3PlanOp;

typedef struct {
    S3PlanOp op;
    S3Entry entry;
    /* "new", "size", "time", "content", "etag" (changed by others), "lost", "class", "damaged"; static */
    const char *reason;
    const char *storage_class; /* that it should have; NULL: the store's default */
    const char *have_class;    /* of the present object; NULL: none */
    const char *have_etag;
    guint64 have_size;                                 /* of the present object; meaningless without have_etag */
    const char *source, *source_etag, *source_version; /* COPY: key relative to the store, not to the prefix */
} S3PlanItem;

/* A further name of a file this large is copied inside the store from the first one; smaller ones are read from the cache
 * faster. */
#define S3PLAN_LINK_MIN (1024 * 1024)
static inline gboolean s3plan_is_link_copy(const S3PlanItem *item)
{
    return item->op == S3PLAN_UPLOAD && item->entry.link != NULL && item->entry.meta.size >= S3PLAN_LINK_MIN;
}

typedef struct S3Plan S3Plan;
typedef struct S3PlanReader S3PlanReader;

/* Where it compares with. */
typedef struct {
    const S3syncOptions *options;
    Store *store;         /* below the run's prefix (store_prefix_new) */
    gsize prefix_length;  /* bytes of the whole prefix, for long keys */
    Catalogue *catalogue; /* of the run's prefix */
    gboolean list;        /* compare with the bucket's list; else with the catalogue alone */
    /* The date before, for date prefixes; NULL: none. Keys of its rows are relative to base_prefix, which is relative to
     * base_store: unchanged files are copied from there. */
    Catalogue *base;
    const char *base_prefix;
} S3PlanInput;

/* Counts of what the plan holds. */
typedef struct {
    guint64 uploads, upload_bytes, checks, touches, copies, copy_bytes, deletes, delete_bytes, kept, kept_bytes;
    guint64 created, changed, unchanged; /* files; metadata-only entries are not counted */
    guint64 objects;                     /* that the bucket had under the prefix */
    guint64 listed;                      /* pages asked for */
} S3PlanCounts;

/* Makes a plan. scan is filled. */
S3Plan *s3plan_make(const S3PlanInput *input, const ScanOptions *scan_options, ScanStats *scan, GError **error);
const S3PlanCounts *s3plan_counts(const S3Plan *plan);
/* 32 hex digits over what would be done; the caller frees. */
char *s3plan_hash(const S3Plan *plan);
S3PlanReader *s3plan_reader_new(S3Plan *plan);
/* The next item, valid until the next call: 1, 0 at the end, -1 on error. */
int s3plan_reader_next(S3PlanReader *reader, S3PlanItem *item, GError **error);
void s3plan_reader_free(S3PlanReader *reader);
void s3plan_free(S3Plan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3Plan, s3plan_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(S3PlanReader, s3plan_reader_free)
