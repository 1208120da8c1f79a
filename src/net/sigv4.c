#include "net/sigv4_parts.h"

#include "crypto/digest.h"
#include "crypto/secret.h"
#include "net/http.h"

#include <string.h>
#include <time.h>

#define ALGORITHM "AWS4-HMAC-SHA256"
/* Stores, regions and roles that one process works with at once; more only cost time. */
#define CACHED_KEYS 8
/* A request and its scope fit without growing. */
#define CANONICAL_SIZE 1024
#define NAMES_SIZE     128

/* A derived key holds for one day, region and service. What it was derived from is kept as a hash only. */
typedef struct {
    guint8 origin[HASH_BYTES];
    guint8 key[HASH_BYTES];
    char day[sizeof((SigDate *)NULL)->day]; /* "" for an unused one */
} DerivedKey;

static GMutex cache_lock;
static DerivedKey cache[CACHED_KEYS];
static guint cache_next;

SigDate sigv4_date(gint64 time)
{
    SigDate date = {0};
    time_t seconds = (time_t)time;
    struct tm parts = {0};
    (void)gmtime_r(&seconds, &parts);
    (void)strftime(date.stamp, sizeof date.stamp, "%Y%m%dT%H%M%SZ", &parts);
    memcpy(date.day, date.stamp, sizeof date.day - 1);
    return date;
}

/* What a derived key depends on, in one hash. */
static void hash_origin(const SigRequest *request, const SigDate *date, const char *secret_key, guint8 out[HASH_BYTES])
{
    GString *all = g_string_sized_new(256);
    const char *const parts[] = {secret_key, date->day, request->region, request->service};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        g_string_append_len(all, parts[i], (gssize)strlen(parts[i]) + 1);
    digest_sha256(all->str, all->len, out);
    secret_wipe(all->str, all->len);
    g_string_free(all, TRUE);
}

static void derive(const SigRequest *request, const SigDate *date, const char *secret_key, guint8 key[HASH_BYTES])
{
    g_autofree char *start = g_strconcat("AWS4", secret_key, NULL);
    digest_hmac_sha256(start, strlen(start), date->day, strlen(date->day), key);
    secret_wipe(start, strlen(start));
    digest_hmac_sha256(key, HASH_BYTES, request->region, strlen(request->region), key);
    digest_hmac_sha256(key, HASH_BYTES, request->service, strlen(request->service), key);
    digest_hmac_sha256(key, HASH_BYTES, "aws4_request", strlen("aws4_request"), key);
}

/* Called with the lock held. Keys of other days are of no more use and go. */
static void remember(const guint8 origin[HASH_BYTES], const SigDate *date, const guint8 key[HASH_BYTES])
{
    for (guint i = 0; i < CACHED_KEYS; i++)
        if (strcmp(cache[i].day, date->day) != 0)
            secret_wipe(&cache[i], sizeof cache[i]);
    DerivedKey *place = &cache[cache_next++ % CACHED_KEYS];
    memcpy(place->origin, origin, HASH_BYTES);
    memcpy(place->key, key, HASH_BYTES);
    memcpy(place->day, date->day, sizeof place->day);
}

static void signing_key(const SigRequest *request, const SigDate *date, const char *secret_key, guint8 key[HASH_BYTES])
{
    guint8 origin[HASH_BYTES];
    hash_origin(request, date, secret_key, origin);
    gboolean found = FALSE;
    g_mutex_lock(&cache_lock);
    for (guint i = 0; i < CACHED_KEYS && !found; i++) {
        found = cache[i].day[0] != '\0' && secret_equal(cache[i].origin, origin, HASH_BYTES);
        if (found)
            memcpy(key, cache[i].key, HASH_BYTES);
    }
    if (!found) {
        derive(request, date, secret_key, key);
        remember(origin, date, key);
    }
    g_mutex_unlock(&cache_lock);
}

