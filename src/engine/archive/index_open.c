#include "engine/archive/index_open.h"

#include "base/human.h"
#include "crypto/digest.h"

#include <string.h>

/* What is read at the beginning. Of an encrypted index whole segments come in any case. */
#define TAIL_PLAIN     (64 * 1024)
#define TAIL_ENCRYPTED (256 * 1024)
/* So many other objects are asked whether the key fits them. */
#define WITNESSES 8

static gboolean bad_index(const Index *index, GError **error)
{
    g_prefix_error(error, "the index %s: ", index->shown);
    return FALSE;
}

gboolean index_bad_block(const Index *index, guint block, GError **error)
{
    g_prefix_error(error, "the index %s, block %u: ", index->shown, block);
    return FALSE;
}

gboolean index_fetch(Index *index, guint64 offset, gsize length, guint8 *out, GError **error)
{
    if (offset < index->tail_offset || !index->tail)
        return object_read_bytes(index->object, offset, length, out, error);
    g_assert(offset - index->tail_offset + length <= index->tail->len);
    memcpy(out, index->tail->data + (offset - index->tail_offset), length);
    return TRUE;
}

/* Memory for bytes that the object has; a size that is a lie has been found out by then. */
static GByteArray *fetch_bytes(Index *index, guint64 offset, gsize length, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_sized_new((guint)length);
    g_byte_array_set_size(bytes, (guint)length);
    return length == 0 || index_fetch(index, offset, length, bytes->data, error) ? g_steal_pointer(&bytes) : NULL;
}

/* --- the key --- */

/* TRUE if the key decrypts the beginning of this object. */
static gboolean is_witness(const ArchivePlace *place, const ArchiveName *name, const CancelFlag *cancel)
{
    g_autofree char *base = archive_base_name(name);
    g_autofree char *object_name = archive_object_name(name);
    g_autofree char *key = g_strconcat(place->name, "/", object_name, NULL);
    guint volume = name->role == ARCHIVE_OBJECT_INDEX ? 0 : MAX(name->volume, 1);
    g_autofree char *associated = archive_associated(place->name, base, volume, name->role);
    g_autoptr(ArchiveObject) object = object_open(place, key, 0, TRUE, associated, cancel, NULL);
    guint8 byte;
    return object && object_size(object) > 0 && object_read_bytes(object, 0, 1, &byte, NULL);
}

/* An index that cannot be decrypted is damaged, or the key is another: that is told by other objects of the place. TRUE
 * if the key fits one of them, or there is none. */
static gboolean key_fits(const ArchivePlace *place, const char *base, const CancelFlag *cancel)
{
    g_autofree char *prefix = g_strconcat(place->name, "/", NULL);
    g_autofree char *own = g_strconcat(base, ".index", NULL);
    g_autoptr(StoreList) list = store_list(place->store, prefix, NULL, FALSE, NULL);
    const StoreObject *object;
    guint asked = 0;
    while (list && asked < WITNESSES && store_list_next(list, &object, NULL) > 0) {
        const char *text = object->key + strlen(prefix);
        ArchiveName name;
        if (!archive_name_parse(text, &name) || !name.encrypted || strcmp(text, own) == 0)
            continue;
        if (is_witness(place, &name, cancel))
            return TRUE;
        asked++;
    }
    return asked == 0;
}

static gboolean find_fault(Index *index, const ArchivePlace *place, const char *base, const CancelFlag *cancel,
                           GError *failure, GError **error)
{
    guint8 byte;
    gboolean told = !index->encrypted || !error_is(failure, BACKAPP_ERROR_CORRUPT) ||
                    (object_size(index->object) > 0 && object_read_bytes(index->object, 0, 1, &byte, NULL)) ||
                    key_fits(place, base, cancel);
    if (told) {
        g_propagate_error(error, failure);
        return bad_index(index, error);
    }
    g_error_free(failure);
    return error_set(error, BACKAPP_ERROR_DENIED,
                     "the index %s cannot be decrypted: the key is another than the one that it was made with",
                     index->shown);
}

/* --- opening --- */

static gboolean check_magic(Index *index, GError **error)
{
    guint8 magic[INDEX_MAGIC_BYTES];
    if (!index_fetch(index, 0, sizeof magic, magic, error))
        return FALSE;
    return memcmp(magic, INDEX_MAGIC, sizeof magic) == 0 ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "its first bytes are damaged");
}

