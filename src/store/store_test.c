#include "store/store_test.h"

#include <string.h>

#include "base/error.h"
#include "store/provider.h"

#define SKEW_MAX_S  300
#define PROBE_BYTES 64

typedef struct {
    Store *store;
    GPtrArray *items;
    char *key, *copy;
    char text[PROBE_BYTES + 1];
    gboolean written, copied, cancelled;
} Trial;

static void item_free(gpointer data)
{
    StoreTestItem *item = data;
    g_free(item->message);
    g_free(item);
}

const char *store_test_state_name(StoreTestState state)
{
    static const char *const names[] = {"ok", "missing", "warn", "unknown"};
    return names[state];
}

static void G_GNUC_PRINTF(4, 5) note(Trial *trial, const char *check, StoreTestState state, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    StoreTestItem *item = g_new0(StoreTestItem, 1);
    *item = (StoreTestItem){.check = check, .state = state, .message = g_strdup_vprintf(format, arguments)};
    va_end(arguments);
    g_ptr_array_add(trial->items, item);
}

/* Notes a failure. FALSE if there is no use in going on. */
static gboolean failed(Trial *trial, const char *check, StoreTestState state, const GError *error)
{
    trial->cancelled = error_is(error, BACKAPP_ERROR_CANCELLED);
    note(trial, check, state, "%s", error->message);
    return !trial->cancelled;
}

/* A refused key, or a certificate, is refused for everything; a missing permission only for what it is about. */
static gboolean is_permission(const GError *error)
{
    return error_is(error, BACKAPP_ERROR_DENIED) && strstr(error->message, "AccessDenied") != NULL;
}

static gboolean try_list(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreList) list = store_list(trial->store, "", NULL, FALSE, &error);
    const StoreObject *object = NULL;
    int got = list ? store_list_next(list, &object, &error) : -1;
    if (got >= 0) {
        note(trial, "reach", STORE_TEST_OK, "%s answers", trial->store->url);
        note(trial, "list", STORE_TEST_OK, got > 0 ? "objects can be listed" : "objects can be listed; there are none");
        return TRUE;
    }
    if (!is_permission(error))
        return failed(trial, "reach", STORE_TEST_MISSING, error) && FALSE;
    note(trial, "reach", STORE_TEST_OK, "%s answers", trial->store->url);
    return failed(trial, "list", STORE_TEST_MISSING, error);
}

static gboolean try_write(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    StoreBody body = {.data = trial->text, .length = PROBE_BYTES};
    StorePut how = {.mtime = "1000000000.123456789"};
    trial->written = store_put(trial->store, trial->key, &body, &how, NULL, &error);
    if (!trial->written)
        return failed(trial, "write", STORE_TEST_MISSING, error);
    note(trial, "write", STORE_TEST_OK, "objects can be written");
    return TRUE;
}

static gboolean try_read(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreObject) object = NULL;
    g_autoptr(GBytes) bytes = store_get_bytes(trial->store, trial->key, NULL, PROBE_BYTES, &object, &error);
    if (!bytes)
        return failed(trial, "read", STORE_TEST_MISSING, error);
    gsize length = 0;
    const char *data = g_bytes_get_data(bytes, &length);
    if (length != PROBE_BYTES || memcmp(data, trial->text, PROBE_BYTES) != 0) {
        note(trial, "read", STORE_TEST_MISSING, "%s gives back other bytes than were written", trial->store->url);
        return TRUE;
    }
    note(trial, "read", STORE_TEST_OK, "what was written reads the same");
    if (g_strcmp0(object->mtime, "1000000000.123456789") == 0)
        note(trial, "metadata", STORE_TEST_OK, "times are kept with objects");
    else
        note(trial, "metadata", STORE_TEST_WARNING, "times are not kept with objects: unchanged files are sent again");
    return TRUE;
}

static gboolean try_copy(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    if (!store_can(trial->store, STORE_COPY)) {
        note(trial, "copy", STORE_TEST_WARNING, "the store cannot copy objects: what is unchanged is sent again");
        return TRUE;
    }
    StoreSource source = {.key = trial->key, .size = PROBE_BYTES};
    trial->copied = store_copy(trial->store, &source, trial->copy, NULL, NULL, &error);
    if (!trial->copied)
        return failed(trial, "copy", STORE_TEST_WARNING, error);
    note(trial, "copy", STORE_TEST_OK, "objects can be copied inside the store");
    return TRUE;
}

