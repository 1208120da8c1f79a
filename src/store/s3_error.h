/*
 * What an S3 server's refusal means: its Code (servers fill Message as they like, or not at all) and status as one of
 * our errors, with a message that says what was tried, why it failed and what to do. Pure functions; any thread.
 */
#pragma once

#include "base/error.h"
#include "net/http.h"

/* A refusal taken apart. Zero it before; s3_failure_clear after. Strings may be NULL but for code. */
typedef struct {
    guint status;
    char *code; /* "" if the server did not say one */
    char *message;
    char *request_id;
    char *region;   /* where the bucket is, if the answer tells */
    char *endpoint; /* where to ask instead, if the answer tells */
} S3Failure;

/* Takes an answer apart. Never fails: what cannot be read is not there. */
void s3_failure_read(S3Failure *failure, const HttpResponse *response);
void s3_failure_clear(S3Failure *failure);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(S3Failure, s3_failure_clear)

/* TRUE if the body of an answer with status 200 is an error all the same. */
gboolean s3_failure_in_body(const HttpResponse *response);

/* The code of our domain for it. */
BackappError s3_failure_code(const S3Failure *failure);

/* TRUE if the server asks for fewer requests. */
gboolean s3_failure_is_slow_down(const S3Failure *failure);

/* What was tried, for the message. */
typedef struct {
    const char *what;       /* "cannot write" */
    const char *where;      /* "s3://bucket/key" */
    const char *permission; /* "s3:PutObject" */
    const char *resource;   /* "arn:aws:s3:::bucket/key" */
} S3Deed;

/* Sets *error. Always returns FALSE. */
gboolean s3_failure_set(const S3Failure *failure, const S3Deed *deed, GError **error);
