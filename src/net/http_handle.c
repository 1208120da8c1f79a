#include "net/http_private.h"

#include "base/error.h"

#include <string.h>
#include <sys/socket.h>

#define RECEIVE_BUFFER 131072L
#define SEND_BUFFER    131072L
/* Servers and routers forget a silent connection after some minutes; a probe each minute keeps it. */
#define KEEPALIVE_IDLE_S     60L
#define KEEPALIVE_INTERVAL_S 20L
/* Beside the caller's headers: what stops libcurl from adding its own. */
#define EXTRA_HEADERS 2

/* libcurl's sockets would stay open in programs that others start meanwhile. */
static curl_socket_t open_socket(void *user_data, curlsocktype purpose, struct curl_sockaddr *address)
{
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* One setting; the first that fails is remembered in `code`. */
#define SET(option, value)                                                                                             \
    do {                                                                                                               \
        CURLcode set_code = curl_easy_setopt(easy, option, value);                                                     \
        if (code == CURLE_OK)                                                                                          \
            code = set_code;                                                                                           \
    } while (0)

static CURLcode set_tls(const HttpClient *client, CURL *easy)
{
    CURLcode code = CURLE_OK;
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, client->insecure ? 0L : 1L);
    SET(CURLOPT_SSL_VERIFYHOST, client->insecure ? 0L : 2L);
    if (client->ca_file) {
        SET(CURLOPT_CAINFO, client->ca_file);
        SET(CURLOPT_CAPATH, NULL);
    } else if (client->ca_path) {
        SET(CURLOPT_CAINFO, NULL);
        SET(CURLOPT_CAPATH, client->ca_path);
    }
    return code;
}

static CURLcode set_callbacks(HttpHandle *handle)
{
    CURL *easy = handle->easy;
    CURLcode code = CURLE_OK;
    SET(CURLOPT_HEADERFUNCTION, http_transfer_header);
    SET(CURLOPT_HEADERDATA, handle);
    SET(CURLOPT_WRITEFUNCTION, http_transfer_write);
    SET(CURLOPT_WRITEDATA, handle);
    SET(CURLOPT_READFUNCTION, http_transfer_read);
    SET(CURLOPT_READDATA, handle);
    SET(CURLOPT_SEEKFUNCTION, http_transfer_seek);
    SET(CURLOPT_SEEKDATA, handle);
    SET(CURLOPT_PREREQFUNCTION, http_transfer_begin);
    SET(CURLOPT_PREREQDATA, handle);
    SET(CURLOPT_OPENSOCKETFUNCTION, open_socket);
    SET(CURLOPT_ERRORBUFFER, handle->message);
    return code;
}

static CURLcode set_all(const HttpClient *client, HttpHandle *handle)
{
    CURL *easy = handle->easy;
    CURLcode code = set_callbacks(handle);
    SET(CURLOPT_SHARE, client->share);
    SET(CURLOPT_NOSIGNAL, 1L);
    /* Else a cancelled request waits for the resolver. */
    SET(CURLOPT_QUICK_EXIT, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    /* A key may hold "/../". */
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    SET(CURLOPT_USERAGENT, client->user_agent);
    SET(CURLOPT_TCP_NODELAY, 1L);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    SET(CURLOPT_TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)client->connect_timeout_ms);
    SET(CURLOPT_TIMEOUT_MS, (long)client->total_timeout_ms);
    SET(CURLOPT_BUFFERSIZE, RECEIVE_BUFFER);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER);
    if (client->resolve)
        SET(CURLOPT_RESOLVE, client->resolve);
    if (client->no_proxy)
        SET(CURLOPT_PROXY, "");
    CURLcode tls = set_tls(client, easy);
    return code == CURLE_OK ? tls : code;
}

HttpHandle *http_handle_new(HttpClient *client, GError **error)
{
    HttpHandle *handle = g_new0(HttpHandle, 1);
    handle->own_headers = g_ptr_array_new_with_free_func(g_free);
    handle->easy = curl_easy_init();
    handle->multi = curl_multi_init();
    CURLcode code = handle->easy && handle->multi ? set_all(client, handle) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK && curl_multi_setopt(handle->multi, CURLMOPT_MAXCONNECTS, 1L) == CURLM_OK)
        return handle;
    error_set(error, BACKAPP_ERROR_INTERNAL, "libcurl: %s", curl_easy_strerror(code));
    http_handle_free(handle);
    return NULL;
}

void http_handle_free(HttpHandle *handle)
{
    if (!handle)
        return;
    curl_easy_cleanup(handle->easy);
    (void)curl_multi_cleanup(handle->multi);
    g_ptr_array_unref(handle->own_headers);
    g_free(handle->headers);
    g_free(handle->origin);
    g_free(handle->method);
    g_free(handle);
}

