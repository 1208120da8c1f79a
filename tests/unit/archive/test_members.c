/*
 * Contents out of archives: what was put in comes out, whichever way it is packed; members are fetched once, together and
 * ahead; what is damaged concerns only the files in it.
 */
#include <string.h>
#include <sys/stat.h>

#include "../base/cmocka_all.h"
#include "archive_scene.h"
#include "base/error.h"
#include "crypto/tink.h"
#include "engine/archive/members.h"
#include "store/memory.h"

#define MIB ((gsize)1 << 20)

/* --- an archive of many files, and a reader of it --- */

#define FILES 18

typedef struct {
    ArchivePlace place;
    SceneFile files[FILES];
    char *names[FILES];
    guint8 *data[FILES];
    ArchivePoint *point;
    Chain *chain;
    CancelFlag cancel;
} Scene;

static const TarExtent EXTENTS[] = {{0, 1000}, {400000, 70000}, {1000000, 1}};

static Scene *scene_new(const SceneOptions *options, gboolean encrypted)
{
    static const gsize SIZES[] = {0, 1, 511, 512, 700000, 1048576, 3300000, 20, 100000};
    Scene *scene = g_new0(Scene, 1);
    scene->place =
        (ArchivePlace){.store = store_memory_new(), .name = "docs", .content_key = encrypted ? SCENE_KEY : NULL};
    for (guint i = 0; i < FILES; i++) {
        SceneFile *file = &scene->files[i];
        file->length = SIZES[i % G_N_ELEMENTS(SIZES)];
        file->path = scene->names[i] = g_strdup_printf("file%03u", i);
        file->data = scene->data[i] = scene_bytes(i, file->length, TRUE);
    }
    /* One with holes, and one that ends with a hole. */
    SceneFile *sparse = &scene->files[5];
    memset(scene->data[5] + 1000, 0, 399000);
    memset(scene->data[5] + 470000, 0, 530000);
    memset(scene->data[5] + 1000001, 0, sparse->length - 1000001);
    sparse->extents = EXTENTS;
    sparse->extent_count = G_N_ELEMENTS(EXTENTS);
    scene->point = scene_archive(&scene->place, options, scene->files, FILES);
    scene->chain = chain_open(&scene->place, scene->point->base, NULL, NULL, NULL);
    assert_non_null(scene->chain);
    return scene;
}

