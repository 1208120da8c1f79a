#include "engine/archive/index_output.h"

#include "base/error.h"
#include "crypto/digest.h"
#include "crypto/tink.h"

#include <string.h>

/* More than any index has: parts are made large enough for it. */
#define LARGEST ((guint64)64 << 30)

struct IndexOutput {
    Store *store;
    char *key, *storage_class;
    const CancelFlag *cancel;
    TinkEncryptor *encryptor; /* NULL: not encrypted */
    gsize part_size;          /* G_MAXSIZE: the store knows no parts */
    GByteArray *pending;
    char *upload; /* NULL: not begun */
    GArray *parts;
    guint64 stored;
};

static void clear_part(gpointer data)
{
    g_free(((StorePart *)data)->etag);
}

IndexOutput *index_output_new(const ArchivePlace *place, const char *key, const char *associated,
                              const char *storage_class, const CancelFlag *cancel, GError **error)
{
    g_autoptr(IndexOutput) output = g_new0(IndexOutput, 1);
    gboolean by_parts = store_can(place->store, STORE_MULTIPART);
    output->store = place->store;
    output->key = g_strdup(key);
    output->storage_class = g_strdup(storage_class);
    output->cancel = cancel;
    output->part_size = by_parts ? (gsize)MIN(store_part_size(place->store, LARGEST), G_MAXINT32) : G_MAXSIZE;
    output->pending = g_byte_array_new();
    output->parts = g_array_new(FALSE, TRUE, sizeof(StorePart));
    g_array_set_clear_func(output->parts, clear_part);
    if (!associated)
        return g_steal_pointer(&output);
    output->encryptor = tink_encryptor_new(place->content_key);
    if (!tink_encryptor_begin(output->encryptor, associated, strlen(associated), error))
        return NULL;
    return g_steal_pointer(&output);
}

static StorePut how(const IndexOutput *output)
{
    return (StorePut){.storage_class = output->storage_class};
}

static gboolean send_part(IndexOutput *output, const guint8 *data, gsize length, GError **error)
{
    StorePut put = how(output);
    if (!output->upload)
        output->upload = store_begin(output->store, output->key, &put, error);
    if (!output->upload)
        return FALSE;
    guint8 hash[HASH_BYTES];
    digest_sha256(data, length, hash);
    StoreBody body = {.data = data, .length = length, .sha256 = hash};
    StorePart part = {.number = output->parts->len + 1, .size = length};
    if (!store_part(output->store, output->key, output->upload, part.number, &body, &part.etag, error))
        return FALSE;
    g_array_append_val(output->parts, part);
    return TRUE;
}

/* Takes what is to be stored; sends whole parts, but never the last bytes, so that something is left for the end. */
static gboolean take(const guint8 *data, gsize length, gpointer user, GError **error)
{
    IndexOutput *output = user;
    if (length > (gsize)G_MAXINT32 - output->pending->len)
        return error_set(error, BACKAPP_ERROR_INVALID, "the index becomes too large for %s", output->store->url);
    g_byte_array_append(output->pending, data, (guint)length);
    output->stored += length;
    gsize sent = 0;
    while (output->pending->len - sent > output->part_size) {
        if (!cancel_check(output->cancel, error) ||
            !send_part(output, output->pending->data + sent, output->part_size, error))
            return FALSE;
        sent += output->part_size;
    }
    if (sent > 0)
        g_byte_array_remove_range(output->pending, 0, (guint)sent);
    return TRUE;
}

gboolean index_output_write(IndexOutput *output, const guint8 *data, gsize length, GError **error)
{
    return output->encryptor ? tink_encryptor_update(output->encryptor, data, length, take, output, error)
                             : take(data, length, output, error);
}

gboolean index_output_finish(IndexOutput *output, guint64 *stored, GError **error)
{
    if (output->encryptor && !tink_encryptor_finish(output->encryptor, take, output, error))
        return FALSE;
    if (!cancel_check(output->cancel, error))
        return FALSE;
    StorePut put = how(output);
    *stored = output->stored;
    if (!output->upload) {
        guint8 hash[HASH_BYTES];
        digest_sha256(output->pending->data, output->pending->len, hash);
        StoreBody body = {.data = output->pending->data, .length = output->pending->len, .sha256 = hash};
        return store_put(output->store, output->key, &body, &put, NULL, error);
    }
    if (!send_part(output, output->pending->data, output->pending->len, error) ||
        !store_complete(output->store, output->key, output->upload, &g_array_index(output->parts, StorePart, 0),
                        output->parts->len, &put, NULL, error))
        return FALSE;
    g_clear_pointer(&output->upload, g_free);
    return TRUE;
}

void index_output_free(IndexOutput *output)
{
    if (!output)
        return;
    /* A part that stays behind is removed with forgotten uploads; whoever frees has his own error to report. */
    if (output->upload)
        (void)store_abort(output->store, output->key, output->upload, NULL);
    g_free(output->upload);
    tink_encryptor_free(output->encryptor);
    g_byte_array_unref(output->pending);
    g_array_unref(output->parts);
    g_free(output->key);
    g_free(output->storage_class);
    g_free(output);
}
