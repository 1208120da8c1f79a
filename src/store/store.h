/*
 * A place that keeps objects: a bucket, a directory, memory. An object is bytes under a key, with a few facts; it is
 * absent, old, or whole, never half. This header is all that upper layers see; the drivers (local, memory, s3) and the
 * wrappers (retry, limit, breaker) fill the table of functions below, and one contract suite (tests/contract) runs
 * against all of them.
 *
 * Keys are 1 to 1,024 bytes without a zero byte, valid UTF-8, relative to the store's own prefix. Functions block and may
 * be called from any number of threads at once. Errors: NOT_FOUND (no such object, bucket, upload), DENIED, TRANSIENT
 * (trying again may help), CONFLICT (a condition does not hold; the object is locked or cold), NO_SPACE, CORRUPT (a
 * checksum does not agree), INVALID (not possible with this store), CANCELLED.
 */
#pragma once

#include "base/cancel.h"

typedef struct Store Store;

/* What a store can do beyond put, get, head, list, delete. */
typedef enum {
    STORE_COPY = 1 << 0,       /* copies inside the store */
    STORE_RANGE_COPY = 1 << 1, /* parts copied inside the store */
    STORE_MULTIPART = 1 << 2,
    STORE_VERSIONS = 1 << 3, /* versions can be listed and read; whether they are kept: StoreFacts */
    STORE_LOCK = 1 << 4,     /* objects can be locked */
    STORE_CLASSES = 1 << 5,  /* storage classes */
    STORE_METADATA = 1 << 6, /* user metadata beside the bytes */
    STORE_PRESIGN = 1 << 7,
    STORE_IF_MATCH = 1 << 8, /* put with if_absent */
    STORE_THAW = 1 << 9,
    STORE_ETAG_SHA256 = 1 << 10, /* the ETag of a put and of a part is the SHA-256 of its bytes in hexadecimal */
} StoreCan;

/* One object (or version) as listed or looked up. Strings belong to whoever made the structure. */
typedef struct {
    const char *key;
    guint64 size;
    gint64 modified;           /* seconds since 1970, by the store's clock */
    const char *etag;          /* without quotes; "" if unknown */
    const char *version;       /* id; NULL where there are none */
    const char *storage_class; /* "STANDARD" where the store has none */
    gboolean latest;           /* of its key's versions */
    gboolean delete_marker;
    /* Only from head and get: */
    const char *mtime;   /* x-amz-meta-mtime; NULL if there is none */
    const char *restore; /* x-amz-restore, the state of a thaw; NULL if there is none */
} StoreObject;

/* An owned copy. */
StoreObject *store_object_copy(const StoreObject *object);
void store_object_free(StoreObject *object);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreObject, store_object_free)

/* Bytes to store: memory, or a function that can give any part of them again (a retry starts over). */
typedef struct {
    const void *data;
    guint64 length;
    gssize (*read)(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error); /* as HttpBody.read */
    gpointer user_data;
    const guint8 *sha256; /* 32 bytes, if the caller knows it; else NULL: the driver hashes memory, and what read gives
                             in a pass of its own */
} StoreBody;

/* How an object is stored. Zeroed: plain. Strings may be NULL. */
typedef struct {
    const char *storage_class; /* NULL: the store's default */
    const char *content_type;  /* NULL: application/octet-stream */
    const char *mtime;         /* user metadata: seconds since 1970, trailing zeros dropped as by rclone */
    gboolean if_absent;        /* CONFLICT if there is an object (only with STORE_IF_MATCH) */
    const char *lock_mode;     /* "GOVERNANCE" or "COMPLIANCE" */
    gint64 lock_until;         /* seconds since 1970 */
} StorePut;

/* What the store said of a written object. Zero it before; store_result_clear after. */
typedef struct {
    char *etag;    /* without quotes; may be NULL if the store does not tell */
    char *version; /* may be NULL */
} StoreResult;
void store_result_clear(StoreResult *result);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(StoreResult, store_result_clear)

typedef gboolean (*StoreWrite)(gpointer user_data, const void *data, gsize length, GError **error);

/* What to read. version NULL: the latest. length G_MAXUINT64: to the end. if_match NULL: any. */
typedef struct {
    const char *key, *version, *if_match;
    guint64 offset, length;
} StoreRange;

/* A source of a server-side copy, in the same store. */
typedef struct {
    const char *key, *version; /* version may be NULL */
    const char *if_match;      /* ETag that the source must have, else CONFLICT; may be NULL */
    guint64 size;              /* of the source: over 5 GiB a driver copies by parts */
} StoreSource;

typedef struct {
    guint number; /* 1 to 10,000 */
    char *etag;
    guint64 size; /* from list_parts */
} StorePart;

typedef struct {
    char *key, *id;
    gint64 started;
} StoreUpload;