static void scene_free(Scene *scene)
{
    chain_close(scene->chain);
    archive_point_free(scene->point);
    store_free(scene->place.store);
    for (guint i = 0; i < FILES; i++) {
        g_free(scene->names[i]);
        g_free(scene->data[i]);
    }
    g_free(scene);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

static Members *members_of(Scene *scene, gsize memory)
{
    Members *members = members_new(&scene->place, scene->chain, memory, &scene->cancel, NULL);
    assert_non_null(members);
    return members;
}

typedef struct {
    guint8 *out;
    gsize size;
} Output;

static gboolean write_at(gpointer user_data, guint64 offset, const void *data, gsize length, GError **error)
{
    Output *output = user_data;
    assert_true(offset <= output->size && length <= output->size - offset);
    memcpy(output->out + offset, data, length);
    return TRUE;
}

/* Reads one file and compares it. FALSE if it cannot be read. */
static gboolean read_file(Scene *scene, Members *members, guint i, GError **error)
{
    const SceneFile *file = &scene->files[i];
    g_autoptr(ChainReader) reader = chain_read(scene->chain, file->path, FALSE, NULL);
    IndexEntry entry;
    guint number = 99;
    assert_non_null(reader);
    assert_int_equal(chain_reader_next(reader, &entry, &number, NULL), 1);
    assert_string_equal(entry.entry.path, file->path);
    Output output = {.size = file->length, .out = g_malloc0(file->length + 1)};
    gboolean good = members_content(members, number, &entry, write_at, &output, error);
    if (good)
        assert_memory_equal(output.out, file->data, file->length);
    g_free(output.out);
    return good;
}

static void read_all(Scene *scene, Members *members)
{
    for (guint i = 0; i < FILES; i++) {
        GError *error = NULL;
        if (!read_file(scene, members, i, &error))
            fail_msg("%s: %s", scene->files[i].path, error->message);
    }
}

static StoreCounts counts_of(const Scene *scene)
{
    StoreCounts counts;
    store_counts(scene->place.store, &counts);
    return counts;
}

static guint64 stored(const ArchivePoint *point)
{
    guint64 size = 0;
    for (guint i = 0; i < point->volumes->len; i++)
        size += g_array_index(point->volumes, ArchiveVolume, i).size;
    return size;
}

/* --- cases --- */

static void test_comes_back(void **state)
{
    static const ArchiveCodec CODECS[] = {ARCHIVE_PLAIN, ARCHIVE_GZIP, ARCHIVE_ZSTD};
    for (guint i = 0; i < 6; i++) {
        SceneOptions options = {.codec = CODECS[i % 3], .volume_size = i % 2 ? 3 * MIB : 0};
        g_autoptr(Scene) scene = scene_new(&options, i >= 3);
        assert_true(i % 2 == 0 || scene->point->volumes->len > 1);
        g_autoptr(Members) members = members_of(scene, i % 2 ? 0 : 1);
        read_all(scene, members);
        read_all(scene, members);
    }
}

static void test_one_request_for_a_small_file(void **state)
{
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN}, encrypted == 1);
        g_autoptr(Members) members = members_of(scene, 0);
        assert_true(read_file(scene, members, FILES - 1, NULL)); /* opens the index's blocks too */
        StoreCounts before = counts_of(scene);
        assert_true(read_file(scene, members, 3, NULL));
        StoreCounts after = counts_of(scene);
        assert_in_range(after.requests[STORE_REQUEST_GET] - before.requests[STORE_REQUEST_GET], 0, 2);
        assert_in_range(after.bytes_received - before.bytes_received, 0, 4 * MIB);
        before = after;
        assert_true(read_file(scene, members, 3, NULL));
        after = counts_of(scene);
        assert_in_range(after.bytes_received - before.bytes_received, 0, 65536); /* a block of the index */
    }
}

static gboolean count_bytes(gpointer user_data, const void *data, gsize length, GError **error)
{
    *(guint64 *)user_data += length;
    return TRUE;
}

static void test_members_come_together(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN}, FALSE);
    g_autoptr(Members) members = members_of(scene, 0);
    guint64 bytes = 0, size = scene->point->tar_size;
    StoreCounts before = counts_of(scene);
    /* One in the middle is there already. */
    assert_true(members_read(members, 0, 3 * MIB, 1, count_bytes, &bytes, NULL));
    assert_true(members_read(members, 0, 0, size, count_bytes, &bytes, NULL));
    assert_false(members_read(members, 0, size - 1, 2, count_bytes, &bytes, NULL));
    g_clear_pointer(&members, members_free); /* only then all requests are counted */
    StoreCounts after = counts_of(scene);
    assert_int_equal(bytes, size + 1);
    guint64 gets = after.requests[STORE_REQUEST_GET] - before.requests[STORE_REQUEST_GET];
    assert_in_range(gets, size / (8 * MIB), scene->point->members / 3);
    /* Nothing was fetched twice. */
    assert_in_range(after.bytes_received - before.bytes_received, size, size + 65536);
}

/* Small reads in order are foreseen. */
static void test_looks_ahead(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN}, FALSE);
    g_autoptr(Members) members = members_of(scene, 0);
    guint64 bytes = 0, size = scene->point->tar_size;
    StoreCounts before = counts_of(scene);
    for (guint64 at = 0; at < size; at += MIN(100000, size - at))
        assert_true(members_read(members, 0, at, MIN(100000, size - at), count_bytes, &bytes, NULL));
    g_clear_pointer(&members, members_free); /* only then all requests are counted */
    StoreCounts after = counts_of(scene);
    assert_int_equal(bytes, size);
    assert_in_range(after.requests[STORE_REQUEST_GET] - before.requests[STORE_REQUEST_GET], 1,
                    scene->point->members / 2);
    assert_in_range(after.bytes_received - before.bytes_received, size, size + 65536);
}

