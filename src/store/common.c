#include "store/common.h"

#include "base/error.h"
#include "base/human.h"
#include "crypto/digest.h"

#include <string.h>

/* A cancel flag cannot wake a sleeper: it is looked at this often. */
#define SLICE_US 50000

gboolean store_body_piece(const StoreBody *body, guint64 offset, guint8 *buffer, const guint8 **data, gsize *length,
                          GError **error)
{
    guint64 left = offset < body->length ? body->length - offset : 0;
    gsize size = (gsize)MIN(left, STORE_PIECE_BYTES);
    *length = size;
    *data = buffer;
    if (size == 0)
        return TRUE;
    if (!body->read) {
        *data = (const guint8 *)body->data + offset;
        return TRUE;
    }
    gssize got = body->read(body->user_data, offset, buffer, size, error);
    if (got < 0)
        return FALSE;
    if (got == 0 || (gsize)got > size)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "what is to be stored ended after %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT " bytes",
                         offset, body->length);
    *length = (gsize)got;
    return TRUE;
}

gboolean store_body_hash(const StoreBody *body, Hash *hash, GError **error)
{
    g_autofree guint8 *buffer = body->read ? g_malloc(STORE_PIECE_BYTES) : NULL;
    gsize length = 0;
    for (guint64 offset = 0; offset < body->length; offset += length) {
        const guint8 *data = NULL;
        if (!store_body_piece(body, offset, buffer, &data, &length, error))
            return FALSE;
        hash_update(hash, data, length);
    }
    return TRUE;
}

gboolean store_body_check(const StoreBody *body, const guint8 sha256[HASH_BYTES], const char *key, GError **error)
{
    if (!body->sha256 || memcmp(body->sha256, sha256, HASH_BYTES) == 0)
        return TRUE;
    g_autofree char *shown = human_name(key, -1);
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "what is to be stored as %s does not have its SHA-256: it changed meanwhile, or is damaged",
                     shown);
}

gboolean store_range_cut(const StoreRange *range, guint64 size, guint64 *length, GError **error)
{
    *length = 0;
    if (range->offset == 0 && size == 0)
        return TRUE;
    if (range->offset >= size) {
        g_autofree char *shown = human_name(range->key, -1);
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "cannot read %s from byte %" G_GUINT64_FORMAT ": it has %" G_GUINT64_FORMAT " bytes", shown,
                         range->offset, size);
    }
    *length = MIN(range->length, size - range->offset);
    return TRUE;
}

gboolean store_no_object(const char *key, GError **error)
{
    g_autofree char *shown = human_name(key, -1);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no object %s", shown);
}

gboolean store_no_upload(const char *key, const char *upload, GError **error)
{
    g_autofree char *shown = human_name(key, -1);
    g_autofree char *id = human_name(upload, -1);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no upload %s of %s: it was completed or aborted", id,
                     shown);
}

static void upload_free(gpointer data)
{
    StoreUpload *upload = data;
    g_free(upload->key);
    g_free(upload->id);
    g_free(upload);
}

GPtrArray *store_uploads_new(void)
{
    return g_ptr_array_new_with_free_func(upload_free);
}

void store_errors_fill(GError **errors, guint from, guint count, const GError *why)
{
    for (guint i = from; i < count; i++)
        if (!errors[i])
            errors[i] = g_error_copy(why);
}

static int compare_uploads(gconstpointer a, gconstpointer b)
{
    const StoreUpload *x = *(StoreUpload *const *)a, *y = *(StoreUpload *const *)b;
    int order = strcmp(x->key, y->key);
    return order ? order : (x->started > y->started) - (x->started < y->started);
}

void store_uploads_sort(GPtrArray *uploads)
{
    g_ptr_array_sort(uploads, compare_uploads);
}

static void part_clear(gpointer part)
{
    g_clear_pointer(&((StorePart *)part)->etag, g_free);
}

GArray *store_parts_new(void)
{
    GArray *parts = g_array_new(FALSE, TRUE, sizeof(StorePart));
    g_array_set_clear_func(parts, part_clear);
    return parts;
}

char *store_parts_etag(const StorePart *parts, guint count)
{
    gsize length = count > 0 ? strlen(parts[0].etag) / 2 : 0;
    g_autoptr(Hash) hash = length == HASH_BYTES ? hash_new() : length == HASH_MD5_BYTES ? hash_new_md5(NULL) : NULL;
    guint8 sum[HASH_BYTES];
    for (guint i = 0; hash && i < count; i++) {
        if (!digest_parse_hex(parts[i].etag, sum, length))
            return NULL;
        hash_update(hash, sum, length);
    }
    if (!hash)
        return NULL;
    hash_finish(hash, sum);
    g_autofree char *hex = digest_hex(sum, length);
    return g_strdup_printf("%s-%u", hex, count);
}

gboolean store_made_of_parts(const StoreObject *object, const StorePart *parts, guint count, const StorePut *how)
{
    g_autofree char *expected = store_parts_etag(parts, count);
    g_autofree char *ending = g_strdup_printf("-%u", count);
    if (!g_str_has_suffix(object->etag, ending))
        return FALSE;
    guint64 size = 0;
    gboolean sizes = TRUE;
    for (guint i = 0; i < count; i++) {
        size += parts[i].size;
        sizes = sizes && parts[i].size > 0;
    }
    gboolean same = expected && strcmp(expected, object->etag) == 0;
    return same || (sizes && object->size == size && how->mtime && g_strcmp0(object->mtime, how->mtime) == 0);
}

void store_tally_request(StoreTally *tally, StoreRequest kind)
{
    atomic_fetch_add_explicit(&tally->requests[kind], 1, memory_order_relaxed);
}

void store_tally_read(StoreTally *tally, StoreCounts *counts)
{
    *counts = (StoreCounts){0};
    for (guint i = 0; i < STORE_REQUEST_KINDS; i++)
        counts->requests[i] = atomic_load_explicit(&tally->requests[i], memory_order_relaxed);
    counts->retries = atomic_load_explicit(&tally->retries, memory_order_relaxed);
    counts->bytes_sent = atomic_load_explicit(&tally->sent, memory_order_relaxed);
    counts->bytes_received = atomic_load_explicit(&tally->received, memory_order_relaxed);
}

void store_wrap(Store *wrapper, const StoreOps *ops, const Store *inner)
{
    *wrapper = *inner;
    wrapper->ops = ops;
    wrapper->url = g_strdup(inner->url);
}

gboolean store_wait_us(guint64 microseconds, const CancelFlag *cancel, GError **error)
{
    gint64 start = g_get_monotonic_time();
    for (;;) {
        if (!cancel_check(cancel, error))
            return FALSE;
        guint64 passed = (guint64)(g_get_monotonic_time() - start);
        if (passed >= microseconds)
            return TRUE;
        g_usleep((gulong)MIN(microseconds - passed, SLICE_US));
    }
}
