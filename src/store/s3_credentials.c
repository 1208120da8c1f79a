#include "store/s3_credentials_private.h"

#include "base/error.h"
#include "base/log.h"

#include <string.h>

/* Fetched anew so long before they expire. */
#define EARLY_S 300
/* With keys that are still good, a service that does not answer is asked again after this time. */
#define ASK_AGAIN_S 30
/* A metadata service is on this machine or next to it; where there is none, nobody should wait for it. */
#define NEAR_CONNECT_MS 1000
#define NEAR_TOTAL_MS   2500
#define STS_TOTAL_MS    30000

struct S3Credentials {
    S3Found found;
    S3Askers askers;
    GMutex lock; /* for all that follows */
    GCond fetched;
    S3Keys *keys;      /* the last ones; NULL: none yet */
    gint64 refresh_at; /* seconds since 1970; 0: never */
    gboolean refused;  /* the store does not take them any more */
    gboolean fetching; /* one thread is at it */
    guint64 rounds;    /* fetches that have ended */
    GError *failure;   /* of the last one; NULL if it worked */
};

static gint64 now_s(void)
{
    return g_get_real_time() / G_USEC_PER_SEC;
}

static gboolean make_askers(S3Askers *askers, const StoreOptions *options, GError **error)
{
    const char *bundle = g_getenv("AWS_CA_BUNDLE");
    HttpOptions network = {.total_timeout_ms = STS_TOTAL_MS,
                           .max_idle = 1,
                           .ca_file = options->ca_file    ? options->ca_file
                                      : bundle && *bundle ? bundle
                                                          : NULL,
                           .insecure = options->insecure,
                           .cancel = options->cancel,
                           .debug = options->debug};
    HttpOptions near = {.connect_timeout_ms = NEAR_CONNECT_MS,
                        .total_timeout_ms = NEAR_TOTAL_MS,
                        .max_idle = 1,
                        .no_proxy = TRUE,
                        .cancel = options->cancel,
                        .debug = options->debug};
    askers->network = http_client_new(&network, error);
    askers->near = askers->network ? http_client_new(&near, error) : NULL;
    return askers->near != NULL;
}

S3Credentials *s3_credentials_new(const StoreOptions *options, GError **error)
{
    g_autoptr(S3Credentials) credentials = g_new0(S3Credentials, 1);
    g_mutex_init(&credentials->lock);
    g_cond_init(&credentials->fetched);
    if (!s3_credentials_find(options, &credentials->found, error))
        return NULL;
    const S3Source *source = credentials->found.source;
    if (source && source->kind == S3_SOURCE_FIXED)
        credentials->keys = s3_keys_ref(source->fixed);
    else if (source && !make_askers(&credentials->askers, options, error))
        return NULL;
    return g_steal_pointer(&credentials);
}

void s3_credentials_free(S3Credentials *credentials)
{
    if (!credentials)
        return;
    s3_source_free(credentials->found.source);
    if (credentials->found.tried)
        g_string_free(credentials->found.tried, TRUE);
    g_free(credentials->found.region);
    g_free(credentials->found.endpoint);
    http_client_free(credentials->askers.network);
    http_client_free(credentials->askers.near);
    s3_keys_unref(credentials->keys);
    g_clear_error(&credentials->failure);
    g_mutex_clear(&credentials->lock);
    g_cond_clear(&credentials->fetched);
    g_free(credentials);
}

S3Keys *s3_source_fetch(const S3Source *source, const S3Askers *askers, GError **error)
{
    g_autoptr(S3Keys) base = NULL;
    switch (source->kind) {
    case S3_SOURCE_FIXED:
        return s3_keys_ref(source->fixed);
    case S3_SOURCE_ROLE:
        base = s3_source_fetch(source->base, askers, error);
        return base ? s3_sts_fetch(source, base, askers->network, error) : NULL;
    case S3_SOURCE_WEB_IDENTITY:
        return s3_sts_fetch(source, NULL, askers->network, error);
    case S3_SOURCE_CONTAINER:
        return s3_container_fetch(source, askers->near, error);
    case S3_SOURCE_MACHINE:
        return s3_machine_fetch(source, askers->near, error);
    }
    error_set(error, BACKAPP_ERROR_INTERNAL, "credentials: an unknown source");
    return NULL;
}

