#include "engine/archive/volumes_reader.h"

#include <string.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "crypto/tink.h"
#include "engine/archive/codec.h"

/* What is fetched at once, and the parts of which a volume's hash is made. */
#define PART_BYTES (8u * 1024 * 1024)
/* No member is packed into more. */
#define PACKED_MAX (2u * ARCHIVE_MEMBER_BYTES)

/* A volume as the store has it. */
typedef struct {
    char *key, *etag;
    guint number;
    guint64 size;
} Source;

struct VolumesReader {
    ArchivePlace place;
    char *base;
    const CancelFlag *cancel;
    ArchiveName name;
    GArray *sources; /* of Source, in order */
    gboolean numbered;
    guint64 total, done;

    guint current; /* of sources */
    gboolean open;
    guint64 raw_at; /* of the current volume: what is fetched */
    Hash *parts;
    TinkDecryptor *decryptor; /* NULL: not encrypted */
    Codec *codec;
    GByteArray *raw, *packed;
    gsize start; /* of packed: what is not expanded yet */
    guint8 *member;

    GArray *volumes, *lengths;     /* of ArchiveVolume, guint32 */
    guint64 tar_size, packed_size; /* the latter of the current volume */
    gboolean has_short;            /* a member was smaller than they are: it has to be the last */
};

static void source_clear(gpointer data)
{
    Source *source = data;
    g_free(source->key);
    g_free(source->etag);
}

static int compare_sources(gconstpointer a, gconstpointer b)
{
    guint x = ((const Source *)a)->number, y = ((const Source *)b)->number;
    return (x > y) - (x < y);
}

/* Notes the object if it is a volume of this archive. */
static void consider(VolumesReader *reader, const StoreObject *object, gsize folder)
{
    ArchiveName name;
    if (strlen(object->key) <= folder || !archive_name_parse(object->key + folder, &name) ||
        name.role != ARCHIVE_OBJECT_VOLUME)
        return;
    g_autofree char *base = archive_base_name(&name);
    if (strcmp(base, reader->base) != 0)
        return;
    Source source = {.key = g_strdup(object->key), .etag = g_strdup(object->etag), .number = name.volume};
    source.size = object->size;
    reader->total += object->size;
    reader->name = name;
    g_array_append_val(reader->sources, source);
}

static gboolean find_volumes(VolumesReader *reader, GError **error)
{
    g_autofree char *prefix = g_strconcat(reader->place.name, "/", reader->base, NULL);
    g_autoptr(StoreList) list = store_list(reader->place.store, prefix, NULL, FALSE, error);
    const StoreObject *object;
    int got = -1;
    while (list != NULL && (got = store_list_next(list, &object, error)) == 1) {
        if (!cancel_check(reader->cancel, error))
            return FALSE;
        consider(reader, object, strlen(reader->place.name) + 1);
    }
    if (got < 0)
        return FALSE;
    g_array_sort(reader->sources, compare_sources);
    if (reader->sources->len == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "no volume of %s is in the store: nothing can be made of it",
                         reader->base);
    reader->numbered = g_array_index(reader->sources, Source, 0).number > 0;
    for (guint i = 0; i < reader->sources->len; i++)
        if (g_array_index(reader->sources, Source, i).number != i + (reader->numbered ? 1 : 0))
            return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                             "volume %u of %s is not in the store: what lies behind it cannot be placed",
                             i + (reader->numbered ? 1 : 0), reader->base);
    return TRUE;
}

VolumesReader *volumes_reader_new(const ArchivePlace *place, const char *base, const CancelFlag *cancel, GError **error)
{
    g_autoptr(VolumesReader) reader = g_new0(VolumesReader, 1);
    reader->place = *place;
    reader->base = g_strdup(base);
    reader->cancel = cancel;
    reader->sources = g_array_new(FALSE, FALSE, sizeof(Source));
    g_array_set_clear_func(reader->sources, source_clear);
    reader->volumes = g_array_new(FALSE, FALSE, sizeof(ArchiveVolume));
    reader->lengths = g_array_new(FALSE, FALSE, sizeof(guint32));
    reader->raw = g_byte_array_new();
    reader->packed = g_byte_array_new();
    reader->member = g_malloc(ARCHIVE_MEMBER_BYTES);
    reader->parts = hash_new();
    if (!find_volumes(reader, error))
        return NULL;
    if (reader->name.encrypted && place->content_key == NULL) {
        error_set(error, BACKAPP_ERROR_DENIED, "%s is encrypted, and there is no key: give the key or its passphrase",
                  base);
        return NULL;
    }
    if (reader->name.encrypted)
        reader->decryptor = tink_decryptor_new(place->content_key);
    reader->codec = codec_new(reader->name.codec, 1, error);
    return reader->codec != NULL ? g_steal_pointer(&reader) : NULL;
}

guint64 volumes_reader_size(const VolumesReader *reader)
{
    return reader->total;
}

guint64 volumes_reader_done(const VolumesReader *reader)
{
    return reader->done;
}

static Source *current(const VolumesReader *reader)
{
    return &g_array_index(reader->sources, Source, reader->current);
}

static gboolean begin_volume(VolumesReader *reader, GError **error)
{
    ArchiveVolume volume = {.size = current(reader)->size, .first_member = reader->lengths->len};
    if (volume.size == 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "%s is empty", current(reader)->key);
    volume.part_size = PART_BYTES;
    g_array_append_val(reader->volumes, volume);
    reader->open = TRUE;
    reader->raw_at = reader->packed_size = 0;
    g_autofree char *associated =
        archive_associated(reader->place.name, reader->base, reader->current + 1, ARCHIVE_OBJECT_VOLUME);
    return reader->decryptor == NULL || tink_decryptor_begin(reader->decryptor, associated, strlen(associated), error);
}

