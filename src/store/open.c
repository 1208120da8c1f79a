#include "base/error.h"
#include "store/drivers.h"

#include <string.h>

/* Half a minute of a server that is away, in most cases. */
#define ATTEMPTS       8
#define FIRST_DELAY_MS 200
#define MAX_DELAY_MS   20000

#define BREAKER_FAILURES 20
#define BREAKER_PAUSE_MS 2000

void store_options_default(StoreOptions *options)
{
    *options = (StoreOptions){.path_style = -1};
}

gboolean store_is_url(const char *text)
{
    return g_str_has_prefix(text, "s3:") || g_str_has_prefix(text, "file:") || g_str_has_prefix(text, "memory:");
}

/* "s3://BUCKET[/PREFIX]"; a prefix that does not end in a slash is the name of a folder. */
static Store *open_s3(const char *url, const StoreOptions *options, GError **error)
{
    const char *rest = g_str_has_prefix(url, "s3://") ? url + strlen("s3://") : "";
    const char *slash = strchr(rest, '/');
    g_autofree char *bucket = slash ? g_strndup(rest, (gsize)(slash - rest)) : g_strdup(rest);
    const char *prefix = slash ? slash + 1 : "";
    if (!bucket[0]) {
        error_set(error, BACKAPP_ERROR_INVALID, "%s names no bucket: write s3://BUCKET or s3://BUCKET/FOLDER", url);
        return NULL;
    }
    if (!g_utf8_validate(prefix, -1, NULL)) {
        error_set(error, BACKAPP_ERROR_INVALID, "the folder in the bucket %s is not written in UTF-8", bucket);
        return NULL;
    }
    g_autofree char *folder = g_strconcat(prefix, prefix[0] && !g_str_has_suffix(prefix, "/") ? "/" : "", NULL);
    return store_s3_new(bucket, folder, options, error);
}

static Store *open_file(const char *url, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *host = NULL;
    g_autofree char *path = g_filename_from_uri(url, &host, &local);
    if (path && (!host || strcmp(host, "localhost") == 0))
        return store_local_new(path, error);
    error_set(error, BACKAPP_ERROR_INVALID, "%s names no directory of this machine: write file:///DIRECTORY", url);
    return NULL;
}

static Store *open_driver(const char *url, const StoreOptions *options, GError **error)
{
    if (g_str_has_prefix(url, "s3:"))
        return open_s3(url, options, error);
    if (g_str_has_prefix(url, "file:"))
        return open_file(url, error);
    if (strcmp(url, "memory:") == 0)
        return store_memory_new();
    if (!strstr(url, "://"))
        return store_local_new(url, error);
    error_set(error, BACKAPP_ERROR_INVALID, "%s is no store: s3://BUCKET/FOLDER, file:///DIRECTORY and paths are", url);
    return NULL;
}

Store *store_open(const char *url, const StoreOptions *options, GError **error)
{
    Store *store = open_driver(url, options, error);
    if (!store)
        return NULL;
    RetryPolicy policy = options->retry;
    if (policy.attempts == 0)
        policy = (RetryPolicy){.attempts = ATTEMPTS, .first_delay_ms = FIRST_DELAY_MS, .max_delay_ms = MAX_DELAY_MS};
    store = store_breaker_new(store, BREAKER_FAILURES, BREAKER_PAUSE_MS);
    return store_retry_new(store, &policy, options->cancel);
}