static void append_hex(GString *out, const guint8 bytes[HASH_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (guint i = 0; i < HASH_BYTES; i++) {
        g_string_append_c(out, digits[bytes[i] >> 4]);
        g_string_append_c(out, digits[bytes[i] & 0xf]);
    }
}

static void append_scope(GString *out, const SigRequest *request, const SigDate *date)
{
    const char *const parts[] = {date->day, "/", request->region, "/", request->service, "/aws4_request"};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        g_string_append(out, parts[i]);
}

void sigv4_signature(const SigRequest *request, const SigDate *date, const char *secret_key, const GString *canonical,
                     char out[SIGV4_HEX])
{
    guint8 hash[HASH_BYTES];
    guint8 key[HASH_BYTES];
    g_autoptr(GString) text = g_string_sized_new(256);
    g_string_append(text, ALGORITHM "\n");
    g_string_append(text, date->stamp);
    g_string_append_c(text, '\n');
    append_scope(text, request, date);
    g_string_append_c(text, '\n');
    digest_sha256(canonical->str, canonical->len, hash);
    append_hex(text, hash);
    signing_key(request, date, secret_key, key);
    digest_hmac_sha256(key, sizeof key, text->str, text->len, hash);
    secret_wipe(key, sizeof key);
    g_string_truncate(text, 0);
    append_hex(text, hash);
    memcpy(out, text->str, SIGV4_HEX);
}

void sigv4_sign(const SigRequest *request, const SigCredentials *credentials, const char *payload_hash,
                GPtrArray *headers)
{
    SigDate date = sigv4_date(request->time);
    char signature[SIGV4_HEX];
    g_autoptr(GString) canonical = g_string_sized_new(CANONICAL_SIZE);
    g_autoptr(GString) names = g_string_sized_new(NAMES_SIZE);
    g_ptr_array_add(headers, g_strconcat("x-amz-date: ", date.stamp, NULL));
    if (credentials->session_token)
        g_ptr_array_add(headers, g_strconcat("x-amz-security-token: ", credentials->session_token, NULL));
    g_ptr_array_add(headers, g_strconcat("x-amz-content-sha256: ", payload_hash, NULL));
    sigv4_canonical(request, request->query, headers, payload_hash, canonical, names);
    sigv4_signature(request, &date, credentials->secret_key, canonical, signature);
    /* Its memory is large enough and its text no longer needed. */
    g_string_assign(canonical, "Authorization: " ALGORITHM " Credential=");
    g_string_append(canonical, credentials->access_key);
    g_string_append_c(canonical, '/');
    append_scope(canonical, request, &date);
    g_string_append(canonical, ",SignedHeaders=");
    g_string_append_len(canonical, names->str, (gssize)names->len);
    g_string_append(canonical, ",Signature=");
    g_string_append(canonical, signature);
    g_ptr_array_add(headers, g_strndup(canonical->str, canonical->len));
}

static void append_parameter(GString *query, const char *name, const char *value)
{
    if (query->len > 0)
        g_string_append_c(query, '&');
    g_string_append(query, name);
    g_string_append_c(query, '=');
    http_encode(query, value, -1, FALSE);
}

char *sigv4_presign(const SigRequest *request, const SigCredentials *credentials, guint expires_s,
                    const GPtrArray *headers)
{
    SigDate date = sigv4_date(request->time);
    char signature[SIGV4_HEX];
    char expires[16];
    g_autoptr(GString) unused = g_string_sized_new(CANONICAL_SIZE);
    g_autoptr(GString) names = g_string_sized_new(NAMES_SIZE);
    /* The names are part of the query, so they have to be known first. */
    sigv4_canonical(request, NULL, headers, "", unused, names);
    g_autoptr(GString) owner = g_string_new(credentials->access_key);
    g_string_append_c(owner, '/');
    append_scope(owner, request, &date);
    (void)g_snprintf(expires, sizeof expires, "%u", expires_s);
    g_autoptr(GString) query = g_string_new(request->query);
    append_parameter(query, "X-Amz-Algorithm", ALGORITHM);
    append_parameter(query, "X-Amz-Credential", owner->str);
    append_parameter(query, "X-Amz-Date", date.stamp);
    append_parameter(query, "X-Amz-Expires", expires);
    if (credentials->session_token)
        append_parameter(query, "X-Amz-Security-Token", credentials->session_token);
    append_parameter(query, "X-Amz-SignedHeaders", names->str);
    g_autoptr(GString) canonical = g_string_sized_new(CANONICAL_SIZE);
    g_string_truncate(names, 0);
    sigv4_canonical(request, query->str, headers, "UNSIGNED-PAYLOAD", canonical, names);
    sigv4_signature(request, &date, credentials->secret_key, canonical, signature);
    GString *sorted = g_string_sized_new(query->len + SIGV4_HEX + 32);
    sigv4_canonical_query(sorted, query->str);
    append_parameter(sorted, "X-Amz-Signature", signature);
    return g_string_free(sorted, FALSE);
}
