#include "../s3sync/plan_scene.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

/* What a scan handed on: "path" of directories and others, "path=key" of files, in order. */
typedef struct {
    GPtrArray *lines;  /* of char * */
    GPtrArray *places; /* of char *: key, a directory's with a slash */
    GPtrArray *links;  /* of char *: "path>link" */
    const S3Names *names;
} Collected;

static void collected_clear(Collected *collected)
{
    g_ptr_array_unref(collected->lines);
    g_ptr_array_unref(collected->places);
    g_ptr_array_unref(collected->links);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Collected, collected_clear)

static char *place_of(const S3Names *names, const S3Entry *entry)
{
    GString *key = g_string_new(NULL);
    g_auto(GStrv) parts = g_strsplit(entry->path, "/", -1);
    for (guint i = 0; parts[i] != NULL && entry->path[0] != '\0'; i++) {
        g_autofree char *parent = g_strdup(key->str);
        g_string_truncate(key, 0);
        names_child_key(names, parent, parts[i], key);
    }
    if (S_ISDIR(entry->meta.mode) && key->len > 0)
        g_string_append_c(key, '/');
    return g_string_free(key, FALSE);
}

static gboolean collect(const S3Entry *entry, gpointer user_data, GError **error)
{
    Collected *collected = user_data;
    (void)error;
    char *place = place_of(collected->names, entry);
    if (entry->key != NULL)
        assert_string_equal(entry->key, place);
    g_ptr_array_add(collected->places, place);
    g_ptr_array_add(collected->lines, g_strconcat(entry->path, entry->key != NULL ? "=" : NULL, entry->key, NULL));
    if (entry->link != NULL)
        g_ptr_array_add(collected->links, g_strconcat(entry->path, ">", entry->link, NULL));
    return TRUE;
}

static Collected scan_all(Scene *scene)
{
    Collected collected = {.names = scene->names};
    collected.lines = g_ptr_array_new_with_free_func(g_free);
    collected.places = g_ptr_array_new_with_free_func(g_free);
    collected.links = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    scan_stats_clear(&scene->stats);
    if (!scan_run(&scene->scan, collect, &collected, &scene->stats, &error))
        fail_msg("%s", error->message);
    return collected;
}

static void assert_sorted(const Collected *collected)
{
    for (guint i = 1; i < collected->places->len; i++)
        assert_true(strcmp(g_ptr_array_index(collected->places, i - 1), g_ptr_array_index(collected->places, i)) < 0);
}

static void assert_lines(const Collected *collected, const char *want)
{
    g_ptr_array_add(collected->lines, NULL);
    g_autofree char *have = g_strjoinv(", ", (char **)collected->lines->pdata);
    assert_string_equal(have, want);
}

static void test_order_and_kinds(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "a/x", "1", 1);
    scene_write(scene, "a-b", "1", 1);
    scene_write(scene, "a.txt", "1", 1);
    scene_write(scene, "a/y/z", "1", 1);
    scene_write(scene, "\xff", "1", 1);
    assert_int_equal(symlinkat("a", scene->source_fd, "b-link"), 0);
    assert_int_equal(mkfifoat(scene->source_fd, "c-fifo", 0600), 0);
    assert_true(dir_make_path(scene->source_fd, "empty", 0700, NULL));
    g_auto(Collected) collected = scan_all(scene);
    assert_sorted(&collected);
    assert_true(scene->stats.files == 7 && scene->stats.directories == 4 && scene->stats.bytes == 5);
    assert_lines(&collected,
                 ", a-b=a-b, a.txt=a.txt, a, a/x=a/x, a/y, a/y/z=a/y/z, b-link, c-fifo, empty, \xff=\xe2\x80\x9b"
                 "FF");
}

static gboolean check_details(const S3Entry *entry, gpointer user_data, GError **error)
{
    guint *seen = user_data;
    (void)error;
    if (strcmp(entry->path, "link") == 0) {
        assert_string_equal(entry->target, "over there");
        assert_true(S_ISLNK(entry->meta.mode) && entry->key == NULL);
        *seen |= 1;
    }
    if (strcmp(entry->path, "file") == 0) {
        assert_true(entry->meta.mtime_s == 77 && entry->meta.size == 3);
        assert_true(geteuid() != 0 || g_strcmp0(entry->user, "root") == 0);
        *seen |= 2;
        if (entry->attrs_length > 0) {
            BytesReader in = bytes_reader(entry->attrs, entry->attrs_length);
            const Attrs *attrs ATTRS_AUTO = attrs_decode(&in, NULL);
            assert_true(attrs != NULL && !attrs_is_empty(attrs));
            *seen |= 4;
        }
    }
    return TRUE;
}

static void test_details(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "file", "abc", 77);
    assert_int_equal(symlinkat("over there", scene->source_fd, "link"), 0);
    AutoFd fd = openat(scene->source_fd, "file", O_RDONLY | O_CLOEXEC);
    gboolean kept = fsetxattr(fd, "user.test", "value", 5, 0) == 0;
    guint seen = 0;
    assert_true(scan_run(&scene->scan, check_details, &seen, &scene->stats, NULL));
    assert_int_equal(seen, kept ? 7 : 3);
    scene->scan.metadata = FALSE;
    seen = 0;
    scan_stats_clear(&scene->stats);
    assert_true(scan_run(&scene->scan, check_details, &seen, &scene->stats, NULL));
    assert_int_equal(seen, 3);
}

