#include "archive_scene.h"

#include <string.h>
#include <sys/stat.h>

#include "../base/cmocka_all.h"
#include "crypto/digest.h"
#include "crypto/tink.h"
#include "engine/archive/stream.h"

const guint8 SCENE_KEY[TINK_KEY_BYTES] = "a key that is only for the scene";

static ArchivePoint *begin(const ArchivePlace *place, const SceneOptions *options)
{
    ArchivePoint *point = g_new0(ArchivePoint, 1);
    point->name = (ArchiveName){.time = options->time ? options->time : 1763604000,
                                .type = options->type ? options->type : ARCHIVE_FULL,
                                .codec = options->codec ? options->codec : ARCHIVE_GZIP,
                                .encrypted = place->content_key != NULL};
    point->base = archive_base_name(&point->name);
    point->name.role = ARCHIVE_OBJECT_INDEX;
    point->place_name = g_strdup(place->name);
    point->time = point->scan_s = point->name.time;
    point->host = g_strdup("scene");
    point->sources = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(point->sources, g_strdup("/scene"));
    point->volumes = g_array_new(FALSE, FALSE, sizeof(ArchiveVolume));
    point->numbered = options->volume_size > 0;
    point->level = point->name.codec == ARCHIVE_PLAIN ? 0 : 1;
    if (options->parent != NULL) {
        point->parent = g_strdup(options->parent->base);
        memcpy(point->parent_hash, options->parent->hash, HASH_BYTES);
    }
    return point;
}

static gboolean has_content(const SceneFile *file)
{
    return (file->mode == 0 || S_ISREG(file->mode)) && file->link == NULL && !file->deleted;
}

static IndexEntry entry_of(const SceneFile *file, const SceneOptions *options)
{
    IndexEntry entry = {0};
    entry.entry.path = file->path;
    entry.entry.meta.mode = file->mode ? file->mode : S_IFREG | 0644;
    entry.entry.meta.uid = 1000;
    entry.entry.meta.gid = 100;
    entry.entry.meta.nlink = 1;
    entry.entry.meta.mtime_s = 1700000000;
    entry.entry.meta.mtime_ns = 123456789;
    entry.entry.user = "somebody";
    entry.entry.target = file->target;
    entry.entry.link = file->link;
    entry.entry.attrs = file->attrs;
    entry.entry.attrs_length = file->attrs_length;
    entry.entry.meta.size = file->target != NULL ? strlen(file->target) : 0;
    entry.flags = file->deleted ? INDEX_DELETED : INDEX_STORED;
    if (!has_content(file))
        return entry;
    entry.entry.meta.size = file->length;
    entry.flags |= file->extents != NULL ? INDEX_SPARSE : 0u;
    if (!options->unhashed) {
        entry.entry.part_size = MAX(file->length, 1);
        digest_sha256(file->data, file->length, entry.entry.hash);
    }
    return entry;
}

static void write_file(ArchiveStream *stream, const SceneFile *file, IndexEntry *entry)
{
    g_autoptr(GByteArray) header = g_byte_array_new();
    entry->tar_offset = stream_offset(stream);
    assert_true(tar_put_header(&entry->entry, file->extents, file->extent_count, header, NULL));
    entry->header_length = header->len;
    if (file->extents != NULL)
        tar_put_map(&entry->entry, file->extents, file->extent_count, header);
    assert_true(stream_write(stream, header->data, header->len, NULL));
    if (!has_content(file))
        return;
    const guint8 *data = file->data;
    TarExtent all = {.offset = 0, .length = file->length};
    const TarExtent *extents = file->extents != NULL ? file->extents : &all;
    for (guint i = 0; i < (file->extents != NULL ? file->extent_count : 1); i++)
        if (extents[i].length > 0)
            assert_true(stream_write(stream, data + extents[i].offset, extents[i].length, NULL));
    guint64 size = tar_content_size(&entry->entry, file->extents, file->extent_count);
    assert_true(stream_zeros(stream, tar_padding(size), NULL));
}

static void count_entry(ArchivePoint *point, const IndexEntry *entry)
{
    if ((entry->flags & INDEX_DELETED) != 0)
        return;
    if (S_ISDIR(entry->entry.meta.mode))
        point->directories++;
    else
        point->files++;
    if (S_ISREG(entry->entry.meta.mode))
        point->bytes += entry->entry.meta.size;
}

ArchivePoint *scene_archive(const ArchivePlace *place, const SceneOptions *options, const SceneFile *files, guint count)
{
    ArchivePoint *point = begin(place, options);
    StreamOptions how = {.place = place, .point = point, .threads = 2};
    how.volume_size = options->volume_size ? options->volume_size : (guint64)1 << 40;
    g_autoptr(ArchiveStream) stream = stream_new(&how, NULL);
    assert_non_null(stream);
    IndexEntry *entries = g_new0(IndexEntry, count);
    for (guint i = 0; i < count; i++) {
        entries[i] = entry_of(&files[i], options);
        if (!files[i].deleted)
            write_file(stream, &files[i], &entries[i]);
    }
    if (!options->no_end)
        assert_true(stream_zeros(stream, TAR_END_BYTES, NULL));
    g_autoptr(GArray) lengths = NULL;
    assert_true(stream_finish(stream, point, &lengths, NULL));
    GError *error = NULL;
    g_autoptr(IndexWriter) writer = index_writer_new(place, point->base, NULL, NULL, &error);
    assert_non_null(writer);
    for (guint i = 0; i < count; i++) {
        if (files[i].hidden)
            continue;
        if (!index_writer_put(writer, &entries[i], &error))
            fail_msg("%s", error->message);
        count_entry(point, &entries[i]);
    }
    if (!index_writer_commit(writer, point, lengths, NULL, &error))
        fail_msg("%s", error->message);
    g_free(entries);
    return point;
}

guint8 *scene_bytes(guint seed, gsize length, gboolean packs)
{
    guint8 *out = g_malloc(length + 1);
    guint64 state = seed * G_GUINT64_CONSTANT(0x9E3779B97F4A7C15) + 1;
    for (gsize i = 0; i < length; i++) {
        state = state * G_GUINT64_CONSTANT(6364136223846793005) + G_GUINT64_CONSTANT(1442695040888963407);
        out[i] = packs && (i & 1024) != 0 ? (guint8)'x' : (guint8)(state >> 33);
    }
    return out;
}

static GByteArray *load(Store *store, const char *key)
{
    GBytes *bytes = store_get_bytes(store, key, NULL, (gsize)1 << 30, NULL, NULL);
    assert_non_null(bytes);
    return g_bytes_unref_to_array(bytes);
}

static void save(Store *store, const char *key, const GByteArray *bytes)
{
    StoreBody body = {.data = bytes->data, .length = bytes->len};
    assert_true(store_put(store, key, &body, NULL, NULL, NULL));
}

void scene_flip(Store *store, const char *key, gint64 at)
{
    g_autoptr(GByteArray) bytes = load(store, key);
    gint64 place = at < 0 ? (gint64)bytes->len + at : at;
    assert_in_range(place, 0, bytes->len - 1);
    bytes->data[place] ^= 0x10;
    save(store, key, bytes);
}

void scene_cut(Store *store, const char *key, gsize length)
{
    g_autoptr(GByteArray) bytes = load(store, key);
    assert_in_range(length, 0, bytes->len);
    g_byte_array_set_size(bytes, (guint)length);
    save(store, key, bytes);
}
