#include "sync_scene.h"

#include "base/error.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB   ((gsize)1024 * 1024)
#define LARGE (17 * MIB) /* three parts */

/* A test with a store in memory, and one with a store in a directory. */
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

static int teardown(void **state)
{
    scene_free(*state);
    return 0;
}

static void make_tree(Scene *scene)
{
    scene_file(scene, "a.txt", 10, 1, 1600000000);
    scene_file(scene, "empty", 0, 1, 1600000001);
    scene_file(scene, "a/x", 300000, 2, 1600000002);
    scene_file(scene, "a/deep/er/file", 5000, 3, 1600000003);
    scene_file(scene, "a-b", 17, 4, 0);
    scene_file(scene, "sp ace/\xc3\xa4 + %.txt", 100, 5, 1500000000);
    scene_file(scene, "odd/not\xffutf8", 100, 6, 1500000000);
    scene_file(scene, "odd/line\nend", 100, 7, 1500000000);
    assert_int_equal(mkdirat(scene->source_fd, "empty folder", 0700), 0);
    assert_int_equal(symlinkat("a.txt", scene->source_fd, "link"), 0);
    assert_int_equal(linkat(scene->source_fd, "a/x", scene->source_fd, "z-second-name", 0), 0);
}

static void test_first_run_and_nothing_changed(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 9);
    assert_false(scene->stats.partial);
    scene_check(scene, "mirror/");
    assert_false(scene_has(scene, "mirror/.backapp/lock"));
    guint64 writes = scene_writes(scene);
    scene_sync(scene);
    assert_int_equal(scene_writes(scene), writes);
    assert_int_equal(scene->stats.files_unchanged, 9);
    assert_int_equal(scene->stats.files_uploaded, 0);
    scene_check(scene, "mirror/");
}

static void test_without_catalogue(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene_sync(scene);
    guint64 writes = scene_writes(scene);
    /* Another machine, or a lost disk: what the newest root says is enough. */
    g_autofree char *other = g_build_filename(scene->path, "other", NULL);
    scene->options.state_dir = other;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_unchanged, 9);
    assert_int_equal(scene_writes(scene), writes);
    scene_check(scene, "mirror/");
}

static void test_changes(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene_sync(scene);
    scene->options.delete_extraneous = TRUE;
    scene_file(scene, "a.txt", 12, 9, 1600000100);
    scene_file(scene, "new", 1000, 10, 0);
    scene_remove(scene, "a/deep/er/file");
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 2);
    assert_int_equal(scene->stats.files_deleted, 1);
    assert_int_equal(scene->stats.created, 1);
    assert_int_equal(scene->stats.changed, 1);
    scene_check(scene, "mirror/");
    /* What was replaced and deleted lies in the trash. */
    g_autofree char *replaced = scene_find(scene, "mirror/.trash/", "/a.txt");
    g_autofree char *deleted = scene_find(scene, "mirror/.trash/", "/a/deep/er/file");
    assert_non_null(replaced);
    assert_non_null(deleted);
    gsize length = 0;
    g_autofree char *old = scene_get(scene, deleted, &length);
    assert_true(old != NULL && length == 5000);
    assert_int_equal(scene_count(scene, "mirror/.trash/"), 2);
    /* Metadata alone: no object is written, a block and a root are. */
    assert_int_equal(fchmodat(scene->source_fd, "new", 0600, 0), 0);
    guint64 writes = scene_writes(scene);
    scene_sync(scene);
    assert_in_range(scene_writes(scene) - writes, 2, 5);
    scene_check(scene, "mirror/");
}

static void test_time_only(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene_sync(scene);
    scene_file(scene, "a/x", 300000, 2, 1600009999);
    scene_sync(scene);
    /* Two names, each a copy onto itself. */
    assert_int_equal(scene->stats.bytes_uploaded, 0);
    assert_int_equal(scene->stats.files_copied, 2);
    scene_check(scene, "mirror/");
    assert_int_equal(scene_count(scene, "mirror/.trash/"), 0);
}

static void test_trash_off(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene->options.delete_extraneous = TRUE;
    scene->options.trash_days = 0;
    scene_sync(scene);
    scene_remove(scene, "a.txt");
    scene_file(scene, "a-b", 18, 11, 0);
    scene_sync(scene);
    assert_int_equal(scene_count(scene, "mirror/.trash/"), 0);
    scene_check(scene, "mirror/");
}

