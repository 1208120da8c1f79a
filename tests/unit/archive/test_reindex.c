/*
 * A lost index is made anew: what the tar has of each entry comes back as it was, and nothing of a hostile tar gets in.
 */
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "../base/cmocka_all.h"
#include "archive_scene.h"
#include "base/error.h"
#include "engine/archive/tar_records.h"
#include "engine/archive/verify.h"
#include "store/drivers.h"

#define MIB ((gsize)1 << 20)

/* --- a sink that counts what was left out --- */

typedef struct {
    RunSink sink;
    guint warnings;
    GString *last;
} Sink;

static void on_stage(RunSink *sink, const char *name)
{
}

static void on_progress(RunSink *sink, const RunProgress *progress)
{
}

static void on_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    Sink *self = (Sink *)sink;
    self->warnings++;
    g_string_append_printf(self->last, "%s: %s\n", path != NULL ? path : "-", message);
}

static void sink_init(Sink *sink)
{
    *sink = (Sink){.sink = {.stage = on_stage, .progress = on_progress, .warning = on_warning}};
    sink->last = g_string_new(NULL);
}

static void sink_clear(Sink *sink)
{
    g_string_free(sink->last, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Sink, sink_clear)

/* --- everything that a tar can hold --- */

typedef struct {
    ArchivePlace place;
    Sink sink;
    GPtrArray *owned;
    GByteArray *attrs;
    char *long_name;
    ArchivePoint *point;
} Scene;

static const TarExtent EXTENTS[] = {{4096, 5000}, {1000000, 100}};

/* user.a, user.b%= and an ACL, as attrs_encode has them. */
static GByteArray *make_attrs(void)
{
    static const guint8 ACL[] = {2,  0, 0, 0, 1,   0,   7,   0,   255, 255, 255, 255, 2,   0,   5,   0,  0xe8, 3,
                                 0,  0, 4, 0, 5,   0,   255, 255, 255, 255, 8,   0,   4,   0,   100, 0,  0,    0,
                                 16, 0, 5, 0, 255, 255, 255, 255, 32,  0,   0,   0,   255, 255, 255, 255};
    GByteArray *out = g_byte_array_new();
    bytes_put_varint(out, 3);
    bytes_put_blob(out, "system.posix_acl_access", 23);
    bytes_put_blob(out, ACL, sizeof ACL);
    bytes_put_blob(out, "user.a", 6);
    bytes_put_blob(out, "\0\n=x", 4);
    bytes_put_blob(out, "user.b%=", 8);
    bytes_put_blob(out, "", 0);
    return out;
}

static Scene *scene_new(gboolean encrypted)
{
    Scene *scene = g_new0(Scene, 1);
    sink_init(&scene->sink);
    scene->place =
        (ArchivePlace){.store = store_memory_new(), .name = "docs", .content_key = encrypted ? SCENE_KEY : NULL};
    scene->owned = g_ptr_array_new_with_free_func(g_free);
    scene->attrs = make_attrs();
    scene->long_name = g_strnfill(250, 'l');
    return scene;
}

static void scene_free(Scene *scene)
{
    archive_point_free(scene->point);
    store_free(scene->place.store);
    g_ptr_array_unref(scene->owned);
    g_byte_array_unref(scene->attrs);
    g_free(scene->long_name);
    sink_clear(&scene->sink);
    g_free(scene);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

static guint8 *bytes(Scene *scene, guint seed, gsize length)
{
    guint8 *data = scene_bytes(seed, length, TRUE);
    g_ptr_array_add(scene->owned, data);
    return data;
}

/* In the order of an index. */
static void make_everything(Scene *scene, const SceneOptions *options)
{
    guint8 *sparse = bytes(scene, 1, 3000000);
    memset(sparse, 0, 4096);
    memset(sparse + 9096, 0, 1000000 - 9096);
    memset(sparse + 1000100, 0, 3000000 - 1000100);
    g_autofree char *deep = g_strconcat("dir/", scene->long_name, NULL);
    g_autofree char *deeper = g_strconcat(deep, "/", scene->long_name, NULL);
    const SceneFile files[] = {
        {.path = "", .mode = S_IFDIR | 01777},
        {.path = "a",
         .data = bytes(scene, 2, 1),
         .length = 1,
         .attrs = scene->attrs->data,
         .attrs_length = scene->attrs->len},
        {.path = "b\n\\ \"", .mode = S_IFREG | 04751, .data = "", .length = 0},
        {.path = "big", .data = bytes(scene, 3, 2500000), .length = 2500000},
        {.path = "dir", .mode = S_IFDIR | 0700, .attrs = scene->attrs->data, .attrs_length = scene->attrs->len},
        {.path = deep, .mode = S_IFDIR | 0755},
        {.path = deeper, .data = bytes(scene, 4, 700), .length = 700},
        {.path = "e\xcc\x81", .data = "nfd", .length = 3},
        {.path = "fifo", .mode = S_IFIFO | 0600},
        {.path = "holes", .data = sparse, .length = 3000000, .extents = EXTENTS, .extent_count = 2},
        {.path = "link", .link = "a"},
        {.path = "no\xff\xfeutf8", .data = "bytes", .length = 5},
        {.path = "symlink", .mode = S_IFLNK | 0777, .target = "../\xff/where"},
        {.path = "\xc3\xa9", .data = "nfc", .length = 3},
    };
    scene->point = scene_archive(&scene->place, options, files, G_N_ELEMENTS(files));
}

/* --- what is compared --- */

static GPtrArray *entries_of(const Scene *scene)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Index) index = index_open(&scene->place, scene->point->base, NULL, &error);
    if (index == NULL)
        fail_msg("%s", error->message);
    g_autoptr(IndexReader) reader = index_read(index, NULL, FALSE, NULL);
    GPtrArray *entries = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    IndexEntry entry;
    while (index_reader_next(reader, &entry, NULL) == 1) {
        /* A link's first name tells of its content, and in a tar nothing else does. */
        GByteArray *encoded = g_byte_array_new();
        index_entry_encode(&entry, "", encoded);
        g_ptr_array_add(entries, encoded);
    }
    return entries;
}

