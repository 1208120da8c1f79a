#include "index_scene.h"

#include "../base/cmocka_all.h"
#include "crypto/tink.h"

#include <string.h>
#include <sys/stat.h>

void scene_item_free(SceneItem *item)
{
    g_free(item->path);
    g_free(item->target);
    g_free(item);
}

static void free_item(gpointer item)
{
    scene_item_free(item);
}

SceneItem *scene_item_copy(const SceneItem *item)
{
    SceneItem *copy = g_new(SceneItem, 1);
    *copy = *item;
    copy->path = g_strdup(item->path);
    copy->target = g_strdup(item->target);
    return copy;
}

void scene_touch(SceneItem *item, GRand *random)
{
    item->mtime = 1700000000 + g_rand_int_range(random, 0, 90000000);
    item->tar_offset = (guint64)g_rand_int(random) * 4;
    item->flags = g_rand_int_range(random, 0, 20) == 0 ? 0 : INDEX_STORED;
    item->size = item->directory || item->target ? 0 : g_rand_int(random) % 5000000;
    for (guint i = 0; i < HASH_BYTES; i += 4) {
        guint32 part = g_rand_int(random);
        memcpy(item->hash + i, &part, 4);
    }
}

SceneItem *scene_item_new(GRand *random, const char *parent, gboolean directory)
{
    static const char letters[] = "-./0aAz~\xc3\xbc +_";
    g_autoptr(GString) path = g_string_new(parent);
    if (*parent != '\0')
        g_string_append_c(path, '/');
    gsize start = path->len;
    gint length = g_rand_int_range(random, 1, 21);
    for (gint i = 0; i < length; i++) {
        char letter = letters[g_rand_int_range(random, 0, sizeof letters - 1)];
        g_string_append_c(path, letter == '/' || (i == 0 && letter == '.') ? 'q' : letter);
    }
    g_assert(path->len > start);
    SceneItem *item = g_new0(SceneItem, 1);
    item->path = g_string_free(g_steal_pointer(&path), FALSE);
    item->directory = directory;
    if (!directory && g_rand_int_range(random, 0, 15) == 0)
        item->target = g_strdup("../elsewhere");
    scene_touch(item, random);
    return item;
}

typedef struct {
    SceneItem *item;
    char *key;
} Keyed;

static int by_key(const void *a, const void *b)
{
    return strcmp(((const Keyed *)a)->key, ((const Keyed *)b)->key);
}

void scene_sort(GPtrArray *items)
{
    g_autofree Keyed *keyed = g_new(Keyed, items->len + 1);
    for (guint i = 0; i < items->len; i++) {
        keyed[i].item = g_ptr_array_index(items, i);
        const char *path = keyed[i].item->path;
        keyed[i].key = g_strconcat(path, keyed[i].item->directory && *path != '\0' ? "/" : "", NULL);
    }
    qsort(keyed, items->len, sizeof *keyed, by_key);
    for (guint i = 0; i < items->len; i++) {
        g_ptr_array_index(items, i) = keyed[i].item;
        g_free(keyed[i].key);
    }
}

GPtrArray *scene_tree(GRand *random, guint count)
{
    GPtrArray *items = g_ptr_array_new_with_free_func(free_item);
    g_autoptr(GPtrArray) folders = g_ptr_array_new();
    g_autoptr(GHashTable) known = g_hash_table_new(g_str_hash, g_str_equal);
    SceneItem *root = g_new0(SceneItem, 1);
    root->path = g_strdup("");
    root->directory = TRUE;
    g_ptr_array_add(items, root);
    g_ptr_array_add(folders, root->path);
    while (items->len < count) {
        const char *parent = g_ptr_array_index(folders, g_rand_int_range(random, 0, (gint)folders->len));
        SceneItem *item = scene_item_new(random, parent, g_rand_int_range(random, 0, 10) == 0);
        if (g_hash_table_contains(known, item->path)) {
            scene_item_free(item);
            continue;
        }
        g_hash_table_add(known, item->path);
        g_ptr_array_add(items, item);
        if (item->directory && strlen(item->path) < 200)
            g_ptr_array_add(folders, item->path);
    }
    scene_sort(items);
    return items;
}