static gboolean try_parts(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    if (!store_can(trial->store, STORE_MULTIPART))
        return TRUE;
    g_autofree char *upload = store_begin(trial->store, trial->copy, NULL, &error);
    if (!upload)
        return failed(trial, "parts", STORE_TEST_WARNING, error);
    if (!store_abort(trial->store, trial->copy, upload, &error))
        return failed(trial, "parts", STORE_TEST_WARNING, error);
    g_autoptr(GPtrArray) uploads = store_list_uploads(trial->store, "", &error);
    if (!uploads)
        return failed(trial, "parts", STORE_TEST_WARNING, error);
    note(trial, "parts", STORE_TEST_OK, "large objects can be sent in parts; unfinished uploads: %u", uploads->len);
    return TRUE;
}

static gboolean try_absent(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    StoreBody body = {.data = trial->text, .length = PROBE_BYTES};
    StorePut how = {.if_absent = TRUE};
    if (!store_can(trial->store, STORE_IF_MATCH))
        note(trial, "if-absent", STORE_TEST_WARNING, "the store cannot refuse to overwrite: locks are less certain");
    else if (store_put(trial->store, trial->key, &body, &how, NULL, &error))
        note(trial, "if-absent", STORE_TEST_WARNING, "the store overwrites although it was told not to");
    else if (error_is(error, BACKAPP_ERROR_CONFLICT))
        note(trial, "if-absent", STORE_TEST_OK, "the store refuses to overwrite when told so");
    else
        return failed(trial, "if-absent", STORE_TEST_WARNING, error);
    return TRUE;
}

/* In a bucket that keeps versions those of the test are removed as well, if that is allowed. */
static void sweep(Trial *trial)
{
    if (!store_can(trial->store, STORE_VERSIONS))
        return;
    g_autoptr(StoreList) list = store_list(trial->store, trial->key, NULL, TRUE, NULL);
    const StoreObject *object = NULL;
    while (list && store_list_next(list, &object, NULL) > 0)
        if (object->version && !store_delete(trial->store, object->key, object->version, NULL))
            return;
}

static gboolean try_delete(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    gboolean good = !trial->copied || store_delete(trial->store, trial->copy, NULL, &error);
    if (trial->written)
        good = store_delete(trial->store, trial->key, NULL, good ? &error : NULL) && good;
    if (good) {
        sweep(trial);
        note(trial, "delete", STORE_TEST_OK, "objects can be deleted");
        return TRUE;
    }
    /* An archive that only grows is a choice, as an agent's in append-only mode. */
    if (is_permission(error)) {
        note(trial, "delete", STORE_TEST_WARNING, "%s; %s stays there", error->message, trial->key);
        return TRUE;
    }
    return failed(trial, "delete", STORE_TEST_MISSING, error);
}

static void judge(Trial *trial, const char *check, int state, int wanted, const char *good, const char *bad,
                  const char *permission)
{
    if (state < 0)
        note(trial, check, STORE_TEST_UNKNOWN, "not known: the store does not tell, or %s is not granted", permission);
    else if ((state != 0) == (wanted != 0))
        note(trial, check, STORE_TEST_OK, "%s", good);
    else
        note(trial, check, STORE_TEST_WARNING, "%s", bad);
}

static void judge_place(Trial *trial, const StoreFacts *facts)
{
    const Provider *provider = trial->store->provider;
    const ProviderRegion *region = facts->region ? provider_region(provider, facts->region) : NULL;
    const char *endpoint = facts->endpoint ? facts->endpoint : "";
    gboolean loopback = strstr(endpoint, "://127.") || strstr(endpoint, "localhost") || strstr(endpoint, "://[::1]");
    if (g_str_has_prefix(endpoint, "https:"))
        note(trial, "tls", STORE_TEST_OK, "%s is asked over TLS", endpoint);
    else
        note(trial, "tls", loopback ? STORE_TEST_OK : STORE_TEST_WARNING, "%s is asked without encryption", endpoint);
    gboolean eu_endpoint = strstr(endpoint, ".eu.r2.cloudflarestorage.com") != NULL;
    if (eu_endpoint || (region && region->eu))
        note(trial, "residency", STORE_TEST_OK, "%s: %s, in the European Union", provider->title,
             eu_endpoint ? "its EU jurisdiction" : region->place);
    else if (region)
        note(trial, "residency", STORE_TEST_WARNING, "%s: %s, outside the European Union", provider->title,
             region->place);
    else
        note(trial, "residency", STORE_TEST_UNKNOWN, "%s, region %s: where the data lies is not known", provider->title,
             facts->region ? facts->region : "?");
}

