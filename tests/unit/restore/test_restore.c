#include "../base/cmocka_all.h"
#include "../mirror/collector.h"

#include "base/error.h"
#include "engine/restore/existing.h"
#include "engine/restore/restore.h"
#include "engine/s3sync/tree.h"
#include "store/drivers.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- system calls as those of a worse file system, or counted ---- */

static gboolean coarse_times; /* whole even seconds, as FAT has them */
static guint syncs;

static int set_times(int fd, const char *path, const struct timespec times[2], int flags)
{
    struct timespec kept[2] = {times[0], times[1]};
    for (guint i = 0; i < 2 && coarse_times; i++)
        kept[i] = (struct timespec){.tv_sec = times[i].tv_sec / 2 * 2};
    return (int)syscall(SYS_utimensat, fd, path, kept, flags);
}

int utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
    return set_times(fd, path, times, flags);
}

int futimens(int fd, const struct timespec times[2])
{
    return set_times(fd, NULL, times, 0);
}

int fdatasync(int fd) /* NOLINT: the name of the parameter in glibc is reserved */
{
    syncs++;
    return 0;
}

/* A store with one point, made of entries as a test wants them, and a target. */
typedef struct {
    char *path, *target;
    Store *store;
    TreeWriter *writer;
    Collector *collector;
    RestoreOptions options;
    RestoreStats stats;
} Scene;

static Scene *scene_new(void)
{
    Scene *scene = g_new0(Scene, 1);
    scene->path = g_dir_make_tmp("backapp-unit-XXXXXX", NULL);
    assert_non_null(scene->path);
    scene->target = g_build_filename(scene->path, "target", NULL);
    scene->store = store_memory_new();
    scene->writer = tree_writer_new(scene->store, NULL, NULL, NULL);
    scene->collector = collector_new();
    restore_options_default(&scene->options);
    scene->options.source.store = scene->store;
    scene->options.target = scene->target;
    scene->options.sink = &scene->collector->sink;
    scene->options.concurrency = 2;
    return scene;
}

