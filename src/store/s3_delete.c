#include "store/s3.h"

#include <string.h>

#include "base/error.h"
#include "store/s3_xml.h"

#define BATCH 1000

/* One request's worth of a deletion. */
typedef struct {
    S3Store *s3;
    const char *const *keys;
    const char *const *versions;
    GError **errors;
    guint indexes[BATCH]; /* into keys */
    guint count;
    guint first;         /* in indexes, of those that are not known to be deleted if it ends now */
    GHashTable *by_name; /* key and version: index + 1; made when the first error comes */
    char *key, *version, *code, *message;
} Batch;

static const char *version_of(const Batch *batch, guint index)
{
    return batch->versions ? batch->versions[index] : NULL;
}

static char *join_name(const char *key, const char *version)
{
    return g_strdup_printf("%s\n%s", version ? version : "", key);
}

/* Which of the keys an error is about. */
static guint find_index(Batch *batch)
{
    if (!batch->by_name) {
        batch->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        for (guint i = 0; i < batch->count; i++) {
            guint index = batch->indexes[i];
            g_autofree char *full = g_strconcat(batch->s3->prefix, batch->keys[index], NULL);
            g_hash_table_insert(batch->by_name, join_name(full, version_of(batch, index)), GUINT_TO_POINTER(index + 1));
        }
    }
    g_autofree char *name = join_name(batch->key ? batch->key : "", batch->version);
    return GPOINTER_TO_UINT(g_hash_table_lookup(batch->by_name, name));
}

static void clear_words(Batch *batch)
{
    g_clear_pointer(&batch->key, g_free);
    g_clear_pointer(&batch->version, g_free);
    g_clear_pointer(&batch->code, g_free);
    g_clear_pointer(&batch->message, g_free);
}