static void test_large_file_by_parts(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "large", LARGE, 1, 1600000000);
    scene_sync(scene);
    scene_check(scene, "mirror/");
    assert_int_equal(scene->stats.bytes_uploaded, LARGE);
    /* One byte in the second of three parts. */
    scene_edit(scene, "large", 9 * MIB, "changed");
    scene_sync(scene);
    assert_int_equal(scene->stats.bytes_uploaded, 8 * MIB);
    assert_int_equal(scene->stats.bytes_saved, LARGE - 8 * MIB);
    scene_check(scene, "mirror/");
    /* Longer: the last part is another, the others are not. */
    scene_edit(scene, "large", LARGE, "longer");
    scene_sync(scene);
    assert_int_equal(scene->stats.bytes_uploaded, LARGE - 16 * MIB + strlen("longer"));
    scene_check(scene, "mirror/");
    /* Only its time: nothing travels. */
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(scene->source_fd, "large", times, 0), 0);
    scene_sync(scene);
    assert_int_equal(scene->stats.bytes_uploaded, 0);
    assert_int_equal(scene->stats.files_copied, 1);
    scene_check(scene, "mirror/");
    /* Shorter than a part. */
    scene_file(scene, "large", 1000, 5, 0);
    scene_sync(scene);
    scene_check(scene, "mirror/");
}

static void test_hard_links_of_large_files(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "first", 3 * MIB, 1, 1600000000);
    assert_int_equal(linkat(scene->source_fd, "first", scene->source_fd, "second", 0), 0);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
    assert_int_equal(scene->stats.bytes_uploaded, 3 * MIB);
    assert_int_equal(scene->stats.files_copied, 1);
    scene_check(scene, "mirror/");
}

static void test_interrupted_upload_goes_on(void **state)
{
    Scene *scene = *state;
    scene->options.concurrency = 1;
    scene_file(scene, "large", LARGE, 1, 1600000000);
    /* lock look, generation, list twice, ... : somewhere among the parts. */
    gboolean resumed = FALSE;
    for (guint cut = 8; cut < 40 && !resumed; cut += 3) {
        g_autoptr(GError) error = NULL;
        scene_hook(scene, cut, FALSE);
        gboolean good = scene_run(scene, &error);
        scene_unhook(scene);
        if (good)
            break;
        assert_true(error_is(error, BACKAPP_ERROR_TRANSIENT));
        StoreCounts before = {0};
        StoreCounts after = {0};
        store_counts(scene->store, &before);
        scene_sync(scene);
        store_counts(scene->store, &after);
        resumed = after.bytes_sent - before.bytes_sent < LARGE;
        scene_check(scene, "mirror/");
        scene_file(scene, "large", LARGE, cut, 1600000000 + cut);
    }
    assert_true(resumed);
    g_autoptr(GPtrArray) uploads = store_list_uploads(scene->store, "", NULL);
    assert_non_null(uploads);
}

static void test_made_by_another_program(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "same", 100, 1, 1600000000);
    scene_file(scene, "other", 100, 2, 1600000000);
    gsize length = 0;
    g_autofree char *path = g_build_filename(scene->source, "same", NULL);
    g_autofree char *data = NULL;
    assert_true(g_file_get_contents(path, &data, &length, NULL));
    StoreBody body = {.data = data, .length = length};
    StorePut how = {.mtime = "1600000000.123456"};
    assert_true(store_put(scene->store, "mirror/same", &body, &how, NULL, NULL));
    how.mtime = "1600000000";
    assert_true(store_put(scene->store, "mirror/other", &body, &how, NULL, NULL));
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
    assert_int_equal(scene->stats.files_unchanged, 1);
    scene_check(scene, "mirror/");
}

