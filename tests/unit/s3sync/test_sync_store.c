/*
 * Runs in which the store is not as it should be: objects that rot, requests that it refuses, answers that get lost,
 * points that are old.
 */
#include "sync_scene.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/s3sync/place.h"

#define MIB ((gsize)1024 * 1024)

static int setup_memory(void **state)
{
    *state = scene_new(FALSE);
    return 0;
}

static int setup_local(void **state)
{
    *state = scene_new(TRUE);
    return 0;
}

/* The store's functions, of which a test replaces some. */
static const StoreOps *real;
static StoreOps hooked;

static void hook(Scene *scene)
{
    real = scene->store->ops;
    hooked = *real;
    scene->store->ops = &hooked;
}

static void unhook(Scene *scene)
{
    scene->store->ops = real;
}

static int teardown(void **state)
{
    Scene *scene = *state;
    if (scene->store->ops == &hooked)
        unhook(scene);
    scene_free(scene);
    return 0;
}

/* Another byte under the same size and time: what a rotten disk does. */
static void rot(Scene *scene, const char *name)
{
    g_autofree char *path = g_build_filename(scene->bucket, "mirror", name, NULL);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    struct stat st;
    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, "\x01", 1, 7), 1);
    assert_int_equal(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}), 0);
    (void)close(fd);
}

static gboolean facts_without_versions(Store *store, StoreFacts *facts, GError **error)
{
    gboolean good = real->facts(store, facts, error);
    facts->versioning = facts->versioning_suspended = -1;
    return good;
}

static guint versions_notes(const Scene *scene)
{
    guint count = 0;
    for (guint i = 0; i < scene->collector->warnings->len; i++)
        count += strstr(g_ptr_array_index(scene->collector->warnings, i), "s3:GetBucketVersioning") != NULL;
    return count;
}

/* The trash, and the housekeeping of the same run, need to know. */
static void test_unknown_versioning_is_noted_once(void **state)
{
    Scene *scene = *state;
    g_autofree char *other = g_build_filename(scene->path, "other", NULL);
    scene_file(scene, "f", 3, 1, 0);
    scene_sync(scene);
    assert_int_equal(versions_notes(scene), 0);
    hook(scene);
    hooked.facts = facts_without_versions;
    scene_file(scene, "f", 4, 2, 0);
    scene->options.state_dir = other;
    scene->options.relist = TRUE;
    scene_sync(scene);
    assert_int_equal(versions_notes(scene), 1);
    scene_sync(scene);
    assert_int_equal(versions_notes(scene), 1);
    unhook(scene);
}

static gboolean verify(Scene *scene, guint64 *verified, GError **error)
{
    S3syncStats stats = {0};
    scene->options.read_back = TRUE;
    gboolean good = s3sync_verify(&scene->options, &stats, error);
    *verified = stats.verified;
    s3sync_stats_clear(&stats);
    return good;
}

static Catalogue *open_catalogue(Scene *scene)
{
    gboolean fresh = FALSE;
    gboolean unfinished = FALSE;
    Catalogue *catalogue = place_catalogue(scene->state, scene->store, "mirror/", NULL, &fresh, &unfinished, NULL);
    assert_non_null(catalogue);
    assert_false(fresh);
    return catalogue;
}

/* "rotten" is sent once more, once, and is then what it was. */
static void check_healed(Scene *scene, guint64 files)
{
    guint64 verified = 0;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
    assert_true(verify(scene, &verified, NULL));
    assert_int_equal(verified, files);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 0);
    assert_int_equal(scene->stats.files_unchanged, files);
    scene_check(scene, "mirror/");
}