static void judge_abilities(Trial *trial)
{
    static const struct {
        ProviderCan can;
        const char *name;
    } all[] = {
        {PROVIDER_VERSIONS, "versions"},
        {PROVIDER_LOCK, "object lock"},
        {PROVIDER_CLASSES, "storage classes"},
        {PROVIDER_LIFECYCLE, "life cycle rules"},
        {PROVIDER_IF_ABSENT, "conditional writes"},
        {PROVIDER_THAW, "cold storage that is thawed"},
    };
    const Provider *provider = trial->store->provider;
    g_autoptr(GString) text = g_string_new(NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        if (!(provider->can & all[i].can))
            g_string_append_printf(text, "%s%s", text->len > 0 ? ", " : "", all[i].name);
    note(trial, "provider", STORE_TEST_OK, "%s%s%s%s%s", provider->title,
         text->len > 0 ? "; as far as is known it does not offer " : "", text->str, provider->note ? "; note: " : "",
         provider->note ? provider->note : "");
}

static gboolean try_facts(Trial *trial)
{
    g_autoptr(GError) error = NULL;
    StoreFacts facts;
    /* A directory has no such settings. */
    if (!trial->store->provider)
        return TRUE;
    if (!store_facts(trial->store, &facts, &error))
        return failed(trial, "settings", STORE_TEST_UNKNOWN, error);
    judge_place(trial, &facts);
    if (ABS(facts.clock_skew) > SKEW_MAX_S)
        note(trial, "clock", STORE_TEST_WARNING,
             "the store's clock is %" G_GINT64_FORMAT " seconds off ours: set this machine's clock", facts.clock_skew);
    else
        note(trial, "clock", STORE_TEST_OK, "the clocks agree");
    judge(
        trial, "versions", facts.versioning, 1, "the bucket keeps old versions",
        "the bucket keeps no versions: what is overwritten or deleted is gone; switch versioning on, or use the trash",
        "s3:GetBucketVersioning");
    if (facts.versioning == 1 && strcmp(trial->store->provider->id, "aws") == 0)
        judge(trial, "mfa-delete", facts.mfa_delete, 1, "versions are deleted only with a second factor",
              "MFA delete is off: whoever has the keys can delete old versions for good", "s3:GetBucketVersioning");
    judge(trial, "lock", facts.lock, 1, "objects can be locked",
          "objects cannot be locked in this bucket; it has to be created with object lock for that",
          "s3:GetBucketObjectLockConfiguration");
    judge(trial, "public", facts.public_access, 0, "the bucket is not public",
          "the bucket is PUBLIC: strangers can read it", "s3:GetBucketPolicyStatus and s3:GetBucketAcl");
    judge(trial, "encryption", facts.encryption, 1, "objects are encrypted at rest by default",
          "objects are not encrypted at rest by default: switch it on, or use client-side encryption",
          "s3:GetEncryptionConfiguration");
    judge_abilities(trial);
    return TRUE;
}

GPtrArray *store_test_run(Store *store, GError **error)
{
    g_autofree char *id = g_uuid_string_random();
    Trial trial = {.store = store, .items = g_ptr_array_new_with_free_func(item_free)};
    trial.key = g_strdup_printf(".backapp/test-%s", id);
    trial.copy = g_strdup_printf(".backapp/test-%s-copy", id);
    g_snprintf(trial.text, sizeof trial.text, "%-*s", PROBE_BYTES, id);
    if (try_list(&trial) && try_write(&trial) && trial.written)
        (void)(try_read(&trial) && try_copy(&trial) && try_parts(&trial) && try_absent(&trial));
    if (trial.written && !trial.cancelled)
        (void)try_delete(&trial);
    gboolean reached = store_test_is_usable(trial.items) || trial.items->len > 1;
    if (reached && !trial.cancelled)
        (void)try_facts(&trial);
    g_free(trial.key);
    g_free(trial.copy);
    if (!trial.cancelled)
        return trial.items;
    g_ptr_array_unref(trial.items);
    error_set(error, BACKAPP_ERROR_CANCELLED, "cancelled");
    return NULL;
}

gboolean store_test_is_usable(const GPtrArray *items)
{
    for (guint i = 0; i < items->len; i++)
        if (((const StoreTestItem *)items->pdata[i])->state == STORE_TEST_MISSING)
            return FALSE;
    return TRUE;
}
