#include "engine/archive/volume.h"

#include "base/error.h"
#include "base/human.h"
#include "base/pool.h"
#include "crypto/digest.h"
#include "crypto/tink.h"

#include <string.h>

#define SENDERS    4
#define FLIGHT_MAX ((guint64)256 << 20) /* bytes of parts that are sent at once, if they are large */
#define GROW_BYTES ((gsize)1 << 20)
#define WAIT_US    (50 * G_TIME_SPAN_MILLISECOND) /* how often a wait looks at the cancel flag */
#define SEAL_SPARE ((guint64)4 * TINK_TAG_BYTES)  /* more than a member's segments add */

/* A piece of a volume in memory. */
typedef struct {
    guint8 *data;
    gsize length, room;
    guint number;
} Part;

struct VolumeWriter {
    VolumeOptions options;
    Store *store;
    TinkEncryptor *encryptor; /* NULL: not encrypted */
    gboolean multipart;
    guint64 part_size, limit, largest;
    guint senders;
    Pool *pool;
    atomic_uint_least64_t sent;

    /* The open volume. */
    guint number; /* 0: none is open */
    char *key;
    char *upload; /* NULL: not begun */
    guint64 packed, stored;
    Part *filling;

    GMutex lock; /* of all below */
    GCond changed;
    Part parts[SENDERS + 1];
    Part *idle[SENDERS + 1];
    guint idle_count, flying;
    GArray *uploaded;   /* of StorePart */
    GByteArray *hashes; /* of the parts, in order */
    GError *failure;
};

static void clear_part(gpointer data)
{
    g_free(((StorePart *)data)->etag);
}

/* Hashes what is to be sent, unless the store does so anyway and says what came out. */
static StoreBody body_of(const VolumeWriter *writer, const Part *part, guint8 hash[HASH_BYTES])
{
    gboolean told = store_can(writer->store, STORE_ETAG_SHA256);
    if (!told)
        digest_sha256(part->data, part->length, hash);
    return (StoreBody){.data = part->data, .length = part->length, .sha256 = told ? NULL : hash};
}

static gboolean take_hash(const VolumeWriter *writer, const StoreBody *body, const char *etag, guint8 hash[HASH_BYTES],
                          GError **error)
{
    return body->sha256 || (etag && digest_parse_hex(etag, hash, HASH_BYTES)) ||
           error_set(error, BACKAPP_ERROR_INTERNAL, "%s did not say the SHA-256 of what was stored as %s",
                     writer->store->url, writer->key);
}

/* Sends one part, in a thread of the pool. */
static void send_part(gpointer item, gpointer user_data)
{
    Part *part = item;
    VolumeWriter *writer = user_data;
    g_mutex_lock(&writer->lock);
    gboolean stopped = writer->failure != NULL;
    g_mutex_unlock(&writer->lock);

    guint8 hash[HASH_BYTES];
    g_autofree char *etag = NULL;
    GError *failure = NULL;
    if (!stopped) {
        StoreBody body = body_of(writer, part, hash);
        if (store_part(writer->store, writer->key, writer->upload, part->number, &body, &etag, &failure) &&
            take_hash(writer, &body, etag, hash, &failure))
            atomic_fetch_add(&writer->sent, part->length);
    }
    g_mutex_lock(&writer->lock);
    if (!stopped && failure == NULL) {
        g_array_index(writer->uploaded, StorePart, part->number - 1).etag = g_steal_pointer(&etag);
        memcpy(writer->hashes->data + (gsize)(part->number - 1) * HASH_BYTES, hash, HASH_BYTES);
    } else if (failure != NULL && writer->failure == NULL) {
        writer->failure = g_steal_pointer(&failure);
    }
    writer->idle[writer->idle_count++] = part;
    writer->flying--;
    g_cond_broadcast(&writer->changed);
    g_mutex_unlock(&writer->lock);
    g_clear_error(&failure);
}

/* FALSE with what went wrong in a sender. The lock is held. */
static gboolean check_failure(VolumeWriter *writer, GError **error)
{
    if (writer->failure == NULL)
        return TRUE;
    g_propagate_error(error, g_error_copy(writer->failure));
    return FALSE;
}

/* Waits until at most `flying` parts are on their way and one buffer is idle. The lock is held. */
static gboolean wait_for_senders(VolumeWriter *writer, guint flying, GError **error)
{
    for (;;) {
        if (!check_failure(writer, error) || !cancel_check(writer->options.cancel, error))
            return FALSE;
        if (writer->flying <= flying)
            return TRUE;
        (void)g_cond_wait_until(&writer->changed, &writer->lock, g_get_monotonic_time() + WAIT_US);
    }
}