/* A stream of objects in the order of the bytes of their keys (versions: newest first within a key). */
typedef struct StoreList StoreList;
struct StoreList {
    /* The next, valid until the next call: 1; 0 at the end; -1 on error (CORRUPT if the store lists out of order). */
    int (*next)(StoreList *list, const StoreObject **object, GError **error);
    void (*free)(StoreList *list);
};
static inline int store_list_next(StoreList *list, const StoreObject **object, GError **error)
{
    return list->next(list, object, error);
}
static inline void store_list_free(StoreList *list)
{
    if (list)
        list->free(list);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreList, store_list_free)

/* What is known of the place as a whole. TRI: 1 yes, 0 no, -1 not known (no permission to ask). */
typedef struct {
    int versioning, mfa_delete, lock, encryption, public_access;
    int versioning_suspended;
    gint64 clock_skew;             /* the store's clock minus ours, seconds */
    const char *endpoint, *region; /* where it is asked, and signed for; static; NULL: it has none */
} StoreFacts;

/* One rule of a bucket's life cycle; 0: not. */
typedef struct {
    const char *id, *prefix;
    guint expire_days, old_versions_expire_days, abort_uploads_days;
    guint transition_days, old_versions_transition_days;
    const char *transition_class;
} StoreLifecycleRule;

/* How many requests of which kind were made (retries too) and how many bytes of bodies moved. */
typedef enum {
    STORE_REQUEST_PUT, /* also parts, complete, begin, abort */
    STORE_REQUEST_COPY,
    STORE_REQUEST_GET,
    STORE_REQUEST_HEAD,
    STORE_REQUEST_LIST,
    STORE_REQUEST_DELETE,
    STORE_REQUEST_OTHER,
    STORE_REQUEST_KINDS,
} StoreRequest;

typedef struct {
    guint64 requests[STORE_REQUEST_KINDS];
    guint64 retries, slow_downs;
    guint64 bytes_sent, bytes_received;
} StoreCounts;

/* The name of a request kind ("put", "copy", ...); static. */
const char *store_request_name(StoreRequest kind);

/* The driver's functions. Those of a capability that it lacks are NULL; call through store_*, which then say INVALID.
 * Each is documented at its store_* function. A driver may rely on what store_* have seen to: keys are valid; put, copy,
 * begin and complete get a `how` and a zeroed `result`, delete_many gets `errors` (never NULL); what `can` excludes
 * (versions, conditions, locks, classes) is not asked for; text for headers holds no control characters; a copy is at
 * most max_put. A delete_many that ends early gives an error to every key that is not known to be deleted, or to none if
 * it deleted nothing. `free` frees the structure and its url. */
typedef struct {
    const char *name; /* "local", "memory", "s3", or a wrapper's */
    gboolean (*put)(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                    GError **error);
    gboolean (*get)(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data, StoreObject **object,
                    GError **error);
    StoreObject *(*head)(Store *store, const char *key, const char *version, GError **error);
    StoreList *(*list)(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error);
    gboolean (*delete_one)(Store *store, const char *key, const char *version, GError **error);
    gboolean (*delete_many)(Store *store, const char *const *keys, const char *const *versions, guint count,
                            GError **errors, GError **error);
    gboolean (*copy)(Store *store, const StoreSource *source, const char *key, const StorePut *how, StoreResult *result,
                     GError **error);
    char *(*begin)(Store *store, const char *key, const StorePut *how, GError **error);
    gboolean (*part)(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                     char **etag, GError **error);
    gboolean (*copy_part)(Store *store, const char *key, const char *upload, guint number, const StoreSource *source,
                          guint64 offset, guint64 length, char **etag, GError **error);
    gboolean (*complete)(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                         const StorePut *how, StoreResult *result, GError **error);
    gboolean (*abort)(Store *store, const char *key, const char *upload, GError **error);
    GPtrArray *(*list_uploads)(Store *store, const char *prefix, GError **error);
    GArray *(*list_parts)(Store *store, const char *key, const char *upload, GError **error);
    char *(*presign)(Store *store, const char *method, const char *key, guint expires_s, GError **error);
    gboolean (*facts)(Store *store, StoreFacts *facts, GError **error);
    gboolean (*set_versioning)(Store *store, gboolean on, GError **error);
    gboolean (*set_lifecycle)(Store *store, const StoreLifecycleRule *rules, guint count, GError **error);
    gboolean (*set_lock)(Store *store, const char *key, const char *version, const char *mode, gint64 until,
                         GError **error);
    gboolean (*thaw)(Store *store, const char *key, const char *version, guint days, const char *tier, GError **error);
    void (*counts)(Store *store, StoreCounts *counts);
    void (*free)(Store *store);
} StoreOps;

/* What every driver's own structure begins with. */
struct Store {
    const StoreOps *ops;
    StoreCan can;
    char *url;                             /* how it is shown to people, without secrets; owned */
    const struct Provider *provider;       /* store/provider.h; static; NULL: nobody's */
    guint64 min_part;                      /* smallest part but the last; 0 without multipart */
    guint64 max_part, max_object, max_put; /* bytes; max_put: of one put */
    guint max_parts;
};

/* TRUE if it can do all of these. */
gboolean store_can(const Store *store, StoreCan what);

