/*
 * HTTP and HTTPS requests on libcurl: blocking, from any number of threads, over a pool of connections that are kept
 * and reused. A status of 400 or more is an answer, not an error; what the server means by it is the caller's to say.
 *
 * Threads: a client may be used by any thread; a request and its response belong to the calling one. TLS certificates
 * and host names are always verified unless the options say otherwise. A proxy is taken from the environment (https_proxy,
 * http_proxy, no_proxy). Redirects are not followed: an answer to a signed request elsewhere has to be signed anew.
 */
#pragma once

#include "base/cancel.h"
#include "base/rate.h"

typedef struct HttpClient HttpClient;

typedef struct {
    guint connect_timeout_ms;   /* until connected, TLS included; 0: 10,000 */
    guint stall_timeout_ms;     /* without one byte in either direction; 0: 60,000 */
    guint total_timeout_ms;     /* of one request; 0: none */
    guint max_idle;             /* connections kept open while unused; 0: 64 */
    const char *ca_file;        /* PEM bundle; NULL: the system's */
    gboolean insecure;          /* do not verify TLS; a test store only */
    const char *user_agent;     /* NULL: "backapp/VERSION" */
    const char *const *resolve; /* "HOST:PORT:ADDRESS" as curl's --resolve; NULL-terminated or NULL */
    gboolean no_proxy;          /* talk to the host itself, whatever the environment says; for metadata services */
    Rate *rate;                 /* of bodies in both directions; may be NULL; must outlive the client */
    const CancelFlag *cancel;   /* may be NULL; must outlive the client; noticed within 200 ms */
    gboolean debug;             /* log each request and answer, secrets (Authorization, tokens, signatures) left out */
} HttpOptions;

/* A client. The options are copied but for what they say must outlive it. */
HttpClient *http_client_new(const HttpOptions *options, GError **error);

/* What a request sends: `length` bytes of memory, or, with read set, that many bytes from a function. */
typedef struct {
    const void *data; /* the caller's, unchanged until the request has ended */
    guint64 length;
    /* Fills up to size bytes from `offset` of the body; returns how many (> 0), or -1 with an error, which becomes the
     * request's. A retry of the connection may ask for offset 0 again. */
    gssize (*read)(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error);
    gpointer user_data;
} HttpBody;

/* Takes a piece of an answer's body. FALSE with an error ends the request with that error. */
typedef gboolean (*HttpWrite)(gpointer user_data, const void *data, gsize length, GError **error);

typedef struct {
    const char *method;
    const char *url;      /* already encoded */
    GPtrArray *headers;   /* of char *, "Name: value"; may be NULL */
    const HttpBody *body; /* NULL: none */
    /* Where the body of a 2xx answer goes; NULL: into the response, as bodies of all other answers do. */
    HttpWrite write;
    gpointer write_data;
    gsize max_memory; /* most bytes of a body held in memory; 0: 1 MiB; beyond it the request fails with CORRUPT */
} HttpRequest;

typedef struct {
    guint status;
    GPtrArray *headers; /* of char *, "name: value", names in lower case; at most 64 KiB in all */
    GByteArray *body;   /* what was not given to write; one zero byte follows the data (not counted) */
    guint64 body_bytes; /* of the body, wherever it went */
    gint64 server_time; /* of the Date header, seconds since 1970; 0 if there is none */
    gboolean reused;    /* the connection had been used before */
} HttpResponse;

/* Performs one request. FALSE: TRANSIENT (could not resolve, connect, reset, timed out, ended early), DENIED (the
 * certificate is not trusted), INVALID (the URL), CANCELLED, or what a body function said. A connection that was reused
 * and turns out to be closed before any byte of the answer is tried once more on a new one, for requests that may be
 * repeated (GET, HEAD, PUT, DELETE). Contents of *response are the caller's in both cases: http_response_clear. */
gboolean http_perform(HttpClient *client, const HttpRequest *request, HttpResponse *response, GError **error);

/* The value of a header (name in lower case), or NULL. The response's. */
const char *http_response_header(const HttpResponse *response, const char *name);

void http_response_clear(HttpResponse *response);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(HttpResponse, http_response_clear)

/* Percent-encodes bytes as RFC 3986 says (unreserved characters stay; '/' stays if keep_slash) and appends them. */
void http_encode(GString *out, const char *bytes, gssize length, gboolean keep_slash);

/* Closes all connections, frees. No request may be running. NULL is a no-op. */
void http_client_free(HttpClient *client);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HttpClient, http_client_free)
