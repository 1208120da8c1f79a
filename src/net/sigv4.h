/*
 * AWS Signature Version 4: the Authorization header of a request, and presigned URLs. Pure functions; any thread.
 * Source: AWS General Reference, "Signature Version 4 signing process", and the S3 API's notes on it (a path is encoded
 * once, x-amz-content-sha256 is signed).
 */
#pragma once

#include <glib.h>

typedef struct {
    const char *access_key, *secret_key;
    const char *session_token; /* NULL for long-lived keys */
} SigCredentials;

typedef struct {
    const char *method;
    const char *host;  /* as the Host header has it, with a port that is not the scheme's */
    const char *path;  /* encoded, begins with a slash */
    const char *query; /* encoded, in any order, without '?'; NULL or "": none */
    const char *region, *service;
    gint64 time; /* seconds since 1970, corrected by the server's clock */
} SigRequest;

/* Length of a hex SHA-256 with its zero byte. */
#define SIGV4_HEX 65

/* Signs: appends "x-amz-date", "x-amz-security-token" (if there is a token), "x-amz-content-sha256" and "Authorization"
 * to headers (of "Name: value"). The headers already there that are signed: all but "Content-Length", "Expect",
 * "User-Agent" and "Accept-Encoding". payload_hash is the body's SHA-256 in lower-case hex or "UNSIGNED-PAYLOAD". */
void sigv4_sign(const SigRequest *request, const SigCredentials *credentials, const char *payload_hash,
                GPtrArray *headers);

/* The query string of a presigned request (signature included) that is valid for expires_s (1 to 604,800) seconds.
 * headers: those that whoever uses it has to send as they are; may be NULL. The caller frees. */
char *sigv4_presign(const SigRequest *request, const SigCredentials *credentials, guint expires_s,
                    const GPtrArray *headers);