typedef struct {
    Scene *scene;
    Members *members;
    guint start;
} Job;

static gpointer read_many(gpointer data)
{
    const Job *job = data;
    for (guint i = 0; i < FILES; i++) {
        GError *error = NULL;
        if (!read_file(job->scene, job->members, (job->start + i) % FILES, &error))
            fail_msg("%s", error->message);
    }
    return NULL;
}

/* Threads that want the same at once. */
static void run_threads(Scene *scene, Members *members, guint step)
{
    GThread *threads[6];
    Job jobs[6];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++) {
        jobs[i] = (Job){.scene = scene, .members = members, .start = i * step};
        threads[i] = g_thread_new("reads", read_many, &jobs[i]);
    }
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
}

static void test_threads(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_GZIP, .volume_size = 2 * MIB}, FALSE);
    StoreCounts before = counts_of(scene);
    Members *members = members_of(scene, 0);
    run_threads(scene, members, 0);
    members_free(members);
    /* Each member once: there is room for all. The index's blocks are read by each thread. */
    guint64 gone = counts_of(scene).bytes_received - before.bytes_received;
    assert_in_range(gone, stored(scene->point), stored(scene->point) + FILES * 6 * 20000);
    g_autoptr(Members) narrow = members_of(scene, 1);
    run_threads(scene, narrow, 5);
}

/* Where a file's content begins: its member. */
static guint64 member_of(Scene *scene, guint i, guint64 *last)
{
    g_autoptr(ChainReader) reader = chain_read(scene->chain, scene->files[i].path, FALSE, NULL);
    IndexEntry entry;
    guint number;
    assert_int_equal(chain_reader_next(reader, &entry, &number, NULL), 1);
    guint64 start = entry.tar_offset + entry.header_length;
    *last = (start + MAX(entry.entry.meta.size, 1) - 1) / ARCHIVE_MEMBER_BYTES;
    return start / ARCHIVE_MEMBER_BYTES;
}

/* The first and the last member that the damaged bytes concern: of an encrypted volume a whole segment is lost. */
static void find_bad(Scene *scene, guint64 offset, guint64 *first, guint64 *last)
{
    guint64 size = g_array_index(scene->point->volumes, ArchiveVolume, 0).size, start = offset, end = offset + 1;
    if (scene->place.content_key != NULL) {
        TinkSpan span;
        assert_true(tink_segment_span(size, tink_segment_of(offset), &span));
        start = span.plain_offset;
        end = start + span.plain_length;
    }
    *first = G_MAXUINT64;
    for (guint64 i = 0; i < scene->point->members; i++) {
        guint volume;
        guint64 at;
        guint32 length;
        assert_true(index_member(chain_index(scene->chain, 0), i, &volume, &at, &length, NULL));
        if (at >= end || at + length <= start)
            continue;
        *first = MIN(*first, i);
        *last = i;
    }
}

static void test_damage(void **state)
{
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_GZIP}, encrypted == 1);
        const guint64 offset = 2500000;
        g_autofree char *key = archive_volume_key(scene->point, 0);
        guint64 first_bad, last_bad = 0;
        find_bad(scene, offset, &first_bad, &last_bad);
        scene_flip(scene->place.store, key, (gint64)offset + (encrypted ? TINK_HEADER_BYTES + 2 * TINK_TAG_BYTES : 0));
        g_autoptr(Members) members = members_of(scene, 0);
        guint lost = 0;
        for (guint i = 0; i < FILES; i++) {
            guint64 last, first = member_of(scene, i, &last);
            gboolean concerned = scene->files[i].length > 0 && first <= last_bad && first_bad <= last;
            g_autoptr(GError) error = NULL;
            gboolean good = read_file(scene, members, i, &error);
            lost += !good ? 1 : 0;
            assert_int_equal(good, !concerned);
            if (!good) {
                assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
                assert_non_null(strstr(error->message, key));
                assert_non_null(strstr(error->message, "member "));
            }
        }
        assert_in_range(lost, 1, 10);
    }
}

