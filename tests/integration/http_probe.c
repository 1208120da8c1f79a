/*
 * Performs HTTP requests for test_http.py: options and requests as one JSON object in the first argument, one line of
 * JSON for each answer.
 */
#include "base/error.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "net/http.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    HttpClient *client;
    json_t *request;
} Job;

/* Where a body goes, and up to which byte. */
typedef struct {
    Hash *hash;
    json_int_t fail_at;
    guint64 seen;
} Sink;

static GMutex printing;
static CancelFlag cancel;

static json_int_t number(const json_t *object, const char *name)
{
    return json_integer_value(json_object_get(object, name));
}

static const char *text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

static gboolean flag(const json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

static guint8 pattern(guint64 offset)
{
    return (guint8)(offset * 131 + (offset >> 8) * 7);
}

static gssize read_pattern(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error)
{
    const json_int_t *fail_at = user_data;
    if (*fail_at > 0 && offset >= (guint64)*fail_at) {
        error_set(error, BACKAPP_ERROR_CONFLICT, "the source has changed");
        return -1;
    }
    /* Short reads are allowed, so make some. */
    gsize count = MIN(size, 100000);
    for (gsize i = 0; i < count; i++)
        ((guint8 *)buffer)[i] = pattern(offset + i);
    return (gssize)count;
}

static gboolean write_sink(gpointer user_data, const void *data, gsize length, GError **error)
{
    Sink *sink = user_data;
    sink->seen += length;
    if (sink->fail_at > 0 && sink->seen >= (guint64)sink->fail_at)
        return error_set(error, BACKAPP_ERROR_NO_SPACE, "the target is full");
    hash_update(sink->hash, data, length);
    return TRUE;
}

static GPtrArray *string_list(const json_t *array)
{
    GPtrArray *list = g_ptr_array_new();
    gsize i;
    json_t *value;
    json_array_foreach(array, i, value) g_ptr_array_add(list, (char *)json_string_value(value));
    return list;
}

static void print(json_t *line)
{
    g_autofree char *shown = json_dumps(line, JSON_COMPACT | JSON_ENCODE_ANY);
    g_mutex_lock(&printing);
    printf("%s\n", shown);
    fflush(stdout);
    g_mutex_unlock(&printing);
    json_decref(line);
}

static json_t *describe(const HttpResponse *response, gboolean good, const GError *error)
{
    json_t *headers = json_array();
    for (guint i = 0; i < response->headers->len; i++)
        json_array_append_new(headers, json_string(response->headers->pdata[i]));
    if (response->body->data[response->body->len] != '\0')
        fputs("no zero byte behind the body\n", stderr);
    json_t *line = json_pack("{s:b, s:i, s:I, s:I, s:b, s:o}", "ok", good, "status", (int)response->status, "bytes",
                             (json_int_t)response->body_bytes, "time", (json_int_t)response->server_time, "reused",
                             response->reused, "headers", headers);
    json_object_set_new(line, "memory", json_integer((json_int_t)response->body->len));
    if (response->body->len < 1000)
        json_object_set_new(line, "body", json_string((const char *)response->body->data));
    if (error) {
        json_object_set_new(line, "error", json_string(error->message));
        json_object_set_new(line, "code", json_string(error_code_name((BackappError)error->code)));
    }
    return line;
}

static void perform(HttpClient *client, const json_t *request)
{
    json_int_t length = MAX(number(request, "body"), number(request, "read"));
    json_int_t read_fail = number(request, "read_fail_at");
    g_autofree guint8 *memory = g_malloc((gsize)length + 1);
    for (json_int_t i = 0; i < length; i++)
        memory[i] = pattern((guint64)i);
    HttpBody body = {.data = memory, .length = (guint64)length, .user_data = &read_fail};
    if (json_object_get(request, "read"))
        body.read = read_pattern;
    g_autoptr(GPtrArray) headers = string_list(json_object_get(request, "headers"));
    g_autoptr(Hash) hash = hash_new();
    Sink sink = {.hash = hash, .fail_at = number(request, "write_fail_at")};
    HttpRequest http = {.method = text(request, "method"),
                        .url = text(request, "url"),
                        .headers = headers,
                        .body = length > 0 || json_object_get(request, "body") ? &body : NULL,
                        .write = flag(request, "write") ? write_sink : NULL,
                        .write_data = &sink,
                        .max_memory = (gsize)number(request, "max_memory")};
    g_auto(HttpResponse) response = {0};
    g_autoptr(GError) error = NULL;
    gint64 start = g_get_monotonic_time();
    gboolean good = http_perform(client, &http, &response, &error);
    json_t *line = describe(&response, good, error);
    guint8 received[HASH_BYTES];
    hash_finish(hash, received);
    g_autofree char *sent_hex = digest_sha256_hex(memory, (gsize)length);
    g_autofree char *received_hex = digest_hex(received, sizeof received);
    json_object_set_new(line, "ms", json_integer((g_get_monotonic_time() - start) / 1000));
    json_object_set_new(line, "sent_sha256", json_string(sent_hex));
    json_object_set_new(line, "got_sha256", json_string(received_hex));
    print(line);
}

static gpointer run_job(gpointer data)
{
    const Job *job = data;
    json_int_t repeat = MAX(number(job->request, "repeat"), 1);
    for (json_int_t i = 0; i < repeat; i++) {
        perform(job->client, job->request);
        if (number(job->request, "pause_ms") > 0)
            g_usleep((gulong)number(job->request, "pause_ms") * 1000);
    }
    return NULL;
}

static gpointer cancel_later(gpointer data)
{
    g_usleep((gulong)GPOINTER_TO_INT(data) * 1000);
    cancel_set(&cancel);
    return NULL;
}

static HttpClient *make_client(const json_t *options, Rate **rate, GError **error)
{
    g_autoptr(GPtrArray) resolve = string_list(json_object_get(options, "resolve"));
    g_ptr_array_add(resolve, NULL);
    if (number(options, "rate") > 0)
        *rate = rate_new((guint64)number(options, "rate"));
    HttpOptions http = {.connect_timeout_ms = (guint)number(options, "connect_timeout_ms"),
                        .stall_timeout_ms = (guint)number(options, "stall_timeout_ms"),
                        .total_timeout_ms = (guint)number(options, "total_timeout_ms"),
                        .max_idle = (guint)number(options, "max_idle"),
                        .ca_file = text(options, "ca_file"),
                        .insecure = flag(options, "insecure"),
                        .resolve = (const char *const *)resolve->pdata,
                        .no_proxy = flag(options, "no_proxy"),
                        .rate = *rate,
                        .cancel = &cancel,
                        .debug = flag(options, "debug")};
    return http_client_new(&http, error);
}

static void run_all(HttpClient *client, const json_t *requests)
{
    gsize i;
    json_t *request;
    json_array_foreach(requests, i, request)
    {
        GThread *threads[64];
        Job job = {client, request};
        gsize count = CLAMP((gsize)number(request, "threads"), 1, G_N_ELEMENTS(threads));
        for (gsize t = 0; t < count; t++)
            threads[t] = g_thread_new("request", run_job, &job);
        for (gsize t = 0; t < count; t++)
            g_thread_join(threads[t]);
    }
}

int main(int argc, char **argv)
{
    json_t *spec = argc == 2 ? json_loads(argv[1], 0, NULL) : NULL;
    if (!spec) {
        fputs("usage: http-probe JSON\n", stderr);
        return 2;
    }
    log_setup(LOG_LEVEL_DEBUG, FALSE);
    const json_t *options = json_object_get(spec, "options");
    g_autoptr(Rate) rate = NULL;
    g_autoptr(GError) error = NULL;
    g_autoptr(HttpClient) client = make_client(options, &rate, &error);
    if (!client) {
        print(json_pack("{s:b, s:s, s:s}", "ok", 0, "error", error->message, "code",
                        error_code_name((BackappError)error->code)));
        json_decref(spec);
        return 0;
    }
    GThread *canceller = NULL;
    if (json_object_get(options, "cancel_after_ms"))
        canceller = g_thread_new("cancel", cancel_later, GINT_TO_POINTER((int)number(options, "cancel_after_ms")));
    run_all(client, json_object_get(spec, "requests"));
    if (canceller)
        g_thread_join(canceller);
    json_decref(spec);
    return 0;
}
