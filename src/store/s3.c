#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "store/drivers.h"

#define MAX_PARTS 10000

static void counts(Store *store, StoreCounts *counts)
{
    S3Store *s3 = s3_of(store);
    store_tally_read(&s3->tally, counts);
    counts->slow_downs = atomic_load(&s3->slow_downs);
}

static void free_store(Store *store)
{
    S3Store *s3 = s3_of(store);
    http_client_free(s3->http);
    s3_credentials_free(s3->credentials);
    s3_place_unref(s3->place);
    g_mutex_clear(&s3->lock);
    g_free(s3->bucket);
    g_free(s3->prefix);
    g_free(s3->sse);
    g_free(s3->sse_kms_key);
    g_free(s3->endpoint);
    g_free(s3->store.url);
    g_free(s3);
}

static const StoreOps ops = {
    .name = "s3",
    .put = s3_put,
    .get = s3_get,
    .head = s3_head,
    .list = s3_list,
    .delete_one = s3_delete_one,
    .delete_many = s3_delete_many,
    .copy = s3_copy,
    .begin = s3_begin,
    .part = s3_part,
    .copy_part = s3_copy_part,
    .complete = s3_complete,
    .abort = s3_abort,
    .list_uploads = s3_list_uploads,
    .list_parts = s3_list_parts,
    .presign = s3_presign,
    .facts = s3_facts,
    .set_versioning = s3_set_versioning,
    .set_lifecycle = s3_set_lifecycle,
    .set_lock = s3_set_lock,
    .thaw = s3_thaw,
    .counts = counts,
    .free = free_store,
};

static StoreCan can_of(const Provider *provider)
{
    static const struct {
        ProviderCan theirs;
        StoreCan ours;
    } pairs[] = {
        {PROVIDER_COPY, STORE_COPY}, {PROVIDER_RANGE_COPY, STORE_RANGE_COPY}, {PROVIDER_VERSIONS, STORE_VERSIONS},
        {PROVIDER_LOCK, STORE_LOCK}, {PROVIDER_CLASSES, STORE_CLASSES},       {PROVIDER_IF_ABSENT, STORE_IF_MATCH},
        {PROVIDER_THAW, STORE_THAW},
    };
    StoreCan can = STORE_MULTIPART | STORE_METADATA | STORE_PRESIGN;
    for (gsize i = 0; i < G_N_ELEMENTS(pairs); i++)
        if (provider->can & pairs[i].theirs)
            can |= pairs[i].ours;
    return can;
}

static const char *first_set(const char *const *names)
{
    for (; *names; names++) {
        const char *value = g_getenv(*names);
        if (value && *value != '\0')
            return value;
    }
    return NULL;
}

/* The endpoint as somebody gave it, or NULL. */
static const char *given_endpoint(const S3Store *s3, const StoreOptions *options)
{
    static const char *const names[] = {"AWS_ENDPOINT_URL_S3", "AWS_S3_ENDPOINT", "AWS_ENDPOINT_URL", NULL};
    if (options->endpoint && *options->endpoint != '\0')
        return options->endpoint;
    const char *found = first_set(names);
    /* A provider that was chosen by name is not to be sent to what a profile for another one says. */
    return found ? found : options->provider ? NULL : s3_credentials_endpoint(s3->credentials);
}

static char *find_region(const S3Store *s3, const StoreOptions *options, const char *host)
{
    static const char *const names[] = {"AWS_REGION", "AWS_DEFAULT_REGION", NULL};
    char *of_host = host ? provider_region_of_host(s3->provider, host) : NULL;
    const char *found = options->region && *options->region != '\0' ? options->region
                        : of_host                                   ? of_host
                        : first_set(names)                          ? first_set(names)
                        : s3_credentials_region(s3->credentials)    ? s3_credentials_region(s3->credentials)
                                                                    : s3->provider->default_region;
    char *region = g_strdup(found);
    g_free(of_host);
    return region;
}

/* The provider by name, by the endpoint's host, or AWS. */
static const Provider *choose_provider(const StoreOptions *options, const char *host, GError **error)
{
    if (options->provider && *options->provider != '\0')
        return provider_find(options->provider, error);
    return host ? provider_of_host(host) : provider_find("aws", error);
}

static gboolean find_place(S3Store *s3, const StoreOptions *options, GError **error)
{
    s3->endpoint = g_strdup(given_endpoint(s3, options));
    g_autofree char *host = s3->endpoint ? s3_endpoint_host(s3->endpoint, error) : NULL;
    if (s3->endpoint && !host)
        return FALSE;
    s3->provider = choose_provider(options, host, error);
    if (!s3->provider)
        return FALSE;
    g_autofree char *region = find_region(s3, options, host);
    s3->path_style = options->path_style >= 0         ? options->path_style
                     : s3->provider->path_style       ? 1
                     : host && s3_host_is_plain(host) ? 1
                                                      : 0;
    g_autofree char *endpoint = s3->endpoint ? g_strdup(s3->endpoint) : provider_endpoint(s3->provider, region, error);
    if (!endpoint)
        return FALSE;
    s3->place = s3_place_new(endpoint, s3->bucket, region, s3->path_style, error);
    return s3->place != NULL;
}

static gboolean check_sse(const S3Store *s3, const StoreOptions *options, GError **error)
{
    gboolean aes = g_strcmp0(options->sse, "AES256") == 0;
    gboolean kms = options->sse && g_str_has_prefix(options->sse, "aws:kms");
    if (options->sse && !aes && !kms)
        return error_set(error, BACKAPP_ERROR_INVALID, "encryption \"%s\" is not known: AES256 or aws:kms is",
                         options->sse);
    if ((aes && !(s3->provider->can & PROVIDER_SSE)) || (kms && !(s3->provider->can & PROVIDER_SSE_KMS)))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s does not offer encryption by %s", s3->provider->title,
                         options->sse);
    return TRUE;
}

Store *store_s3_new(const char *bucket, const char *prefix, const StoreOptions *options, GError **error)
{
    g_autoptr(Store) store = (Store *)g_new0(S3Store, 1);
    S3Store *s3 = s3_of(store);
    store->ops = &ops;
    g_mutex_init(&s3->lock);
    s3->bucket = g_strdup(bucket);
    s3->prefix = g_strdup(prefix ? prefix : "");
    s3->cancel = options->cancel;
    s3->sse = g_strdup(options->sse);
    s3->sse_kms_key = g_strdup(options->sse_kms_key);
    s3->credentials = s3_credentials_new(options, error);
    if (!s3->credentials || !find_place(s3, options, error) || !check_sse(s3, options, error))
        return NULL;
    const char *bundle = options->ca_file ? options->ca_file : g_getenv("AWS_CA_BUNDLE");
    HttpOptions http = {.ca_file = bundle && *bundle != '\0' ? bundle : NULL,
                        .insecure = options->insecure,
                        .max_idle = options->connections,
                        .rate = options->rate,
                        .cancel = options->cancel,
                        .debug = options->debug};
    s3->http = http_client_new(&http, error);
    if (!s3->http)
        return NULL;
    store->url = g_strdup_printf("s3://%s/%s", s3->bucket, s3->prefix);
    store->provider = s3->provider;
    store->can = can_of(s3->provider);
    store->min_part = s3->provider->min_part;
    store->max_part = S3_MAX_PUT;
    store->max_put = S3_MAX_PUT;
    store->max_object = S3_MAX_OBJECT;
    store->max_parts = MIN(s3->provider->max_parts, MAX_PARTS);
    return g_steal_pointer(&store);
}
