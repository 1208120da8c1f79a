#include "net/http_private.h"

#include "base/error.h"

#include <string.h>

#define HEADERS_MAX    (64 * 1024)
#define DEFAULT_MEMORY (1024 * 1024)
/* How long the loop sleeps at most: half of what is promised for a cancellation. */
#define CANCEL_TICK_MS 100
#define IDLE_TICK_MS   500
#define LOOK_EVERY_US  (20 * G_GINT64_CONSTANT(1000))
/* A limited upload is handed out in tenths of a second, so that it flows instead of coming in gushes. */
#define RATE_PIECES    10
#define SMALLEST_PIECE (4 * 1024)

static gboolean may_repeat(const char *method)
{
    return strcmp(method, "PUT") == 0 || strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0 ||
           strcmp(method, "DELETE") == 0;
}

/* Comes before each request that libcurl begins: also when it tries again by itself on a new connection. */
int http_transfer_begin(void *user_data, char *their_ip, char *our_ip, int their_port, int our_port)
{
    HttpTransfer *transfer = ((HttpHandle *)user_data)->transfer;
    transfer->attempts++;
    transfer->sent = 0;
    transfer->moved_at = g_get_monotonic_time();
    if (transfer->attempts > 2 || (transfer->attempts > 1 && !may_repeat(transfer->request->method)))
        return CURL_PREREQFUNC_ABORT;
    return CURL_PREREQFUNC_OK;
}

size_t http_transfer_header(char *line, size_t size, size_t count, void *user_data)
{
    HttpTransfer *transfer = ((HttpHandle *)user_data)->transfer;
    gsize length = size * count;
    transfer->received += length;
    transfer->header_size += length;
    if (transfer->header_size > HEADERS_MAX) {
        g_autofree char *host = http_host_port(transfer->request->url);
        error_set(&transfer->error, BACKAPP_ERROR_CORRUPT, "the headers of an answer of %s are longer than %d KiB",
                  host, HEADERS_MAX / 1024);
        return 0;
    }
    if (transfer->in_body)
        return length;
    return http_response_add_line(transfer->response, line, length, &transfer->error) ? length : 0;
}

static gboolean keep_in_memory(HttpTransfer *transfer, const char *data, gsize length)
{
    gsize max = transfer->request->max_memory ? transfer->request->max_memory : DEFAULT_MEMORY;
    GByteArray *body = transfer->response->body;
    if (length > max - MIN(max, body->len) || body->len + length >= G_MAXUINT) {
        g_autofree char *host = http_host_port(transfer->request->url);
        return error_set(&transfer->error, BACKAPP_ERROR_CORRUPT, "an answer of %s is longer than %zu bytes", host,
                         max);
    }
    g_byte_array_append(body, (const guint8 *)data, (guint)length);
    return TRUE;
}

size_t http_transfer_write(char *data, size_t size, size_t count, void *user_data)
{
    HttpTransfer *transfer = ((HttpHandle *)user_data)->transfer;
    const HttpRequest *request = transfer->request;
    HttpResponse *response = transfer->response;
    gsize length = size * count;
    transfer->in_body = TRUE;
    transfer->received += length;
    response->body_bytes += length;
    if (!rate_take(transfer->client->rate, length, transfer->client->cancel, &transfer->error) ||
        !cancel_check(transfer->client->cancel, &transfer->error))
        return 0;
    gboolean good = request->write && response->status / 100 == 2
                        ? request->write(request->write_data, data, length, &transfer->error)
                        : keep_in_memory(transfer, data, length);
    return good ? length : 0;
}

/* How much of a body to hand out at once. */
static gsize piece_size(HttpClient *client, gsize size)
{
    guint64 limit = client->rate ? rate_get(client->rate) : 0;
    return limit > 0 ? (gsize)MIN(size, MAX(limit / RATE_PIECES, SMALLEST_PIECE)) : size;
}

/* Up to size bytes of the body from where it stands; 0 with an error. */
static gsize fill(HttpTransfer *transfer, char *buffer, gsize size)
{
    const HttpBody *body = transfer->request->body;
    if (!body->read) {
        memcpy(buffer, (const char *)body->data + transfer->sent, size);
        return size;
    }
    gssize got = body->read(body->user_data, transfer->sent, buffer, size, &transfer->error);
    if (got > 0 && (gsize)got <= size)
        return (gsize)got;
    if (!transfer->error)
        error_set(&transfer->error, BACKAPP_ERROR_INTERNAL, "a request's body ended before its length");
    return 0;
}

size_t http_transfer_read(char *buffer, size_t size, size_t count, void *user_data)
{
    HttpTransfer *transfer = ((HttpHandle *)user_data)->transfer;
    guint64 left = transfer->request->body->length - transfer->sent;
    if (left == 0)
        return 0;
    if (!cancel_check(transfer->client->cancel, &transfer->error))
        return CURL_READFUNC_ABORT;
    gsize got = fill(transfer, buffer, (gsize)MIN(left, piece_size(transfer->client, size * count)));
    if (got == 0 || !rate_take(transfer->client->rate, got, transfer->client->cancel, &transfer->error))
        return CURL_READFUNC_ABORT;
    transfer->sent += got;
    return got;
}