static void drop_index(const Scene *scene)
{
    g_autofree char *key = archive_index_key("docs", scene->point->base);
    assert_true(store_delete(scene->place.store, key, NULL, NULL));
}

/* Makes the index anew; the error's code, or -1. */
static int reindex(Scene *scene, gboolean force, ArchivePoint **point)
{
    g_autoptr(GError) error = NULL;
    if (archive_reindex(&scene->place, scene->point->base, force, NULL, &scene->sink.sink, point, &error))
        return -1;
    assert_non_null(error);
    g_string_append(scene->sink.last, error->message);
    return error->code;
}

static void verify_all(Scene *scene, guint64 files)
{
    ArchiveVerifyStats stats;
    g_autoptr(GError) error = NULL;
    if (!archive_verify(&scene->place, scene->point->base, TRUE, 0, NULL, &scene->sink.sink, &stats, &error))
        fail_msg("%s", error->message);
    assert_int_equal(stats.files, files);
    archive_verify_stats_clear(&stats);
}

/* --- cases --- */

static void test_comes_back(void **state)
{
    static const ArchiveCodec CODECS[] = {ARCHIVE_PLAIN, ARCHIVE_GZIP, ARCHIVE_ZSTD};
    for (guint i = 0; i < 12; i++) {
        g_autoptr(Scene) scene = scene_new(i / 3 % 2 == 1);
        make_everything(scene, &(SceneOptions){.codec = CODECS[i % 3], .volume_size = i / 6 ? MIB : 0});
        g_autoptr(GPtrArray) before = entries_of(scene);
        drop_index(scene);
        g_autoptr(ArchivePoint) made = NULL;
        if (reindex(scene, FALSE, &made) != -1)
            fail_msg("%s", scene->sink.last->str);
        assert_int_equal(scene->sink.warnings, 0);
        g_autoptr(GPtrArray) after = entries_of(scene);
        assert_int_equal(after->len, before->len);
        for (guint e = 0; e < after->len; e++) {
            const GByteArray *x = g_ptr_array_index(before, e), *y = g_ptr_array_index(after, e);
            assert_int_equal(x->len, y->len);
            assert_memory_equal(x->data, y->data, x->len);
        }
        assert_false(made->partial);
        assert_null(made->parent);
        assert_int_equal(made->files, scene->point->files);
        assert_int_equal(made->directories, scene->point->directories);
        assert_int_equal(made->bytes, scene->point->bytes);
        assert_int_equal(made->tar_size, scene->point->tar_size);
        assert_int_equal(made->volumes->len, scene->point->volumes->len);
        verify_all(scene, 8);
    }
}

