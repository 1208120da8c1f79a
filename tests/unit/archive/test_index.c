#include "../base/cmocka_all.h"
#include "crypto/digest.h"
#include "crypto/tink.h"
#include "engine/archive/index_format.h"
#include "index_scene.h"
#include "store/memory.h"

#include <string.h>
#include <sys/stat.h>

#define PLAIN  "2026-11-20T020000Z-full.tar.gz"
#define SEALED "2026-11-20T020000Z-full.tar.gz.aes"
#define MANY   140000 /* their index is sent by parts */
#define SOME   40000  /* theirs has more than one segment */

static const guint8 KEY[TINK_KEY_BYTES] = {1, 2, 3};
static const guint8 OTHER_KEY[TINK_KEY_BYTES] = {1, 2, 4};

typedef struct {
    GRand *random;
    Store *store;
    ArchivePlace place;
} Scene;

static Scene scene_new(const guint8 *key)
{
    Scene scene = {.random = g_rand_new_with_seed(20261120), .store = store_memory_new()};
    scene.place = (ArchivePlace){.store = scene.store, .name = "photos", .content_key = key};
    return scene;
}

static void scene_clear(Scene *scene)
{
    g_rand_free(scene->random);
    store_free(scene->store);
}

static int compare(const char *a, const char *b)
{
    g_autofree char *left = g_strdup(a), *right = g_strdup(b);
    gsize left_length = strlen(a), right_length = strlen(b);
    gboolean left_directory = g_str_has_suffix(a, "/"), right_directory = g_str_has_suffix(b, "/");
    left[left_length - (left_directory ? 1 : 0)] = '\0';
    right[right_length - (right_directory ? 1 : 0)] = '\0';
    int order = index_compare_paths(left, left_directory, right, right_directory);
    assert_int_equal(index_compare_paths(right, right_directory, left, left_directory), -order);
    return order;
}

static void test_order(void **state)
{
    /* A slash at the end: a directory. */
    static const char *const sorted[] = {"/", "-", "a", "a-", "a.b", "a/", "a/b", "a/b/", "a/b/c", "a0", "b\xff/", "c"};
    for (guint i = 0; i < G_N_ELEMENTS(sorted); i++)
        for (guint j = 0; j < G_N_ELEMENTS(sorted); j++)
            assert_int_equal(compare(sorted[i], sorted[j]), (i > j) - (i < j));
}

/* What reading gives from `from` on is what the items are. */
static void assert_reads(Index *index, const GPtrArray *items, guint from, guint count, const char *path,
                         gboolean directory)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(IndexReader) reader = index_read(index, path, directory, &error);
    assert_null(error);
    IndexEntry entry;
    for (guint i = from; i < MIN(items->len, from + count); i++) {
        if (index_reader_next(reader, &entry, &error) != 1)
            fail_msg("entry %u: %s", i, error ? error->message : "the end");
        if (!scene_same(g_ptr_array_index(items, i), &entry))
            fail_msg("another entry than number %u: %s", i, entry.entry.path);
    }
    if (from + count >= items->len) {
        assert_int_equal(index_reader_next(reader, &entry, NULL), 0);
        assert_int_equal(index_reader_next(reader, &entry, NULL), 0);
    }
}