/* Stores an object whole. how and result may be NULL, here and below. A wrong body->sha256 is CORRUPT (or what the store
 * calls it: INVALID) and stores nothing. The bytes are durable, and proven to have arrived as they are, when it returns TRUE. */
gboolean store_put(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                   GError **error);
/* Reads a range of an object into write, and proves the length. *object (may be NULL) gets its facts; the caller frees.
 * A range that starts at or after the end is INVALID, but of an empty object offset 0 gives nothing; one that ends after
 * the end is cut there. The facts' size is the whole object's. When a transfer breaks off, write may have been given a
 * first part, and *object is set if the facts had come by then (the caller frees it then too): a wrapper that tries
 * again goes on behind that part, of an object with the same ETag. */
gboolean store_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data, StoreObject **object,
                   GError **error);
/* Reads a whole object of at most max bytes into memory (CORRUPT beyond). The caller unrefs. */
GBytes *store_get_bytes(Store *store, const char *key, const char *version, gsize max, StoreObject **object,
                        GError **error);
/* Facts of an object; the caller frees. */
StoreObject *store_head(Store *store, const char *key, const char *version, GError **error);
/* All objects whose key begins with prefix (bytes; "" all) and sorts after start_after (NULL: from the first). With
 * versions: all versions and delete markers too. The store must outlive the list. */
StoreList *store_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error);
/* Deletes; an object that is not there is no error. With a version: that version for good. */
gboolean store_delete(Store *store, const char *key, const char *version, GError **error);
/* Deletes up to any number of keys (versions may be NULL; its entries too). errors (count of them, zeroed, or NULL) gets
 * one for each key that is not known to be deleted, tried or not; the caller frees them. After FALSE, NULL means deleted.
 * FALSE if any failed, with how many and the first one's error, or what ended it early. Stores without such a request
 * delete one by one. */
gboolean store_delete_many(Store *store, const char *const *keys, const char *const *versions, guint count,
                           GError **errors, GError **error);
/* Copies inside the store, by parts if it is larger than max_put; `how` is said anew (nothing is taken over from the source). */
gboolean store_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how, StoreResult *result,
                    GError **error);
/* Multipart: begins and returns the upload's id (the caller frees). */
char *store_begin(Store *store, const char *key, const StorePut *how, GError **error);
/* Sends a part; *etag is the caller's. */
gboolean store_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body, char **etag,
                    GError **error);
/* A part from a range of an object in the store. */
gboolean store_copy_part(Store *store, const char *key, const char *upload, guint number, const StoreSource *source,
                         guint64 offset, guint64 length, char **etag, GError **error);
/* Makes the parts (in ascending order of their numbers) the object. CONFLICT if one is missing or was replaced. An answer that was lost is found out by asking for
 * the object. `how` as at begin. */
gboolean store_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                        const StorePut *how, StoreResult *result, GError **error);
/* Ends an upload and frees its parts; one that is not there is no error. */
gboolean store_abort(Store *store, const char *key, const char *upload, GError **error);
/* Unfinished uploads (of StoreUpload *, freed with the array). */
GPtrArray *store_list_uploads(Store *store, const char *prefix, GError **error);
/* The parts that an unfinished upload has (of StorePart, cleared with the array). */
GArray *store_list_parts(Store *store, const char *key, const char *upload, GError **error);
/* A URL that lets its holder do one thing ("GET", "PUT", "HEAD", "DELETE") for a time. A secret. The caller frees. */
char *store_presign(Store *store, const char *method, const char *key, guint expires_s, GError **error);
/* Facts of the whole place; what may not be asked is -1, not an error. */
gboolean store_facts(Store *store, StoreFacts *facts, GError **error);
gboolean store_set_versioning(Store *store, gboolean on, GError **error);
/* Replaces those rules of the bucket whose id begins with "backapp-"; others stay. */
gboolean store_set_lifecycle(Store *store, const StoreLifecycleRule *rules, guint count, GError **error);
/* Locks a version until a time, or extends its lock; never shortens one. */
gboolean store_set_lock(Store *store, const char *key, const char *version, const char *mode, gint64 until,
                        GError **error);
/* Asks for a cold object to be made readable for `days`; tier "Standard", "Bulk" or "Expedited". TRUE also if that was
 * asked for before. */
gboolean store_thaw(Store *store, const char *key, const char *version, guint days, const char *tier, GError **error);
/* What was asked of the store so far. */
void store_counts(Store *store, StoreCounts *counts);
/* Frees; no call may be running. A wrapper frees the store that it wraps. NULL is a no-op. */
void store_free(Store *store);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Store, store_free)

/* TRUE for classes whose objects have to be thawed before they can be read or copied (GLACIER, DEEP_ARCHIVE). NULL: the
 * default class, FALSE. */
gboolean store_class_is_cold(const char *storage_class);

/* The part size for an object of `size` bytes: 8 MiB where that is enough parts, else the smallest multiple of 1 MiB. */
guint64 store_part_size(const Store *store, guint64 size);