static void test_damaged_object_is_stored_anew(void **state)
{
    for (guint listing = 0; listing < 2; listing++) {
        Scene *scene = *state;
        g_autoptr(GError) error = NULL;
        guint64 verified = 0;
        scene->options.relist_days = listing ? 0 : 30;
        scene_file(scene, "rotten", 300, 1 + listing, 1600000000 + listing);
        scene_file(scene, "sound", 100, 2, 1600000000);
        scene_sync(scene);
        rot(scene, "rotten");
        assert_false(verify(scene, &verified, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
        assert_non_null(strstr(error->message, "the next sync stores them anew"));
        assert_int_equal(verified, 1);
        assert_int_equal(collector_warned(scene->collector, "damaged rotten"), 1 + listing);
        check_healed(scene, 2);
    }
}

/* Only the note says it: without a row the object's own word would be taken. */
static void test_damaged_object_without_a_row(void **state)
{
    Scene *scene = *state;
    guint64 verified = 0;
    scene_file(scene, "rotten", 300, 1, 1600000000);
    scene_file(scene, "sound", 100, 2, 1600000000);
    scene_sync(scene);
    Catalogue *catalogue = open_catalogue(scene);
    assert_true(catalogue_remove(catalogue, "rotten", NULL));
    catalogue_free(catalogue);
    rot(scene, "rotten");
    assert_false(verify(scene, &verified, NULL));
    check_healed(scene, 2);
}

static gboolean get_until_late(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                               StoreObject **object, GError **error)
{
    if (g_str_has_suffix(range->key, "/z-late"))
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "the line is cut");
    return real->get(store, range, write, user_data, object, error);
}

static void test_damage_is_noted_when_the_verification_breaks_off(void **state)
{
    Scene *scene = *state;
    g_autoptr(GError) error = NULL;
    guint64 verified = 0;
    scene->options.concurrency = 1;
    scene_file(scene, "rotten", 300, 1, 1600000000);
    scene_file(scene, "z-late", 100, 2, 1600000000);
    scene_sync(scene);
    rot(scene, "rotten");
    hook(scene);
    hooked.get = get_until_late;
    assert_false(verify(scene, &verified, &error));
    unhook(scene);
    assert_true(error_is(error, BACKAPP_ERROR_TRANSIENT));
    check_healed(scene, 2);
}

static void test_damage_that_cannot_be_noted_says_so(void **state)
{
    Scene *scene = *state;
    g_autoptr(GError) error = NULL;
    guint64 verified = 0;
    scene_file(scene, "rotten", 300, 1, 1600000000);
    scene_sync(scene);
    rot(scene, "rotten");
    Catalogue *busy = open_catalogue(scene);
    assert_false(verify(scene, &verified, &error));
    catalogue_free(busy);
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_non_null(strstr(error->message, "could not be noted"));
    g_clear_error(&error);
    assert_false(verify(scene, &verified, &error));
    check_healed(scene, 1);
}

/* Stores it, and says that it did not. */
static guint lost_answers;

static gboolean complete_unheard(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                                 const StorePut *how, StoreResult *result, GError **error)
{
    if (!real->complete(store, key, upload, parts, count, how, result, error) || lost_answers == 0)
        return lost_answers == 0;
    lost_answers--;
    store_result_clear(result);
    *result = (StoreResult){0};
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no such upload");
}

static void test_second_attempt_leaves_the_trash_alone(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "large", 17 * MIB, 1, 1600000000);
    scene_sync(scene);
    gsize length = 0;
    g_autofree char *old = scene_get(scene, "mirror/large", &length);
    scene_file(scene, "large", 17 * MIB + 1, 2, 1600000001);
    hook(scene);
    hooked.complete = complete_unheard;
    lost_answers = 1;
    scene_sync(scene);
    unhook(scene);
    assert_int_equal(lost_answers, 0);
    assert_int_equal(scene->stats.files_uploaded, 1);
    scene_check(scene, "mirror/");
    assert_int_equal(scene_count(scene, "mirror/.trash/"), 1);
    gsize kept_length = 0;
    g_autofree char *key = scene_find(scene, "mirror/.trash/", "/large");
    g_autofree char *kept = scene_get(scene, key, &kept_length);
    assert_int_equal(kept_length, length);
    assert_memory_equal(kept, old, length);
}

static gboolean put_not_refused(Store *store, const char *key, const StoreBody *body, const StorePut *how,
                                StoreResult *result, GError **error)
{
    if (strstr(key, "refused") != NULL)
        return error_set(error, BACKAPP_ERROR_INVALID, "this name is not for us");
    return real->put(store, key, body, how, result, error);
}

static gboolean delete_refused(Store *store, const char *key, const char *version, GError **error)
{
    if (strstr(key, "refused") != NULL)
        return error_set(error, BACKAPP_ERROR_INVALID, "this stays");
    return real->delete_one(store, key, version, error);
}

static void make_refused(Scene *scene, guint count)
{
    for (guint i = 0; i < count; i++) {
        g_autofree char *name = g_strdup_printf("many/refused%05u", i);
        scene_file(scene, name, 1, i, 1600000000);
    }
}

static void test_refused_objects_do_not_end_the_run(void **state)
{
    Scene *scene = *state;
    scene->options.concurrency = 1;
    make_refused(scene, 40);
    scene_file(scene, "z/one", 10, 1, 1600000000);
    hook(scene);
    hooked.put = put_not_refused;
    for (guint again = 0; again < 2; again++) {
        scene_sync(scene);
        assert_true(scene->stats.partial);
        assert_int_equal(scene->stats.files_skipped, 40);
        /* The second time nothing is taken at all: what was there before shows that it is not about the store. */
        assert_int_equal(scene->stats.files_uploaded, again ? 0 : 1);
    }
    unhook(scene);
    assert_int_equal(collector_warned(scene->collector, "this name is not for us"), 80);
    scene_sync(scene);
    assert_false(scene->stats.partial);
    scene_check(scene, "mirror/");
}

