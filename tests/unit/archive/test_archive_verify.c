/*
 * Verifying points: what is whole is proven, what is damaged or missing is named, and only that.
 */
#include <string.h>
#include <sys/stat.h>

#include "../base/cmocka_all.h"
#include "archive_scene.h"
#include "base/error.h"
#include "engine/archive/sort.h"
#include "engine/archive/verify.h"
#include "store/drivers.h"

#define MIB ((gsize)1 << 20)

/* --- a sink that keeps warnings --- */

typedef struct {
    RunSink sink;
    GMutex lock;
    GPtrArray *warnings; /* "code path: message" */
    guint stages;
    guint64 files, bytes;
} Sink;

static void on_stage(RunSink *sink, const char *name)
{
    assert_string_equal(name, "verify");
    ((Sink *)sink)->stages++;
}

static void on_progress(RunSink *sink, const RunProgress *progress)
{
    Sink *self = (Sink *)sink;
    self->files = progress->files_done;
    self->bytes = progress->bytes_done;
}

static void on_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    Sink *self = (Sink *)sink;
    g_mutex_lock(&self->lock);
    g_ptr_array_add(self->warnings, g_strdup_printf("%s %s: %s", code, path != NULL ? path : "-", message));
    g_mutex_unlock(&self->lock);
}

static void sink_init(Sink *sink)
{
    *sink = (Sink){.sink = {.stage = on_stage, .progress = on_progress, .warning = on_warning}};
    g_mutex_init(&sink->lock);
    sink->warnings = g_ptr_array_new_with_free_func(g_free);
}

static void sink_clear(Sink *sink)
{
    g_ptr_array_unref(sink->warnings);
    g_mutex_clear(&sink->lock);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Sink, sink_clear)

static guint count_warnings(const Sink *sink, const char *start)
{
    guint count = 0;
    for (guint i = 0; i < sink->warnings->len; i++)
        count += g_str_has_prefix(g_ptr_array_index(sink->warnings, i), start) ? 1 : 0;
    return count;
}

/* --- archives of files of 300 KiB and their like --- */

#define FILES 20

typedef struct {
    ArchivePlace place;
    SceneFile files[FILES + 3];
    guint count;
    char *names[FILES];
    guint8 *data[FILES];
    ArchivePoint *point;
    ArchiveVerifyStats stats;
    Sink sink;
} Scene;

static Scene *scene_new(const SceneOptions *options, gboolean encrypted)
{
    Scene *scene = g_new0(Scene, 1);
    sink_init(&scene->sink);
    scene->place =
        (ArchivePlace){.store = store_memory_new(), .name = "docs", .content_key = encrypted ? SCENE_KEY : NULL};
    scene->files[scene->count++] = (SceneFile){.path = "", .mode = S_IFDIR | 0755};
    for (guint i = 0; i < FILES; i++) {
        SceneFile *file = &scene->files[scene->count++];
        file->length = i == 7 ? 5 * MIB / 2 : i == 9 ? 0 : 300000 + i;
        file->path = scene->names[i] = g_strdup_printf("file%03u", i);
        file->data = scene->data[i] = scene_bytes(i, file->length, TRUE);
    }
    scene->files[scene->count++] = (SceneFile){.path = "link", .link = "file003"};
    scene->files[scene->count++] = (SceneFile){.path = "symlink", .mode = S_IFLNK | 0777, .target = "file003"};
    scene->point = scene_archive(&scene->place, options, scene->files, scene->count);
    return scene;
}

static void scene_free(Scene *scene)
{
    archive_verify_stats_clear(&scene->stats);
    archive_point_free(scene->point);
    store_free(scene->place.store);
    for (guint i = 0; i < FILES; i++) {
        g_free(scene->names[i]);
        g_free(scene->data[i]);
    }
    sink_clear(&scene->sink);
    g_free(scene);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

/* Verifies; the code of the error, or -1. */
static int verify(Scene *scene, const char *at, gboolean full)
{
    g_autoptr(GError) error = NULL;
    archive_verify_stats_clear(&scene->stats);
    g_ptr_array_set_size(scene->sink.warnings, 0);
    if (archive_verify(&scene->place, at, full, 0, NULL, &scene->sink.sink, &scene->stats, &error))
        return -1;
    assert_non_null(error);
    return error->code;
}

/* Which files have a content in a member. */
static guint files_in(const Scene *scene, guint64 member)
{
    g_autoptr(Index) index = index_open(&scene->place, scene->point->base, NULL, NULL);
    g_autoptr(IndexReader) reader = index_read(index, NULL, FALSE, NULL);
    IndexEntry entry;
    guint count = 0;
    while (index_reader_next(reader, &entry, NULL) == 1) {
        guint64 start = entry.tar_offset + entry.header_length;
        count += S_ISREG(entry.entry.meta.mode) && entry.entry.link == NULL && entry.entry.meta.size > 0 &&
                 start < (member + 1) * ARCHIVE_MEMBER_BYTES &&
                 start + entry.entry.meta.size > member * ARCHIVE_MEMBER_BYTES;
    }
    return count;
}

/* --- cases --- */

static void test_whole(void **state)
{
    static const ArchiveCodec CODECS[] = {ARCHIVE_PLAIN, ARCHIVE_GZIP, ARCHIVE_ZSTD};
    for (guint i = 0; i < 6; i++) {
        SceneOptions options = {.codec = CODECS[i % 3], .volume_size = i % 2 ? 2 * MIB : 0};
        g_autoptr(Scene) scene = scene_new(&options, i >= 3);
        assert_int_equal(verify(scene, NULL, FALSE), -1);
        assert_int_equal(scene->stats.points, 1);
        assert_int_equal(scene->stats.files, 0);
        assert_int_equal(verify(scene, "latest", TRUE), -1);
        assert_int_equal(scene->stats.points, 1);
        assert_int_equal(scene->stats.files, FILES);
        assert_int_equal(scene->stats.bytes, scene->point->bytes);
        assert_int_equal(scene->stats.unproven, 0);
        assert_string_equal(scene->stats.point, scene->point->base);
        assert_int_equal(scene->sink.warnings->len, 0);
        assert_int_equal(scene->sink.files, scene->point->files);
    }
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.unhashed = TRUE}, FALSE);
    assert_int_equal(verify(scene, NULL, TRUE), -1);
    assert_int_equal(scene->stats.files, 0);
    assert_int_equal(scene->stats.unproven, FILES);
}