int http_transfer_seek(void *user_data, curl_off_t offset, int origin)
{
    HttpTransfer *transfer = ((HttpHandle *)user_data)->transfer;
    const HttpBody *body = transfer->request->body;
    if (origin != SEEK_SET || !body || offset < 0 || (guint64)offset > body->length)
        return CURL_SEEKFUNC_FAIL;
    transfer->sent = (guint64)offset;
    return CURL_SEEKFUNC_OK;
}

/* TRUE while bytes move, or did not long ago. While it connects, libcurl's own limit counts. */
static gboolean still_moving(HttpTransfer *transfer, gint64 now)
{
    curl_off_t uploaded = 0;
    (void)curl_easy_getinfo(transfer->handle->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
    guint64 moved = transfer->received + (guint64)MAX(uploaded, 0);
    if (moved != transfer->moved || transfer->attempts == 0) {
        transfer->moved = moved;
        transfer->moved_at = now;
    }
    return now - transfer->moved_at < (gint64)transfer->client->stall_timeout_ms * 1000;
}

static gboolean may_go_on(HttpTransfer *transfer)
{
    HttpClient *client = transfer->client;
    if (!cancel_check(client->cancel, &transfer->error))
        return FALSE;
    gint64 now = g_get_monotonic_time();
    if (now - transfer->looked < LOOK_EVERY_US)
        return TRUE;
    transfer->looked = now;
    if (still_moving(transfer, now))
        return TRUE;
    g_autofree char *host = http_host_port(transfer->request->url);
    return error_set(&transfer->error, BACKAPP_ERROR_TRANSIENT, "%s: no data for %g s", host,
                     client->stall_timeout_ms / 1000.0);
}

static int tick_ms(const HttpClient *client)
{
    guint tick = client->cancel ? CANCEL_TICK_MS : IDLE_TICK_MS;
    return (int)MIN(tick, MAX(client->stall_timeout_ms / 4, 10));
}

/* Runs the handle until its request has ended. If we end it ourselves, transfer->error is set. */
static CURLcode drive(HttpTransfer *transfer)
{
    HttpHandle *handle = transfer->handle;
    CURLcode code = CURLE_OUT_OF_MEMORY;
    if (curl_multi_add_handle(handle->multi, handle->easy) != CURLM_OK)
        return code;
    int tick = tick_ms(transfer->client);
    int running = 1;
    while (running > 0) {
        if (curl_multi_perform(handle->multi, &running) != CURLM_OK)
            break;
        if (running > 0 && (!may_go_on(transfer) || curl_multi_poll(handle->multi, NULL, 0, tick, NULL) != CURLM_OK))
            break;
    }
    int left = 0;
    const CURLMsg *message = curl_multi_info_read(handle->multi, &left);
    if (message && message->msg == CURLMSG_DONE)
        code = message->data.result;
    /* Closes the connection too if the request has not ended. */
    (void)curl_multi_remove_handle(handle->multi, handle->easy);
    return code;
}

/* libcurl itself tries again when headers meet a closed connection, but not when a long body does. */
static gboolean was_stale(const HttpTransfer *transfer, CURLcode code)
{
    long connections = 1;
    (void)curl_easy_getinfo(transfer->handle->easy, CURLINFO_NUM_CONNECTS, &connections);
    return (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING) && connections == 0 &&
           transfer->attempts == 1 && transfer->received == 0 && !transfer->error &&
           may_repeat(transfer->request->method);
}

static CURLcode drive_afresh(HttpTransfer *transfer)
{
    transfer->sent = 0;
    (void)curl_easy_setopt(transfer->handle->easy, CURLOPT_FRESH_CONNECT, 1L);
    CURLcode code = drive(transfer);
    (void)curl_easy_setopt(transfer->handle->easy, CURLOPT_FRESH_CONNECT, 0L);
    return code;
}

static gboolean finish(HttpTransfer *transfer, CURLcode code, GError **error)
{
    long connections = 1;
    (void)curl_easy_getinfo(transfer->handle->easy, CURLINFO_NUM_CONNECTS, &connections);
    transfer->response->reused = connections == 0;
    GByteArray *body = transfer->response->body;
    /* Its place is inside the array; only the length does not count it. */
    g_byte_array_append(body, (const guint8 *)"", 1);
    g_byte_array_set_size(body, body->len - 1);
    if (transfer->error) {
        g_propagate_error(error, transfer->error);
        return FALSE;
    }
    return code == CURLE_OK || http_error(transfer, code, error);
}

gboolean http_transfer_run(HttpTransfer *transfer, GError **error)
{
    HttpHandle *handle = transfer->handle;
    const HttpBody *body = transfer->request->body;
    if (!http_handle_prepare(handle, transfer->request, error))
        return FALSE;
    if (handle->kind == HTTP_KIND_SMALL && body &&
        !rate_take(transfer->client->rate, body->length, transfer->client->cancel, error))
        return FALSE;
    handle->transfer = transfer;
    handle->message[0] = '\0';
    transfer->started = g_get_monotonic_time();
    transfer->moved_at = transfer->started;
    transfer->looked = transfer->started;
    CURLcode code = drive(transfer);
    if (was_stale(transfer, code))
        code = drive_afresh(transfer);
    handle->transfer = NULL;
    return finish(transfer, code, error);
}