static void try_large(const guint8 *key)
{
    Scene scene = scene_new(key);
    const char *base = key ? SEALED : PLAIN;
    const guint count = key ? SOME : MANY;
    g_autoptr(GPtrArray) items = scene_tree(scene.random, count);
    StoreCounts before = {0}, after = {0};
    g_autoptr(ArchivePoint) point = scene_write(&scene.place, base, items, NULL, scene.random, NULL);
    assert_non_null(point);
    store_counts(scene.store, &before);
    assert_true(before.requests[STORE_REQUEST_PUT] >= (key ? 1 : 4));
    g_autoptr(Index) index = index_open(&scene.place, base, NULL, NULL);
    assert_non_null(index);
    assert_int_equal(index_point(index)->entries, count);
    assert_memory_equal(index_point(index)->hash, point->hash, HASH_BYTES);
    const SceneItem *one = g_ptr_array_index(items, count / 3);
    assert_reads(index, items, count / 3, 1, one->path, one->directory);
    /* One path: the size, the end, the table, one block; of an encrypted index in segments. */
    store_counts(scene.store, &after);
    assert_true(after.requests[STORE_REQUEST_GET] + after.requests[STORE_REQUEST_HEAD] <= 5);
    assert_true(after.bytes_received - before.bytes_received < (key ? 4 << 20 : 200 << 10));
    assert_reads(index, items, 0, count, NULL, FALSE);
    for (guint i = 0; i < (key ? 30u : 100u); i++) {
        guint number = (guint)g_rand_int_range(scene.random, 0, (gint)count);
        const SceneItem *item = g_ptr_array_index(items, number);
        assert_reads(index, items, number, 2, item->path, item->directory);
    }
    guint64 entries = 0;
    assert_true(index_check(index, &entries, NULL));
    assert_int_equal(entries, count);
    scene_clear(&scene);
}

static void test_large(void **state)
{
    try_large(NULL);
}

static void test_large_encrypted(void **state)
{
    try_large(KEY);
}

/* From every path there is, and from such that lie between. */
static void test_seek(void **state)
{
    Scene scene = scene_new(NULL);
    g_autoptr(GPtrArray) items = scene_tree(scene.random, 1200);
    g_autoptr(ArchivePoint) point = scene_write(&scene.place, PLAIN, items, NULL, scene.random, NULL);
    g_autoptr(Index) index = index_open(&scene.place, PLAIN, NULL, NULL);
    assert_true(point != NULL && index != NULL);
    for (guint i = 1; i < items->len; i++) {
        const SceneItem *item = g_ptr_array_index(items, i);
        assert_reads(index, items, i, 1, item->path, item->directory);
        g_autofree char *behind = g_strconcat(item->path, item->directory ? "/\xff\xff" : "\x01", NULL);
        if (item->directory || i + 1 == items->len || compare(behind, ((SceneItem *)items->pdata[i + 1])->path) > 0)
            continue;
        assert_reads(index, items, i + 1, 1, behind, FALSE);
    }
    assert_reads(index, items, 0, 1, "", TRUE);
    assert_reads(index, items, items->len, 1, "\xff\xff", FALSE);
    scene_clear(&scene);
}

static void test_empty(void **state)
{
    Scene scene = scene_new(NULL);
    g_autoptr(ArchivePoint) point = g_new0(ArchivePoint, 1);
    point->base = g_strdup(PLAIN);
    point->place_name = g_strdup("photos");
    g_autoptr(IndexWriter) writer = index_writer_new(&scene.place, PLAIN, NULL, NULL, NULL);
    guint64 stored = 0;
    assert_true(index_writer_commit(writer, point, NULL, &stored, NULL));
    g_autoptr(Index) index = index_open(&scene.place, PLAIN, NULL, NULL);
    assert_non_null(index);
    assert_true(index_check(index, NULL, NULL));
    g_autoptr(GPtrArray) nothing = g_ptr_array_new();
    assert_reads(index, nothing, 0, 1, NULL, FALSE);
    assert_reads(index, nothing, 0, 1, "a", FALSE);
    g_autoptr(StoreObject) object = store_head(scene.store, "photos/" PLAIN ".index", NULL, NULL);
    assert_true(object != NULL && object->size == stored);
    scene_clear(&scene);
}