static void test_lost_and_changed_objects_come_back(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene_sync(scene);
    StoreBody body = {.data = "vandalism!", .length = 10};
    StorePut how = {0};
    assert_true(store_delete(scene->store, "mirror/a/x", NULL, NULL));
    assert_true(store_put(scene->store, "mirror/a.txt", &body, &how, NULL, NULL));
    scene->options.verify = TRUE;
    S3syncStats stats = {0};
    g_autoptr(GError) error = NULL;
    assert_false(s3sync_verify(&scene->options, &stats, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_int_equal(stats.missing, 1);
    assert_int_equal(stats.damaged, 1);
    assert_int_equal(stats.verified, 7);
    s3sync_stats_clear(&stats);
    scene->options.read_back = TRUE;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 2);
    assert_int_equal(scene->stats.verified, 9);
    scene_check(scene, "mirror/");
}

/* A disk that gives other bytes than were written: only reading shows it. */
static void test_rotten_object(void **state)
{
    Scene *scene = *state;
    scene_file(scene, "rotten", 9 * MIB, 1, 1600000000);
    scene_file(scene, "sound", 100, 2, 1600000000);
    scene_sync(scene);
    g_autofree char *path = g_build_filename(scene->bucket, "mirror", "rotten", NULL);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(pwrite(fd, "x", 1, 5 * MIB), 1);
    assert_int_equal(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}), 0);
    (void)close(fd);
    S3syncStats stats = {0};
    assert_true(s3sync_verify(&scene->options, &stats, NULL));
    assert_int_equal(stats.verified, 2);
    s3sync_stats_clear(&stats);
    g_autoptr(GError) error = NULL;
    scene->options.read_back = TRUE;
    assert_false(s3sync_verify(&scene->options, &stats, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_int_equal(stats.verified, 1);
    assert_int_equal(stats.damaged, 1);
    s3sync_stats_clear(&stats);
}

static void test_encrypted(void **state)
{
    Scene *scene = *state;
    static const guint8 master[32] = {7, 7, 7};
    make_tree(scene);
    scene_file(scene, "large", 9 * MIB, 3, 1600000000);
    scene->options.master_key = master;
    scene->options.delete_extraneous = TRUE;
    scene_sync(scene);
    scene_check(scene, "mirror/");
    assert_false(scene_has(scene, "mirror/a.txt"));
    guint64 writes = scene_writes(scene);
    scene_sync(scene);
    assert_int_equal(scene_writes(scene), writes);
    scene_edit(scene, "large", 100, "changed");
    scene_remove(scene, "a/deep/er/file");
    scene->options.verify = scene->options.read_back = TRUE;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
    assert_int_equal(scene->stats.files_deleted, 1);
    assert_int_equal(scene->stats.damaged + scene->stats.missing, 0);
    assert_true(scene->stats.verified > 0);
    scene_check(scene, "mirror/");
}

static void test_dates(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene->options.s3_prefix = "daily/YYYY-MM-DD";
    scene->options.timezone = "UTC";
    scene->options.time = 1700000000; /* 2023-11-14 */
    scene_sync(scene);
    scene_check(scene, "mirror/daily/2023-11-14/");
    assert_int_equal(scene->stats.files_uploaded, 9);
    scene_file(scene, "a.txt", 12, 9, 1600000100);
    scene->options.time += 2 * 86400;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
    assert_int_equal(scene->stats.files_copied, 8);
    scene_check(scene, "mirror/daily/2023-11-16/");
    assert_true(scene_has(scene, "mirror/daily/2023-11-14/a.txt"));
    /* The same date again changes that date. */
    scene_file(scene, "a.txt", 13, 9, 1600000200);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
    scene_check(scene, "mirror/daily/2023-11-16/");
    /* What is remembered here is lost: the date before is found all the same. */
    g_autofree char *other = g_build_filename(scene->path, "other", NULL);
    scene->options.state_dir = other;
    scene->options.time += 86400;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_copied, 9);
    assert_int_equal(scene->stats.bytes_uploaded, 0);
    scene_check(scene, "mirror/daily/2023-11-17/");
    /* Verified is the date that was completed last, not today's. */
    S3syncStats stats = {0};
    scene->options.time = 0;
    assert_true(s3sync_verify(&scene->options, &stats, NULL));
    assert_int_equal(stats.verified, 9);
    assert_true(g_str_has_suffix(stats.s3_path, "2023-11-17/"));
    s3sync_stats_clear(&stats);
}