/* What lies before the place where a volume was cut off can still be read. */
static void test_cut_volume(void **state)
{
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN}, encrypted == 1);
        g_autofree char *key = archive_volume_key(scene->point, 0);
        scene_cut(scene->place.store, key, 5 * MIB + 1000);
        g_autoptr(Members) members = members_of(scene, 0);
        for (guint i = 0; i < FILES; i++) {
            guint64 last;
            (void)member_of(scene, i, &last);
            /* Of an encrypted one the segment that was cut is lost, and with it the end of member 4. */
            g_autoptr(GError) error = NULL;
            gboolean good = read_file(scene, members, i, &error),
                     is_there = scene->files[i].length == 0 || last < (encrypted ? 4 : 5);
            if (good != is_there)
                fail_msg("%s, to member %u: %s", scene->files[i].path, (guint)last, good ? "read" : error->message);
            assert_true(good || error_is(error, BACKAPP_ERROR_CORRUPT));
        }
    }
}

static void test_another_content(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){.codec = ARCHIVE_PLAIN}, FALSE);
    g_autoptr(Members) members = members_of(scene, 0);
    g_autofree char *key = archive_volume_key(scene->point, 0);
    g_autoptr(GError) error = NULL;
    guint64 last, first = member_of(scene, 4, &last);
    scene_flip(scene->place.store, key, (gint64)((first + last + 1) * ARCHIVE_MEMBER_BYTES / 2 + 1000));
    assert_false(read_file(scene, members, 4, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_true(read_file(scene, members, 17, NULL));
}

static void test_failure_is_not_kept(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){0}, FALSE);
    g_autoptr(Members) members = members_of(scene, 0);
    assert_true(read_file(scene, members, 0, NULL)); /* nothing of the volume, but the index */
    g_autoptr(GError) error = NULL;
    guint64 bytes = 0;
    store_memory_fail_next(scene->place.store, STORE_REQUEST_GET, BACKAPP_ERROR_TRANSIENT, 1, FALSE);
    assert_false(members_read(members, 0, 0, 100, count_bytes, &bytes, &error));
    assert_true(error_is(error, BACKAPP_ERROR_TRANSIENT));
    assert_true(members_read(members, 0, 0, 100, count_bytes, &bytes, NULL));
    assert_int_equal(bytes, 100);
    cancel_set(&scene->cancel);
    g_clear_error(&error);
    assert_false(members_read(members, 0, 0, 100, count_bytes, &bytes, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

/* Entries as an index may claim them: refused, never read outside. */
static void test_impossible_entries(void **state)
{
    g_autoptr(Scene) scene = scene_new(&(SceneOptions){0}, FALSE);
    g_autoptr(Members) members = members_of(scene, 0);
    static const IndexEntry BAD[] = {
        {.entry.meta.size = 10, .tar_offset = G_MAXUINT64 - 5, .header_length = 512},
        {.entry.meta.size = 10, .tar_offset = (guint64)1 << 50, .header_length = 512},
        {.entry.meta.size = 10, .flags = INDEX_SPARSE, .tar_offset = 0, .header_length = 0},
    };
    for (guint i = 0; i < G_N_ELEMENTS(BAD); i++) {
        g_autoptr(GError) error = NULL;
        guint8 out[10];
        Output output = {.out = out, .size = sizeof out};
        assert_false(members_content(members, 0, &BAD[i], write_at, &output, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_comes_back),
        cmocka_unit_test(test_one_request_for_a_small_file),
        cmocka_unit_test(test_members_come_together),
        cmocka_unit_test(test_looks_ahead),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_cut_volume),
        cmocka_unit_test(test_another_content),
        cmocka_unit_test(test_failure_is_not_kept),
        cmocka_unit_test(test_impossible_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
