/*
 * Opening stores, and the wrappers around them.
 */
#pragma once

#include "base/rate.h"
#include "base/retry.h"
#include "store/store.h"

/* Everything that may be said about a store beside its URL. Strings may be NULL: found from the environment (AWS_*),
 * shared files and the provider table. */
typedef struct {
    const char *endpoint, *region, *provider, *profile;
    const char *access_key, *secret_key, *session_token;
    const char *role_arn, *external_id; /* AssumeRole with the credentials above */
    const char *ca_file;
    gboolean insecure;
    int path_style;  /* 1 yes, 0 no, -1 as the provider wants it */
    const char *sse; /* "AES256" or "aws:kms"; NULL: none asked for */
    const char *sse_kms_key;
    guint connections;        /* idle connections kept; 0: 64 */
    Rate *rate;               /* may be NULL; must outlive the store */
    const CancelFlag *cancel; /* may be NULL; must outlive the store */
    gboolean debug;           /* log each request and answer, secrets left out */
    RetryPolicy retry;        /* attempts 0: the default (8 attempts, 200 ms to 20 s) */
} StoreOptions;

/* Everything unset, path_style -1. */
void store_options_default(StoreOptions *options);

/* Opens what a URL names, with the retry and breaker wrappers around it: "s3://BUCKET[/PREFIX]", "file:///DIR",
 * "memory:" or a directory's path. Nothing is asked of the store yet; a directory is made if its parent exists. */
Store *store_open(const char *url, const StoreOptions *options, GError **error);

/* TRUE if `text` is a store's URL (s3:, file:, memory:), not a path. */
gboolean store_is_url(const char *text);

/* The drivers, bare. local: a directory; memory: for tests; s3: a bucket and a prefix (which may be ""). */
Store *store_local_new(const char *directory, GError **error);
Store *store_memory_new(void);
Store *store_s3_new(const char *bucket, const char *prefix, const StoreOptions *options, GError **error);

/* Tries again what failed with TRANSIENT, as the policy says; a get goes on behind what has arrived, if the object still
 * has the same ETag. Takes `inner`. */
Store *store_retry_new(Store *inner, const RetryPolicy *policy, const CancelFlag *cancel);
/* At most this many requests at once and per second (0: no limit). Takes `inner`. */
Store *store_limit_new(Store *inner, guint at_once, guint per_second, const CancelFlag *cancel);
/* After `failures` TRANSIENT errors in a row fails at once for pause_ms, then lets one request try. Takes `inner`. */
Store *store_breaker_new(Store *inner, guint failures, guint64 pause_ms);
/* Sees only keys below prefix and leaves it out of them (the prefix is bytes, usually ending in a slash). Takes `inner`. */
Store *store_prefix_new(Store *inner, const char *prefix);
/* The same, but `inner` stays the caller's and has to outlive it. */
Store *store_prefix_borrow(Store *inner, const char *prefix);
