#include "engine/archive/object.h"

#include "base/error.h"
#include "base/human.h"
#include "crypto/secret.h"
#include "crypto/tink.h"

#include <string.h>

struct ArchiveObject {
    Store *store;
    char *key;
    guint64 size;  /* in the store */
    guint64 plain; /* inside */
    const CancelFlag *cancel;
    guint8 *content_key; /* NULL: not encrypted */
    char *associated;

    GMutex lock; /* of all below */
    gboolean has_header;
    guint8 header[TINK_HEADER_BYTES];
    GPtrArray *readers; /* of TinkReader, turned to this object; those that nobody uses */
};

/* One read. */
typedef struct {
    ArchiveObject *object;
    guint64 offset, left; /* of the content: what is to be given next */
    StoreWrite write;
    gpointer user_data;

    /* Only if it is encrypted. */
    guint8 header[TINK_HEADER_BYTES];
    gsize header_used; /* less than all: it comes first */
    TinkReader *reader;
    guint64 index; /* of the segment that is coming */
    TinkSpan span;
    guint8 *buffer;
    gsize used;
} Reading;

static gboolean other_size(const ArchiveObject *object, guint64 size, GError **error)
{
    g_autofree char *shown = human_name(object->key, -1);
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "%s has %" G_GUINT64_FORMAT " bytes in the store, not %" G_GUINT64_FORMAT
                     ": it was cut off or replaced",
                     shown, size, object->size);
}

static gboolean damaged(const ArchiveObject *object, guint64 offset, GError **error)
{
    g_autofree char *shown = human_name(object->key, -1);
    g_prefix_error(error, "%s, at byte %" G_GUINT64_FORMAT ": ", shown, offset);
    return FALSE;
}

/* --- opening --- */

typedef struct {
    guint8 *out;
    gsize room, used;
} Memory;

static gboolean to_memory(gpointer user_data, const void *data, gsize length, GError **error)
{
    Memory *memory = user_data;
    if (length > memory->room - memory->used)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the store gave more than it was asked for");
    memcpy(memory->out + memory->used, data, length);
    memory->used += length;
    return TRUE;
}

static gboolean derive_sizes(ArchiveObject *object, GError **error)
{
    object->plain = object->size;
    return !object->content_key || tink_plain_size(object->size, &object->plain, error) || damaged(object, 0, error);
}

/* Once it is kept it is never written again, so it may be read without the lock. */
static void keep_header(ArchiveObject *object, const guint8 *header)
{
    g_mutex_lock(&object->lock);
    if (!object->has_header)
        memcpy(object->header, header, sizeof object->header);
    object->has_header = TRUE;
    g_mutex_unlock(&object->lock);
}

/* Fetches the header alone; with it comes the size, if that is not known yet. */
static gboolean fetch_header(ArchiveObject *object, GError **error)
{
    guint8 header[TINK_HEADER_BYTES] = {0};
    Memory memory = {.out = header, .room = sizeof header};
    StoreRange range = {.key = object->key, .length = sizeof header};
    g_autoptr(StoreObject) facts = NULL;
    if (!store_get(object->store, &range, to_memory, &memory, &facts, error))
        return FALSE;
    if (object->size == 0) {
        object->size = facts->size;
        if (!derive_sizes(object, error))
            return FALSE;
    }
    if (facts->size != object->size || memory.used != sizeof header)
        return other_size(object, facts->size, error);
    keep_header(object, header);
    return TRUE;
}

/* The size by the store. */
static gboolean ask_size(ArchiveObject *object, GError **error)
{
    if (object->content_key)
        return fetch_header(object, error);
    g_autoptr(StoreObject) facts = store_head(object->store, object->key, NULL, error);
    if (facts)
        object->size = facts->size;
    return facts && derive_sizes(object, error);
}

static void free_reader(gpointer reader)
{
    tink_reader_free(reader);
}

