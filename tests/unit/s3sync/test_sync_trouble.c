/*
 * Runs in which something is not as it should be: sources that change under the run's hands, objects that are cold,
 * kept in versions or too old, keys that are too long, folders that cannot be read.
 */
#include "sync_scene.h"

#include "../fs/scratch.h"
#include "base/error.h"

#define MIB ((gsize)1024 * 1024)

static int setup(void **state)
{
    *state = scene_new(FALSE);
    return 0;
}

static int teardown(void **state)
{
    scene_free(*state);
    return 0;
}

/* What a test does to the source when the plan is made and nothing is uploaded yet. */
static Scene *meddled;
static void (*meddle)(Scene *scene);

static void on_stage(RunSink *sink, const char *name)
{
    if (strcmp(name, "s3-sync") == 0 && meddle != NULL)
        meddle(meddled);
}

static void meddle_with(Scene *scene, void (*func)(Scene *scene))
{
    meddled = scene;
    meddle = func;
    scene->collector->sink.stage = on_stage;
}

static void let_vanish(Scene *scene)
{
    scene_remove(scene, "gone");
    scene_remove(scene, "folder-now");
    assert_int_equal(mkdirat(scene->source_fd, "folder-now", 0755), 0);
    scene_remove(scene, "d/in-lost-folder");
    assert_int_equal(unlinkat(scene->source_fd, "d", AT_REMOVEDIR), 0);
    scene_remove(scene, "link-now");
    assert_int_equal(symlinkat("/etc/passwd", scene->source_fd, "link-now"), 0);
}

static void test_vanished_files(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "stays", 10, 1, 0);
    scene_file(scene, "gone", 10, 2, 0);
    scene_file(scene, "folder-now", 10, 3, 0);
    scene_file(scene, "link-now", 10, 4, 0);
    scene_file(scene, "d/in-lost-folder", 10, 5, 0);
    meddle_with(scene, let_vanish);
    scene_sync(scene);
    assert_int_equal(scene->stats.vanished, 4);
    assert_int_equal(scene->stats.files_uploaded, 1);
    assert_false(scene->stats.partial);
    assert_int_equal(collector_warned(scene->collector, "vanished"), 4);
    assert_false(scene_has(scene, "mirror/link-now"));
    meddle_with(scene, NULL);
    scene_sync(scene);
    scene_check(scene, "mirror/");
}

static void change_files(Scene *scene)
{
    scene_file(scene, "small", 20, 9, 1600000050);
    scene_file(scene, "grows", 9 * MIB, 9, 1600000050);
    scene_file(scene, "shrinks", 10, 9, 1600000050);
}

/* What is stored is what was there when it was read, not what the plan had seen. */
static void test_changed_before_read(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "small", 10, 1, 1600000000);
    scene_file(scene, "grows", 10, 2, 1600000000);
    scene_file(scene, "shrinks", 9 * MIB, 3, 1600000000);
    meddle_with(scene, change_files);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 3);
    meddle_with(scene, NULL);
    scene_check(scene, "mirror/");
    scene_sync(scene);
    assert_int_equal(scene->stats.files_unchanged, 3);
}

/* A file that changes with each part that is sent of it. */
static gboolean (*real_part)(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                             char **etag, GError **error);
static StoreOps part_ops;
static guint part_limit;

static gboolean changing_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                              char **etag, GError **error)
{
    if (part_limit > 0) {
        part_limit--;
        scene_edit(meddled, "busy", 100, part_limit % 2 ? "one" : "two");
    }
    return real_part(store, key, upload, number, body, etag, error);
}

static void test_changed_while_read(void **state)
{
    for (guint twice = 0; twice < 2; twice++) {
        Scene *scene = *state;
        scene->options.concurrency = 1;
        scene_file(scene, "busy", 17 * MIB, 1 + twice, 1600000000 + twice);
        const StoreOps *ops = scene->store->ops;
        part_ops = *ops;
        real_part = ops->part;
        part_ops.part = changing_part;
        part_limit = twice ? 1000 : 1;
        meddled = scene;
        scene->store->ops = &part_ops;
        scene_sync(scene);
        scene->store->ops = ops;
        assert_int_equal(scene->stats.changed_during_read, twice);
        assert_int_equal(scene->stats.partial, twice);
        scene_sync(scene);
        scene_check(scene, "mirror/");
        g_autoptr(GPtrArray) uploads = store_list_uploads(scene->store, "", NULL);
        assert_int_equal(uploads->len, 0);
    }
}