static void scene_free(Scene *scene)
{
    char *argv[] = {(char *)"rm", (char *)"-rf", (char *)"--", scene->path, NULL};
    assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
    restore_stats_clear(&scene->stats);
    collector_free(scene->collector);
    tree_writer_free(scene->writer);
    store_free(scene->store);
    g_free(scene->target);
    g_free(scene->path);
    g_free(scene);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

static gint64 mtime = 1000;

static void put_entry(Scene *scene, S3Entry *entry, guint32 mode)
{
    entry->meta.mode = mode;
    entry->meta.uid = geteuid();
    entry->meta.gid = getegid();
    entry->meta.mtime_s = mtime;
    assert_true(tree_writer_put(scene->writer, entry, NULL));
}

static void put_dir(Scene *scene, const char *path)
{
    S3Entry entry = {.path = path};
    put_entry(scene, &entry, S_IFDIR | 0755);
}

static void put_symlink(Scene *scene, const char *path, const char *target)
{
    S3Entry entry = {.path = path, .target = target};
    put_entry(scene, &entry, S_IFLNK | 0777);
}

static void hash_of(const void *data, gsize length, guint8 digest[HASH_BYTES])
{
    Hash *hash = hash_new();
    hash_update(hash, data, length);
    hash_finish(hash, digest);
    hash_free(hash);
}

/* A file whose object holds `stored`, while the point knows the hash of `content` (NULL: of what is stored). */
static void put_file(Scene *scene, const char *path, const char *stored, const char *content, const char *link)
{
    content = content ? content : stored;
    g_autofree char *key = g_strdup_printf("object-%u", g_str_hash(path));
    g_auto(StoreResult) result = {0};
    StoreBody body = {.data = stored, .length = strlen(stored)};
    assert_true(store_put(scene->store, key, &body, NULL, &result, NULL));
    S3Entry entry = {.path = path, .key = key, .link = link, .object_size = strlen(stored), .part_size = 8 << 20};
    entry.meta.size = strlen(content);
    hash_of(content, strlen(content), entry.hash);
    put_entry(scene, &entry, S_IFREG | 0644);
}

static gboolean restore(Scene *scene, GError **error)
{
    if (scene->writer) {
        TreeRoot root = {.run_id = (char *)"run", .time = 1700000000, .source = (char *)"/s", .host = (char *)"h"};
        assert_true(tree_writer_commit(scene->writer, &root, NULL, NULL));
        g_clear_pointer(&scene->writer, tree_writer_free);
    }
    restore_stats_clear(&scene->stats);
    return restore_run(&scene->options, &scene->stats, error);
}

static char *content_of(const Scene *scene, const char *path)
{
    char *content = NULL;
    g_autofree char *whole = g_build_filename(scene->target, path, NULL);
    (void)g_file_get_contents(whole, &content, NULL, NULL);
    return content;
}

static gboolean outside_exists(const Scene *scene)
{
    g_autofree char *outside = g_build_filename(scene->path, "outside", NULL);
    return access(outside, F_OK) == 0;
}

static void test_files_folders_and_links(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_file(scene, "a", "one", NULL, NULL);
    put_file(scene, "b", "one", NULL, "a");
    put_dir(scene, "d");
    put_file(scene, "d/c", "two", NULL, NULL);
    put_symlink(scene, "l", "d/c");
    g_autoptr(GError) error = NULL;
    assert_true(restore(scene, &error));
    assert_int_equal(scene->stats.files_restored, 4);
    assert_false(scene->stats.partial);
    g_autofree char *c = content_of(scene, "d/c"), *b = content_of(scene, "b");
    assert_string_equal(c, "two");
    assert_string_equal(b, "one");
    assert_true(restore(scene, NULL));
    assert_int_equal(scene->stats.files_restored, 0);
    assert_int_equal(scene->stats.files_unchanged, 4);
}

/* Lists of files that nobody's backup wrote. */
static void test_nothing_outside_is_touched(void **state)
{
    static const char *const paths[] = {"../outside", "d/../../outside", "/outside", "d//x", "./x", "d/.", "d/..",
                                        "d/"};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(Scene) scene = scene_new();
        put_dir(scene, "");
        put_dir(scene, "d");
        put_file(scene, paths[i], "evil", NULL, NULL);
        g_autoptr(GError) error = NULL;
        assert_false(restore(scene, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
        assert_false(outside_exists(scene));
    }
}

static void test_no_link_goes_outside(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *outside = g_build_filename(scene->path, "outside", NULL);
    assert_true(g_file_set_contents(outside, "mine", -1, NULL));
    put_dir(scene, "");
    put_file(scene, "x", "evil", NULL, "../outside");
    g_autoptr(GError) error = NULL;
    assert_false(restore(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void test_a_symlink_of_the_point_is_not_followed(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *folder = g_build_filename(scene->path, "elsewhere", NULL);
    assert_int_equal(g_mkdir(folder, 0700), 0);
    put_dir(scene, "");
    put_symlink(scene, "d", "../elsewhere");
    put_file(scene, "d/outside", "evil", NULL, NULL);
    g_autoptr(GError) error = NULL;
    (void)restore(scene, &error);
    g_autofree char *file = g_build_filename(folder, "outside", NULL);
    assert_int_not_equal(access(file, F_OK), 0);
}

static void test_wrong_content_is_not_put_in_place(void **state)
{
    static const char *const stored[] = {"twX", "tw", "twoo", ""};
    for (guint i = 0; i < G_N_ELEMENTS(stored); i++) {
        g_autoptr(Scene) scene = scene_new();
        put_dir(scene, "");
        put_file(scene, "a", "one", NULL, NULL);
        put_file(scene, "b", stored[i], "two", NULL);
        assert_true(restore(scene, NULL));
        assert_true(scene->stats.partial);
        assert_int_equal(scene->stats.damaged + scene->stats.missing, 1);
        g_autofree char *a = content_of(scene, "a"), *b = content_of(scene, "b");
        assert_string_equal(a, "one");
        assert_null(b);
    }
}

/* What was there before a file could not be fetched stays, and no further name is linked to it. */
static void test_a_failed_first_name_is_not_linked_to(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_file(scene, "a", "twX", "two", NULL);
    put_file(scene, "b", "two", NULL, "a");
    assert_int_equal(g_mkdir(scene->target, 0700), 0);
    g_autofree char *old = g_build_filename(scene->target, "a", NULL);
    assert_true(g_file_set_contents(old, "something old", -1, NULL));
    assert_true(restore(scene, NULL));
    g_autofree char *a = content_of(scene, "a"), *b = content_of(scene, "b");
    assert_string_equal(a, "something old");
    assert_string_equal(b, "two");
    assert_true(scene->stats.partial);
}

static void test_no_temporary_files_are_left(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_file(scene, "a", "twX", "two", NULL);
    put_file(scene, "b", "two", NULL, NULL);
    assert_true(restore(scene, NULL));
    g_autoptr(GDir) dir = g_dir_open(scene->target, 0, NULL);
    assert_string_equal(g_dir_read_name(dir), "b");
    assert_null(g_dir_read_name(dir));
}

static void test_a_dry_run_makes_nothing(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_file(scene, "a", "one", NULL, NULL);
    scene->options.dry_run = TRUE;
    assert_true(restore(scene, NULL));
    assert_int_equal(scene->stats.files_restored, 1);
    assert_int_equal(scene->collector->items->len, 1);
    assert_int_not_equal(access(scene->target, F_OK), 0);
}

/* Makes `count` files below the target. */
static void fill_target(const Scene *scene, const char *folder, guint count)
{
    g_autofree char *path = g_build_filename(scene->target, folder, NULL);
    assert_int_equal(g_mkdir_with_parents(path, 0700), 0);
    for (guint i = 0; i < count; i++) {
        g_autofree char *name = g_strdup_printf("%s/%u", path, i);
        assert_true(g_file_set_contents(name, "x", -1, NULL));
    }
}

static gboolean has_item(const Scene *scene, const char *text)
{
    for (guint i = 0; i < scene->collector->items->len; i++)
        if (strcmp(g_ptr_array_index(scene->collector->items, i), text) == 0)
            return TRUE;
    return FALSE;
}

/* One folder that would go counts for all that is in it. */
static void test_deletions_count_what_is_below(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_file(scene, "a", "one", NULL, NULL);
    fill_target(scene, "own/deep", 120);
    scene->options.delete_extraneous = TRUE;
    g_autoptr(GError) error = NULL;
    assert_false(restore(scene, &error));
    assert_true(scene->stats.refused);
    assert_non_null(strstr(error->message, "122 of 122 entries"));
    assert_true(has_item(scene, "delete directory own 0 122"));
    fill_target(scene, "own/deep", 1);
    scene->options.force = TRUE;
    assert_true(restore(scene, NULL));
    g_autofree char *left = content_of(scene, "own/deep/0");
    assert_null(left);
}

/* Nor does a folder go unasked because something else is to be in its place. */
static void test_deletions_count_folders_that_make_room(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_file(scene, "own", "one", NULL, NULL);
    fill_target(scene, "own", 120);
    scene->options.delete_extraneous = TRUE;
    assert_false(restore(scene, NULL));
    assert_true(scene->stats.refused);
    scene->options.force = TRUE;
    assert_true(restore(scene, NULL));
    g_autofree char *content = content_of(scene, "own");
    assert_string_equal(content, "one");
}

static void test_coarse_times_are_known(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    coarse_times = TRUE;
    mtime = 1001;
    put_dir(scene, "");
    put_file(scene, "a", "one", NULL, NULL);
    gboolean fine = restore(scene, NULL);
    fine = restore(scene, NULL) && fine;
    coarse_times = FALSE;
    mtime = 1000;
    assert_true(fine);
    assert_int_equal(scene->stats.files_restored, 0);
    assert_int_equal(scene->stats.files_unchanged, 1);
    /* Where times are exact a second is a difference. */
    assert_true(restore(scene, NULL));
    assert_int_equal(scene->stats.files_restored, 1);
}

/* Of what replaces something the old name may get the new size and time before the content is there. */
static void test_contents_reach_the_disk_before_names(void **state)
{
    static const struct {
        const char *before; /* NULL: nothing */
        guint syncs;
    } cases[] = {{NULL, 0}, {"an old one", 1}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(Scene) scene = scene_new();
        put_dir(scene, "");
        put_file(scene, "a", "one", NULL, NULL);
        assert_int_equal(g_mkdir(scene->target, 0700), 0);
        g_autofree char *old = g_build_filename(scene->target, "a", NULL);
        assert_true(!cases[i].before || g_file_set_contents(old, cases[i].before, -1, NULL));
        syncs = 0;
        assert_true(restore(scene, NULL));
        assert_int_equal(scene->stats.files_restored, 1);
        assert_int_equal(syncs, cases[i].syncs);
    }
}

static void put_bytes(Scene *scene, const char *path, const char *link, const guint8 *data, gsize length)
{
    g_auto(StoreResult) result = {0};
    StoreBody body = {.data = data, .length = length};
    assert_true(store_put(scene->store, path, &body, NULL, &result, NULL));
    S3Entry entry = {.path = path, .key = path, .link = link, .object_size = length, .part_size = 8 << 20};
    entry.meta.size = length;
    hash_of(data, length, entry.hash);
    put_entry(scene, &entry, S_IFREG | 0644);
}

static void test_files_that_end_in_a_hole_reach_the_disk(void **state)
{
    static const guint8 zeroes[8192];
    guint8 data[8192] = "x";
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_bytes(scene, "hole", NULL, data, sizeof data);
    put_bytes(scene, "only-hole", NULL, zeroes, sizeof zeroes);
    syncs = 0;
    assert_true(restore(scene, NULL));
    assert_int_equal(scene->stats.files_restored, 2);
    assert_int_equal(syncs, 1);
}

/* Bytes that this process read so far; 0 if the kernel does not tell. */
static guint64 bytes_read(void)
{
    g_autofree char *text = NULL;
    gboolean told = g_file_get_contents("/proc/self/io", &text, NULL, NULL) && g_str_has_prefix(text, "rchar: ");
    return told ? g_ascii_strtoull(text + strlen("rchar: "), NULL, 10) : 0;
}

static void test_one_content_is_read_once(void **state)
{
    const gsize length = 1 << 20;
    g_autofree guint8 *data = g_malloc(length);
    memset(data, 'x', length);
    if (bytes_read() == 0) {
        print_message("skipped: no /proc/self/io\n");
        skip();
    }
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_bytes(scene, "a", NULL, data, length);
    for (const char *name = "b\0c\0d\0e\0"; *name; name += 2)
        put_bytes(scene, name, "a", data, length);
    assert_true(restore(scene, NULL));
    g_autofree char *last = g_build_filename(scene->target, "e", NULL);
    assert_int_equal(g_unlink(last), 0);
    scene->options.checksum = TRUE;
    guint64 before = bytes_read();
    assert_true(restore(scene, NULL));
    assert_int_equal(scene->stats.files_restored, 1);
    assert_int_equal(scene->stats.files_unchanged, 4);
    assert_true(bytes_read() - before < 2 * length);
}

/* Linux's own: a file of no length whose first byte cannot be read. */
static void test_what_cannot_be_read_is_fetched(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    int fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    scene->options.checksum = TRUE;
    const RestoreSourceOps ops = {.free = NULL};
    RestoreSource source = {.ops = &ops};
    RestoreRun run = {.options = &scene->options, .source = &source, .root_fd = fd, .granularity_ns = 1};
    S3Entry entry = {.path = "mem", .part_size = 8 << 20};
    entry.meta.mode = S_IFREG | 0600;
    Existing existing = EXISTING_RIGHT;
    g_autoptr(GError) error = NULL;
    assert_true(existing_compare(&run, fd, "mem", &entry, NULL, &existing, NULL, &error));
    assert_int_equal(existing, EXISTING_REPLACE);
    assert_int_equal(collector_warned(scene->collector, "cannot read mem"), 1);
    (void)close(fd);
}

static void test_points_and_their_times(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    put_file(scene, "a", "one", NULL, NULL);
    assert_true(restore(scene, NULL));
    g_autoptr(GPtrArray) points = restore_points(&scene->options.source, NULL);
    assert_int_equal(points->len, 1);
    const RestorePoint *point = g_ptr_array_index(points, 0);
    assert_int_equal(point->time, 1700000000);
    static const struct {
        const char *at;
        gboolean found;
    } cases[] = {{"latest", TRUE},     {"2023-11-14T22:13:20Z", TRUE}, {"2023-11-14T221320Z", TRUE},
                 {"2030-01-01", TRUE}, {"2023-11-13", FALSE},          {"2023-11-14T22:13:19Z", FALSE},
                 {"yesterday", FALSE}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        scene->options.source.at = cases[i].at;
        assert_int_equal(restore(scene, &error), cases[i].found);
        assert_true(cases[i].found || error_is(error, BACKAPP_ERROR_NOT_FOUND));
    }
    scene->options.source.at = point->name;
    assert_true(restore(scene, NULL));
}

/* The root of a point that the store is said to have had since a time. */
static void put_point(Scene *scene, const char *folder, gint64 time)
{
    g_autofree char *prefix = g_strconcat(folder, "/", NULL);
    g_autoptr(Store) below = store_prefix_borrow(scene->store, prefix);
    g_autoptr(TreeWriter) writer = tree_writer_new(below, NULL, NULL, NULL);
    S3Entry entry = {.path = ""};
    entry.meta.mode = S_IFDIR | 0755;
    assert_true(tree_writer_put(writer, &entry, NULL));
    TreeRoot root = {.run_id = (char *)"run", .time = time, .source = (char *)"/s", .host = (char *)"h", .files = 7};
    assert_true(tree_writer_commit(writer, &root, NULL, NULL));
}

static void test_points_of_folders(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(GPtrArray) none = restore_points(&scene->options.source, NULL);
    assert_int_equal(none->len, 0);
    StoreBody body = {.data = "x", .length = 1};
    static const char *const keys[] = {"a", "2026-11-19x", "2026-11-21/photo", "z/photo"};
    for (guint i = 0; i < G_N_ELEMENTS(keys); i++) {
        g_auto(StoreResult) result = {0};
        assert_true(store_put(scene->store, keys[i], &body, NULL, &result, NULL));
    }
    put_point(scene, "2026-11-19", 1700000000);
    put_point(scene, "2026-11-20", 1700086400);
    put_point(scene, "host", 1700090000);
    g_autoptr(GPtrArray) points = restore_points(&scene->options.source, NULL);
    static const char *const folders[] = {"host", "2026-11-20", "2026-11-19"};
    assert_int_equal(points->len, G_N_ELEMENTS(folders));
    for (guint i = 0; i < points->len; i++) {
        const RestorePoint *point = g_ptr_array_index(points, i);
        assert_string_equal(point->folder, folders[i]);
        assert_int_equal(point->files, 7);
    }
    /* A store with points of its own is asked for no others. */
    put_dir(scene, "");
    assert_true(restore(scene, NULL));
    g_autoptr(GPtrArray) own = restore_points(&scene->options.source, NULL);
    assert_int_equal(own->len, 1);
    assert_null(((RestorePoint *)g_ptr_array_index(own, 0))->folder);
}

static void test_a_damaged_point_hides_no_other(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    put_dir(scene, "");
    assert_true(restore(scene, NULL));
    g_auto(StoreResult) result = {0};
    StoreBody body = {.data = "rubbish", .length = 7};
    assert_true(store_put(scene->store, ".backapp/tree/roots/9999999999-20261120T020000Z-00000000", &body, NULL,
                          &result, NULL));
    g_autoptr(GPtrArray) points = restore_points(&scene->options.source, NULL);
    assert_non_null(points);
    assert_int_equal(points->len, 2);
    const RestorePoint *newest = g_ptr_array_index(points, 0), *sound = g_ptr_array_index(points, 1);
    assert_string_equal(newest->name, "9999999999-20261120T020000Z-00000000");
    assert_non_null(newest->problem);
    assert_null(sound->problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_folders_and_links),
        cmocka_unit_test(test_nothing_outside_is_touched),
        cmocka_unit_test(test_no_link_goes_outside),
        cmocka_unit_test(test_a_symlink_of_the_point_is_not_followed),
        cmocka_unit_test(test_wrong_content_is_not_put_in_place),
        cmocka_unit_test(test_a_failed_first_name_is_not_linked_to),
        cmocka_unit_test(test_no_temporary_files_are_left),
        cmocka_unit_test(test_a_dry_run_makes_nothing),
        cmocka_unit_test(test_deletions_count_what_is_below),
        cmocka_unit_test(test_deletions_count_folders_that_make_room),
        cmocka_unit_test(test_coarse_times_are_known),
        cmocka_unit_test(test_contents_reach_the_disk_before_names),
        cmocka_unit_test(test_files_that_end_in_a_hole_reach_the_disk),
        cmocka_unit_test(test_one_content_is_read_once),
        cmocka_unit_test(test_what_cannot_be_read_is_fetched),
        cmocka_unit_test(test_points_and_their_times),
        cmocka_unit_test(test_points_of_folders),
        cmocka_unit_test(test_a_damaged_point_hides_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