void scene_fill(const SceneItem *item, IndexEntry *entry)
{
    *entry = (IndexEntry){.flags = item->flags};
    S3Entry *of = &entry->entry;
    of->path = item->path;
    of->meta.mode = item->directory ? S_IFDIR | 0755 : item->target ? S_IFLNK | 0777 : S_IFREG | 0644;
    if ((item->flags & INDEX_DELETED) != 0)
        return;
    of->meta.mtime_s = item->mtime;
    of->meta.mtime_ns = (guint32)item->hash[0] * 1000000;
    of->meta.size = item->size;
    of->meta.ino = item->tar_offset + 7;
    of->meta.nlink = 1;
    of->user = "somebody";
    of->target = item->target;
    if ((item->flags & INDEX_STORED) != 0) {
        entry->tar_offset = item->tar_offset;
        entry->header_length = 512;
    }
    if (!item->directory && !item->target) {
        of->part_size = MAX(item->size, 1);
        memcpy(of->hash, item->hash, HASH_BYTES);
    }
}

gboolean scene_same(const SceneItem *item, const IndexEntry *entry)
{
    IndexEntry want;
    scene_fill(item, &want);
    const S3Entry *a = &want.entry, *b = &entry->entry;
    return strcmp(a->path, b->path) == 0 && want.flags == entry->flags && want.tar_offset == entry->tar_offset &&
           want.header_length == entry->header_length && a->meta.mode == b->meta.mode && a->meta.size == b->meta.size &&
           a->meta.mtime_s == b->meta.mtime_s && a->meta.mtime_ns == b->meta.mtime_ns && a->meta.ino == b->meta.ino &&
           g_strcmp0(a->target, b->target) == 0 && g_strcmp0(a->user, b->user) == 0 && a->part_size == b->part_size &&
           memcmp(a->hash, b->hash, HASH_BYTES) == 0;
}

ArchivePoint *scene_point(const ArchivePlace *place, const char *base, GRand *random, GArray **lengths)
{
    static const guint64 firsts[] = {0, 10, 20000, SCENE_MEMBERS};
    ArchivePoint *point = g_new0(ArchivePoint, 1);
    g_assert_true(archive_name_parse(base, &point->name));
    point->base = g_strdup(base);
    point->place_name = g_strdup(place->name);
    point->time = point->name.time;
    point->host = g_strdup("here");
    point->sources = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(point->sources, g_strdup("/data/\xff\xfe"));
    g_ptr_array_add(point->sources, g_strdup("/home/müller"));
    point->volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    point->numbered = TRUE;
    point->level = 6;
    point->tar_size = SCENE_TAR_SIZE - 5;
    point->members = SCENE_MEMBERS;
    *lengths = g_array_new(FALSE, FALSE, sizeof(guint32));
    for (guint volume = 0; volume < 3; volume++) {
        ArchiveVolume of = {.first_member = firsts[volume], .part_size = 8 << 20, .parts_hash = {(guint8)volume}};
        for (guint64 i = firsts[volume]; i < firsts[volume + 1]; i++) {
            guint32 length = (guint32)g_rand_int_range(random, 1, ARCHIVE_MEMBER_BYTES);
            g_array_append_val(*lengths, length);
            of.packed_size += length;
        }
        of.size = point->name.encrypted ? tink_cipher_size(of.packed_size) : of.packed_size;
        g_array_append_val(point->volumes, of);
    }
    return point;
}

ArchivePoint *scene_write(const ArchivePlace *place, const char *base, const GPtrArray *items, ArchivePoint *parent,
                          GRand *random, GError **error)
{
    g_autoptr(GArray) lengths = NULL;
    g_autoptr(ArchivePoint) point = scene_point(place, base, random, &lengths);
    if (parent) {
        point->parent = g_strdup(parent->base);
        memcpy(point->parent_hash, parent->hash, HASH_BYTES);
    }
    g_autoptr(IndexWriter) writer = index_writer_new(place, base, NULL, NULL, error);
    if (!writer)
        return NULL;
    for (guint i = 0; i < items->len; i++) {
        IndexEntry entry;
        scene_fill(g_ptr_array_index(items, i), &entry);
        if (!index_writer_put(writer, &entry, error))
            return NULL;
    }
    return index_writer_commit(writer, point, lengths, NULL, error) ? g_steal_pointer(&point) : NULL;
}