static void test_point(void **state)
{
    Scene scene = scene_new(NULL);
    g_autoptr(GArray) lengths = NULL;
    g_autoptr(ArchivePoint) point =
        scene_point(&scene.place, "2026-11-20T020000Z-incremental.tar.zst", scene.random, &lengths);
    point->scan_s = -5;
    point->scan_ns = 999999999;
    point->parent = g_strdup(PLAIN);
    memset(point->parent_hash, 0xab, HASH_BYTES);
    point->files = 1;
    point->directories = 2;
    point->bytes = G_MAXINT64;
    point->unread = 4;
    point->partial = TRUE;
    g_autoptr(IndexWriter) writer = index_writer_new(&scene.place, point->base, NULL, NULL, NULL);
    IndexEntry gone = {.entry = {.path = "a", .meta.mode = S_IFREG | 0600}, .flags = INDEX_DELETED};
    assert_true(index_writer_put(writer, &gone, NULL));
    assert_true(index_writer_commit(writer, point, lengths, NULL, NULL));
    g_autoptr(Index) index = index_open(&scene.place, point->base, NULL, NULL);
    assert_non_null(index);
    const ArchivePoint *back = index_point(index);
    assert_string_equal(back->base, point->base);
    assert_string_equal(back->place_name, "photos");
    assert_string_equal(back->parent, PLAIN);
    assert_string_equal(back->host, "here");
    assert_memory_equal(back->parent_hash, point->parent_hash, HASH_BYTES);
    assert_true(back->time == point->time && back->scan_s == -5 && back->scan_ns == 999999999);
    assert_true(back->name.codec == ARCHIVE_ZSTD && back->name.type == ARCHIVE_INCREMENTAL);
    assert_int_equal(back->sources->len, 2);
    assert_string_equal(g_ptr_array_index(back->sources, 0), "/data/\xff\xfe");
    assert_string_equal(g_ptr_array_index(back->sources, 1), "/home/müller");
    assert_int_equal(back->volumes->len, 3);
    assert_memory_equal(back->volumes->data, point->volumes->data, 3 * sizeof(ArchiveVolume));
    assert_true(back->numbered && back->level == 6 && back->tar_size == point->tar_size &&
                back->members == SCENE_MEMBERS);
    assert_true(back->files == 1 && back->directories == 2 && back->bytes == G_MAXINT64 && back->unread == 4);
    assert_true(back->partial && back->entries == 1 && back->deletions == 1);
    g_autoptr(IndexReader) reader = index_read(index, NULL, FALSE, NULL);
    IndexEntry entry;
    assert_int_equal(index_reader_next(reader, &entry, NULL), 1);
    assert_true(entry.flags == INDEX_DELETED && entry.entry.meta.mode == S_IFREG);
    scene_clear(&scene);
}

