/*
 * The S3 driver at a shell, for tests/integration/test_s3_driver.py: each argument behind the options is a command, each
 * answers with one line (lists with more), "ok ..." or "CODE message". Words of a command are separated by spaces, bytes
 * may be written as %XX.
 */
#include "base/error.h"
#include "store/drivers.h"
#include "store/s3_url.h"
#include "store/store_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Store *store;
    char **words; /* the command's, decoded; NULL-terminated */
    guint count;
} Call;

/* The value of a word "name=value", or NULL. */
static const char *named(const Call *call, const char *name)
{
    gsize length = strlen(name);
    for (guint i = 1; i < call->count; i++)
        if (strncmp(call->words[i], name, length) == 0 && call->words[i][length] == '=')
            return call->words[i] + length + 1;
    return NULL;
}

static const char *word(const Call *call, guint index)
{
    return index < call->count ? call->words[index] : "";
}

static guint64 number(const char *text)
{
    return text ? g_ascii_strtoull(text, NULL, 10) : 0;
}

static StorePut how_of(const Call *call)
{
    StorePut how = {.storage_class = named(call, "class"),
                    .mtime = named(call, "mtime"),
                    .if_absent = named(call, "absent") != NULL,
                    .lock_mode = named(call, "lock")};
    how.lock_until = g_get_real_time() / G_USEC_PER_SEC + (gint64)number(named(call, "for"));
    return how;
}

/* By address: the call that sets it and its value would be arguments in no certain order. */
static gboolean said(gboolean good, GError **error)
{
    if (!good && *error)
        printf("%s %s\n", error_code_name((BackappError)(*error)->code), (*error)->message);
    else if (!good)
        printf("failed without an error\n");
    g_clear_error(error);
    return good;
}

/* Bytes of a body that a function makes: their offset, 8 bytes each. */
static gssize make_bytes(gpointer user_data, guint64 offset, void *buffer, gsize size, GError **error)
{
    guint8 *out = buffer;
    for (gsize i = 0; i < size; i++) {
        guint64 block = (offset + i) / 8;
        out[i] = (guint8)(block >> (8 * ((offset + i) % 8)));
    }
    return (gssize)size;
}

static StoreBody body_of(const Call *call, guint index)
{
    if (named(call, "size"))
        return (StoreBody){.length = number(named(call, "size")), .read = make_bytes};
    return (StoreBody){.data = word(call, index), .length = strlen(word(call, index))};
}

static void put(const Call *call)
{
    static const guint8 wrong[32] = {1};
    StoreBody body = body_of(call, 2);
    StorePut how = how_of(call);
    g_auto(StoreResult) result = {0};
    GError *error = NULL;
    if (named(call, "wrong"))
        body.sha256 = wrong;
    if (said(store_put(call->store, word(call, 1), &body, &how, &result, &error), &error))
        printf("ok etag=%s version=%s\n", result.etag, result.version ? result.version : "-");
}

static void show(const StoreObject *object)
{
    printf("key=%s size=%" G_GUINT64_FORMAT " modified=%" G_GINT64_FORMAT " etag=%s version=%s class=%s latest=%d "
           "marker=%d mtime=%s restore=%s\n",
           object->key, object->size, object->modified, object->etag, object->version ? object->version : "-",
           object->storage_class, object->latest, object->delete_marker, object->mtime ? object->mtime : "-",
           object->restore ? object->restore : "-");
}

static gboolean collect(gpointer user_data, const void *data, gsize length, GError **error)
{
    g_string_append_len(user_data, data, (gssize)length);
    return TRUE;
}

static void get(const Call *call)
{
    const char *length = named(call, "length");
    StoreRange range = {.key = word(call, 1),
                        .version = named(call, "version"),
                        .if_match = named(call, "match"),
                        .offset = number(named(call, "offset")),
                        .length = length ? number(length) : G_MAXUINT64};
    g_autoptr(GString) text = g_string_new(NULL);
    g_autoptr(StoreObject) object = NULL;
    GError *error = NULL;
    gboolean good = store_get(call->store, &range, collect, text, &object, &error);
    if (!good)
        printf("partial=%zu known=%d ", text->len, object != NULL);
    if (said(good, &error)) {
        printf("ok [%.200s] bytes=%zu ", text->str, text->len);
        show(object);
    }
}

static void head(const Call *call)
{
    GError *error = NULL;
    g_autoptr(StoreObject) object = store_head(call->store, word(call, 1), named(call, "version"), &error);
    if (said(object != NULL, &error)) {
        printf("ok ");
        show(object);
    }
}

