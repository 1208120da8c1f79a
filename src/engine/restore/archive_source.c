#include "engine/restore/archive_source.h"

#include "base/error.h"
#include "base/human.h"
#include "crypto/kdf.h"
#include "crypto/key.h"
#include "crypto/secret.h"
#include "crypto/tink.h"
#include "engine/archive/members.h"
#include "engine/restore/cold.h"
#include "engine/restore/content.h"
#include "engine/restore/points.h"

#include <string.h>
#include <sys/stat.h>

#define LINK_BYTES_MAX (8 * 1024 * 1024)

typedef struct {
    RestoreSource source;
    RestoreSourceOptions options;
    char *name;
    guint8 content_key[TINK_KEY_BYTES];
    ArchivePlace place;
    Chain *chain;
    Members *members;
    ChainReader *reader;
    GByteArray *where; /* the place of the entry at hand */
    gboolean pending;  /* seek found an entry that next has still to tell */
    IndexEntry entry;
    guint number;
    GHashTable *firsts; /* by path: what is known of files that may have further names */
    GMutex lock;        /* for: */
    GHashTable *cold;   /* keys of volumes that are, and were asked for if they may be, and their classes */
} ArchiveSource;

/* Of a further name an index says that it is one, and little else of its content. */
typedef struct {
    guint64 size, part_size;
    guint8 hash[HASH_BYTES];
} First;

/* What archives are encrypted with; NULL without a key. */
static const guint8 *derive_key(const RestoreSourceOptions *options, guint8 content_key[TINK_KEY_BYTES])
{
    if (!options->master_key)
        return NULL;
    kdf_hkdf_sha256(options->master_key, KEY_BYTES, NULL, 0, KEY_FOR_CONTENT, sizeof KEY_FOR_CONTENT - 1, content_key,
                    TINK_KEY_BYTES);
    return content_key;
}

/* ---- entries ---- */

/* Where the content of an index's entry lies: flags, number of the point, place in its tar; of a further name the first one
 * instead, since what restores an entry may link it to another name. */
static void put_where(const IndexEntry *entry, guint number, GByteArray *out)
{
    g_byte_array_set_size(out, 0);
    bytes_put_varint(out, entry->flags);
    bytes_put_varint(out, number);
    bytes_put_varint(out, entry->tar_offset);
    bytes_put_varint(out, entry->header_length);
    const char *link = entry->entry.link;
    bytes_put_blob(out, link, link ? strlen(link) + 1 : 0);
}

/* Fills entry (but for its hash's and names' sake: those are the caller's) and link, NULL if it is a first name. */
static gboolean get_where(const RestoreEntry *from, IndexEntry *entry, guint *number, const char **link)
{
    BytesReader in = bytes_reader(from->place, from->place_length);
    *entry = (IndexEntry){.entry = from->entry};
    entry->entry.link = NULL;
    entry->flags = (guint)bytes_get_varint(&in);
    *number = (guint)bytes_get_varint(&in);
    entry->tar_offset = bytes_get_varint(&in);
    entry->header_length = (guint32)bytes_get_varint(&in);
    gsize length = 0;
    const guint8 *name = bytes_get_blob(&in, LINK_BYTES_MAX, &length);
    *link = length > 0 ? (const char *)name : NULL;
    return bytes_reader_done(&in) && (length == 0 || name[length - 1] == '\0');
}

/* The hash of an index is always that of the whole content. */
static void tell(const S3Entry *entry, RestoreEntry *told)
{
    told->entry = *entry;
    told->entry.key = told->entry.etag = told->entry.version = NULL;
    told->entry.object_size = 0;
    if (entry->part_size > 0)
        told->entry.part_size = MAX(entry->meta.size, 1);
}

/* Finds the first name of a file, in whichever archive it was told last: 1, 0 if there is none, -1. The reader has to be
 * kept as long as the entry. */