/* How the size of a volume fits the store's limits. */
static gboolean fit_store(VolumeWriter *writer, GError **error)
{
    const Store *store = writer->store;
    guint64 spare = writer->options.member_max + SEAL_SPARE + TINK_HEADER_BYTES;
    guint64 wanted = MIN(writer->options.volume_size, (guint64)G_MAXINT64 - spare);
    g_autofree char *shown = human_size(wanted);
    g_autofree char *most = human_size(store->max_put);
    writer->multipart = store_can(store, STORE_MULTIPART);
    writer->limit = wanted;
    if (!writer->multipart) {
        writer->part_size = store->max_put;
        writer->largest = store->max_put;
        return wanted + spare <= store->max_put ||
               error_set(error, BACKAPP_ERROR_INVALID,
                         "volumes of %s do not fit in %s, which takes at most %s at once: choose smaller volumes",
                         shown, store->url, most);
    }
    guint64 largest = store->max_object;
    if (store->max_part < largest / MAX(store->max_parts, 1))
        largest = store->max_part * MAX(store->max_parts, 1);
    if (largest <= spare)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s takes no objects that are large enough for archives",
                         store->url);
    writer->limit = MIN(wanted, largest - spare);
    writer->part_size = store_part_size(store, writer->limit + spare);
    writer->largest = writer->part_size > largest / store->max_parts ? largest : writer->part_size * store->max_parts;
    return TRUE;
}

VolumeWriter *volume_new(const VolumeOptions *options, GError **error)
{
    g_autoptr(VolumeWriter) writer = g_new0(VolumeWriter, 1);
    writer->options = *options;
    writer->store = options->place->store;
    atomic_init(&writer->sent, 0);
    g_mutex_init(&writer->lock);
    g_cond_init(&writer->changed);
    writer->uploaded = g_array_new(FALSE, TRUE, sizeof(StorePart));
    g_array_set_clear_func(writer->uploaded, clear_part);
    writer->hashes = g_byte_array_new();
    if (options->place->content_key)
        writer->encryptor = tink_encryptor_new(options->place->content_key);
    if (!fit_store(writer, error))
        return NULL;
    writer->senders = writer->multipart ? (guint)CLAMP(FLIGHT_MAX / writer->part_size, 1, SENDERS) : 0;
    for (guint i = 0; i <= writer->senders; i++)
        writer->idle[writer->idle_count++] = &writer->parts[i];
    if (writer->senders > 0) {
        writer->pool = pool_new("archive-send", writer->senders, writer->senders + 1, send_part, writer, error);
        if (!writer->pool)
            return NULL;
    }
    return g_steal_pointer(&writer);
}

guint64 volume_limit(const VolumeWriter *writer)
{
    return writer->limit;
}

static void take_idle(VolumeWriter *writer)
{
    writer->filling = writer->idle[--writer->idle_count];
    writer->filling->length = 0;
}

gboolean volume_begin(VolumeWriter *writer, guint number, GError **error)
{
    g_assert(writer->number == 0 && number > 0);
    if (writer->encryptor) {
        g_autofree char *associated =
            archive_associated(writer->options.place->name, writer->options.point->base, number, ARCHIVE_OBJECT_VOLUME);
        if (!tink_encryptor_begin(writer->encryptor, associated, strlen(associated), error))
            return FALSE;
    }
    g_free(writer->key);
    writer->key = archive_volume_key(writer->options.point, number - 1);
    writer->number = number;
    writer->packed = 0;
    writer->stored = 0;
    g_array_set_size(writer->uploaded, 0);
    g_byte_array_set_size(writer->hashes, 0);
    take_idle(writer);
    return TRUE;
}

static StorePut put_how(const VolumeWriter *writer)
{
    return (StorePut){.storage_class = writer->options.storage_class};
}

/* Gives the filled part to a sender. */
static gboolean hand_out(VolumeWriter *writer, GError **error)
{
    StorePut how = put_how(writer);
    if (!writer->upload)
        writer->upload = store_begin(writer->store, writer->key, &how, error);
    if (!writer->upload)
        return FALSE;
    g_mutex_lock(&writer->lock);
    gboolean good = check_failure(writer, error);
    Part *part = writer->filling;
    if (good) {
        StorePart uploaded = {.number = writer->uploaded->len + 1, .size = part->length};
        part->number = uploaded.number;
        g_array_append_val(writer->uploaded, uploaded);
        g_byte_array_set_size(writer->hashes, writer->uploaded->len * HASH_BYTES);
        writer->flying++;
        writer->filling = NULL;
    }
    g_mutex_unlock(&writer->lock);
    if (good)
        pool_push(writer->pool, part);
    return good;
}

/* The part is full and more is to come. */
static gboolean turn_over(VolumeWriter *writer, GError **error)
{
    if (!writer->multipart || writer->stored >= writer->largest) {
        g_autofree char *most = human_size(writer->largest);
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the archive became larger than expected, and %s takes at most %s as one volume: choose "
                         "smaller volumes",
                         writer->store->url, most);
    }
    if (!hand_out(writer, error))
        return FALSE;
    g_mutex_lock(&writer->lock);
    gboolean good = wait_for_senders(writer, writer->senders, error);
    if (good)
        take_idle(writer);
    g_mutex_unlock(&writer->lock);
    return good;
}