/* An error of one key. */
static gboolean take_error(Batch *batch, GError **error)
{
    S3Failure failure = {.status = 403, .code = batch->code ? batch->code : (char *)"", .message = batch->message};
    guint found = find_index(batch);
    if (found == 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the server tells of keys that were not to be deleted");
    guint index = found - 1;
    const char *key = batch->keys[index];
    BackappError code = s3_failure_code(&failure);
    if (code == BACKAPP_ERROR_NOT_FOUND || batch->errors[index])
        return TRUE;
    const char *version = version_of(batch, index);
    if (version && code == BACKAPP_ERROR_DENIED)
        batch->errors[index] = s3_lock_conflict(batch->s3, key, version);
    if (batch->errors[index])
        return TRUE;
    g_autofree char *where = s3_name(batch->s3, key);
    g_autofree char *resource = g_strdup_printf("arn:aws:s3:::%s/%s*", batch->s3->bucket, batch->s3->prefix);
    S3Deed deed = {.what = "cannot delete",
                   .where = where,
                   .resource = resource,
                   .permission = version ? "s3:DeleteObjectVersion" : "s3:DeleteObject"};
    s3_failure_set(&failure, &deed, &batch->errors[index]);
    return TRUE;
}

/* An error as a whole has its words where the errors of single keys are not looked for. */
static gboolean on_open(gpointer user_data, guint depth, const char *name, GError **error)
{
    return depth != 1 || strcmp(name, "DeleteResult") == 0 ||
           error_set(error, BACKAPP_ERROR_TRANSIENT, "the server's answer to a deletion is no result, but %s", name);
}

static gboolean on_close(gpointer user_data, guint depth, const char *name, const char *text, gsize length,
                         GError **error)
{
    Batch *batch = user_data;
    if (depth == 2) {
        gboolean good = strcmp(name, "Error") != 0 || take_error(batch, error);
        clear_words(batch);
        return good;
    }
    char **slot = depth != 3                       ? NULL
                  : strcmp(name, "Key") == 0       ? &batch->key
                  : strcmp(name, "VersionId") == 0 ? &batch->version
                  : strcmp(name, "Code") == 0      ? &batch->code
                  : strcmp(name, "Message") == 0   ? &batch->message
                                                   : NULL;
    if (slot && length > 0) {
        g_free(*slot);
        *slot = g_strndup(text, length);
    }
    return TRUE;
}

static gboolean send_batch(Batch *batch, const GString *document, GError **error)
{
    static const S3XmlHandler handler = {.open = on_open, .close = on_close};
    StoreBody body = {.data = document->str, .length = document->len};
    g_autoptr(GPtrArray) headers = s3_headers_new();
    s3_headers_add(headers, "Content-Type", "application/xml");
    S3Request request = {.kind = STORE_REQUEST_DELETE,
                         .method = "POST",
                         .query = "delete=",
                         .headers = headers,
                         .body = &body,
                         .md5 = TRUE,
                         .what = "cannot delete objects of",
                         .permission = "s3:DeleteObject"};
    g_auto(S3Answer) answer = {0};
    if (!s3_perform(batch->s3, &request, &answer, error))
        return FALSE;
    const GByteArray *said = answer.http.body;
    gboolean good = said && said->len > 0
                        ? s3_xml_parse(said->data, said->len, &handler, batch, error)
                        : error_set(error, BACKAPP_ERROR_TRANSIENT, "the server's answer to a deletion is empty");
    clear_words(batch);
    if (batch->by_name)
        g_hash_table_unref(batch->by_name);
    batch->by_name = NULL;
    return good;
}

/* Appends a key to the request. FALSE if XML cannot carry it. */
static gboolean add_object(Batch *batch, GString *document, guint index)
{
    const char *version = version_of(batch, index);
    gsize before = document->len;
    g_autofree char *full = g_strconcat(batch->s3->prefix, batch->keys[index], NULL);
    g_string_append(document, "<Object><Key>");
    gboolean good = s3_xml_append(document, full);
    g_string_append(document, "</Key>");
    if (version) {
        g_string_append(document, "<VersionId>");
        good = s3_xml_append(document, version) && good;
        g_string_append(document, "</VersionId>");
    }
    g_string_append(document, "</Object>");
    if (good)
        batch->indexes[batch->count++] = index;
    else
        g_string_truncate(document, before);
    return good;
}

/* The request for many may be denied where single ones are not: Ceph wants the permission on the bucket for it, which a
 * policy for its objects does not give. FALSE with `why` if the first is denied as well. */
static gboolean delete_singly(Batch *batch, GError *why, GError **error)
{
    for (guint i = 0; i < batch->count; i++) {
        guint index = batch->indexes[i];
        batch->first = i;
        if (s3_delete_one(&batch->s3->store, batch->keys[index], version_of(batch, index), &batch->errors[index]))
            continue;
        if (error_is(batch->errors[index], BACKAPP_ERROR_CANCELLED)) {
            g_error_free(why);
            g_propagate_error(error, g_error_copy(batch->errors[index]));
            return FALSE;
        }
        if (i == 0 && error_is(batch->errors[index], BACKAPP_ERROR_DENIED)) {
            g_clear_error(&batch->errors[index]);
            g_propagate_error(error, why);
            return FALSE;
        }
    }
    g_error_free(why);
    return TRUE;
}

static gboolean delete_batch(Batch *batch, const GString *document, GError **error)
{
    GError *local = NULL;
    if (send_batch(batch, document, &local))
        return TRUE;
    if (error_is(local, BACKAPP_ERROR_DENIED))
        return delete_singly(batch, local, error);
    g_propagate_error(error, local);
    return FALSE;
}

/* Ends early: nothing is known of the rest of this batch and of the keys from `next` on. Takes `why`. Returns FALSE. */
static gboolean give_up(Batch *batch, guint next, guint count, GError *why, GError **error)
{
    for (guint i = batch->first; i < batch->count; i++)
        store_errors_fill(batch->errors, batch->indexes[i], batch->indexes[i] + 1, why);
    store_errors_fill(batch->errors, next, count, why);
    g_propagate_error(error, why);
    return FALSE;
}

gboolean s3_delete_many(Store *store, const char *const *keys, const char *const *versions, guint count,
                        GError **errors, GError **error)
{
    S3Store *s3 = s3_of(store);
    gboolean at_once = (s3->provider->can & PROVIDER_DELETE_MANY) != 0;
    g_autofree Batch *batch = g_new0(Batch, 1);
    *batch = (Batch){.s3 = s3, .keys = keys, .versions = versions, .errors = errors};
    g_autoptr(GString) document = g_string_new(NULL);
    for (guint done = 0; done < count;) {
        batch->count = batch->first = 0;
        g_string_assign(document, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>");
        for (; done < count && batch->count < BATCH; done++) {
            if (at_once && add_object(batch, document, done))
                continue;
            (void)s3_delete_one(store, keys[done], versions ? versions[done] : NULL, &errors[done]);
            if (error_is(errors[done], BACKAPP_ERROR_CANCELLED))
                return give_up(batch, done, count, g_error_copy(errors[done]), error);
        }
        g_string_append(document, "</Delete>");
        GError *why = NULL;
        if (batch->count > 0 && !delete_batch(batch, document, &why))
            return give_up(batch, done, count, why, error);
    }
    for (guint i = 0; i < count; i++)
        if (errors[i])
            return FALSE;
    return TRUE;
}