static void test_asks_before_it_replaces(void **state)
{
    g_autoptr(Scene) scene = scene_new(FALSE);
    make_everything(scene, &(SceneOptions){0});
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_INVALID);
    assert_int_equal(reindex(scene, TRUE, NULL), -1);
    verify_all(scene, 8);
    g_free(scene->point->base);
    scene->point->base = g_strdup("2025-01-01T000000Z-full.tar.gz");
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_NOT_FOUND);
    g_free(scene->point->base);
    scene->point->base = g_strdup("../x");
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_INVALID);
}

/* What is not of the full archive is lost, but its own entries are a point. */
static void test_incremental(void **state)
{
    g_autoptr(Scene) scene = scene_new(FALSE);
    const SceneFile first[] = {{.path = "a", .data = "1", .length = 1}, {.path = "b", .data = "2", .length = 1}};
    const SceneFile second[] = {{.path = "a", .data = "33", .length = 2}, {.path = "b", .deleted = TRUE}};
    g_autoptr(ArchivePoint) full = scene_archive(&scene->place, &(SceneOptions){0}, first, 2);
    SceneOptions options = {.type = ARCHIVE_INCREMENTAL, .time = 1763700000, .parent = full};
    scene->point = scene_archive(&scene->place, &options, second, 2);
    drop_index(scene);
    g_autoptr(ArchivePoint) made = NULL;
    assert_int_equal(reindex(scene, FALSE, &made), -1);
    assert_null(made->parent);
    assert_int_equal(made->entries, 1);
    assert_true(made->partial);
    assert_non_null(strstr(scene->sink.last->str, "nothing but what changed"));
    verify_all(scene, 1);
}

/* A file that changed while it was read lies in the tar twice. */
/* What was made on a full archive goes on with its new index. */
static void test_a_rebuilt_full_is_still_a_parent(void **state)
{
    g_autoptr(Scene) scene = scene_new(FALSE);
    const SceneFile first[] = {{.path = "a", .data = "1", .length = 1}, {.path = "b", .data = "2", .length = 1}};
    const SceneFile second[] = {{.path = "b", .deleted = TRUE}, {.path = "c", .data = "3", .length = 1}};
    scene->point = scene_archive(&scene->place, &(SceneOptions){0}, first, 2);
    SceneOptions options = {.type = ARCHIVE_INCREMENTAL, .time = 1763700000, .parent = scene->point};
    g_autoptr(ArchivePoint) child = scene_archive(&scene->place, &options, second, 2);
    drop_index(scene);
    gboolean broken = FALSE;
    assert_null(chain_open(&scene->place, child->base, NULL, &broken, NULL));
    assert_true(broken);
    g_autoptr(ArchivePoint) made = NULL;
    assert_int_equal(reindex(scene, FALSE, &made), -1);
    assert_true(made->rebuilt);
    assert_memory_not_equal(made->hash, child->parent_hash, HASH_BYTES);
    g_autoptr(Chain) chain = chain_open(&scene->place, child->base, NULL, &broken, NULL);
    assert_non_null(chain);
    assert_int_equal(chain_length(chain), 2);
    g_autoptr(ChainReader) reader = chain_read(chain, NULL, FALSE, NULL);
    IndexEntry entry;
    guint number = 0;
    assert_int_equal(chain_reader_next(reader, &entry, &number, NULL), 1);
    assert_string_equal(entry.entry.path, "a");
    assert_int_equal(number, 1);
    assert_int_equal(chain_reader_next(reader, &entry, &number, NULL), 1);
    assert_string_equal(entry.entry.path, "c");
    assert_int_equal(chain_reader_next(reader, &entry, &number, NULL), 0);
}