static void test_members(void **state)
{
    Scene scene = scene_new(NULL);
    g_autoptr(GArray) lengths = NULL;
    g_autoptr(ArchivePoint) point = scene_point(&scene.place, PLAIN, scene.random, &lengths);
    g_autoptr(IndexWriter) writer = index_writer_new(&scene.place, PLAIN, NULL, NULL, NULL);
    assert_true(index_writer_commit(writer, point, lengths, NULL, NULL));
    g_autoptr(Index) index = index_open(&scene.place, PLAIN, NULL, NULL);
    assert_non_null(index);
    guint64 want = 0;
    for (guint i = 0; i < SCENE_MEMBERS; i++) {
        guint want_volume = i < 10 ? 0 : i < 20000 ? 1 : 2;
        if (i == 10 || i == 20000)
            want = 0;
        guint volume = 9;
        guint64 offset = 0;
        guint32 length = 0;
        assert_true(index_member(index, i, &volume, &offset, &length, NULL));
        if (volume != want_volume || offset != want || length != g_array_index(lengths, guint32, i))
            fail_msg("member %u is in volume %u at %" G_GUINT64_FORMAT, i, volume, offset);
        want += length;
    }
    guint volume;
    guint64 offset;
    guint32 length;
    g_autoptr(GError) error = NULL;
    assert_false(index_member(index, SCENE_MEMBERS, &volume, &offset, &length, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    scene_clear(&scene);
}

static void test_writer_refuses(void **state)
{
    Scene scene = scene_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) items = scene_tree(scene.random, 50);
    gpointer kept = items->pdata[20];
    items->pdata[20] = items->pdata[21];
    items->pdata[21] = kept;
    assert_null(scene_write(&scene.place, PLAIN, items, NULL, scene.random, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INTERNAL));
    g_clear_error(&error);
    assert_null(index_writer_new(&scene.place, SEALED, NULL, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INTERNAL));
    g_clear_error(&error);
    /* Lengths that do not make up the volumes. */
    g_autoptr(GArray) lengths = NULL;
    g_autoptr(ArchivePoint) point = scene_point(&scene.place, PLAIN, scene.random, &lengths);
    g_array_index(lengths, guint32, 7)++;
    g_autoptr(IndexWriter) writer = index_writer_new(&scene.place, PLAIN, NULL, NULL, NULL);
    assert_false(index_writer_commit(writer, point, lengths, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INTERNAL));
    g_autoptr(StoreObject) object = store_head(scene.store, "photos/" PLAIN ".index", NULL, NULL);
    assert_null(object);
    scene_clear(&scene);
}

/* A store that refuses a part: no object, and no upload stays. */
static void test_writer_fails(void **state)
{
    Scene scene = scene_new(NULL);
    g_autoptr(GPtrArray) items = scene_tree(scene.random, MANY);
    g_autoptr(GArray) lengths = NULL;
    g_autoptr(ArchivePoint) point = scene_point(&scene.place, PLAIN, scene.random, &lengths);
    IndexWriter *writer = index_writer_new(&scene.place, PLAIN, NULL, NULL, NULL);
    for (guint i = 0; i < MANY; i++) {
        IndexEntry entry;
        scene_fill(g_ptr_array_index(items, i), &entry);
        assert_true(index_writer_put(writer, &entry, NULL));
    }
    g_autoptr(GPtrArray) begun = store_list_uploads(scene.store, "", NULL);
    assert_int_equal(begun->len, 1);
    g_autoptr(GError) error = NULL;
    store_memory_fail_next(scene.store, STORE_REQUEST_PUT, BACKAPP_ERROR_DENIED, 1, FALSE);
    assert_false(index_writer_commit(writer, point, lengths, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    index_writer_free(writer);
    g_autoptr(GPtrArray) uploads = store_list_uploads(scene.store, "", NULL);
    assert_int_equal(uploads->len, 0);
    g_autoptr(StoreObject) object = store_head(scene.store, "photos/" PLAIN ".index", NULL, NULL);
    assert_null(object);
    scene_clear(&scene);
}

static void replace(Scene *scene, const char *key, const guint8 *data, gsize length)
{
    StoreBody body = {.data = data, .length = length};
    assert_true(store_put(scene->store, key, &body, NULL, NULL, NULL));
}

/* Everything that reads an index, until something is wrong with it. */
static gboolean read_all(Scene *scene, const char *base, GError **error)
{
    g_autoptr(Index) index = index_open(&scene->place, base, NULL, error);
    return index && index_check(index, NULL, error);
}

static void assert_corrupt(Scene *scene, const char *base, gsize at)
{
    g_autoptr(GError) error = NULL;
    if (read_all(scene, base, &error))
        fail_msg("a change at byte %zu was not found", at);
    if (!error_is(error, BACKAPP_ERROR_CORRUPT) || !strstr(error->message, base))
        fail_msg("byte %zu: %s", at, error->message);
}

/* The number of the block that a byte lies in; -1: in none. */
static int block_of(Scene *scene, const guint8 *data, gsize size, gsize at)
{
    guint64 footer;
    guint32 length;
    guint8 hash[HASH_BYTES];
    IndexSpan span;
    assert_true(index_tail_read(data + size - INDEX_TAIL_BYTES, &footer, &length, hash, NULL));
    g_autoptr(ArchivePoint) point = index_footer_parse(data + footer, length, &span, NULL);
    assert_non_null(point);
    g_autoptr(GByteArray) table = g_byte_array_new();
    g_autoptr(GArray) blocks = g_array_new(FALSE, TRUE, sizeof(IndexBlock));
    assert_true(index_unpack(&span, data + span.offset, table, NULL));
    assert_true(index_table_read(table->data, table->len, span.offset, blocks, NULL));
    for (guint i = 0; i < blocks->len; i++) {
        const IndexBlock *block = &g_array_index(blocks, IndexBlock, i);
        if (at >= block->span.offset && at < block->span.offset + block->span.stored)
            return (int)i;
    }
    return -1;
}

static void test_bit_flips(void **state)
{
    static const char key[] = "photos/" PLAIN ".index";
    Scene scene = scene_new(NULL);
    g_autoptr(GPtrArray) items = scene_tree(scene.random, 1500);
    g_autoptr(ArchivePoint) point = scene_write(&scene.place, PLAIN, items, NULL, scene.random, NULL);
    g_autoptr(GBytes) bytes = store_get_bytes(scene.store, key, NULL, 10 << 20, NULL, NULL);
    assert_true(point != NULL && bytes != NULL);
    gsize size;
    const guint8 *data = g_bytes_get_data(bytes, &size);
    g_autofree guint8 *copy = g_memdup2(data, size);
    for (gsize at = 0; at < size;) {
        copy[at] ^= (guint8)(1u << g_rand_int_range(scene.random, 0, 8));
        replace(&scene, key, copy, size);
        g_autoptr(GError) error = NULL;
        gboolean fine = read_all(&scene, PLAIN, &error);
        int block = block_of(&scene, data, size, at);
        g_autofree char *name = block >= 0 ? g_strdup_printf("block %d:", block) : g_strdup(PLAIN);
        if (fine || !error_is(error, BACKAPP_ERROR_CORRUPT) || !strstr(error->message, name))
            fail_msg("byte %zu, in %s: %s", at, name, fine ? "not found" : error->message);
        copy[at] = data[at];
        at += at < INDEX_MAGIC_BYTES || at + INDEX_TAIL_BYTES >= size ? 1 : at + 1500 >= size ? 11 : 701;
    }
    /* Cut off, and with something behind. */
    for (gsize length = 0; length < size; length += length + 80 >= size ? 1 : 4001) {
        replace(&scene, key, copy, length);
        assert_corrupt(&scene, PLAIN, length);
    }
    g_autofree guint8 *longer = g_malloc0(size + 1);
    memcpy(longer, data, size);
    replace(&scene, key, longer, size + 1);
    assert_corrupt(&scene, PLAIN, size);
    scene_clear(&scene);
}

static void test_encrypted(void **state)
{
    static const char key[] = "photos/" SEALED ".index";
    Scene scene = scene_new(KEY);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) items = scene_tree(scene.random, 3000);
    g_autoptr(ArchivePoint) point = scene_write(&scene.place, SEALED, items, NULL, scene.random, NULL);
    assert_non_null(point);
    assert_true(read_all(&scene, SEALED, NULL));
    g_autoptr(GBytes) bytes = store_get_bytes(scene.store, key, NULL, 10 << 20, NULL, NULL);
    gsize size;
    const guint8 *data = g_bytes_get_data(bytes, &size);
    g_autofree guint8 *copy = g_memdup2(data, size);
    for (gsize at = 0; at < size; at += at < 60 || at + 20 > size ? 1 : 20011) {
        copy[at] ^= 4;
        replace(&scene, key, copy, size);
        assert_corrupt(&scene, SEALED, at);
        copy[at] = data[at];
    }
    replace(&scene, key, data, size);
    scene.place.content_key = NULL;
    assert_false(read_all(&scene, SEALED, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    g_clear_error(&error);
    /* In the place of another archive's. */
    scene.place.content_key = KEY;
    replace(&scene, "photos/2026-11-21T020000Z-full.tar.gz.aes.index", data, size);
    assert_false(read_all(&scene, "2026-11-21T020000Z-full.tar.gz.aes", &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    /* Another key: known by another object that it does not fit either. */
    scene.place.content_key = OTHER_KEY;
    assert_false(read_all(&scene, SEALED, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    scene_clear(&scene);
}

static void test_moved(void **state)
{
    Scene scene = scene_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) items = scene_tree(scene.random, 10);
    g_autoptr(ArchivePoint) point = scene_write(&scene.place, PLAIN, items, NULL, scene.random, NULL);
    assert_non_null(point);
    g_autoptr(GBytes) bytes = store_get_bytes(scene.store, "photos/" PLAIN ".index", NULL, 10 << 20, NULL, NULL);
    replace(&scene, "photos/2026-11-21T020000Z-full.tar.gz.index", g_bytes_get_data(bytes, NULL),
            g_bytes_get_size(bytes));
    assert_false(read_all(&scene, "2026-11-21T020000Z-full.tar.gz", &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    assert_false(read_all(&scene, "2026-11-22T020000Z-full.tar.gz", &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    g_clear_error(&error);
    assert_false(read_all(&scene, "../" PLAIN, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    scene_clear(&scene);
}

/* An index with this footer instead of its own, rightly summed. */
static void put_footer(Scene *scene, const guint8 *data, gsize size, const char *footer)
{
    guint64 at;
    guint32 length = (guint32)strlen(footer), old_length;
    guint8 hash[HASH_BYTES];
    assert_true(index_tail_read(data + size - INDEX_TAIL_BYTES, &at, &old_length, hash, NULL));
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_byte_array_append(out, data, (guint)at);
    g_byte_array_append(out, (const guint8 *)footer, length);
    digest_sha256(footer, length, hash);
    index_tail_put(out, at, length, hash);
    replace(scene, "photos/" PLAIN ".index", out->data, out->len);
}

/* What a footer must not say, though its sum is right. */
static void test_footers(void **state)
{
    static const struct {
        const char *from, *to;
        BackappError code;
    } changes[] = {
        {"\"version\":1", "\"version\":2", BACKAPP_ERROR_INVALID},
        {"\"version\":1", "\"version\":0", BACKAPP_ERROR_CORRUPT},
        {"\"version\":1", "\"version\":1,\"more\":1", BACKAPP_ERROR_CORRUPT},
        {"\"version\":1", "\"version\":1,\"version\":1", BACKAPP_ERROR_CORRUPT},
        {"\"level\":6", "\"level\":\"6\"", BACKAPP_ERROR_CORRUPT},
        {"\"level\":6", "\"level\":-1", BACKAPP_ERROR_CORRUPT},
        {"\"level\":6,", "", BACKAPP_ERROR_CORRUPT},
        {"\"entries\":10", "\"entries\":11", BACKAPP_ERROR_CORRUPT},
        {"\"members\":40000", "\"members\":40001", BACKAPP_ERROR_CORRUPT},
        {"\"numbered\":true", "\"numbered\":false", BACKAPP_ERROR_CORRUPT},
        {"\"firstMember\":10,", "\"firstMember\":11,", BACKAPP_ERROR_CORRUPT},
        {"\"firstMember\":10,", "\"firstMember\":30000,", BACKAPP_ERROR_CORRUPT},
        {"\"host\":\"here\"", "\"host\":\"he\\u0000re\"", BACKAPP_ERROR_CORRUPT},
        {"\"host\":\"here\"", "\"host\":{\"b64\":\"_\"}", BACKAPP_ERROR_CORRUPT},
        {"\"rawLength\":", "\"rawLength\":1", BACKAPP_ERROR_CORRUPT},
        {"\"name\":\"photos\"", "\"name\":\"../photos\"", BACKAPP_ERROR_CORRUPT},
        {"{\"format\"", "[{\"format\"", BACKAPP_ERROR_CORRUPT},
    };
    Scene scene = scene_new(NULL);
    g_autoptr(GPtrArray) items = scene_tree(scene.random, 10);
    g_autoptr(ArchivePoint) point = scene_write(&scene.place, PLAIN, items, NULL, scene.random, NULL);
    assert_non_null(point);
    g_autoptr(GBytes) bytes = store_get_bytes(scene.store, "photos/" PLAIN ".index", NULL, 10 << 20, NULL, NULL);
    gsize size;
    const guint8 *data = g_bytes_get_data(bytes, &size);
    guint64 at;
    guint32 length;
    guint8 hash[HASH_BYTES];
    assert_true(index_tail_read(data + size - INDEX_TAIL_BYTES, &at, &length, hash, NULL));
    g_autofree char *footer = g_strndup((const char *)data + at, length);
    put_footer(&scene, data, size, footer);
    assert_true(read_all(&scene, PLAIN, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(changes); i++) {
        g_autoptr(GError) error = NULL;
        const char *place = strstr(footer, changes[i].from);
        assert_non_null(place);
        g_autofree char *changed =
            g_strdup_printf("%.*s%s%s", (int)(place - footer), footer, changes[i].to, place + strlen(changes[i].from));
        put_footer(&scene, data, size, changed);
        if (read_all(&scene, PLAIN, &error) || !error_is(error, changes[i].code))
            fail_msg("%s: %s", changes[i].to, error ? error->message : "believed");
    }
    scene_clear(&scene);
}

static void test_spans(void **state)
{
    g_autoptr(IndexPacker) packer = index_packer_new();
    g_autoptr(GByteArray) stored = g_byte_array_new(), raw = g_byte_array_new();
    guint8 data[1000] = {1};
    IndexSpan span = {0};
    assert_true(index_pack(packer, data, sizeof data, stored, &span, NULL));
    assert_true(index_unpack(&span, stored->data, raw, NULL));
    assert_true(raw->len == sizeof data && memcmp(raw->data, data, sizeof data) == 0);
    IndexSpan other_hash = span, longer = span, shorter = span, bomb = span;
    other_hash.hash[31] ^= 1;
    longer.raw++;
    shorter.raw--;
    bomb.raw = G_GUINT64_CONSTANT(1) << 40;
    const IndexSpan *const wrong[] = {&other_hash, &longer, &shorter, &bomb};
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++)
        assert_false(index_unpack(wrong[i], stored->data, raw, NULL));
}

#define ENTRIES(at, length, name, dir)                                                                                 \
    {                                                                                                                  \
        .span = {.offset = (at), .stored = (length), .raw = 9}, .count = 1, .path = (name), .directory = (dir)         \
    }
#define MEMBERS(at, length, number, many)                                                                              \
    {                                                                                                                  \
        .span = {.offset = (at), .stored = (length), .raw = 9}, .members = TRUE, .member = (number), .count = (many)   \
    }

/* Blocks lie one after another, in order, up to the table. */
static void test_tables(void **state)
{
    static const IndexBlock tables[][3] = {
        {ENTRIES(8, 10, "", TRUE), ENTRIES(18, 5, "a", FALSE), MEMBERS(23, 7, 0, 4)}, /* as it should be */
        {ENTRIES(8, 10, "a", TRUE), MEMBERS(18, 5, 0, 4), MEMBERS(23, 7, 4, 1)},      /* so too */
        {ENTRIES(9, 10, "", TRUE), ENTRIES(19, 4, "a", FALSE), MEMBERS(23, 7, 0, 4)},
        {ENTRIES(8, 10, "", TRUE), ENTRIES(19, 4, "a", FALSE), MEMBERS(23, 7, 0, 4)},
        {ENTRIES(8, 10, "", TRUE), ENTRIES(17, 6, "a", FALSE), MEMBERS(23, 7, 0, 4)},
        {ENTRIES(8, 10, "", TRUE), ENTRIES(18, 5, "a", FALSE), MEMBERS(23, 6, 0, 4)},
        {ENTRIES(8, 10, "", TRUE), ENTRIES(18, 5, "a", FALSE), MEMBERS(23, 8, 0, 4)},
        {ENTRIES(8, 10, "a", TRUE), ENTRIES(18, 5, "a", FALSE), MEMBERS(23, 7, 0, 4)},
        {ENTRIES(8, 10, "a", FALSE), ENTRIES(18, 5, "a", FALSE), MEMBERS(23, 7, 0, 4)},
        {ENTRIES(8, 10, "", TRUE), MEMBERS(18, 5, 0, 4), ENTRIES(23, 7, "a", FALSE)},
        {ENTRIES(8, 10, "", TRUE), MEMBERS(18, 5, 0, 4), MEMBERS(23, 7, 5, 1)},
        {ENTRIES(8, 10, "", TRUE), MEMBERS(18, 5, 1, 4), MEMBERS(23, 7, 5, 1)},
        {ENTRIES(8, 10, "", TRUE), MEMBERS(18, 5, 0, 0), MEMBERS(23, 7, 0, 1)},
        {ENTRIES(8, 10, "", TRUE), MEMBERS(18, 5, 0, 99), MEMBERS(23, 7, 99, 1)},
    };
    for (guint i = 0; i < G_N_ELEMENTS(tables); i++) {
        g_autoptr(GByteArray) raw = g_byte_array_new();
        g_autoptr(GArray) blocks = g_array_new(FALSE, TRUE, sizeof(IndexBlock));
        for (guint block = 0; block < 3; block++)
            index_table_put(raw, &tables[i][block]);
        if (index_table_read(raw->data, raw->len, 30, blocks, NULL) != (i < 2))
            fail_msg("table %u was %s", i, i < 2 ? "refused" : "believed");
    }
}

static void assert_refused(const S3Entry *of, guint flags)
{
    IndexEntry entry = {.entry = *of, .flags = flags};
    g_autoptr(GByteArray) out = g_byte_array_new(), arena = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    index_entry_encode(&entry, "", out);
    BytesReader in = bytes_reader(out->data, out->len);
    if (index_entry_decode(&in, "", arena, &entry, &error) || !error_is(error, BACKAPP_ERROR_CORRUPT))
        fail_msg("believed: %s", of->path);
}

static void test_hostile_entries(void **state)
{
    static const char *const paths[] = {"/etc/passwd", "..", "../a", "a/../b", "a/..", "a//b", "a/", ".", "./a", "a/."};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        assert_refused(&(S3Entry){.path = paths[i], .meta.mode = S_IFREG}, 0);
        assert_refused(&(S3Entry){.path = "fine", .link = paths[i], .meta.mode = S_IFREG}, 0);
    }
    assert_refused(&(S3Entry){.path = "", .meta.mode = S_IFREG}, 0);
    assert_refused(&(S3Entry){.path = "a", .meta.mode = S_IFREG}, INDEX_DELETED | INDEX_STORED);
    assert_refused(&(S3Entry){.path = "a", .meta.mode = S_IFREG}, INDEX_SPARSE);
    assert_refused(&(S3Entry){.path = "a", .meta.mode = S_IFREG}, 1 << 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),           cmocka_unit_test(test_large),
        cmocka_unit_test(test_large_encrypted), cmocka_unit_test(test_seek),
        cmocka_unit_test(test_empty),           cmocka_unit_test(test_point),
        cmocka_unit_test(test_members),         cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_writer_fails),    cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_encrypted),       cmocka_unit_test(test_moved),
        cmocka_unit_test(test_footers),         cmocka_unit_test(test_hostile_entries),
        cmocka_unit_test(test_spans),           cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
