/*
 * Points on points: which one a new point is made on, when it is a full one, and what is left of a run that makes none.
 */
#include <string.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "create_scene.h"
#include "crypto/tink.h"

#define DAY_S 86400
#define BIG   ((gsize)1200 * 1024)

static const guint8 KEY[TINK_KEY_BYTES] = "a key that nobody has to guess..";
static const guint8 OTHER_KEY[TINK_KEY_BYTES] = "another one, of somebody else...";

/* ---- sources ---- */

static void test_sources(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene,
             "d one; f one/a 1; d one/d; f one/d/b 2; d one-two; f one-two/a 3; h one/l one/a; d two; f two/x 4");
    g_autofree char *one = scene_path(scene, "one"), *two = scene_path(scene, "two"),
                    *both = scene_path(scene, "one-two");
    scene->paths[0] = two;
    scene->paths[1] = one;
    scene->paths[2] = both;
    scene_run(scene);
    scene_check(scene);
    scene_do(scene, "f one/d/b 22; r two/x");
    scene_run(scene);
    assert_int_equal(scene->stats.files_archived, 1);
    assert_int_equal(scene->stats.deleted, 1);
    scene_check(scene);
    /* One is no source any more. */
    scene->paths[0] = both;
    scene->paths[1] = two;
    scene->paths[2] = NULL;
    scene_run(scene);
    assert_int_equal(scene->stats.files_archived, 0);
    assert_int_equal(scene->stats.deleted, 5);
    scene_check(scene);
    /* Only one: it has no folder of its own. */
    scene->paths[0] = scene->source;
    scene->paths[1] = NULL;
    scene_run(scene);
    scene_check(scene);
    /* A source that is not there fails the run. */
    scene->paths[0] = "/nonexistent/source";
    scene_run_fails(scene, BACKAPP_ERROR_NOT_FOUND);
    create_scene_free(scene);
}

/* ---- chains ---- */

static void test_full_every(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene->options.full_every_days = 3;
    scene_do(scene, "f a 1");
    static const ArchiveType wanted[] = {ARCHIVE_FULL, ARCHIVE_INCREMENTAL, ARCHIVE_INCREMENTAL, ARCHIVE_FULL,
                                         ARCHIVE_INCREMENTAL};
    for (guint i = 0; i < G_N_ELEMENTS(wanted); i++) {
        scene_run(scene);
        assert_int_equal(scene->stats.type, wanted[i]);
        atomic_fetch_add(&scene_clock_shift, DAY_S);
    }
    scene->options.full_every_days = 0;
    atomic_fetch_add(&scene_clock_shift, 400 * DAY_S);
    scene_run(scene);
    assert_int_equal(scene->stats.type, ARCHIVE_INCREMENTAL);
    scene_check(scene);
    create_scene_free(scene);
}

static void test_differential(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f a 1; f b 1; f c 1");
    scene_run(scene);
    g_autofree char *full = g_strdup(scene->stats.point);
    scene_do(scene, "f a 22; r c");
    scene_run(scene);
    scene->options.type = ARCHIVE_DIFFERENTIAL;
    scene_do(scene, "f b 22");
    scene_run(scene);
    assert_int_equal(scene->stats.type, ARCHIVE_DIFFERENTIAL);
    assert_string_equal(scene->stats.parent, full);
    assert_int_equal(scene->stats.files_archived, 2);
    assert_int_equal(scene->stats.deleted, 1);
    scene_check(scene);
    g_autofree char *differential = g_strdup(scene->stats.point);
    scene->options.type = ARCHIVE_INCREMENTAL;
    scene_run(scene);
    assert_string_equal(scene->stats.parent, differential);
    assert_int_equal(scene->stats.files_archived, 0);
    scene_check(scene);
    create_scene_free(scene);
}

/* A chain that does not hold is left for a full point, aloud; that is no partial one. */
static void test_broken_chain(void **state)
{
    (void)state;
    static const char *const lost[] = {"-full.tar.gz.index", "-full.tar.gz", "-incremental.tar.gz"};
    for (guint i = 0; i < G_N_ELEMENTS(lost); i++) {
        CreateScene *scene = create_scene_new(FALSE);
        scene_do(scene, "f a 1; f b 2");
        scene_run(scene);
        scene_do(scene, "f a 11");
        scene_run(scene);
        scene_delete_object(scene, lost[i]);
        scene_do(scene, "f c 3");
        scene_run(scene);
        assert_int_equal(scene->stats.type, ARCHIVE_FULL);
        /* Without any full one nothing is left to be built on. */
        assert_int_equal(scene_warned(scene, "damaged "), i > 0);
        assert_false(scene->stats.partial);
        scene_check(scene);
        scene_run(scene);
        assert_int_equal(scene->stats.type, ARCHIVE_INCREMENTAL);
        scene_check(scene);
        create_scene_free(scene);
    }
}

/* The key is another, or missing: no point at all, and above all no full one. */
static void test_wrong_key(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene->options.place.content_key = KEY;
    scene_do(scene, "f a 1");
    scene_run(scene);
    scene->options.place.content_key = OTHER_KEY;
    scene_run_fails(scene, BACKAPP_ERROR_DENIED);
    scene->options.place.content_key = NULL;
    scene_run_fails(scene, BACKAPP_ERROR_DENIED);
    assert_int_equal(scene_objects(scene, ""), 2);
    scene->options.place.content_key = KEY;
    scene_run(scene);
    assert_int_equal(scene->stats.type, ARCHIVE_INCREMENTAL);
    scene_check(scene);
    create_scene_free(scene);
}