/* None of a few is an error at the end; of very many the rest are not tried. */
static void test_store_that_takes_nothing_ends_the_run(void **state)
{
    static const guint counts[] = {20, 1100};
    static const guint tried[] = {20, 1000};
    Scene *scene = *state;
    scene->options.concurrency = 1;
    hook(scene);
    hooked.put = put_not_refused;
    for (guint i = 0; i < G_N_ELEMENTS(counts); i++) {
        g_autoptr(GError) error = NULL;
        make_refused(scene, counts[i]);
        assert_false(scene_run(scene, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
        assert_non_null(strstr(error->message, "the store took none of"));
        assert_int_equal(scene->stats.files_skipped, tried[i]);
        assert_int_equal(scene_count(scene, "mirror/.backapp/tree/"), 0);
    }
}

static void test_refused_deletions_only_warn(void **state)
{
    enum { COUNT = 1100 };
    Scene *scene = *state;
    scene->options.delete_extraneous = TRUE;
    scene->options.force = TRUE;
    scene->options.trash_days = 0;
    make_refused(scene, COUNT);
    scene_sync(scene);
    for (guint i = 0; i < COUNT; i++) {
        g_autofree char *name = g_strdup_printf("many/refused%05u", i);
        scene_remove(scene, name);
    }
    hook(scene);
    hooked.delete_many = NULL;
    hooked.delete_one = delete_refused;
    scene_sync(scene);
    unhook(scene);
    assert_true(scene->stats.partial);
    assert_int_equal(scene->stats.files_deleted, 0);
    assert_int_equal(scene->stats.files_skipped, COUNT);
    assert_int_equal(scene_count(scene, "mirror/many/"), COUNT);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_deleted, COUNT);
    scene_check(scene, "mirror/");
}

/* A point of an empty source, as it was made at a time. */
static void put_point(Scene *scene, gint64 time)
{
    g_autoptr(Store) store = store_prefix_borrow(scene->store, "mirror/");
    g_autoptr(TreeWriter) writer = tree_writer_new(store, NULL, NULL, NULL);
    S3Entry entry = {.path = ""};
    entry.meta.mode = S_IFDIR | 0755;
    entry.meta.mtime_s = time;
    assert_true(tree_writer_put(writer, &entry, NULL));
    TreeRoot root = {.run_id = (char *)"run", .time = time, .source = (char *)"/data", .host = (char *)"here"};
    assert_true(tree_writer_commit(writer, &root, NULL, NULL));
}

static guint count_points(Scene *scene)
{
    g_autoptr(Store) store = store_prefix_borrow(scene->store, "mirror/");
    g_autoptr(GPtrArray) roots = tree_list_roots(store, NULL);
    assert_non_null(roots);
    return roots->len;
}

/* What a bucket keeps for ever, its points lead to; else those that were followed long ago go. */
static void test_old_points(void **state)
{
    static const struct {
        gboolean versioned;
        guint keep_days, left;
    } cases[] = {{FALSE, 0, 2}, {TRUE, 0, 3}, {TRUE, 40, 2}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        Scene *scene = scene_new(FALSE);
        if (cases[i].versioned)
            assert_true(store_set_versioning(scene->store, TRUE, NULL));
        scene->options.versions_keep_days = cases[i].keep_days;
        put_point(scene, 1500000000);
        put_point(scene, 1600000000);
        scene_file(scene, "a", 10, 1, 0);
        scene_sync(scene);
        /* The one of 1600000000 was followed by this run only. */
        assert_int_equal(count_points(scene), cases[i].left);
        scene_free(scene);
    }
}

#define IN_MEMORY(test)    cmocka_unit_test_setup_teardown(test, setup_memory, teardown)
#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, setup_local, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIRECTORY(test_damaged_object_is_stored_anew),
        IN_DIRECTORY(test_damaged_object_without_a_row),
        IN_DIRECTORY(test_damage_is_noted_when_the_verification_breaks_off),
        IN_DIRECTORY(test_damage_that_cannot_be_noted_says_so),
        IN_MEMORY(test_second_attempt_leaves_the_trash_alone),
        IN_MEMORY(test_refused_objects_do_not_end_the_run),
        IN_MEMORY(test_store_that_takes_nothing_ends_the_run),
        IN_MEMORY(test_refused_deletions_only_warn),
        IN_MEMORY(test_unknown_versioning_is_noted_once),
        cmocka_unit_test(test_old_points),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