static void test_hard_links_name_the_first(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    scene_write(scene, "b/first", "x", 1);
    assert_int_equal(linkat(scene->source_fd, "b/first", scene->source_fd, "b/second", 0), 0);
    assert_true(dir_make_path(scene->source_fd, "c", 0700, NULL));
    assert_int_equal(linkat(scene->source_fd, "b/first", scene->source_fd, "c/third", 0), 0);
    scene_write(scene, "d", "x", 1);
    assert_int_equal(linkat(scene->source_fd, "d", scene->scratch->fd, "outside", 0), 0);
    g_auto(Collected) collected = scan_all(scene);
    assert_int_equal(collected.links->len, 2);
    assert_string_equal(g_ptr_array_index(collected.links, 0), "b/second>b/first");
    assert_string_equal(g_ptr_array_index(collected.links, 1), "c/third>b/first");
}

/* Names of bytes that encoding changes, with folders whose slash matters in the order. */
static void make_odd_tree(Scene *scene)
{
    static const char *const PIECES[] = {"a", "-", ".",       " ", "\x01", "\xff", "\xc3\xa9", "\xe2\x80\x9b",
                                         "0", "~", "\xf0\x9f"};
    g_autoptr(GRand) random = g_rand_new_with_seed(3);
    g_autoptr(GPtrArray) folders = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(folders, g_strdup(""));
    for (guint i = 0; i < 600; i++) {
        const char *folder = g_ptr_array_index(folders, (guint)g_rand_int_range(random, 0, (gint)folders->len));
        g_autoptr(GString) path = g_string_new(folder);
        for (gint n = g_rand_int_range(random, 1, 4); n > 0; n--)
            g_string_append(path, PIECES[g_rand_int_range(random, 0, G_N_ELEMENTS(PIECES))]);
        g_autofree char *name = g_path_get_basename(path->str);
        struct stat st;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || fstatat(scene->source_fd, path->str, &st, 0) == 0)
            continue;
        if (g_rand_int_range(random, 0, 4) > 0) {
            scene_write(scene, path->str, "", 1);
        } else {
            assert_int_equal(mkdirat(scene->source_fd, path->str, 0700), 0);
            g_ptr_array_add(folders, g_strconcat(path->str, "/", NULL));
        }
    }
}

static void test_order_is_that_of_keys(void **state)
{
    for (guint encrypted = 0; encrypted < 2; encrypted++) {
        g_autoptr(Scene) scene = scene_new(*state, encrypted ? "p/" : "q/", encrypted != 0);
        if (!encrypted)
            make_odd_tree(scene);
        for (guint threads = 1; threads < 5; threads += 3) {
            scene->scan.threads = threads;
            g_auto(Collected) collected = scan_all(scene);
            assert_true(collected.lines->len > 400);
            assert_sorted(&collected);
        }
    }
}

static void test_patterns_and_limits(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    assert_true(pattern_list_add(scene->patterns, FALSE, "*.tmp", NULL));
    assert_true(pattern_list_add(scene->patterns, FALSE, "out/", NULL));
    scene->scan.exclude_larger_than = 2;
    scene_write(scene, "x.tmp", "1", 1);
    scene_write(scene, "out/in", "1", 1);
    scene_write(scene, "large", "123", 1);
    scene_write(scene, "d/out", "1", 1);
    g_auto(Collected) collected = scan_all(scene);
    assert_lines(&collected, ", d, d/out=d/out");
    assert_true(scene->stats.skipped == 1 && scene_warned(scene, "skipped large") && !scene->stats.partial);
    assert_int_equal(scene->stats.unread->len, 1);
    assert_string_equal(g_ptr_array_index(scene->stats.unread, 0), "large");
}

static int scan_other_file_system(Scratch *scratch)
{
    g_autoptr(Scene) scene = scene_new(scratch, "p/", FALSE);
    scene_write(scene, "mounted/under", "x", 1);
    if (!mount_private_tmpfs(scratch, "source/mounted", "size=64k"))
        return CHILD_SKIPS;
    (void)close(scene->source_fd);
    scene->source_fd = scene->scan.root_fd = dir_open(scratch->fd, "source", NULL);
    scene_write(scene, "mounted/inside", "x", 1);
    g_auto(Collected) all = scan_all(scene);
    CHECK(all.lines->len == 3);
    scene->scan.one_file_system = TRUE;
    g_auto(Collected) one = scan_all(scene);
    CHECK(one.lines->len == 2 && strcmp(g_ptr_array_index(one.lines, 1), "mounted") == 0);
    CHECK(scene->stats.unread->len == 1 && strcmp(g_ptr_array_index(scene->stats.unread, 0), "mounted/") == 0);
    return 0;
}

static void test_one_file_system(void **state)
{
    RUN_CHILD(scan_other_file_system, *state);
}

static void test_a_missing_or_cancelled_source_fails(void **state)
{
    g_autoptr(Scene) scene = scene_new(*state, "p/", FALSE);
    g_autoptr(GError) error = NULL;
    CancelFlag cancel = {0};
    Collected collected = {.names = scene->names};
    cancel_set(&cancel);
    scene->scan.cancel = &cancel;
    scene_write(scene, "f", "x", 1);
    assert_false(scan_run(&scene->scan, collect, &collected, &scene->stats, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    g_clear_error(&error);
    scan_stats_clear(&scene->stats);
    scene->scan.cancel = NULL;
    scene->scan.root_fd = -1;
    assert_false(scan_run(&scene->scan, collect, &collected, &scene->stats, &error));
    assert_non_null(error);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_order_and_kinds),
        SCRATCH_TEST(test_details),
        SCRATCH_TEST(test_hard_links_name_the_first),
        SCRATCH_TEST(test_order_is_that_of_keys),
        SCRATCH_TEST(test_patterns_and_limits),
        SCRATCH_TEST(test_one_file_system),
        SCRATCH_TEST(test_a_missing_or_cancelled_source_fails),
    };
    return cmocka_run_group_tests_name("source/scan", tests, NULL, NULL);
}