ArchiveObject *object_open(const ArchivePlace *place, const char *key, guint64 size, gboolean encrypted,
                           const char *associated, const CancelFlag *cancel, GError **error)
{
    if (encrypted && !place->content_key) {
        g_autofree char *shown = human_name(key, -1);
        error_set(error, BACKAPP_ERROR_DENIED, "%s is encrypted, and there is no key: give the key or its passphrase",
                  shown);
        return NULL;
    }
    g_autoptr(ArchiveObject) object = g_new0(ArchiveObject, 1);
    g_mutex_init(&object->lock);
    object->store = place->store;
    object->key = g_strdup(key);
    object->size = size;
    object->cancel = cancel;
    object->readers = g_ptr_array_new_with_free_func(free_reader);
    if (encrypted) {
        object->content_key = secret_copy(place->content_key, TINK_KEY_BYTES);
        object->associated = g_strdup(associated);
    }
    if (!cancel_check(cancel, error) || !(size > 0 ? derive_sizes(object, error) : ask_size(object, error)))
        return NULL;
    return g_steal_pointer(&object);
}

guint64 object_size(const ArchiveObject *object)
{
    return object->plain;
}

/* --- reading --- */

/* Gives the part of a piece of the content that was asked for. */
static gboolean give(Reading *reading, const guint8 *data, guint64 offset, gsize length, GError **error)
{
    guint64 skip = MIN(reading->offset - offset, length);
    gsize piece = (gsize)MIN(length - skip, reading->left);
    if (piece == 0)
        return TRUE;
    reading->offset += piece;
    reading->left -= piece;
    return reading->write(reading->user_data, data + skip, piece, error);
}

static gboolean take_plain(gpointer user_data, const void *data, gsize length, GError **error)
{
    Reading *reading = user_data;
    return cancel_check(reading->object->cancel, error) && give(reading, data, reading->offset, length, error);
}

/* A reader that is turned to the object: one that was used before, or a new one. */
static TinkReader *take_reader(ArchiveObject *object, const guint8 *header, GError **error)
{
    g_autoptr(TinkReader) reader = NULL;
    g_mutex_lock(&object->lock);
    if (object->readers->len > 0)
        reader = g_ptr_array_steal_index_fast(object->readers, object->readers->len - 1);
    g_mutex_unlock(&object->lock);
    if (reader)
        return g_steal_pointer(&reader);
    reader = tink_reader_new(object->content_key);
    if (tink_reader_begin(reader, object->associated, strlen(object->associated), header, object->size, error))
        return g_steal_pointer(&reader);
    damaged(object, 0, error);
    return NULL;
}

/* Takes the header that comes before segment 0. */
static gboolean take_header(Reading *reading, const guint8 **data, gsize *length, GError **error)
{
    gsize piece = MIN(sizeof reading->header - reading->header_used, *length);
    if (piece == 0)
        return TRUE;
    memcpy(reading->header + reading->header_used, *data, piece);
    reading->header_used += piece;
    *data += piece;
    *length -= piece;
    if (reading->header_used == sizeof reading->header)
        reading->reader = take_reader(reading->object, reading->header, error);
    return reading->header_used < sizeof reading->header || reading->reader;
}

/* A whole segment has come: data may be the buffer. */
static gboolean take_segment(Reading *reading, const guint8 *data, GError **error)
{
    if (!cancel_check(reading->object->cancel, error))
        return FALSE;
    if (!tink_reader_segment(reading->reader, reading->index, data, reading->span.cipher_length, reading->buffer,
                             error))
        return damaged(reading->object, reading->span.plain_offset, error);
    if (!give(reading, reading->buffer, reading->span.plain_offset, reading->span.plain_length, error))
        return FALSE;
    reading->used = 0;
    if (!reading->span.last)
        (void)tink_segment_span(reading->object->size, ++reading->index, &reading->span);
    return TRUE;
}

static gboolean take_sealed(gpointer user_data, const void *bytes, gsize length, GError **error)
{
    Reading *reading = user_data;
    const guint8 *data = bytes;
    if (!take_header(reading, &data, &length, error))
        return FALSE;
    while (length > 0 && reading->left > 0) {
        gsize whole = reading->span.cipher_length;
        gsize piece = MIN(whole - reading->used, length);
        const guint8 *segment = reading->buffer;
        if (piece == whole) {
            segment = data;
        } else {
            memcpy(reading->buffer + reading->used, data, piece);
            reading->used += piece;
        }
        data += piece;
        length -= piece;
        if ((piece == whole || reading->used == whole) && !take_segment(reading, segment, error))
            return FALSE;
    }
    return TRUE;
}

