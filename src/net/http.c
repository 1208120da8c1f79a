#include "net/http_private.h"

#include "base/error.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_TIMEOUT_MS 10000
#define STALL_TIMEOUT_MS   60000
#define MAX_IDLE           64

static gpointer init_curl(gpointer unused)
{
    return GINT_TO_POINTER(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static void lock_share(CURL *easy, curl_lock_data data, curl_lock_access access, void *user_data)
{
    HttpClient *client = user_data;
    g_mutex_lock(&client->share_locks[data]);
}

static void unlock_share(CURL *easy, curl_lock_data data, void *user_data)
{
    HttpClient *client = user_data;
    g_mutex_unlock(&client->share_locks[data]);
}

static gboolean make_share(HttpClient *client, GError **error)
{
    static GOnce once = G_ONCE_INIT;
    if (!g_once(&once, init_curl, NULL) || !(client->share = curl_share_init()))
        return error_set(error, BACKAPP_ERROR_INTERNAL, "cannot set up libcurl");
    if (curl_share_setopt(client->share, CURLSHOPT_USERDATA, client) != CURLSHE_OK ||
        curl_share_setopt(client->share, CURLSHOPT_LOCKFUNC, lock_share) != CURLSHE_OK ||
        curl_share_setopt(client->share, CURLSHOPT_UNLOCKFUNC, unlock_share) != CURLSHE_OK ||
        curl_share_setopt(client->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS) != CURLSHE_OK ||
        curl_share_setopt(client->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) != CURLSHE_OK)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "libcurl cannot share DNS answers and TLS sessions");
    return TRUE;
}

/* The system's certificates as single files that are found by their hash, if there are such. To read the one bundle of
 * all costs 50 ms for each connection. */
static char *hashed_certificates(void)
{
    CURL *easy = curl_easy_init();
    const char *path = NULL;
    if (easy)
        (void)curl_easy_getinfo(easy, CURLINFO_CAPATH, &path);
    g_autoptr(GDir) dir = path ? g_dir_open(path, 0, NULL) : NULL;
    gboolean found = FALSE;
    for (const char *name; dir && !found && (name = g_dir_read_name(dir));)
        found = strlen(name) == 10 && strspn(name, "0123456789abcdef") == 8 && strcmp(name + 8, ".0") == 0;
    char *copy = found ? g_strdup(path) : NULL;
    curl_easy_cleanup(easy);
    return copy;
}

static gboolean copy_options(HttpClient *client, const HttpOptions *options, GError **error)
{
    client->connect_timeout_ms = options->connect_timeout_ms ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    client->stall_timeout_ms = options->stall_timeout_ms ? options->stall_timeout_ms : STALL_TIMEOUT_MS;
    client->total_timeout_ms = options->total_timeout_ms;
    client->max_idle = options->max_idle ? options->max_idle : MAX_IDLE;
    client->ca_file = g_strdup(options->ca_file);
    client->user_agent = g_strdup(options->user_agent ? options->user_agent : "backapp/" BACKAPP_VERSION);
    client->insecure = options->insecure;
    client->no_proxy = options->no_proxy;
    client->debug = options->debug;
    client->rate = options->rate;
    client->cancel = options->cancel;
    for (const char *const *entry = options->resolve; entry && *entry; entry++) {
        struct curl_slist *longer = curl_slist_append(client->resolve, *entry);
        if (!longer)
            return error_set(error, BACKAPP_ERROR_INTERNAL, "out of memory");
        client->resolve = longer;
    }
    if (client->ca_file && access(client->ca_file, R_OK) != 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "cannot read the CA certificates in %s: %s", client->ca_file,
                         g_strerror(errno));
    client->ca_path = client->ca_file ? NULL : hashed_certificates();
    return TRUE;
}

HttpClient *http_client_new(const HttpOptions *options, GError **error)
{
    g_autoptr(HttpClient) client = g_new0(HttpClient, 1);
    g_mutex_init(&client->lock);
    for (guint i = 0; i < G_N_ELEMENTS(client->share_locks); i++)
        g_mutex_init(&client->share_locks[i]);
    client->idle = g_ptr_array_new();
    if (!make_share(client, error) || !copy_options(client, options, error))
        return NULL;
    return g_steal_pointer(&client);
}

void http_client_free(HttpClient *client)
{
    if (!client)
        return;
    for (guint i = 0; i < client->idle->len; i++)
        http_handle_free(client->idle->pdata[i]);
    g_ptr_array_unref(client->idle);
    if (client->share)
        (void)curl_share_cleanup(client->share);
    curl_slist_free_all(client->resolve);
    for (guint i = 0; i < G_N_ELEMENTS(client->share_locks); i++)
        g_mutex_clear(&client->share_locks[i]);
    g_mutex_clear(&client->lock);
    g_free(client->ca_file);
    g_free(client->ca_path);
    g_free(client->user_agent);
    g_free(client);
}

/* The length of "scheme://host:port". */
static gsize origin_length(const char *url)
{
    const char *host = http_after_scheme(url);
    return (gsize)(host - url) + strcspn(host, "/?#");
}

/* The handle used last for that origin, else a new one; when enough are idle, the one that has been so for longest. */
static HttpHandle *take_handle(HttpClient *client, const char *url, GError **error)
{
    gsize length = origin_length(url);
    HttpHandle *handle = NULL;
    g_mutex_lock(&client->lock);
    for (guint i = client->idle->len; i > 0 && !handle; i--) {
        HttpHandle *candidate = client->idle->pdata[i - 1];
        if (strncmp(candidate->origin, url, length) == 0 && candidate->origin[length] == '\0')
            handle = g_ptr_array_remove_index(client->idle, i - 1);
    }
    if (!handle && client->idle->len >= client->max_idle)
        handle = g_ptr_array_remove_index(client->idle, 0);
    g_mutex_unlock(&client->lock);
    if (!handle)
        handle = http_handle_new(client, error);
    if (handle && (!handle->origin || strncmp(handle->origin, url, length) != 0 || handle->origin[length] != '\0')) {
        g_free(handle->origin);
        handle->origin = g_strndup(url, length);
    }
    return handle;
}

static void give_handle(HttpClient *client, HttpHandle *handle)
{
    HttpHandle *surplus = NULL;
    g_mutex_lock(&client->lock);
    if (client->idle->len >= client->max_idle)
        surplus = g_ptr_array_remove_index(client->idle, 0);
    g_ptr_array_add(client->idle, handle);
    g_mutex_unlock(&client->lock);
    if (surplus)
        http_handle_free(surplus);
}

gboolean http_perform(HttpClient *client, const HttpRequest *request, HttpResponse *response, GError **error)
{
    http_response_init(response);
    if (!cancel_check(client->cancel, error))
        return FALSE;
    HttpHandle *handle = take_handle(client, request->url, error);
    if (!handle)
        return FALSE;
    if (client->debug)
        http_log_request(request);
    HttpTransfer transfer = {.client = client, .handle = handle, .request = request, .response = response};
    gboolean good = http_transfer_run(&transfer, error);
    if (client->debug && good)
        http_log_response(&transfer);
    give_handle(client, handle);
    return good;
}