static void list(const Call *call)
{
    GError *error = NULL;
    g_autoptr(StoreList) found =
        store_list(call->store, named(call, "prefix"), named(call, "after"), named(call, "versions") != NULL, &error);
    const StoreObject *object = NULL;
    guint count = 0;
    int got = -1;
    while (found && (got = store_list_next(found, &object, &error)) > 0)
        if (++count <= number(named(call, "show")))
            show(object);
    if (said(got == 0, &error))
        printf("ok count=%u\n", count);
}

static void delete_some(const Call *call)
{
    GError *error = NULL;
    gboolean good =
        call->count == 2 || named(call, "version")
            ? store_delete(call->store, word(call, 1), named(call, "version"), &error)
            : store_delete_many(call->store, (const char *const *)call->words + 1, NULL, call->count - 1, NULL, &error);
    if (said(good, &error))
        printf("ok\n");
}

/* Deletes many keys in one call: which of them have an error. */
static void delete_each(const Call *call)
{
    guint count = call->count - 1, failed = 0, first = 0;
    g_autofree GError **errors = g_new0(GError *, count + 1);
    GError *error = NULL;
    gboolean good = store_delete_many(call->store, (const char *const *)call->words + 1, NULL, count, errors, &error);
    for (guint i = count; i-- > 0;) {
        failed += errors[i] != NULL;
        first = errors[i] ? i : first;
        g_clear_error(&errors[i]);
    }
    printf("failed=%u first=%s ", failed, failed > 0 ? word(call, first + 1) : "-");
    if (said(good, &error))
        printf("ok\n");
}

static void copy(const Call *call)
{
    StoreSource source = {.key = word(call, 1), .if_match = named(call, "match"), .size = number(named(call, "of"))};
    StorePut how = how_of(call);
    g_auto(StoreResult) result = {0};
    GError *error = NULL;
    if (said(store_copy(call->store, &source, word(call, 2), &how, &result, &error), &error))
        printf("ok etag=%s\n", result.etag);
}

/* An object in parts: of the bytes that make_bytes makes, or copied from another. */
static void multipart(const Call *call)
{
    guint64 size = number(named(call, "size")), part = number(named(call, "part"));
    const char *source_key = named(call, "from");
    StorePut how = how_of(call);
    GError *error = NULL;
    g_autofree guint8 *bytes = g_malloc0(part);
    g_autofree char *upload = store_begin(call->store, word(call, 1), &how, &error);
    if (!said(upload != NULL, &error))
        return;
    StorePart parts[16] = {0};
    guint count = 0;
    gboolean good = TRUE;
    for (guint64 offset = 0; good && offset < size && count < 16; offset += part, count++) {
        StorePart *now = &parts[count];
        *now = (StorePart){.number = count + 1, .size = MIN(part, size - offset)};
        StoreSource source = {.key = source_key, .if_match = named(call, "match"), .size = size};
        make_bytes(NULL, offset, bytes, now->size, NULL);
        StoreBody body = {.data = bytes, .length = now->size};
        good = source_key ? store_copy_part(call->store, word(call, 1), upload, now->number, &source, offset, now->size,
                                            &now->etag, &error)
                          : store_part(call->store, word(call, 1), upload, now->number, &body, &now->etag, &error);
    }
    if (named(call, "disorder"))
        parts[0].number = 9;
    g_auto(StoreResult) result = {0};
    if (said(good && store_complete(call->store, word(call, 1), upload, parts, count, &how, &result, &error), &error))
        printf("ok etag=%s parts=%u\n", result.etag, count);
    for (guint i = 0; i < 16; i++)
        g_free(parts[i].etag);
}

/* Unfinished uploads, or with two words the parts of one. */
static void uploads(const Call *call)
{
    const char *prefix = named(call, "prefix");
    GError *error = NULL;
    if (call->count > 2) {
        g_autoptr(GArray) parts = store_list_parts(call->store, word(call, 1), word(call, 2), &error);
        if (said(parts != NULL, &error))
            printf("ok count=%u\n", parts->len);
        return;
    }
    g_autoptr(GPtrArray) found = store_list_uploads(call->store, prefix ? prefix : "", &error);
    if (!said(found != NULL, &error))
        return;
    printf("ok count=%u", found->len);
    for (guint i = 0; i < found->len; i++)
        printf(" %s", ((const StoreUpload *)found->pdata[i])->key);
    printf("\n");
}

static void facts(const Call *call)
{
    StoreFacts known;
    GError *error = NULL;
    if (said(store_facts(call->store, &known, &error), &error))
        printf("ok versioning=%d suspended=%d mfa=%d lock=%d encryption=%d public=%d skew=%" G_GINT64_FORMAT "\n",
               known.versioning, known.versioning_suspended, known.mfa_delete, known.lock, known.encryption,
               known.public_access, known.clock_skew);
}