static void test_the_later_counts(void **state)
{
    g_autoptr(Scene) scene = scene_new(FALSE);
    const SceneFile files[] = {
        {.path = "a", .data = "old", .length = 3, .hidden = TRUE},
        {.path = "b", .link = "a", .hidden = TRUE},
        {.path = "z", .data = "last", .length = 4, .hidden = TRUE},
        {.path = "a", .data = "newer", .length = 5},
        {.path = "b", .link = "a"},
    };
    scene->point = scene_archive(&scene->place, &(SceneOptions){0}, files, G_N_ELEMENTS(files));
    g_autoptr(GPtrArray) before = entries_of(scene);
    drop_index(scene);
    g_autoptr(ArchivePoint) made = NULL;
    assert_int_equal(reindex(scene, FALSE, &made), -1);
    assert_int_equal(made->entries, 3);
    g_autoptr(GPtrArray) after = entries_of(scene);
    for (guint i = 0; i < 2; i++) {
        const GByteArray *x = g_ptr_array_index(before, i), *y = g_ptr_array_index(after, i);
        assert_int_equal(x->len, y->len);
        assert_memory_equal(x->data, y->data, x->len);
    }
}

static void test_hostile(void **state)
{
    g_autoptr(Scene) scene = scene_new(FALSE);
    g_autofree char *too_long = g_strnfill(256, 'x');
    g_autofree char *endless = g_strnfill(70000, '/');
    for (gsize i = 0; i < 70000; i += 2)
        endless[i] = 'd';
    endless[69999] = 'd';
    const SceneFile files[] = {
        {.path = "../up", .data = "x", .length = 1, .hidden = TRUE},
        {.path = "a/../../up", .data = "x", .length = 1, .hidden = TRUE},
        {.path = "a/..", .mode = S_IFDIR | 0755, .hidden = TRUE},
        {.path = "/etc/passwd", .data = "x", .length = 1, .hidden = TRUE},
        {.path = "/", .mode = S_IFDIR | 0755, .hidden = TRUE},
        {.path = "a//b", .data = "x", .length = 1, .hidden = TRUE},
        {.path = "./a", .data = "x", .length = 1, .hidden = TRUE},
        {.path = "a/", .data = "x", .length = 1, .hidden = TRUE},
        {.path = "", .data = "x", .length = 1, .hidden = TRUE},
        {.path = too_long, .data = "x", .length = 1, .hidden = TRUE},
        {.path = endless, .data = "x", .length = 1, .hidden = TRUE},
        {.path = "l1", .link = "../up", .hidden = TRUE},
        {.path = "l2", .link = "/etc/passwd", .hidden = TRUE},
        {.path = "good", .data = "good", .length = 4},
    };
    scene->point = scene_archive(&scene->place, &(SceneOptions){0}, files, G_N_ELEMENTS(files));
    drop_index(scene);
    g_autoptr(ArchivePoint) made = NULL;
    assert_int_equal(reindex(scene, FALSE, &made), -1);
    assert_int_equal(made->entries, 1);
    assert_int_equal(scene->sink.warnings, G_N_ELEMENTS(files) - 1);
    assert_true(made->partial);
    assert_int_equal(made->unread, G_N_ELEMENTS(files) - 1);
    verify_all(scene, 1);
}