static guint count_versions(Scene *scene, const char *prefix)
{
    g_autoptr(StoreList) list = store_list(scene->store, prefix, NULL, TRUE, NULL);
    const StoreObject *object = NULL;
    guint count = 0;
    while (store_list_next(list, &object, NULL) > 0)
        count++;
    return count;
}

static void test_versioned_bucket(void **state)
{
    Scene *scene = *state;
    assert_true(store_set_versioning(scene->store, TRUE, NULL));
    scene->options.delete_extraneous = TRUE;
    scene_file(scene, "a", 10, 1, 1600000000);
    scene_file(scene, "b", 10, 2, 1600000000);
    scene_sync(scene);
    scene_file(scene, "a", 11, 3, 1600000001);
    scene_remove(scene, "b");
    scene_sync(scene);
    scene_check(scene, "mirror/");
    /* The bucket keeps what was there: no trash. */
    assert_int_equal(scene_count(scene, "mirror/.trash/"), 0);
    assert_int_equal(count_versions(scene, "mirror/a"), 2);
    assert_int_equal(count_versions(scene, "mirror/b"), 2);
}

static void test_cold_objects(void **state)
{
    Scene *scene = *state;
    scene->options.storage_class = "DEEP_ARCHIVE";
    scene->options.delete_extraneous = TRUE;
    scene_file(scene, "large", 17 * MIB, 1, 1600000000);
    scene_file(scene, "small", 10, 2, 1600000000);
    scene_file(scene, "other", 10, 2, 1600000000);
    scene_sync(scene);
    g_autoptr(StoreObject) object = store_head(scene->store, "mirror/small", NULL, NULL);
    assert_string_equal(object->storage_class, "DEEP_ARCHIVE");
    /* Neither parts nor the trash can be copied: all of it is sent, what is deleted stays, both are said. */
    scene_edit(scene, "large", 10, "changed");
    scene_remove(scene, "small");
    scene_sync(scene);
    assert_int_equal(scene->stats.bytes_uploaded, 17 * MIB);
    assert_int_equal(scene->stats.files_deleted, 0);
    assert_int_equal(scene->stats.counts.requests[STORE_REQUEST_COPY], 0);
    assert_int_equal(collector_warned(scene->collector, "cold storage class"), 2);
    assert_true(scene_has(scene, "mirror/small"));
    scene->options.trash_days = 0;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_deleted, 1);
    scene_check(scene, "mirror/");
}

static void test_another_class(void **state)
{
    Scene *scene = *state;
    S3syncClassRule rules[] = {{"*.log", "STANDARD_IA"}};
    scene_file(scene, "a.log", 10, 1, 1600000000);
    scene_file(scene, "b", 10, 2, 1600000000);
    scene_sync(scene);
    scene->options.class_rules = rules;
    scene->options.class_rules_count = 1;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_copied, 1);
    assert_int_equal(scene->stats.files_uploaded, 0);
    g_autoptr(StoreObject) object = store_head(scene->store, "mirror/a.log", NULL, NULL);
    assert_string_equal(object->storage_class, "STANDARD_IA");
    assert_string_equal(object->mtime, "1600000000.123456");
    guint64 writes = scene_writes(scene);
    scene_sync(scene);
    assert_int_equal(scene_writes(scene), writes);
    scene_check(scene, "mirror/");
}

static void test_long_keys(void **state)
{
    Scene *scene = *state;
    g_autoptr(GString) path = g_string_new(NULL);
    for (guint i = 0; i < 5; i++) {
        g_autofree char *name = g_strnfill(240, (char)('a' + i));
        g_string_append_printf(path, "%s%s", i > 0 ? "/" : "", name);
    }
    scene_file(scene, path->str, 10, 1, 1600000000);
    scene_file(scene, "short", 10, 2, 1600000000);
    scene->options.verify = scene->options.read_back = TRUE;
    scene_sync(scene);
    assert_int_equal(scene_count(scene, "mirror/.backapp/long/"), 1);
    scene_check(scene, "mirror/");
    scene_file(scene, path->str, 11, 1, 1600000001);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
    scene_check(scene, "mirror/");
    guint64 writes = scene_writes(scene);
    scene_sync(scene);
    assert_int_equal(scene_writes(scene), writes);
}