static void set_something(const Call *call)
{
    GError *error = NULL;
    gboolean good = FALSE;
    StoreLifecycleRule rule = {.id = named(call, "id"),
                               .prefix = named(call, "prefix"),
                               .old_versions_expire_days = (guint)number(named(call, "old")),
                               .abort_uploads_days = (guint)number(named(call, "abort")),
                               .transition_days = (guint)number(named(call, "cold")),
                               .transition_class = named(call, "class")};
    gint64 until = g_get_real_time() / G_USEC_PER_SEC + (gint64)number(named(call, "for"));
    if (strcmp(word(call, 0), "versioning") == 0)
        good = store_set_versioning(call->store, strcmp(word(call, 1), "on") == 0, &error);
    else if (strcmp(word(call, 0), "lifecycle") == 0)
        good = store_set_lifecycle(call->store, &rule, rule.id ? 1 : 0, &error);
    else if (strcmp(word(call, 0), "lock") == 0)
        good = store_set_lock(call->store, word(call, 1), named(call, "version"), named(call, "mode"), until, &error);
    else if (strcmp(word(call, 0), "thaw") == 0)
        good = store_thaw(call->store, word(call, 1), NULL, 2, "Bulk", &error);
    if (said(good, &error))
        printf("ok\n");
}

static void presign(const Call *call)
{
    GError *error = NULL;
    g_autofree char *url = store_presign(call->store, word(call, 1), word(call, 2), 60, &error);
    if (said(url != NULL, &error))
        printf("ok %s\n", url);
}

static void test(const Call *call)
{
    GError *error = NULL;
    g_autoptr(GPtrArray) items = store_test_run(call->store, &error);
    for (guint i = 0; items && i < items->len; i++) {
        const StoreTestItem *item = items->pdata[i];
        printf("%s %s %s\n", item->check, store_test_state_name(item->state), item->message);
    }
    if (said(items != NULL, &error))
        printf("ok usable=%d\n", store_test_is_usable(items));
}

static void counts(const Call *call)
{
    StoreCounts all;
    store_counts(call->store, &all);
    printf("ok");
    for (guint i = 0; i < STORE_REQUEST_KINDS; i++)
        printf(" %s=%" G_GUINT64_FORMAT, store_request_name(i), all.requests[i]);
    printf(" retries=%" G_GUINT64_FORMAT " slow=%" G_GUINT64_FORMAT "\n", all.retries, all.slow_downs);
}

static void perform(Store *store, const char *command)
{
    static const struct {
        const char *name;
        void (*function)(const Call *call);
    } table[] = {
        {"put", put},
        {"get", get},
        {"head", head},
        {"list", list},
        {"delete", delete_some},
        {"delete-each", delete_each},
        {"copy", copy},
        {"multipart", multipart},
        {"uploads", uploads},
        {"facts", facts},
        {"versioning", set_something},
        {"lifecycle", set_something},
        {"lock", set_something},
        {"thaw", set_something},
        {"presign", presign},
        {"counts", counts},
        {"test", test},
    };
    g_auto(GStrv) words = g_strsplit(command, " ", -1);
    for (char **at = words; *at; at++)
        s3_url_decode(*at);
    Call call = {.store = store, .words = words, .count = g_strv_length(words)};
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++)
        if (strcmp(table[i].name, words[0]) == 0) {
            table[i].function(&call);
            (void)fflush(stdout);
            return;
        }
    printf("unknown command %s\n", words[0]);
}

int main(int count, char **arguments)
{
    StoreOptions options;
    store_options_default(&options);
    const char *bucket = "";
    const char *prefix = "";
    int i = 1;
    for (; i + 1 < count && strncmp(arguments[i], "--", 2) == 0; i += 2) {
        const char *name = arguments[i] + 2, *value = arguments[i + 1];
        const char **slot = strcmp(name, "bucket") == 0     ? &bucket
                            : strcmp(name, "prefix") == 0   ? &prefix
                            : strcmp(name, "endpoint") == 0 ? &options.endpoint
                            : strcmp(name, "region") == 0   ? &options.region
                            : strcmp(name, "provider") == 0 ? &options.provider
                            : strcmp(name, "ca") == 0       ? &options.ca_file
                            : strcmp(name, "sse") == 0      ? &options.sse
                                                            : NULL;
        if (slot)
            *slot = value;
        if (strcmp(name, "path-style") == 0)
            options.path_style = strcmp(value, "1") == 0;
    }
    g_autoptr(GError) error = NULL;
    g_autoptr(Store) store = store_s3_new(bucket, prefix, &options, &error);
    if (!store) {
        printf("%s %s\n", error_code_name((BackappError)error->code), error->message);
        return 1;
    }
    for (; i < count; i++)
        perform(store, arguments[i]);
    return 0;
}
