/*
 * The inside of the memory store: memory.c has its objects, memory_upload.c what is sent in parts.
 */
#pragma once

#include "store/common.h"
#include "store/memory.h"

/* One version of an object, or a delete marker. Never changed once it is in, but for its lock. */
typedef struct {
    atomic_uint references;
    GBytes *bytes; /* NULL: a delete marker */
    char *id;      /* NULL: written while versions were not kept */
    char *etag, *storage_class, *mtime, *lock_mode;
    gint64 modified, lock_until;
} Version;

typedef struct {
    Store base;
    GMutex lock;    /* of all below but the tally */
    GTree *objects; /* key -> GPtrArray of Version, oldest first, never empty */
    GPtrArray *uploads;
    gboolean versioning, versioned; /* kept now; ever */
    guint64 ids;
    struct {
        guint count;
        BackappError code;
        gboolean lost_answer;
    } failures[STORE_REQUEST_KINDS];
    StoreTally tally;
} MemoryStore;

/* Counts a request. FALSE if a test wants it to fail before it is done; *lost if after. */
gboolean memory_admit(MemoryStore *self, StoreRequest kind, gboolean *lost, GError **error);

/* The error of a request that was done and whose answer got lost; otherwise `good`. */
gboolean memory_answer(gboolean lost, gboolean good, GError **error);

/* The ETag as S3 has it; where MD5 is switched off the first half of the SHA-256. The caller frees. */
char *memory_etag(const void *data, gsize length);

/* A new version that is not in yet. Takes `bytes` and `etag`. */
Version *memory_version_new(GBytes *bytes, char *etag, const StorePut *how);

/* Makes a version the object, if the conditions hold. Takes it either way. */
gboolean memory_commit(MemoryStore *self, const char *key, Version *version, const StorePut *how, StoreResult *result,
                       GError **error);

/* All bytes of a body in memory, checked. The caller unrefs. */
GBytes *memory_take_in(MemoryStore *self, const StoreBody *body, const char *key, GError **error);

/* The bytes of a source's range. The caller unrefs. */
GBytes *memory_read_source(MemoryStore *self, const StoreSource *source, guint64 offset, guint64 length,
                           GError **error);

/* An empty array that owns its uploads. */
GPtrArray *memory_uploads_new(void);

/* Functions of the table, as store.h has them. */
char *memory_begin(Store *store, const char *key, const StorePut *how, GError **error);
gboolean memory_part(Store *store, const char *key, const char *id, guint number, const StoreBody *body, char **etag,
                     GError **error);
gboolean memory_copy_part(Store *store, const char *key, const char *id, guint number, const StoreSource *source,
                          guint64 offset, guint64 length, char **etag, GError **error);
gboolean memory_complete(Store *store, const char *key, const char *id, const StorePart *parts, guint count,
                         const StorePut *how, StoreResult *result, GError **error);
gboolean memory_abort(Store *store, const char *key, const char *id, GError **error);
GPtrArray *memory_list_uploads(Store *store, const char *prefix, GError **error);
GArray *memory_list_parts(Store *store, const char *key, const char *id, GError **error);