/* Room for at least one byte more in a part that is not full. */
static gboolean grow(VolumeWriter *writer, Part *part, GError **error)
{
    if (part->length < part->room)
        return TRUE;
    guint64 room = MIN(MAX((guint64)part->room * 2, GROW_BYTES), writer->part_size);
    guint8 *data = g_try_realloc(part->data, (gsize)room);
    if (!data)
        return error_set(error, BACKAPP_ERROR_TRANSIENT,
                         "no memory for a part of %" G_GUINT64_FORMAT " bytes: choose smaller volumes", room);
    part->data = data;
    part->room = (gsize)room;
    return TRUE;
}

/* Takes what lies in the object: a TinkSink. */
static gboolean take(const guint8 *data, gsize length, gpointer user, GError **error)
{
    VolumeWriter *writer = user;
    while (length > 0) {
        if (writer->filling->length == writer->part_size && !turn_over(writer, error))
            return FALSE;
        Part *part = writer->filling;
        if (!grow(writer, part, error))
            return FALSE;
        gsize piece = MIN(part->room - part->length, length);
        memcpy(part->data + part->length, data, piece);
        part->length += piece;
        writer->stored += piece;
        data += piece;
        length -= piece;
    }
    return TRUE;
}

gboolean volume_add(VolumeWriter *writer, const guint8 *data, gsize length, GError **error)
{
    g_assert(writer->number > 0 && length <= writer->options.member_max);
    writer->packed += length;
    return writer->encryptor ? tink_encryptor_update(writer->encryptor, data, length, take, writer, error)
                             : take(data, length, writer, error);
}

gboolean volume_is_open(const VolumeWriter *writer)
{
    return writer->number > 0;
}

guint64 volume_size(const VolumeWriter *writer)
{
    return writer->encryptor ? tink_cipher_size(writer->packed) : writer->packed;
}

/* All that there is fits in one request. */
static gboolean put_whole(VolumeWriter *writer, GError **error)
{
    Part *part = writer->filling;
    g_byte_array_set_size(writer->hashes, HASH_BYTES);
    StoreBody body = body_of(writer, part, writer->hashes->data);
    StorePut how = put_how(writer);
    g_auto(StoreResult) result = {0};
    if (!store_put(writer->store, writer->key, &body, &how, &result, error) ||
        !take_hash(writer, &body, result.etag, writer->hashes->data, error))
        return FALSE;
    atomic_fetch_add(&writer->sent, part->length);
    return TRUE;
}

static gboolean complete_upload(VolumeWriter *writer, GError **error)
{
    if (!hand_out(writer, error))
        return FALSE;
    g_mutex_lock(&writer->lock);
    gboolean good = wait_for_senders(writer, 0, error);
    g_mutex_unlock(&writer->lock);
    StorePut how = put_how(writer);
    if (!good || !store_complete(writer->store, writer->key, writer->upload,
                                 (const StorePart *)(const void *)writer->uploaded->data, writer->uploaded->len, &how,
                                 NULL, error))
        return FALSE;
    g_clear_pointer(&writer->upload, g_free);
    return TRUE;
}

/* No part is being filled, none is on its way. */
static void close_volume(VolumeWriter *writer)
{
    if (writer->filling)
        writer->idle[writer->idle_count++] = writer->filling;
    writer->filling = NULL;
    writer->number = 0;
}

gboolean volume_end(VolumeWriter *writer, ArchiveVolume *volume, GError **error)
{
    g_assert(writer->number > 0);
    if ((writer->encryptor && !tink_encryptor_finish(writer->encryptor, take, writer, error)) ||
        !(writer->upload ? complete_upload(writer, error) : put_whole(writer, error)))
        return FALSE;
    volume->size = writer->stored;
    volume->packed_size = writer->packed;
    volume->part_size = writer->part_size;
    digest_sha256(writer->hashes->data, writer->hashes->len, volume->parts_hash);
    close_volume(writer);
    return TRUE;
}

guint64 volume_sent(VolumeWriter *writer)
{
    return atomic_load(&writer->sent);
}

void volume_abort(VolumeWriter *writer)
{
    g_mutex_lock(&writer->lock);
    if (!writer->failure)
        writer->failure = g_error_new_literal(BACKAPP_ERROR, BACKAPP_ERROR_CANCELLED, "the volume was given up");
    /* A part that arrives after the abort would stay in the store. */
    while (writer->flying > 0)
        g_cond_wait(&writer->changed, &writer->lock);
    g_mutex_unlock(&writer->lock);
    if (writer->upload)
        (void)store_abort(writer->store, writer->key, writer->upload, NULL); /* else the next run finds it */
    g_clear_pointer(&writer->upload, g_free);
    if (writer->number > 0)
        close_volume(writer);
}

void volume_free(VolumeWriter *writer)
{
    if (!writer)
        return;
    volume_abort(writer);
    pool_free(writer->pool);
    for (guint i = 0; i < G_N_ELEMENTS(writer->parts); i++)
        g_free(writer->parts[i].data);
    tink_encryptor_free(writer->encryptor);
    g_free(writer->key);
    g_array_unref(writer->uploaded);
    g_byte_array_unref(writer->hashes);
    g_clear_error(&writer->failure);
    g_cond_clear(&writer->changed);
    g_mutex_clear(&writer->lock);
    g_free(writer);
}