static void test_refusals(void **state)
{
    Scene *scene = *state;
    g_autoptr(GError) error = NULL;
    make_tree(scene);
    for (guint i = 0; i < 150; i++) {
        g_autofree char *name = g_strdup_printf("many/%03u", i);
        scene_file(scene, name, 3, i, 0);
    }
    scene_sync(scene);
    scene->options.delete_extraneous = TRUE;
    for (guint i = 0; i < 150; i++) {
        g_autofree char *name = g_strdup_printf("many/%03u", i);
        scene_remove(scene, name);
    }
    guint64 writes = scene_writes(scene);
    assert_false(scene_run(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
    assert_true(scene->stats.refused);
    g_autofree char *hash = g_strdup(scene->stats.plan_hash);
    scene->options.confirm = "00000000000000000000000000000000";
    g_clear_error(&error);
    assert_false(scene_run(scene, &error));
    assert_true(scene->stats.refused && strstr(error->message, "not the one that was confirmed") != NULL);
    assert_non_null(strstr(error->message, hash));
    assert_false(scene_has(scene, "mirror/.backapp/lock"));
    assert_true(scene_writes(scene) - writes <= 4); /* of the lock */
    scene->options.dry_run = TRUE;
    scene->options.confirm = NULL;
    g_clear_error(&error);
    assert_false(scene_run(scene, &error));
    scene->options.dry_run = FALSE;
    scene->options.confirm = hash;
    scene_sync(scene);
    assert_int_equal(scene->stats.files_deleted, 150);
    scene_check(scene, "mirror/");
    /* A plan that no check minds is carried out, whatever plan was confirmed. */
    scene_file(scene, "many/one", 3, 1, 0);
    scene_sync(scene);
    assert_int_equal(scene->stats.files_uploaded, 1);
}

static void test_dry_run(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene->options.dry_run = TRUE;
    scene_sync(scene);
    assert_int_equal(scene_count(scene, ""), 0);
    assert_int_equal(scene_writes(scene), 0);
    assert_int_equal(scene->stats.files_uploaded, 9);
    assert_int_equal(scene->collector->items->len, 9);
    assert_true(scene->stats.counts.requests[STORE_REQUEST_PUT] >= 9);
    scene->options.dry_run = FALSE;
    scene_sync(scene);
    scene_check(scene, "mirror/");
}

static void test_unreadable_source(void **state)
{
    Scene *scene = *state;
    g_autoptr(GError) error = NULL;
    scene->options.source = "/nonexistent/source";
    assert_false(scene_run(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
}

static void put_lock(Scene *scene, const char *host, gint64 renewed)
{
    g_autofree char *text = g_strdup_printf(
        "{\"version\":1,\"id\":\"x\",\"host\":\"%s\",\"pid\":1,\"started\":1,\"renewed\":%" G_GINT64_FORMAT "}", host,
        renewed);
    StoreBody body = {.data = text, .length = strlen(text)};
    StorePut how = {0};
    assert_true(store_put(scene->store, "mirror/.backapp/lock", &body, &how, NULL, NULL));
}

static void test_lock_of_another_host(void **state)
{
    Scene *scene = *state;
    g_autoptr(GError) error = NULL;
    gint64 now = g_get_real_time() / G_USEC_PER_SEC;
    make_tree(scene);
    put_lock(scene, "elsewhere", now - 30);
    assert_false(scene_run(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
    assert_int_equal(scene_count(scene, "mirror/"), 1);
    put_lock(scene, "elsewhere", now - 3600);
    scene_sync(scene);
    assert_int_equal(collector_warned(scene->collector, "taken over"), 1);
    assert_false(scene_has(scene, "mirror/.backapp/lock"));
    scene_check(scene, "mirror/");
    /* Rubbish in its place is nobody's lock. */
    StoreBody body = {.data = "rubbish", .length = 7};
    StorePut how = {0};
    assert_true(store_put(scene->store, "mirror/.backapp/lock", &body, &how, NULL, NULL));
    scene_file(scene, "more", 5, 5, 0);
    scene_sync(scene);
    scene_check(scene, "mirror/");
}

/* Another machine writes: a catalogue that is not listed against must not be believed. */
static void test_generation_forces_a_list(void **state)
{
    Scene *scene = *state;
    make_tree(scene);
    scene->options.relist_days = 30;
    scene_sync(scene);
    StoreCounts before = {0};
    StoreCounts after = {0};
    store_counts(scene->store, &before);
    scene_sync(scene);
    store_counts(scene->store, &after);
    guint64 quiet = after.requests[STORE_REQUEST_LIST] - before.requests[STORE_REQUEST_LIST];
    g_autofree char *mine = g_strdup(scene->state);
    g_autofree char *other = g_build_filename(scene->path, "other", NULL);
    scene->options.state_dir = other;
    scene->options.delete_extraneous = TRUE;
    scene_remove(scene, "a.txt");
    scene_sync(scene);
    scene_file(scene, "a.txt", 10, 1, 1600000000);
    scene->options.state_dir = mine;
    store_counts(scene->store, &before);
    scene_sync(scene);
    store_counts(scene->store, &after);
    assert_true(after.requests[STORE_REQUEST_LIST] - before.requests[STORE_REQUEST_LIST] > quiet);
    assert_int_equal(scene->stats.files_uploaded, 1);
    scene_check(scene, "mirror/");
}

/* The line is cut at each request, before it or before its answer; then it is there again. */
static void test_line_cut_anywhere(void **state)
{
    Scene *scene = *state;
    scene->options.delete_extraneous = TRUE;
    scene->options.force = TRUE;
    scene->options.relist_days = 30;
    guint cut = 0;
    for (guint at = 1; at < 200; at += 3) {
        g_autoptr(GError) error = NULL;
        /* Each round changes, adds and removes something. */
        scene_file(scene, "changes", 100 + at, at, 1600000000 + at);
        scene_file(scene, at % 2 == 1 ? "d/odd" : "d/even", 50, at, 1600000000 + at);
        (void)unlinkat(scene->source_fd, at % 2 == 1 ? "d/even" : "d/odd", 0);
        scene_hook(scene, at, FALSE);
        gboolean good = scene_run(scene, &error);
        scene_unhook(scene);
        if (!good)
            assert_true(error_is(error, BACKAPP_ERROR_TRANSIENT));
        else
            scene_check(scene, "mirror/"); /* only the giving back of the lock may have failed */
        scene_sync(scene);
        scene_check(scene, "mirror/");
        cut += good ? 0 : 1;
        if (scene_boundaries() < at)
            break;
    }
    assert_true(cut > 5);
}

static guint32 next_random(guint32 *value)
{
    *value = *value * 1664525U + 1013904223U;
    return *value >> 8;
}

/* Random files come, change and go, run after run. */
static void test_random_trees(void **state)
{
    Scene *scene = *state;
    guint32 value = 4711;
    scene->options.delete_extraneous = TRUE;
    scene->options.force = TRUE;
    for (guint round = 0; round < 6; round++) {
        for (guint i = 0; i < 25; i++) {
            g_autofree char *path = g_strdup_printf("d%u/s-%u/f.%u", next_random(&value) % 4, next_random(&value) % 3,
                                                    next_random(&value) % 9);
            if (next_random(&value) % 4 == 0)
                (void)unlinkat(scene->source_fd, path, 0);
            else
                scene_file(scene, path, next_random(&value) % 5000, next_random(&value),
                           1600000000 + next_random(&value));
        }
        scene_sync(scene);
        scene_check(scene, "mirror/");
    }
}

/* What differs by store is tried with both; a directory waits for its disk. */
#define IN_MEMORY(test)                                                                                                \
    {                                                                                                                  \
#test, test, setup_memory, teardown, NULL                                                                      \
    }
#define BOTH(test)                                                                                                     \
    {#test "/memory", test, setup_memory, teardown, NULL},                                                             \
    {                                                                                                                  \
#test "/local", test, setup_local, teardown, NULL                                                              \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_first_run_and_nothing_changed),
        IN_MEMORY(test_without_catalogue),
        BOTH(test_changes),
        IN_MEMORY(test_time_only),
        IN_MEMORY(test_trash_off),
        BOTH(test_large_file_by_parts),
        IN_MEMORY(test_hard_links_of_large_files),
        IN_MEMORY(test_interrupted_upload_goes_on),
        IN_MEMORY(test_made_by_another_program),
        IN_MEMORY(test_lost_and_changed_objects_come_back),
        {"test_rotten_object/local", test_rotten_object, setup_local, teardown, NULL},
        BOTH(test_encrypted),
        IN_MEMORY(test_dates),
        IN_MEMORY(test_refusals),
        IN_MEMORY(test_dry_run),
        IN_MEMORY(test_unreadable_source),
        IN_MEMORY(test_lock_of_another_host),
        IN_MEMORY(test_generation_forces_a_list),
        IN_MEMORY(test_line_cut_anywhere),
        IN_MEMORY(test_random_trees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