/* Fetches a range of what is stored; all of `reading` has to come out of it. */
static gboolean fetch(Reading *reading, guint64 offset, guint64 length, StoreWrite take, GError **error)
{
    ArchiveObject *object = reading->object;
    StoreRange range = {.key = object->key, .offset = offset, .length = length};
    g_autoptr(StoreObject) facts = NULL;
    GError *failure = NULL;
    gboolean good = store_get(object->store, &range, take, reading, &facts, &failure);
    /* A range that begins behind the end of an object that was cut off. */
    if (!facts && error_is(failure, BACKAPP_ERROR_INVALID))
        facts = store_head(object->store, object->key, NULL, NULL);
    if (facts && facts->size != object->size) {
        g_clear_error(&failure);
        return other_size(object, facts->size, error);
    }
    if (!good)
        g_propagate_error(error, failure);
    else if (reading->left > 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the store gave less of %s than it was asked for", object->key);
    return good;
}

static gboolean read_sealed(Reading *reading, GError **error)
{
    ArchiveObject *object = reading->object;
    TinkSpan last;
    reading->index = tink_segment_of(reading->offset);
    if (!tink_segment_span(object->size, reading->index, &reading->span) ||
        !tink_segment_span(object->size, tink_segment_of(reading->offset + reading->left - 1), &last))
        return error_set(error, BACKAPP_ERROR_INTERNAL, "%s has no such segment", object->key);
    guint64 start = reading->span.cipher_offset, end = last.cipher_offset + last.cipher_length;
    g_mutex_lock(&object->lock);
    gboolean known = object->has_header;
    g_mutex_unlock(&object->lock);
    /* The header comes along with the segment behind it. */
    if (!known && reading->index == 0) {
        start = 0;
    } else if (!known && !fetch_header(object, error)) {
        return FALSE;
    } else {
        memcpy(reading->header, object->header, sizeof reading->header);
        reading->header_used = sizeof reading->header;
        reading->reader = take_reader(object, reading->header, error);
        if (!reading->reader)
            return FALSE;
    }
    return fetch(reading, start, end - start, take_sealed, error);
}

/* A header that something was decrypted with is the right one; another one is asked for again. */
static void give_reader(Reading *reading, gboolean proven)
{
    ArchiveObject *object = reading->object;
    if (!proven) {
        tink_reader_free(reading->reader);
        return;
    }
    keep_header(object, reading->header);
    g_mutex_lock(&object->lock);
    g_ptr_array_add(object->readers, reading->reader);
    g_mutex_unlock(&object->lock);
}

gboolean object_read(ArchiveObject *object, guint64 offset, guint64 length, StoreWrite write, gpointer user_data,
                     GError **error)
{
    if (offset > object->plain || length > object->plain - offset)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "%s ends at byte %" G_GUINT64_FORMAT ": %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                         " are not in it",
                         object->key, object->plain, length, offset);
    if (!cancel_check(object->cancel, error))
        return FALSE;
    Reading reading = {.object = object, .offset = offset, .left = length, .write = write, .user_data = user_data};
    if (length == 0)
        return TRUE;
    if (!object->content_key)
        return fetch(&reading, offset, length, take_plain, error);
    reading.buffer = g_malloc((gsize)MIN(object->size, TINK_SEGMENT_BYTES));
    gboolean good = read_sealed(&reading, error);
    g_free(reading.buffer);
    give_reader(&reading, good);
    return good;
}

gboolean object_read_bytes(ArchiveObject *object, guint64 offset, gsize length, guint8 *out, GError **error)
{
    Memory memory = {.out = out, .room = length};
    return object_read(object, offset, length, to_memory, &memory, error);
}

void object_close(ArchiveObject *object)
{
    if (!object)
        return;
    g_ptr_array_unref(object->readers);
    secret_free(object->content_key, TINK_KEY_BYTES);
    g_mutex_clear(&object->lock);
    g_free(object->associated);
    g_free(object->key);
    g_free(object);
}