static void test_unfinished_and_damaged(void **state)
{
    g_autoptr(Scene) scene = scene_new(FALSE);
    const SceneFile files[] = {{.path = "a", .data = bytes(scene, 5, 2 * MIB), .length = 2 * MIB},
                               {.path = "b", .data = bytes(scene, 6, 2 * MIB), .length = 2 * MIB}};
    scene->point = scene_archive(&scene->place, &(SceneOptions){.no_end = TRUE, .volume_size = MIB / 2}, files, 2);
    drop_index(scene);
    g_autofree char *last = archive_volume_key(scene->point, scene->point->volumes->len - 1);
    g_autofree char *second = archive_volume_key(scene->point, 1);
    assert_true(store_delete(scene->place.store, last, NULL, NULL));
    g_autoptr(ArchivePoint) made = NULL;
    assert_int_equal(reindex(scene, FALSE, &made), -1);
    assert_true(made->partial);
    assert_int_equal(made->files, 1);
    assert_non_null(strstr(scene->sink.last->str, "b: the archive ends"));
    verify_all(scene, 1);
    /* Damaged, or with a gap: no index of a part of it. */
    drop_index(scene);
    scene_flip(scene->place.store, second, 1000);
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_CORRUPT);
    assert_non_null(strstr(scene->sink.last->str, second));
    scene_flip(scene->place.store, second, 1000);
    scene_cut(scene->place.store, second, 5000);
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_CORRUPT);
    assert_true(store_delete(scene->place.store, second, NULL, NULL));
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_NOT_FOUND);
    g_autofree char *key = archive_index_key("docs", scene->point->base);
    assert_null(store_head(scene->place.store, key, NULL, NULL));
}

static void test_encrypted_needs_its_key(void **state)
{
    g_autoptr(Scene) scene = scene_new(TRUE);
    make_everything(scene, &(SceneOptions){0});
    drop_index(scene);
    static const guint8 OTHER[33] = "another key, which opens nothing";
    scene->place.content_key = NULL;
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_DENIED);
    scene->place.content_key = OTHER;
    assert_int_equal(reindex(scene, FALSE, NULL), BACKAPP_ERROR_CORRUPT);
    scene->place.content_key = SCENE_KEY;
    assert_int_equal(reindex(scene, FALSE, NULL), -1);
}

/* Records of pax headers as nobody should write them. */
static void test_records(void **state)
{
    static const struct {
        const char *text;
        gsize length; /* 0: of the text */
        gboolean good;
    } CASES[] = {
        {"", 0, TRUE},
        {"9 uid=10\n", 0, TRUE},
        {"8 uid=1\n", 0, TRUE},
        {"11 uid=10\n", 0, FALSE},
        {"9 uid=10", 0, FALSE},
        {"9 uid=1x\n", 0, FALSE},
        {"9 uid 10\n", 0, FALSE},
        {"99999999999999999999999 uid=1\n", 0, FALSE},
        {"18446744073709551615 u=1\n", 0, FALSE},
        {"0 \n", 0, FALSE},
        {"3 \n", 0, FALSE},
        {"29 size=18446744073709551616\n", 0, FALSE},
        {"20 mtime=1700000000\n", 0, TRUE},
        {"12 mtime=1x\n", 0, FALSE},
        {"19 mtime=-0.000001\n", 0, TRUE},
        {"20 SCHILY.xattr.u=\0\n", 20, TRUE},
        {"30 SCHILY.acl.access=nonsense\n", 0, TRUE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(CASES); i++) {
        TarRecords records = {0};
        gsize length = CASES[i].length ? CASES[i].length : strlen(CASES[i].text);
        g_autofree guint8 *copy = g_memdup2(CASES[i].text, length);
        if (tar_records_read(copy, length, &records, NULL) != CASES[i].good)
            fail_msg("case %u: %s", i, CASES[i].text);
        tar_records_clear(&records);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_asks_before_it_replaces),
        cmocka_unit_test(test_incremental),
        cmocka_unit_test(test_a_rebuilt_full_is_still_a_parent),
        cmocka_unit_test(test_the_later_counts),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_unfinished_and_damaged),
        cmocka_unit_test(test_encrypted_needs_its_key),
        cmocka_unit_test(test_records),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