static gboolean has_name(const char *line, const char *name)
{
    gsize length = strlen(name);
    return g_ascii_strncasecmp(line, name, length) == 0 && (line[length] == ':' || line[length] == ';');
}

/* To libcurl "Name:" means "do not send it", and "Name;" an empty one. */
static char *as_libcurl_has_it(HttpHandle *handle, char *line)
{
    gsize name = strcspn(line, ":");
    if (line[name] == '\0' || line[name + 1 + strspn(line + name + 1, " \t")] != '\0')
        return line;
    char *empty = g_strdup_printf("%.*s;", (int)name, line);
    g_ptr_array_add(handle->own_headers, empty);
    return empty;
}

/* The list's nodes are ours and its strings the caller's, so nothing is copied for a request. */
static gboolean prepare_headers(HttpHandle *handle, const GPtrArray *headers, GError **error)
{
    static char no_type[] = "Content-Type:";
    static char no_expect[] = "Expect:";
    gboolean type = FALSE;
    gboolean expect = FALSE;
    guint count = headers ? headers->len : 0;
    if (count + EXTRA_HEADERS > handle->headers_size) {
        handle->headers_size = count + EXTRA_HEADERS + 8;
        handle->headers = g_renew(struct curl_slist, handle->headers, handle->headers_size);
    }
    g_ptr_array_set_size(handle->own_headers, 0);
    guint used = 0;
    for (; used < count; used++) {
        char *line = headers->pdata[used];
        if (strpbrk(line, "\r\n"))
            return error_set(error, BACKAPP_ERROR_INVALID, "the header %.*s has a line break in it",
                             (int)strcspn(line, ":\r\n"), line);
        type = type || has_name(line, "content-type");
        expect = expect || has_name(line, "expect");
        handle->headers[used].data = as_libcurl_has_it(handle, line);
    }
    if (!type)
        handle->headers[used++].data = no_type;
    /* To wait for "100 Continue" costs each body a round trip; who wants it says so. */
    if (!expect)
        handle->headers[used++].data = no_expect;
    for (guint i = 0; i < used; i++)
        handle->headers[i].next = i + 1 < used ? &handle->headers[i + 1] : NULL;
    return TRUE;
}

static HttpKind choose_kind(const HttpRequest *request)
{
    const HttpBody *body = request->body;
    if (strcmp(request->method, "HEAD") == 0)
        return HTTP_KIND_HEAD;
    if (body && (body->read || body->length > HTTP_SMALL_BODY))
        return HTTP_KIND_UPLOAD;
    gboolean needs_length = strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0;
    return body || needs_length ? HTTP_KIND_SMALL : HTTP_KIND_GET;
}

static CURLcode set_kind(HttpHandle *handle, HttpKind kind)
{
    CURL *easy = handle->easy;
    CURLcode code = CURLE_OK;
    /* As long as it has fields of an earlier request, libcurl does not rewind the body when it tries again. */
    SET(CURLOPT_POSTFIELDS, NULL);
    /* Only this one takes back what the others have set. */
    SET(CURLOPT_HTTPGET, 1L);
    if (kind == HTTP_KIND_HEAD)
        SET(CURLOPT_NOBODY, 1L);
    if (kind == HTTP_KIND_UPLOAD)
        SET(CURLOPT_UPLOAD, 1L);
    handle->kind = code == CURLE_OK ? kind : HTTP_KIND_NONE;
    return code;
}

static CURLcode set_body(HttpHandle *handle, const HttpBody *body)
{
    static const HttpBody nothing = {.data = ""};
    CURL *easy = handle->easy;
    CURLcode code = CURLE_OK;
    if (!body)
        body = &nothing;
    if (handle->kind == HTTP_KIND_SMALL) {
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->length);
        SET(CURLOPT_POSTFIELDS, body->length > 0 ? body->data : "");
    } else if (handle->kind == HTTP_KIND_UPLOAD) {
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)body->length);
    }
    return code;
}

gboolean http_handle_prepare(HttpHandle *handle, const HttpRequest *request, GError **error)
{
    CURL *easy = handle->easy;
    CURLcode code = CURLE_OK;
    if (!prepare_headers(handle, request->headers, error))
        return FALSE;
    HttpKind kind = choose_kind(request);
    if (kind != handle->kind)
        code = set_kind(handle, kind);
    if (g_strcmp0(handle->method, request->method) != 0) {
        g_free(handle->method);
        handle->method = g_strdup(request->method);
        SET(CURLOPT_CUSTOMREQUEST, request->method);
    }
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_HTTPHEADER, handle->headers);
    CURLcode body = set_body(handle, request->body);
    if (code == CURLE_OK)
        code = body;
    return code == CURLE_OK || error_set(error, BACKAPP_ERROR_INTERNAL, "libcurl: %s", curl_easy_strerror(code));
}