static gboolean read_tail(Index *index, GError **error)
{
    guint64 size = object_size(index->object);
    if (size < INDEX_MAGIC_BYTES + INDEX_TAIL_BYTES)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "it is cut off: it has %" G_GUINT64_FORMAT " bytes", size);
    gsize length = (gsize)MIN(size, index->encrypted ? TAIL_ENCRYPTED : TAIL_PLAIN);
    GByteArray *tail = fetch_bytes(index, size - length, length, error);
    index->tail_offset = size - length;
    index->tail = tail;
    return tail != NULL;
}

/* The footer lies right before the tail, the table right before the footer. */
static gboolean read_footer(Index *index, GError **error)
{
    guint64 size = object_size(index->object);
    guint64 end = size - INDEX_TAIL_BYTES;
    guint32 length;
    guint8 stated[HASH_BYTES], hash[HASH_BYTES];
    const guint8 *tail = index->tail->data + index->tail->len - INDEX_TAIL_BYTES;
    if (!index_tail_read(tail, &index->footer_offset, &length, stated, error))
        return FALSE;
    if (length > end || index->footer_offset != end - length || index->footer_offset < INDEX_MAGIC_BYTES)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its footer is not where its end says");
    g_autoptr(GByteArray) footer = fetch_bytes(index, index->footer_offset, length, error);
    if (!footer)
        return FALSE;
    digest_sha256(footer->data, length, hash);
    if (memcmp(hash, stated, HASH_BYTES) != 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its footer is damaged: its SHA-256 is another than recorded");
    index->point = index_footer_parse(footer->data, length, &index->table_span, error);
    if (!index->point)
        return FALSE;
    memcpy(index->point->hash, hash, HASH_BYTES);
    const IndexSpan *table = &index->table_span;
    if (table->stored == 0 || table->offset < INDEX_MAGIC_BYTES || table->offset > index->footer_offset ||
        table->stored != index->footer_offset - table->offset)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its table is not where its footer says");
    return TRUE;
}

/* An unencrypted index that was put in the place of another one. */
static gboolean check_identity(const Index *index, const ArchivePlace *place, const char *base, GError **error)
{
    const ArchivePoint *point = index->point;
    if (strcmp(point->base, base) == 0 && strcmp(point->place_name, place->name) == 0)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "it is the index of %s/%s: archives cannot be renamed, give its objects their names back",
                     point->place_name, point->base);
}

Index *index_open(const ArchivePlace *place, const char *base, const CancelFlag *cancel, GError **error)
{
    ArchiveName name;
    if (!archive_name_parse(base, &name) || name.volume != 0 || name.role == ARCHIVE_OBJECT_INDEX) {
        g_autofree char *shown = human_name(base, -1);
        (void)error_set(error, BACKAPP_ERROR_INVALID, "%s is no archive's name", shown);
        return NULL;
    }
    g_autoptr(Index) index = g_new0(Index, 1);
    g_mutex_init(&index->lock);
    index->encrypted = name.encrypted;
    index->shown = archive_index_key(place->name, base);
    g_autofree char *associated = archive_associated(place->name, base, 0, ARCHIVE_OBJECT_INDEX);
    index->object = object_open(place, index->shown, 0, name.encrypted, associated, cancel, error);
    if (!index->object)
        return NULL;
    GError *failure = NULL;
    if (!read_tail(index, &failure)) {
        (void)find_fault(index, place, base, cancel, failure, error);
        return NULL;
    }
    if (read_footer(index, error) && check_identity(index, place, base, error) &&
        (index->tail_offset > 0 || check_magic(index, error)))
        return g_steal_pointer(&index);
    (void)bad_index(index, error);
    return NULL;
}

const ArchivePoint *index_point(const Index *index)
{
    return index->point;
}

/* --- the table --- */

static gboolean count_blocks(Index *index, GError **error)
{
    guint64 entries = 0, members = 0;
    for (guint i = 0; i < index->blocks->len; i++) {
        const IndexBlock *block = &g_array_index(index->blocks, IndexBlock, i);
        if (block->members)
            members += block->count;
        else
            entries += block->count;
        index->entry_blocks += !block->members;
    }
    return (entries == index->point->entries && members == index->point->members) ||
           error_set(error, BACKAPP_ERROR_CORRUPT, "its table has other numbers than its footer");
}

