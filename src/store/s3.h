/*
 * The S3 driver's inside: the store's structure, and the one function through which all of its requests go. For the
 * s3_*.c files of src/store only; what callers see is store.h, and store_s3_new in drivers.h.
 *
 * A request is signed with the SHA-256 of its body, and the server checks that (docs/decisions). What the answer of a
 * server teaches (its region, its clock, that a session has ended, that it wants MD5s) is remembered for the next one.
 */
#pragma once

#include "store/common.h"
#include "store/provider.h"
#include "store/s3_credentials.h"
#include "store/s3_error.h"
#include "store/s3_url.h"

/* Answers that are read into memory as a whole: lists of 1,000 keys with everything escaped. */
#define S3_ANSWER_MAX (16 * 1024 * 1024)
/* What S3 says: of one PUT or part, of an object. */
#define S3_MAX_PUT    ((guint64)5 * 1024 * 1024 * 1024)
#define S3_MAX_OBJECT ((guint64)5 * 1024 * 1024 * 1024 * 1024)

typedef struct {
    Store store; /* first */
    HttpClient *http;
    S3Credentials *credentials;
    const Provider *provider;
    const CancelFlag *cancel;
    char *bucket, *prefix, *sse, *sse_kms_key;
    char *endpoint; /* as it was given; NULL: the provider's template */
    int path_style;

    GMutex lock; /* for place */
    S3Place *place;
    atomic_llong skew;       /* the server's clock minus ours, seconds; used only once it mattered */
    atomic_bool md5_wanted;  /* the bucket refuses objects without Content-MD5 */
    atomic_bool crc_refused; /* the server does not know x-amz-checksum-crc32c */

    StoreTally tally;
    atomic_ullong slow_downs;
} S3Store;

static inline S3Store *s3_of(Store *store)
{
    return (S3Store *)(void *)store;
}

/* One request. Zeroed but for method, what, permission. */
typedef struct {
    StoreRequest kind;
    const char *method;
    const char *key;        /* relative to the store's prefix; NULL: the bucket */
    const char *query;      /* encoded; may be NULL */
    GPtrArray *headers;     /* of char *, the caller's, left as it is; may be NULL */
    const StoreBody *body;  /* may be NULL */
    gboolean md5;           /* send a Content-MD5 (a body in memory) */
    gboolean object;        /* the body is an object or a part: with an MD5 if the bucket wants that */
    gboolean whole;         /* it is an object: a CRC32C will do, where the provider checks that */
    gboolean error_in_body; /* a 200 may be an error */
    HttpWrite write;        /* as in HttpRequest */
    gpointer write_data;
    const char *what;       /* "cannot write", for messages */
    const char *permission; /* "s3:PutObject", for messages */
} S3Request;

/* What came of it. Zero it before; s3_answer_clear after. */
typedef struct {
    HttpResponse http;
    char *code; /* of a refusal; NULL */
    char *md5;  /* of the body in hexadecimal, if it was computed */
} S3Answer;
void s3_answer_clear(S3Answer *answer);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(S3Answer, s3_answer_clear)

/* Signs and sends, and again where the first answer says what was wrong with it (each reason once). TRUE for a status
 * below 300 without an error in the body. Otherwise the refusal as an error, with answer->code and the status. Waits
 * as Retry-After says (20 s at most) before it returns TRANSIENT. */
gboolean s3_perform(S3Store *s3, const S3Request *request, S3Answer *answer, GError **error);

/* The answer's header, or NULL. */
const char *s3_answer_header(const S3Answer *answer, const char *name);

/* The answer's ETag without quotes; NULL if there is none or an empty one. The caller frees. */
char *s3_answer_etag(const S3Answer *answer);
char *s3_etag_unquoted(const char *etag);

/* "s3://bucket/prefix/key", for messages; key NULL: the bucket. The caller frees. */
char *s3_name(const S3Store *s3, const char *key);

/* The place as it is known now. The caller unrefs. */
S3Place *s3_place_now(S3Store *s3);

/* The time that requests are signed with. */
gint64 s3_time_now(S3Store *s3);

/* A new array of headers, and appending to it. */
GPtrArray *s3_headers_new(void);
void s3_headers_add(GPtrArray *headers, const char *name, const char *value);

/* Headers of how an object is stored: class, type, mtime, encryption, lock; not the condition if_absent. */
void s3_headers_put(const S3Store *s3, GPtrArray *headers, const StorePut *how);

/* A query from a name that is encoded already, and a value that is not; the first begins the query. NULL value: none. */
void s3_query_add(GString *query, const char *name, const char *value);

/* The driver's functions, by file. */
gboolean s3_put(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                GError **error);
gboolean s3_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data, StoreObject **object,
                GError **error);
StoreObject *s3_head(Store *store, const char *key, const char *version, GError **error);
gboolean s3_delete_one(Store *store, const char *key, const char *version, GError **error);
char *s3_presign(Store *store, const char *method, const char *key, guint expires_s, GError **error);

gboolean s3_delete_many(Store *store, const char *const *keys, const char *const *versions, guint count,
                        GError **errors, GError **error);
gboolean s3_set_lock(Store *store, const char *key, const char *version, const char *mode, gint64 until,
                     GError **error);
gboolean s3_thaw(Store *store, const char *key, const char *version, guint days, const char *tier, GError **error);
/* CONFLICT with the date if a version is locked or held, NULL otherwise. The caller frees. */
GError *s3_lock_conflict(S3Store *s3, const char *key, const char *version);

gboolean s3_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how, StoreResult *result,
                 GError **error);
char *s3_begin(Store *store, const char *key, const StorePut *how, GError **error);
gboolean s3_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body, char **etag,
                 GError **error);
gboolean s3_copy_part(Store *store, const char *key, const char *upload, guint number, const StoreSource *source,
                      guint64 offset, guint64 length, char **etag, GError **error);
gboolean s3_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                     const StorePut *how, StoreResult *result, GError **error);
gboolean s3_abort(Store *store, const char *key, const char *upload, GError **error);

StoreList *s3_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error);
GPtrArray *s3_list_uploads(Store *store, const char *prefix, GError **error);
GArray *s3_list_parts(Store *store, const char *key, const char *upload, GError **error);

gboolean s3_facts(Store *store, StoreFacts *facts, GError **error);
gboolean s3_set_versioning(Store *store, gboolean on, GError **error);
gboolean s3_set_lifecycle(Store *store, const StoreLifecycleRule *rules, guint count, GError **error);
