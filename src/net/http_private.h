/*
 * What the files of the HTTP client share: the pool's handle, one request under way, the words for what went wrong, and
 * what of a request may be written to a log. Only for src/net and its tests.
 */
#pragma once

#include "net/http.h"

#include <curl/curl.h>

/* A body up to this size is sent in one piece together with the headers. */
#define HTTP_SMALL_BODY (64 * 1024)

/* How libcurl is told about a body; the settings of a handle are changed only when this changes. */
typedef enum { HTTP_KIND_NONE, HTTP_KIND_GET, HTTP_KIND_HEAD, HTTP_KIND_SMALL, HTTP_KIND_UPLOAD } HttpKind;

typedef struct HttpTransfer HttpTransfer;

/* One connection with what libcurl keeps around it. Belongs to one thread at a time. */
typedef struct {
    HttpTransfer *transfer; /* under way; for the callbacks */
    CURL *easy;
    CURLM *multi; /* of this handle alone, so that waiting can be interrupted; it keeps the connection */
    char *origin; /* "https://HOST:PORT" of the last request */
    char *method; /* the last one */
    HttpKind kind;
    struct curl_slist *headers;
    guint headers_size;
    GPtrArray *own_headers; /* those that had to be written differently for libcurl */
    char message[CURL_ERROR_SIZE];
} HttpHandle;

struct HttpClient {
    guint connect_timeout_ms, stall_timeout_ms, total_timeout_ms, max_idle;
    char *ca_file, *ca_path, *user_agent;
    gboolean insecure, no_proxy, debug;
    struct curl_slist *resolve;
    Rate *rate;
    const CancelFlag *cancel;
    CURLSH *share; /* DNS answers and TLS sessions */
    GMutex share_locks[CURL_LOCK_DATA_LAST];
    GMutex lock;     /* for idle */
    GPtrArray *idle; /* of HttpHandle *, the one used last at the end */
};

/* One request under way; lives on the stack of http_perform. */
struct HttpTransfer {
    HttpClient *client;
    HttpHandle *handle;
    const HttpRequest *request;
    HttpResponse *response;
    GError *error;                    /* of a callback; goes before what libcurl says of it */
    guint attempts;                   /* connections that the request was begun on */
    guint64 sent;                     /* of the body, as handed to libcurl */
    guint64 received;                 /* headers and body */
    gsize header_size;                /* of all header lines so far */
    gboolean in_body;                 /* headers are over; what else looks like one is a trailer */
    gint64 started, looked, moved_at; /* monotonic microseconds */
    guint64 moved;                    /* bytes either way when it was last looked at */
};

/* A handle with all settings that never change. NULL with INTERNAL if libcurl has no memory. */
HttpHandle *http_handle_new(HttpClient *client, GError **error);
void http_handle_free(HttpHandle *handle);

/* Tells a handle what to send for a request, with as few calls as the one before allows. */
gboolean http_handle_prepare(HttpHandle *handle, const HttpRequest *request, GError **error);

/* libcurl's callbacks, given to each handle. */
size_t http_transfer_header(char *line, size_t size, size_t count, void *user_data);
size_t http_transfer_write(char *data, size_t size, size_t count, void *user_data);
size_t http_transfer_read(char *buffer, size_t size, size_t count, void *user_data);
int http_transfer_seek(void *user_data, curl_off_t offset, int origin);
int http_transfer_begin(void *user_data, char *their_ip, char *our_ip, int their_port, int our_port);

/* Performs transfer->request on transfer->handle. FALSE with an error as http_perform says. */
gboolean http_transfer_run(HttpTransfer *transfer, GError **error);

/* Sets the error for what libcurl said; returns FALSE. */
gboolean http_error(const HttpTransfer *transfer, CURLcode code, GError **error);

/* The part of a URL behind "scheme://", or all of it. */
const char *http_after_scheme(const char *url);

/* "HOST:PORT" of a URL, the port that of the scheme if it has none, without a user's name. The caller frees. */
char *http_host_port(const char *url);

/* A header line, or a URL, as it may be shown: values that are secrets are "[...]". The caller frees. */
char *http_redact_header(const char *line);
char *http_redact_url(const char *url);

/* Writes a request, or its answer, to the log. */
void http_log_request(const HttpRequest *request);
void http_log_response(const HttpTransfer *transfer);

/* Seconds since 1970 of an HTTP date, 0 if it is none. */
gint64 http_parse_date(const char *text);

/* Adds one header line (with its line end) of an answer to the response; a status line begins the headers anew. FALSE
 * with TRANSIENT if that is none, or a zero byte is in it. */
gboolean http_response_add_line(HttpResponse *response, const char *line, gsize length, GError **error);

/* Makes the arrays of an empty response. */
void http_response_init(HttpResponse *response);
