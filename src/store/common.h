/*
 * What the drivers and wrappers of this folder share: the bytes of a body wherever they come from, and counters. For
 * the .c files of src/store only. Any thread; nothing is owned.
 */
#pragma once

#include "crypto/hash.h"
#include "store/store.h"

#include <stdatomic.h>

/* Bytes of a body that are looked at in one go. */
#define STORE_PIECE_BYTES (256 * 1024)

/* A body's bytes from `offset`: *data points at 1 to STORE_PIECE_BYTES of them, in the body's memory or in `buffer` (of
 * STORE_PIECE_BYTES, filled by the read function). *length is 0 only at the end. FALSE with what the function said, or
 * INVALID if it gave nothing, or more than was asked for. */
gboolean store_body_piece(const StoreBody *body, guint64 offset, guint8 *buffer, const guint8 **data, gsize *length,
                          GError **error);

/* Feeds a whole body to a hash. */
gboolean store_body_hash(const StoreBody *body, Hash *hash, GError **error);

/* CORRUPT if the body says which SHA-256 it has, and this is another. */
gboolean store_body_check(const StoreBody *body, const guint8 sha256[HASH_BYTES], const char *key, GError **error);

/* The part of an object of `size` bytes that a range means: its length, cut at the end of the object. INVALID if it
 * starts behind the end. */
gboolean store_range_cut(const StoreRange *range, guint64 size, guint64 *length, GError **error);

/* NOT_FOUND for a key, and for an upload. Return FALSE. */
gboolean store_no_object(const char *key, GError **error);
gboolean store_no_upload(const char *key, const char *upload, GError **error);

/* Empty arrays that own what is in them: of StoreUpload *, and of StorePart. */
GPtrArray *store_uploads_new(void);
GArray *store_parts_new(void);
/* The ETag of an object of parts, "SUM-N", as S3 makes it of theirs: SUM is the MD5 of their MD5s, or, of parts that have
 * a SHA-256, the SHA-256 of those. NULL if the parts' ETags are no such sums. */
char *store_parts_etag(const StorePart *parts, guint count);
/* TRUE if an object is the one that these parts make: by its ETag; or, where ETags are no sums of the parts (SSE-KMS), by
 * the number of parts, the size, and the mtime of `how`. */
gboolean store_made_of_parts(const StoreObject *object, const StorePart *parts, guint count, const StorePut *how);
/* Gives each of the keys `from` to `count` - 1 of a deletion that has no error yet a copy of this one. */
void store_errors_fill(GError **errors, guint from, guint count, const GError *why);
/* Sorts uploads by their keys' bytes, then by their start. */
void store_uploads_sort(GPtrArray *uploads);

/* Counters behind StoreCounts. Zeroed: nothing so far. */
typedef struct {
    atomic_ullong requests[STORE_REQUEST_KINDS];
    atomic_ullong retries, sent, received;
} StoreTally;
void store_tally_request(StoreTally *tally, StoreRequest kind);
void store_tally_read(StoreTally *tally, StoreCounts *counts);

/* Makes `wrapper` (zeroed) a wrapper of `inner`: the table, what it can do and its limits; the url is a copy. */
void store_wrap(Store *wrapper, const StoreOps *ops, const Store *inner);

/* Waits, in pieces so that cancel is noticed soon. FALSE with CANCELLED. */
gboolean store_wait_us(guint64 microseconds, const CancelFlag *cancel, GError **error);