static int find_first(ArchiveSource *self, const char *path, ChainReader **reader, IndexEntry *entry, guint *number,
                      GError **error)
{
    *reader = chain_read(self->chain, path, FALSE, error);
    int more = *reader ? chain_reader_next(*reader, entry, number, error) : -1;
    if (more <= 0)
        return more;
    return strcmp(entry->entry.path, path) == 0 && !entry->entry.link && S_ISREG(entry->entry.meta.mode);
}

static const First *keep_first(ArchiveSource *self, const S3Entry *entry)
{
    First *first = g_new0(First, 1);
    *first = (First){.size = entry->meta.size, .part_size = entry->part_size};
    memcpy(first->hash, entry->hash, HASH_BYTES);
    g_hash_table_replace(self->firsts, g_strdup(entry->path), first);
    return first;
}

/* Gives a further name what is known of the first one's content. FALSE only if indexes cannot be read. */
static gboolean complete_link(ArchiveSource *self, S3Entry *entry, GError **error)
{
    const First *first = g_hash_table_lookup(self->firsts, entry->link);
    if (!first) {
        IndexEntry found;
        guint number;
        g_autoptr(ChainReader) reader = NULL;
        int there = find_first(self, entry->link, &reader, &found, &number, error);
        if (there <= 0)
            return there == 0;
        first = keep_first(self, &found.entry);
    }
    entry->meta.size = first->size;
    entry->part_size = first->part_size > 0 ? MAX(first->size, 1) : 0;
    memcpy(entry->hash, first->hash, HASH_BYTES);
    return TRUE;
}

static int next_entry(ArchiveSource *self, GError **error)
{
    if (!self->reader)
        self->reader = chain_read(self->chain, NULL, TRUE, error);
    return self->reader ? chain_reader_next(self->reader, &self->entry, &self->number, error) : -1;
}

static int archive_next(RestoreSource *source, RestoreEntry *entry, GError **error)
{
    ArchiveSource *self = (ArchiveSource *)source;
    int more = self->pending ? 1 : next_entry(self, error);
    self->pending = FALSE;
    if (more <= 0)
        return more;
    *entry = (RestoreEntry){0};
    tell(&self->entry.entry, entry);
    if (S_ISREG(entry->entry.meta.mode) && entry->entry.link && !complete_link(self, &entry->entry, error))
        return -1;
    if (S_ISREG(entry->entry.meta.mode) && !entry->entry.link && entry->entry.meta.nlink > 1)
        (void)keep_first(self, &self->entry.entry);
    if (!S_ISDIR(entry->entry.meta.mode)) {
        put_where(&self->entry, self->number, self->where);
        entry->place = self->where->data;
        entry->place_length = self->where->len;
    }
    return 1;
}

static gboolean is_at_or_below(const char *path, const char *top)
{
    gsize length = strlen(top);
    return length == 0 || (strncmp(path, top, length) == 0 && (path[length] == '\0' || path[length] == '/'));
}

/* A file stands elsewhere in the order than a directory of the same name. */
static gboolean archive_seek(RestoreSource *source, const char *path, GError **error)
{
    ArchiveSource *self = (ArchiveSource *)source;
    self->pending = FALSE;
    for (guint directory = 0; directory < 2; directory++) {
        g_clear_pointer(&self->reader, chain_reader_free);
        self->reader = chain_read(self->chain, path, directory != 0, error);
        int more = self->reader ? next_entry(self, error) : -1;
        if (more < 0)
            return FALSE;
        self->pending = more > 0 && is_at_or_below(self->entry.entry.path, path);
        if (self->pending)
            return TRUE;
    }
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s is not in this restore point", path);
}

/* ---- contents ---- */

static gboolean write_at(gpointer user_data, guint64 offset, const void *data, gsize length, GError **error)
{
    return content_take_at(user_data, offset, data, length, error);
}

/* Asks for a volume, or tells that it has to be asked for. FALSE with an error if it is cold; what cannot be told here is
 * told by the reading itself. */