/* Asks the source, without the lock. What is wrong with an answer is the source's refusal as far as callers care. */
static S3Keys *fetch(S3Credentials *credentials, GError **error)
{
    const S3Source *source = credentials->found.source;
    GString *tried = credentials->found.tried;
    GError *local = NULL;
    S3Keys *keys = source ? s3_source_fetch(source, &credentials->askers, &local) : NULL;
    if (keys)
        return keys;
    if (!source || !local || local->code == BACKAPP_ERROR_NOT_FOUND)
        error_set(error, BACKAPP_ERROR_DENIED,
                  "no credentials for S3: %s%s%s; set AWS_ACCESS_KEY_ID and "
                  "AWS_SECRET_ACCESS_KEY, or a profile",
                  tried->str, local ? "; metadata service: " : "", local ? local->message : "");
    else if (error_is(local, BACKAPP_ERROR_TRANSIENT) || error_is(local, BACKAPP_ERROR_CANCELLED))
        error_set(error, (BackappError)local->code, "no credentials for S3 from the %s: %s", source->name,
                  local->message);
    else
        error_set(error, BACKAPP_ERROR_DENIED, "no credentials for S3 from the %s: %s", source->name, local->message);
    g_clear_error(&local);
    return NULL;
}

static void set_refresh(S3Credentials *credentials, gint64 now)
{
    gint64 left = credentials->keys->expires - now;
    /* Keys that live shorter than that are not fetched all the time. */
    if (credentials->keys->expires > 0)
        credentials->refresh_at = now + MAX(left - MIN(EARLY_S, left / 2), 0);
    else
        credentials->refresh_at = 0;
}

/* TRUE if the keys that are there may be used now. */
static gboolean usable(const S3Credentials *credentials, gint64 now)
{
    return credentials->keys && !credentials->refused &&
           (credentials->keys->expires == 0 || now < credentials->keys->expires);
}

static gboolean fresh(const S3Credentials *credentials, gint64 now)
{
    return usable(credentials, now) && (credentials->refresh_at == 0 || now < credentials->refresh_at);
}

/* Called with the lock held, which is given up meanwhile. */
static void fetch_round(S3Credentials *credentials)
{
    GError *local = NULL;
    credentials->fetching = TRUE;
    g_mutex_unlock(&credentials->lock);
    S3Keys *keys = fetch(credentials, &local);
    g_mutex_lock(&credentials->lock);
    gint64 now = now_s();
    credentials->fetching = FALSE;
    credentials->rounds++;
    g_clear_error(&credentials->failure);
    if (keys) {
        s3_keys_unref(credentials->keys);
        credentials->keys = keys;
        credentials->refused = FALSE;
        set_refresh(credentials, now);
    } else {
        if (usable(credentials, now)) {
            log_warning("%s; going on with those that are good for %" G_GINT64_FORMAT " s more", local->message,
                        credentials->keys->expires - now);
            credentials->refresh_at = now + ASK_AGAIN_S;
        }
        credentials->failure = local;
    }
    g_cond_broadcast(&credentials->fetched);
}

static void hand_out(const S3Credentials *credentials, S3CredentialsValue *value)
{
    S3Keys *keys = s3_keys_ref(credentials->keys);
    *value = (S3CredentialsValue){
        .keys = {keys->access_key, keys->secret_key, keys->session_token}, .expires = keys->expires, .held = keys};
}

gboolean s3_credentials_get(S3Credentials *credentials, S3CredentialsValue *value, GError **error)
{
    g_mutex_lock(&credentials->lock);
    gint64 now = now_s();
    if (!fresh(credentials, now)) {
        guint64 round = credentials->rounds;
        if (!credentials->fetching)
            fetch_round(credentials);
        /* All that wait take the outcome of the one fetch, so a service that is down is not asked by each in turn. */
        while (!usable(credentials, now) && credentials->fetching && credentials->rounds == round)
            g_cond_wait(&credentials->fetched, &credentials->lock);
    }
    gboolean good = usable(credentials, now_s());
    if (good)
        hand_out(credentials, value);
    else if (credentials->failure)
        g_set_error_literal(error, credentials->failure->domain, credentials->failure->code,
                            credentials->failure->message);
    else
        error_set(error, BACKAPP_ERROR_TRANSIENT,
                  "no credentials for S3: those that the %s gave are expired already; "
                  "is this machine's clock right?",
                  credentials->found.source->name);
    g_mutex_unlock(&credentials->lock);
    return good;
}

gboolean s3_credentials_expired(S3Credentials *credentials, const S3CredentialsValue *value)
{
    const S3Source *source = credentials->found.source;
    if (!source || source->kind == S3_SOURCE_FIXED)
        return FALSE;
    g_mutex_lock(&credentials->lock);
    if (value->held == credentials->keys)
        credentials->refused = TRUE;
    g_mutex_unlock(&credentials->lock);
    return TRUE;
}

void s3_credentials_value_clear(S3CredentialsValue *value)
{
    s3_keys_unref(value->held);
    *value = (S3CredentialsValue){0};
}

const char *s3_credentials_region(const S3Credentials *credentials)
{
    return credentials->found.region;
}

const char *s3_credentials_endpoint(const S3Credentials *credentials)
{
    return credentials->found.endpoint;
}

char *s3_credentials_source(S3Credentials *credentials)
{
    g_mutex_lock(&credentials->lock);
    char *name = g_strdup(credentials->keys ? credentials->found.source->name : "none yet");
    g_mutex_unlock(&credentials->lock);
    return name;
}
