#include "net/http_private.h"

#include "base/error.h"

#include <string.h>

const char *http_after_scheme(const char *url)
{
    /* Further back it would belong to something else. */
    gsize colon = strcspn(url, ":/?#");
    return g_str_has_prefix(url + colon, "://") ? url + colon + 3 : url;
}

char *http_host_port(const char *url)
{
    const char *host = http_after_scheme(url);
    gboolean tls = g_ascii_strncasecmp(url, "https:", 6) == 0;
    gsize length = strcspn(host, "/?#");
    const char *at = g_strrstr_len(host, (gssize)length, "@");
    if (at) {
        length -= (gsize)(at + 1 - host);
        host = at + 1;
    }
    const char *bracket = memchr(host, ']', length);
    const char *port_from = bracket ? bracket : host;
    if (memchr(port_from, ':', length - (gsize)(port_from - host)))
        return g_strndup(host, length);
    return g_strdup_printf("%.*s:%d", (int)length, host, tls ? 443 : 80);
}

/* Why the system refused, if it did, else libcurl's words. */
static const char *reason(const HttpTransfer *transfer, CURLcode code)
{
    long number = 0;
    if (curl_easy_getinfo(transfer->handle->easy, CURLINFO_OS_ERRNO, &number) == CURLE_OK && number != 0)
        return g_strerror((int)number);
    return transfer->handle->message[0] ? transfer->handle->message : curl_easy_strerror(code);
}

static gboolean timed_out(const HttpTransfer *transfer, const char *host, GError **error)
{
    const HttpClient *client = transfer->client;
    if (transfer->attempts == 0)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot connect to %s: no answer within %g s", host,
                         client->connect_timeout_ms / 1000.0);
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "%s: the request took longer than %g s", host,
                     client->total_timeout_ms / 1000.0);
}

static gboolean tls_failed(const HttpTransfer *transfer, const char *host, CURLcode code, GError **error)
{
    const char *message = transfer->handle->message;
    if (code == CURLE_SSL_CACERT_BADFILE)
        return error_set(error, BACKAPP_ERROR_INVALID, "cannot read the CA certificates%s%s: %s",
                         transfer->client->ca_file ? " in " : "",
                         transfer->client->ca_file ? transfer->client->ca_file : "", message);
    if (code == CURLE_PEER_FAILED_VERIFICATION)
        return error_set(error, BACKAPP_ERROR_DENIED,
                         "the certificate of %s is not trusted: %s; if it is the right server, give the certificate of "
                         "its CA",
                         host, message);
    if (strstr(message, "wrong version number"))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s does not speak TLS: take http:// or another port", host);
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "TLS with %s failed: %s", host, reason(transfer, code));
}

static gboolean broke_off(const HttpTransfer *transfer, const char *host, CURLcode code, GError **error)
{
    const HttpResponse *response = transfer->response;
    if (response->status >= 200)
        return error_set(error, BACKAPP_ERROR_TRANSIENT,
                         "%s: the answer broke off after %" G_GUINT64_FORMAT " bytes of its body: %s", host,
                         response->body_bytes, reason(transfer, code));
    if (code == CURLE_GOT_NOTHING)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "%s closed the connection without an answer", host);
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "the connection to %s broke off %s: %s", host,
                     transfer->sent > 0 ? "while the body was sent" : "before an answer", reason(transfer, code));
}

gboolean http_error(const HttpTransfer *transfer, CURLcode code, GError **error)
{
    g_autofree char *host = http_host_port(transfer->request->url);
    const char *message = transfer->handle->message;
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot resolve the name of %s; is it right?", host);
    case CURLE_COULDNT_RESOLVE_PROXY:
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot resolve the proxy's name on the way to %s: %s", host,
                         message);
    case CURLE_COULDNT_CONNECT:
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot connect to %s: %s", host, reason(transfer, code));
    case CURLE_OPERATION_TIMEDOUT:
        return timed_out(transfer, host, error);
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CONNECT_ERROR:
        return tls_failed(transfer, host, code, error);
    case CURLE_URL_MALFORMAT:
        return error_set(error, BACKAPP_ERROR_INVALID, "the URL of %s is malformed", host);
    case CURLE_UNSUPPORTED_PROTOCOL:
        if (transfer->attempts == 0)
            return error_set(error, BACKAPP_ERROR_INVALID, "the URL of %s begins neither with http:// nor https://",
                             host);
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "%s does not answer with HTTP", host);
    case CURLE_WEIRD_SERVER_REPLY:
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "%s does not answer with HTTP: %s", host, message);
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return broke_off(transfer, host, code, error);
    case CURLE_ABORTED_BY_CALLBACK:
        return error_set(error, BACKAPP_ERROR_TRANSIENT,
                         "%s closed the connection before an answer; %s was not sent again, it may have had its effect",
                         host, transfer->request->method);
    case CURLE_OUT_OF_MEMORY:
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "out of memory in a request to %s", host);
    default:
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "a request to %s failed: %s", host,
                         message[0] ? message : curl_easy_strerror(code));
    }
}