static gboolean look_at_volume(ArchiveSource *self, const char *key, GError **error)
{
    G_GNUC_UNUSED g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&self->lock);
    const char *class = g_hash_table_lookup(self->cold, key);
    gboolean asked = class != NULL;
    g_autoptr(StoreObject) object = asked ? NULL : store_head(self->options.store, key, NULL, NULL);
    if (!asked && (!object || !cold_is(object)))
        return TRUE;
    const StoreObject cold = {.storage_class = asked ? class : object->storage_class};
    g_autoptr(GError) local = NULL;
    (void)cold_report(self->options.store, key, NULL, &cold, asked, &self->options, &local);
    if (!asked && error_is(local, BACKAPP_ERROR_CONFLICT))
        g_hash_table_insert(self->cold, g_strdup(key), g_strdup(cold.storage_class));
    g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ", key);
    return FALSE;
}

/* Every volume that an entry's content may lie in. FALSE with an error if one is cold: the first one's. */
static gboolean look_at_volumes(ArchiveSource *self, guint number, const IndexEntry *entry, GError **error)
{
    const ArchivePoint *point = index_point(chain_index(self->chain, number));
    guint64 first = entry->tar_offset / ARCHIVE_MEMBER_BYTES;
    guint64 last = (entry->tar_offset + entry->header_length + entry->entry.meta.size) / ARCHIVE_MEMBER_BYTES;
    gboolean warm = TRUE;
    for (guint i = 0; i < point->volumes->len; i++) {
        const ArchiveVolume *volume = &g_array_index(point->volumes, ArchiveVolume, i);
        gboolean is_last = i + 1 == point->volumes->len;
        if (volume->first_member > last || (!is_last && volume[1].first_member <= first))
            continue;
        g_autofree char *key = archive_volume_key(point, i);
        g_autoptr(GError) another = NULL;
        warm = look_at_volume(self, key, warm ? error : &another) && warm;
    }
    return warm;
}

static gboolean read_content(ArchiveSource *self, guint number, const IndexEntry *entry, ContentOutput *output,
                             RestoreFetch *fetch, GError **error)
{
    g_autoptr(GError) local = NULL, cold = NULL;
    if (members_content(self->members, number, entry, write_at, output, &local))
        return TRUE;
    fetch->cold = error_is(local, BACKAPP_ERROR_CONFLICT) && !look_at_volumes(self, number, entry, &cold);
    g_propagate_error(error, fetch->cold ? g_steal_pointer(&cold) : g_steal_pointer(&local));
    return FALSE;
}

static gboolean fetch_content(ArchiveSource *self, guint number, const IndexEntry *entry, RestoreFetch *fetch,
                              GError **error)
{
    fetch->cold = FALSE;
    g_auto(ContentOutput) output = {0};
    if ((entry->flags & INDEX_STORED) == 0 || !S_ISREG(entry->entry.meta.mode))
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "the archive does not hold its content");
    if ((entry->flags & INDEX_CHANGED) != 0 && self->options.sink)
        self->options.sink->warning(self->options.sink, "changed", entry->entry.path,
                                    "went on changing while it was backed up: its content may be of different moments");
    return content_begin_output(&output, &entry->entry, fetch, TRUE, self->options.cancel, error) &&
           read_content(self, number, entry, &output, fetch, error) && content_end_output(&output, error);
}

/* The content of a further name: that of the first one, wherever it was last told of. */
static gboolean fetch_first(ArchiveSource *self, const char *path, RestoreFetch *fetch, GError **error)
{
    IndexEntry entry;
    guint number;
    g_autoptr(ChainReader) reader = NULL;
    int there = find_first(self, path, &reader, &entry, &number, error);
    if (there < 0)
        return FALSE;
    if (there == 0) {
        g_autofree char *shown = human_name(path, -1);
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its first name %s is not in the archives", shown);
    }
    return fetch_content(self, number, &entry, fetch, error);
}

static gboolean archive_fetch(RestoreSource *source, const RestoreEntry *from, RestoreFetch *fetch, GError **error)
{
    ArchiveSource *self = (ArchiveSource *)source;
    IndexEntry entry;
    guint number;
    const char *link;
    if (!get_where(from, &entry, &number, &link) || number >= chain_length(self->chain))
        return error_set(error, BACKAPP_ERROR_INTERNAL, "%s was not told by this source", from->entry.path);
    return link ? fetch_first(self, link, fetch, error) : fetch_content(self, number, &entry, fetch, error);
}