static gboolean take_packed(const guint8 *data, gsize length, gpointer user, GError **error)
{
    VolumesReader *reader = user;
    g_byte_array_append(reader->packed, data, (guint)length);
    return TRUE;
}

static gboolean take_raw(gpointer user_data, const void *data, gsize length, GError **error)
{
    VolumesReader *reader = user_data;
    if (length > PART_BYTES - reader->raw->len)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the store gave more than it was asked for");
    g_byte_array_append(reader->raw, data, (guint)length);
    return cancel_check(reader->cancel, error);
}

static gboolean decrypt(VolumesReader *reader, gboolean last, GError **error)
{
    const GByteArray *raw = reader->raw;
    if (reader->decryptor == NULL)
        return take_packed(raw->data, raw->len, reader, error);
    if (tink_decryptor_update(reader->decryptor, raw->data, raw->len, take_packed, reader, error) &&
        (!last || tink_decryptor_finish(reader->decryptor, take_packed, reader, error)))
        return TRUE;
    g_prefix_error(error, "%s: ", current(reader)->key);
    return FALSE;
}

/* Fetches the next part of the volume. */
static gboolean fetch_part(VolumesReader *reader, GError **error)
{
    const Source *source = current(reader);
    StoreRange range = {.key = source->key, .offset = reader->raw_at};
    range.if_match = source->etag != NULL && source->etag[0] != '\0' ? source->etag : NULL;
    range.length = MIN(PART_BYTES, source->size - reader->raw_at);
    if (reader->start > 0)
        g_byte_array_remove_range(reader->packed, 0, (guint)reader->start);
    reader->start = 0;
    g_byte_array_set_size(reader->raw, 0);
    if (!store_get(reader->place.store, &range, take_raw, reader, NULL, error))
        return FALSE;
    if (reader->raw->len != range.length)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "%s became shorter while it was read", source->key);
    guint8 hash[HASH_BYTES];
    digest_sha256(reader->raw->data, reader->raw->len, hash);
    hash_update(reader->parts, hash, HASH_BYTES);
    reader->raw_at += range.length;
    reader->done += range.length;
    return decrypt(reader, reader->raw_at == source->size, error);
}

static void end_volume(VolumesReader *reader)
{
    ArchiveVolume *volume = &g_array_index(reader->volumes, ArchiveVolume, reader->current);
    volume->packed_size = reader->packed_size;
    hash_finish(reader->parts, volume->parts_hash);
    reader->open = FALSE;
    reader->current++;
}

static gboolean bad_member(const VolumesReader *reader, const char *why, GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "%s, member %u, at byte %" G_GUINT64_FORMAT " of what is packed: %s; without an index nothing "
                     "behind it can be found",
                     current(reader)->key, reader->lengths->len, reader->packed_size, why);
}

static gboolean note_member(VolumesReader *reader, gsize used, gsize size, GError **error)
{
    if (size == 0 || reader->has_short)
        return bad_member(reader, "members of another size than an index needs", error);
    reader->has_short = size < ARCHIVE_MEMBER_BYTES;
    guint32 length = (guint32)used;
    g_array_append_val(reader->lengths, length);
    reader->tar_size += size;
    reader->packed_size += used;
    reader->start += used;
    return TRUE;
}

/* Expands the member that packed begins with: 1; 0 if more of it has to come. */
static int expand(VolumesReader *reader, gsize *size, GError **error)
{
    gsize there = reader->packed->len - reader->start, used = 0;
    gboolean whole = reader->raw_at == current(reader)->size;
    g_autoptr(GError) local = NULL;
    if (there == 0 || (reader->name.codec == ARCHIVE_PLAIN && there < ARCHIVE_MEMBER_BYTES && !whole))
        return 0;
    int got = codec_unpack_next(reader->codec, reader->packed->data + reader->start, there, reader->member, &used, size,
                                &local);
    if (got == 0 && !whole && there <= PACKED_MAX)
        return 0;
    if (got != 1)
        return bad_member(reader, got < 0 ? local->message : "it has no end", error) ? 0 : -1;
    return note_member(reader, used, *size, error) ? 1 : -1;
}

int volumes_reader_next(gpointer user_data, const guint8 **data, gsize *length, GError **error)
{
    VolumesReader *reader = user_data;
    for (;;) {
        if (!reader->open && reader->current == reader->sources->len)
            return 0;
        if (!reader->open && !begin_volume(reader, error))
            return -1;
        int got = expand(reader, length, error);
        *data = reader->member;
        if (got != 0)
            return got;
        if (reader->raw_at == current(reader)->size)
            end_volume(reader);
        else if (!fetch_part(reader, error))
            return -1;
    }
}

void volumes_reader_finish(VolumesReader *reader, ArchivePoint *point, GArray **packed_lengths)
{
    if (point->volumes != NULL)
        g_array_unref(point->volumes);
    point->volumes = g_steal_pointer(&reader->volumes);
    point->numbered = reader->numbered;
    point->tar_size = reader->tar_size;
    point->members = reader->lengths->len;
    *packed_lengths = g_steal_pointer(&reader->lengths);
}

void volumes_reader_free(VolumesReader *reader)
{
    if (reader == NULL)
        return;
    g_free(reader->base);
    g_array_unref(reader->sources);
    g_clear_pointer(&reader->volumes, g_array_unref);
    g_clear_pointer(&reader->lengths, g_array_unref);
    g_byte_array_unref(reader->raw);
    g_byte_array_unref(reader->packed);
    g_free(reader->member);
    hash_free(reader->parts);
    tink_decryptor_free(reader->decryptor);
    codec_free(reader->codec);
    g_free(reader);
}