static void test_damaged_member(void **state)
{
    static const ArchiveCodec CODECS[] = {ARCHIVE_GZIP, ARCHIVE_ZSTD};
    for (guint i = 0; i < 4; i++) {
        SceneOptions options = {.codec = CODECS[i % 2], .volume_size = i / 2 ? MIB : 0};
        g_autoptr(Scene) scene = scene_new(&options, FALSE);
        g_autoptr(Index) index = index_open(&scene->place, scene->point->base, NULL, NULL);
        guint volume;
        guint64 offset;
        guint32 length;
        assert_true(index_member(index, 1, &volume, &offset, &length, NULL));
        g_autofree char *key = archive_volume_key(scene->point, volume);
        /* Among the literals: behind them the same content can be told in several ways. */
        scene_flip(scene->place.store, key, (gint64)offset + 1000);
        assert_int_equal(verify(scene, NULL, FALSE), -1); /* nobody saw it yet */
        assert_int_equal(verify(scene, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
        guint lost = files_in(scene, 1);
        assert_in_range(lost, 2, 5);
        assert_int_equal(scene->stats.damaged, lost);
        assert_int_equal(scene->stats.files, FILES - lost);
        assert_int_equal(scene->sink.warnings->len, lost);
        assert_int_equal(count_warnings(&scene->sink, "damaged file"), lost);
    }
}

/* A member in the middle of a large file: the file is named once, the volume not at all. */
static void test_large_file(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){0}, TRUE);
    g_autofree char *key = archive_volume_key(scene->point, 0);
    guint64 size = g_array_index(scene->point->volumes, ArchiveVolume, 0).size;
    scene_flip(scene->place.store, key, (gint64)size / 2);
    assert_int_equal(verify(scene, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
    assert_in_range(scene->stats.damaged, 1, 9);
    assert_int_equal(scene->stats.damaged, scene->sink.warnings->len);
    assert_int_equal(scene->stats.files + scene->stats.damaged, FILES);
    assert_int_equal(count_warnings(&scene->sink, "damaged file"), scene->stats.damaged);
    /* Two of its members. */
    g_autoptr(Scene) other = scene_new(&(SceneOptions){0}, FALSE);
    g_autofree char *other_key = archive_volume_key(other->point, 0);
    g_autoptr(Index) index = index_open(&other->place, other->point->base, NULL, NULL);
    for (guint64 member = 2; member < 4; member++) {
        guint volume;
        guint64 offset;
        guint32 length;
        assert_int_equal(files_in(other, member), member == 3 ? 1 : 2);
        assert_true(index_member(index, member, &volume, &offset, &length, NULL));
        scene_flip(other->place.store, other_key, (gint64)offset + 1000);
    }
    assert_int_equal(verify(other, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(count_warnings(&other->sink, "damaged file007"), 1);
    assert_int_equal(count_warnings(&other->sink, "damaged -"), 0);
}

/* A plain tar has no checksums of its own: a header is proven by its volume's hash only, a content by its own. */
static void test_plain(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN}, FALSE);
    g_autofree char *key = archive_volume_key(scene->point, 0);
    scene_flip(scene->place.store, key, 20);
    assert_int_equal(verify(scene, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(scene->stats.damaged, 1);
    assert_int_equal(scene->stats.files, FILES);
    assert_int_equal(count_warnings(&scene->sink, "damaged -"), 1);
    scene_flip(scene->place.store, key, 20);
    assert_int_equal(verify(scene, NULL, TRUE), -1);
    scene_flip(scene->place.store, key, 100000);
    assert_int_equal(verify(scene, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(scene->stats.damaged, 1);
    assert_int_equal(count_warnings(&scene->sink, "damaged file000"), 1);
}

static void test_missing_and_cut(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN, .volume_size = 2 * MIB}, FALSE);
    g_autofree char *second = archive_volume_key(scene->point, 1);
    scene_cut(scene->place.store, second, MIB + 5000);
    assert_int_equal(verify(scene, NULL, FALSE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(scene->stats.damaged, 1);
    assert_int_equal(scene->stats.points, 0);
    assert_int_equal(verify(scene, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
    guint lost = files_in(scene, 3);
    assert_int_equal(scene->stats.damaged, 1 + lost);
    assert_int_equal(scene->stats.files, FILES - lost);
    assert_true(store_delete(scene->place.store, second, NULL, NULL));
    assert_int_equal(verify(scene, NULL, FALSE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(scene->stats.missing, 1);
    assert_int_equal(scene->stats.damaged, 0);
    assert_int_equal(verify(scene, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(scene->stats.damaged, 0);
    assert_in_range(scene->stats.missing, 1 + lost, FILES);
    assert_int_equal(scene->stats.files + scene->stats.missing, FILES + 1);
    assert_int_equal(count_warnings(&scene->sink, "missing file"), scene->stats.missing - 1);
}

/* Of a chain only what the point has is proven by file; the rest is read all the same. */
static void test_chain(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN}, FALSE);
    g_autofree guint8 *other = scene_bytes(99, 50000, FALSE);
    const SceneFile changes[] = {{.path = "file000", .data = other, .length = 50000},
                                 {.path = "file001", .deleted = TRUE},
                                 {.path = "new", .data = other, .length = 40000}};
    SceneOptions options = {.type = ARCHIVE_INCREMENTAL, .time = 1763700000, .parent = scene->point};
    g_autoptr(ArchivePoint) child = scene_archive(&scene->place, &options, changes, 3);
    assert_int_equal(verify(scene, NULL, TRUE), -1);
    assert_int_equal(scene->stats.points, 2);
    assert_int_equal(scene->stats.files, FILES);
    assert_string_equal(scene->stats.point, child->base);
    g_autofree char *key = archive_volume_key(scene->point, 0);
    scene_flip(scene->place.store, key, 100000); /* in the old content of file000 */
    assert_int_equal(verify(scene, NULL, TRUE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(scene->stats.files, FILES);
    assert_int_equal(count_warnings(&scene->sink, "damaged -"), 1);
    assert_int_equal(verify(scene, scene->point->base, TRUE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(count_warnings(&scene->sink, "damaged file000"), 1);
    /* Without its parent the point cannot be. */
    g_autofree char *index_key = archive_index_key("docs", scene->point->base);
    scene_flip(scene->place.store, index_key, 100);
    assert_int_equal(verify(scene, child->base, FALSE), BACKAPP_ERROR_CORRUPT);
    assert_in_range(scene->stats.damaged, 1, 2);
    assert_true(store_delete(scene->place.store, index_key, NULL, NULL));
    assert_int_equal(verify(scene, child->base, FALSE), BACKAPP_ERROR_CORRUPT);
    assert_int_equal(scene->stats.missing, 1);
    assert_int_equal(verify(scene, "2020-01-01", FALSE), BACKAPP_ERROR_NOT_FOUND);
}

/* --- the sorter below it --- */

static int compare_numbers(const guint8 *a, gsize a_length, const guint8 *b, gsize b_length)
{
    return memcmp(a, b, 4);
}

static void test_sorter(void **state)
{
    static const gsize MEMORIES[] = {0, 4000};
    const guint count = 60000;
    for (guint m = 0; m < 2; m++) {
        g_autoptr(Sorter) sorter = sorter_new(compare_numbers, MEMORIES[m]);
        for (guint i = 0; i < count; i++) {
            guint32 key = GUINT32_TO_BE(i * 2654435761u % 1000), record[2] = {key, i};
            assert_true(sorter_put(sorter, record, sizeof record, NULL));
        }
        assert_true(sorter_finish(sorter, NULL));
        const guint8 *data;
        gsize length;
        guint32 last[2] = {0, 0}, record[2];
        for (guint i = 0; i < count; i++) {
            assert_int_equal(sorter_next(sorter, &data, &length, NULL), 1);
            assert_int_equal(length, sizeof record);
            memcpy(record, data, sizeof record);
            int order = memcmp(last, record, 4);
            assert_true(i == 0 || order < 0 || (order == 0 && last[1] < record[1]));
            memcpy(last, record, sizeof record);
        }
        assert_int_equal(sorter_next(sorter, &data, &length, NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),  cmocka_unit_test(test_damaged_member),  cmocka_unit_test(test_large_file),
        cmocka_unit_test(test_plain),  cmocka_unit_test(test_missing_and_cut), cmocka_unit_test(test_chain),
        cmocka_unit_test(test_sorter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