static void test_trash_ends(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "a", 10, 1, 1600000000);
    StoreBody body = {.data = "old", .length = 3};
    StorePut how = {0};
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autoptr(GDateTime) recent = g_date_time_add_days(now, -29);
    g_autoptr(GDateTime) old = g_date_time_add_days(now, -31);
    g_autofree char *recent_key = g_date_time_format(recent, "mirror/.trash/%Y-%m-%dT%H%M%SZ/x");
    g_autofree char *old_key = g_date_time_format(old, "mirror/.trash/%Y-%m-%dT%H%M%SZ/x");
    const char *const keys[] = {recent_key, old_key, "mirror/.trash/2001-01-01T000000Z/d/y", "mirror/.trash/mine"};
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++)
        assert_true(store_put(scene->store, keys[i], &body, &how, NULL, NULL));
    scene_sync(scene);
    assert_true(scene_has(scene, keys[0]));
    assert_false(scene_has(scene, keys[1]));
    assert_false(scene_has(scene, keys[2]));
    assert_true(scene_has(scene, keys[3]));
    scene_check(scene, "mirror/");
}

/* As nobody: a folder of the source can no longer be read. */
static int run_unreadable(Scratch *scratch)
{
    CHECK(become_nobody());
    Scene *scene = scene_new(FALSE);
    g_autoptr(GError) error = NULL;
    scene->options.delete_extraneous = TRUE;
    scene_file(scene, "dark/one", 10, 1, 1600000000);
    scene_file(scene, "dark/two", 10, 2, 1600000000);
    scene_file(scene, "light", 10, 3, 1600000000);
    scene_file(scene, "locked", 10, 4, 1600000000);
    CHECK(scene_run(scene, &error));
    CHECK(fchmodat(scene->source_fd, "dark", 0, 0) == 0);
    scene_file(scene, "locked", 12, 5, 1600000001);
    CHECK(fchmodat(scene->source_fd, "locked", 0, 0) == 0);
    CHECK(scene_run(scene, &error));
    CHECK(scene->stats.partial);
    CHECK(scene->stats.unreadable == 2);
    CHECK(scene->stats.files_deleted == 0);
    CHECK(scene_has(scene, "mirror/dark/one") && scene_has(scene, "mirror/dark/two"));
    /* The newest root still has what it had of them. */
    Store *store = store_prefix_borrow(scene->store, "mirror/");
    GPtrArray *roots = tree_list_roots(store, NULL);
    TreeReader *reader = tree_reader_open(store, ((const TreeRoot *)g_ptr_array_index(roots, 0))->key, NULL, NULL);
    CHECK(reader != NULL && tree_reader_root(reader)->partial);
    S3Entry entry;
    CHECK(tree_reader_seek(reader, "dark/two", NULL) && tree_reader_next(reader, &entry, NULL) == 1);
    CHECK(tree_reader_seek(reader, "locked", NULL) && tree_reader_next(reader, &entry, NULL) == 1);
    CHECK(entry.meta.size == 10 && entry.meta.mtime_s == 1600000000);
    CHECK(fchmodat(scene->source_fd, "dark", 0700, 0) == 0 && fchmodat(scene->source_fd, "locked", 0600, 0) == 0);
    CHECK(scene_run(scene, &error) && !scene->stats.partial);
    scene_check(scene, "mirror/");
    tree_reader_free(reader);
    g_ptr_array_unref(roots);
    store_free(store);
    scene_free(scene);
    return 0;
}

static void test_unreadable_folder(void **state)
{
    RUN_CHILD(run_unreadable, *state);
}

#define SCENE_TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE_TEST(test_vanished_files),   SCENE_TEST(test_changed_before_read), SCENE_TEST(test_changed_while_read),
        SCENE_TEST(test_versioned_bucket), SCENE_TEST(test_cold_objects),        SCENE_TEST(test_another_class),
        SCENE_TEST(test_long_keys),        SCENE_TEST(test_trash_ends),          SCRATCH_TEST(test_unreadable_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