/* A point is named behind all there are, and holds what it should, whatever the clock says. */
static void test_clock_backwards(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f a 1");
    atomic_store(&scene_clock_shift, 5 * DAY_S);
    scene_run(scene);
    g_autofree char *first = g_strdup(scene->stats.point);
    atomic_store(&scene_clock_shift, 0);
    scene_do(scene, "f a 2; f b 3");
    scene_run(scene);
    assert_string_equal(scene->stats.parent, first);
    assert_true(strcmp(scene->stats.point, first) > 0);
    assert_true(scene_warned(scene, "note "));
    assert_int_equal(scene->stats.files_archived, 2);
    scene_check(scene);
    /* In one second too. */
    g_autofree char *second = g_strdup(scene->stats.point);
    scene->options.time = g_get_real_time() / G_USEC_PER_SEC - DAY_S;
    scene_run_late(scene);
    assert_true(strcmp(scene->stats.point, second) > 0);
    scene_check(scene);
    create_scene_free(scene);
}

/* The row is not longer than a restore takes (this test is built with a short one). */
static void test_longest_chain(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    guint number = 0;
    do {
        scene_do(scene, number % 2 ? "f a 1" : "f b 22");
        scene_run(scene);
    } while (number++ < ARCHIVE_CHAIN_MAX - 1 && scene->stats.type != (number > 1 ? ARCHIVE_FULL : 0));
    assert_int_equal(number, ARCHIVE_CHAIN_MAX);
    assert_int_equal(scene->stats.type, ARCHIVE_INCREMENTAL);
    scene_check(scene);
    scene_run(scene);
    assert_int_equal(scene->stats.type, ARCHIVE_FULL);
    assert_true(scene_warned(scene, "note "));
    assert_false(scene->stats.partial);
    scene_check(scene);
    create_scene_free(scene);
}

/* ---- ends ---- */

static void stop(CreateScene *scene, const char *path, gboolean first)
{
    (void)path;
    if (!first)
        cancel_set(&scene->cancel);
}

/* Cancelled, or refused by the store at any request: no point, nothing left, and the next run makes one. */
static void test_given_up(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f a 1");
    scene_run(scene);
    scene_fill(scene, "big", 1, BIG);
    scene->hook = stop;
    scene_run_fails(scene, BACKAPP_ERROR_CANCELLED);
    scene->hook = NULL;
    assert_int_equal(scene_objects(scene, ""), 2);
    scene->cancel = (CancelFlag){0};
    for (guint at = 1;; at++) {
        atomic_store(&scene_requests, 0);
        atomic_store(&scene_end_at, at);
        scene_end = SCENE_FAIL;
        g_autoptr(GError) error = NULL;
        atomic_fetch_add(&scene_clock_shift, 10);
        archive_stats_clear(&scene->stats);
        if (archive_create(&scene->options, &scene->stats, &error))
            break;
        assert_int_equal(error->code, BACKAPP_ERROR_DENIED);
        assert_int_equal(scene_objects(scene, ""), 2);
        g_autoptr(GPtrArray) uploads = store_list_uploads(scene->store, "", NULL);
        assert_int_equal(uploads->len, 0);
        assert_in_range(at, 1, 10);
    }
    assert_in_range(atomic_load(&scene_requests), 2, 10);
    scene_check(scene);
    create_scene_free(scene);
}

/* The class of the newest point's object. */
static char *class_of(CreateScene *scene, gboolean index)
{
    const char *name = scene->options.place.name, *base = scene->stats.point;
    g_autofree char *key = index ? archive_index_key(name, base) : g_strdup_printf("%s/%s", name, base);
    g_autoptr(StoreObject) object = store_head(scene->store, key, NULL, NULL);
    assert_non_null(object);
    return g_strdup(object->storage_class);
}

static void test_storage_class(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    static const char *const classes[] = {"GLACIER", "DEEP_ARCHIVE", "STANDARD_IA"};
    for (guint i = 0; i < G_N_ELEMENTS(classes); i++) {
        scene_fill(scene, "a", i, 10);
        scene->options.storage_class = classes[i];
        scene_run(scene);
        g_autofree char *volume = class_of(scene, FALSE), *index = class_of(scene, TRUE);
        assert_string_equal(volume, classes[i]);
        assert_string_equal(index, i < 2 ? "STANDARD" : classes[i]);
    }
    create_scene_free(scene);
}

static void test_dry_run(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    for (guint i = 0; i < 2; i++) {
        StoreCounts before, after;
        scene_do(scene, i == 0 ? "f a 1; d b; f b/c 2" : "f a 11; r b/c");
        scene->options.dry_run = TRUE;
        store_counts(scene->store, &before);
        scene_run(scene);
        store_counts(scene->store, &after);
        assert_int_equal(before.requests[STORE_REQUEST_PUT], after.requests[STORE_REQUEST_PUT]);
        assert_int_equal(before.requests[STORE_REQUEST_DELETE], after.requests[STORE_REQUEST_DELETE]);
        assert_int_equal(scene_objects(scene, ""), 2 * i);
        assert_int_equal(g_file_test(scene->state, G_FILE_TEST_EXISTS), i);
        assert_int_equal(scene->stats.files_archived, i == 0 ? 2 : 1);
        assert_int_equal(scene->stats.bytes_archived, 2);
        assert_int_equal(scene->stats.deleted, i);
        scene->options.dry_run = FALSE;
        scene_run(scene);
    }
    create_scene_free(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sources),       cmocka_unit_test(test_full_every), cmocka_unit_test(test_differential),
        cmocka_unit_test(test_broken_chain),  cmocka_unit_test(test_wrong_key),  cmocka_unit_test(test_clock_backwards),
        cmocka_unit_test(test_longest_chain), cmocka_unit_test(test_given_up),   cmocka_unit_test(test_storage_class),
        cmocka_unit_test(test_dry_run),
    };
    return cmocka_run_group_tests_name("archive_create_chain", tests, NULL, NULL);
}