/* With the lock. */
static gboolean load_table(Index *index, GError **error)
{
    const IndexSpan *span = &index->table_span;
    g_autoptr(GByteArray) stored = fetch_bytes(index, span->offset, (gsize)span->stored, error);
    g_autoptr(GByteArray) table = g_byte_array_new();
    g_autoptr(GArray) blocks = g_array_new(FALSE, TRUE, sizeof(IndexBlock));
    if (!stored)
        return FALSE;
    if (!index_unpack(span, stored->data, table, error)) {
        g_prefix_error(error, "its table: ");
        return FALSE;
    }
    if (!index_table_read(table->data, table->len, span->offset, blocks, error))
        return FALSE;
    index->table = g_steal_pointer(&table);
    index->blocks = g_steal_pointer(&blocks);
    index->has_table = count_blocks(index, error);
    if (!index->has_table) {
        g_clear_pointer(&index->table, g_byte_array_unref);
        g_clear_pointer(&index->blocks, g_array_unref);
        index->entry_blocks = 0;
    }
    return index->has_table;
}

gboolean index_load_table(Index *index, GError **error)
{
    g_mutex_lock(&index->lock);
    gboolean good = index->has_table || load_table(index, error) || bad_index(index, error);
    g_mutex_unlock(&index->lock);
    return good;
}

gboolean index_check_magic(Index *index, GError **error)
{
    return check_magic(index, error) || bad_index(index, error);
}

/* --- members --- */

GArray *index_read_members(Index *index, guint block, GError **error)
{
    const IndexBlock *of = &g_array_index(index->blocks, IndexBlock, block);
    g_autoptr(GByteArray) stored = fetch_bytes(index, of->span.offset, (gsize)of->span.stored, error);
    g_autoptr(GByteArray) raw = g_byte_array_new();
    g_autoptr(GArray) places = g_array_new(FALSE, FALSE, sizeof(IndexMember));
    if (stored && index_unpack(&of->span, stored->data, raw, error) &&
        index_members_read(raw->data, raw->len, of, index->point, places, error))
        return g_steal_pointer(&places);
    (void)index_bad_block(index, block, error);
    return NULL;
}

/* The number of the block that tells of a member. Blocks of members need not be equally long. */
static guint find_block(const Index *index, guint64 member)
{
    guint low = index->entry_blocks, high = index->blocks->len;
    while (high - low > 1) {
        guint middle = low + (high - low) / 2;
        if (g_array_index(index->blocks, IndexBlock, middle).member <= member)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* The places of a block, read unless they are kept. With the lock; valid while it is held. */
static const GArray *take_places(Index *index, guint block, GError **error)
{
    IndexMemberBlock *oldest = &index->kept[0];
    for (guint i = 0; i < INDEX_MEMBER_BLOCKS; i++) {
        IndexMemberBlock *kept = &index->kept[i];
        if (kept->places && kept->block == block) {
            kept->used = ++index->clock;
            return kept->places;
        }
        if (kept->used < oldest->used)
            oldest = kept;
    }
    GArray *places = index_read_members(index, block, error);
    if (!places)
        return NULL;
    g_clear_pointer(&oldest->places, g_array_unref);
    *oldest = (IndexMemberBlock){.block = block, .places = places, .used = ++index->clock};
    return places;
}

gboolean index_member(Index *index, guint64 member, guint *volume, guint64 *packed_offset, guint32 *packed_length,
                      GError **error)
{
    if (member >= index->point->members)
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "the index %s: there is no member %" G_GUINT64_FORMAT " in its archive", index->shown, member);
    if (!index_load_table(index, error))
        return FALSE;
    guint block = find_block(index, member);
    g_mutex_lock(&index->lock);
    const GArray *places = take_places(index, block, error);
    if (places) {
        guint64 first = g_array_index(index->blocks, IndexBlock, block).member;
        const IndexMember *place = &g_array_index(places, IndexMember, (guint)(member - first));
        *volume = place->volume;
        *packed_offset = place->offset;
        *packed_length = place->length;
    }
    g_mutex_unlock(&index->lock);
    return places != NULL;
}

void index_close(Index *index)
{
    if (!index)
        return;
    for (guint i = 0; i < INDEX_MEMBER_BLOCKS; i++)
        g_clear_pointer(&index->kept[i].places, g_array_unref);
    g_clear_pointer(&index->blocks, g_array_unref);
    g_clear_pointer(&index->table, g_byte_array_unref);
    g_clear_pointer(&index->tail, g_byte_array_unref);
    archive_point_free(index->point);
    object_close(index->object);
    g_mutex_clear(&index->lock);
    g_free(index->shown);
    g_free(index);
}