/* ---- opening and listing ---- */

static void archive_free(RestoreSource *source)
{
    ArchiveSource *self = (ArchiveSource *)source;
    g_clear_pointer(&self->reader, chain_reader_free);
    g_clear_pointer(&self->members, members_free);
    g_clear_pointer(&self->chain, chain_close);
    g_byte_array_unref(self->where);
    g_hash_table_unref(self->firsts);
    g_hash_table_unref(self->cold);
    g_mutex_clear(&self->lock);
    secret_wipe(self->content_key, sizeof self->content_key);
    g_free(self->name);
    g_free(self);
}

static const RestoreSourceOps archive_ops = {
    .seek = archive_seek, .next = archive_next, .fetch = archive_fetch, .free = archive_free};

static void describe(RestorePoint *point, const ArchivePoint *read)
{
    point->time = read->time;
    point->files = read->files;
    point->bytes = read->bytes;
    point->known = TRUE;
    point->partial = read->partial;
}

RestoreSource *archive_source_open(const RestoreSourceOptions *options, const char *name, GError **error)
{
    if (!archive_check_name(name, error))
        return NULL;
    ArchiveSource *self = g_new0(ArchiveSource, 1);
    self->source = (RestoreSource){.ops = &archive_ops, .kind = RESTORE_FROM_ARCHIVES};
    self->where = g_byte_array_new();
    self->firsts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    self->cold = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_mutex_init(&self->lock);
    g_autoptr(RestoreSource) source = &self->source;
    self->options = *options;
    self->name = g_strdup(name);
    self->place = (ArchivePlace){
        .store = options->store, .name = self->name, .content_key = derive_key(options, self->content_key)};
    g_autofree char *base = chain_choose(&self->place, options->at, options->cancel, error);
    if (!base)
        return NULL;
    self->chain = chain_open(&self->place, base, options->cancel, NULL, error);
    if (!self->chain)
        return NULL;
    self->members = members_new(&self->place, self->chain, 0, options->cancel, error);
    if (!self->members)
        return NULL;
    source->point.name = g_steal_pointer(&base);
    source->point.archive = g_strdup(name);
    describe(&source->point, index_point(chain_index(self->chain, 0)));
    return g_steal_pointer(&source);
}

/* What concerns one point only is said of it. */
static gboolean is_its_own(const GError *error)
{
    return error_is(error, BACKAPP_ERROR_CORRUPT) || error_is(error, BACKAPP_ERROR_NOT_FOUND) ||
           error_is(error, BACKAPP_ERROR_INVALID);
}

gboolean archive_source_list(const RestoreSourceOptions *options, const char *name, GPtrArray *points, GError **error)
{
    guint8 content_key[TINK_KEY_BYTES] = {0};
    ArchivePlace place = {.store = options->store, .name = name, .content_key = derive_key(options, content_key)};
    g_autoptr(GPtrArray) list = archive_check_name(name, error) ? archive_list(&place, options->cancel, error) : NULL;
    gboolean fine = list != NULL;
    for (guint i = 0; fine && i < list->len; i++) {
        const ArchiveListed *listed = g_ptr_array_index(list, i);
        if (!listed->has_index)
            continue;
        g_autoptr(GError) local = NULL;
        RestorePoint *point = points_add(points, listed->base, listed->name.time);
        point->archive = g_strdup(name);
        g_autoptr(Index) index = index_open(&place, listed->base, options->cancel, &local);
        if (index) {
            describe(point, index_point(index));
        } else if (is_its_own(local)) {
            point->problem = g_strdup(local->message);
        } else {
            g_propagate_error(error, g_steal_pointer(&local));
            fine = FALSE;
        }
    }
    secret_wipe(content_key, sizeof content_key);
    return fine;
}
