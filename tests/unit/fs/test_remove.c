#include "scratch.h"

#include <sys/resource.h>

#define DEEP 3000

/* Makes a chain of directories, a file in some. */
static gboolean make_chain(int dir_fd, guint depth)
{
    AutoFd current = dir_open(dir_fd, "", NULL);
    for (guint i = 0; i < depth; i++) {
        if (mkdirat(current, "level", 0700) != 0)
            return FALSE;
        int next = openat(current, "level", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        fd_clear(&current);
        current = next;
        if (i % 16 == 0 && mknodat(current, "file", S_IFREG | 0600, 0) != 0)
            return FALSE;
    }
    return TRUE;
}

static gboolean exists(int dir_fd, const char *name)
{
    return faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void test_nothing_there_is_success(void **state)
{
    Scratch *scratch = *state;
    assert_true(remove_tree(scratch->fd, "missing", FALSE, NULL, NULL));
    assert_true(remove_tree(scratch->fd, "missing", TRUE, NULL, NULL));
}

static void test_files_and_links_alone(void **state)
{
    Scratch *scratch = *state;
    assert_int_equal(mkdirat(scratch->fd, "directory", 0700), 0);
    put_file(scratch->fd, "directory/kept", "x", 1);
    put_file(scratch->fd, "file", "x", 1);
    assert_int_equal(symlinkat("directory", scratch->fd, "link"), 0);
    assert_int_equal(symlinkat("nowhere", scratch->fd, "dangling"), 0);
    static const char *const names[] = {"file", "link", "dangling"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(remove_tree(scratch->fd, names[i], TRUE, NULL, &error));
        assert_non_null(error);
        assert_true(remove_tree(scratch->fd, names[i], FALSE, NULL, NULL));
        assert_false(exists(scratch->fd, names[i]));
    }
    assert_true(exists(scratch->fd, "directory/kept"));
}

static void make_tree(int fd)
{
    assert_int_equal(mkdirat(fd, "outside", 0700), 0);
    put_file(fd, "outside/kept", "x", 1);
    assert_true(dir_make_path(fd, "tree/a/b/c", 0700, NULL));
    assert_true(dir_make_path(fd, "tree/a/empty", 0700, NULL));
    assert_true(dir_make_path(fd, "tree/\xff\xfe", 0700, NULL));
    put_file(fd, "tree/a/b/c/file", "x", 1);
    put_file(fd, "tree/a/.hidden", "x", 1);
    assert_int_equal(linkat(fd, "outside/kept", fd, "tree/hard", 0), 0);
    assert_int_equal(symlinkat("../outside", fd, "tree/soft"), 0);
    assert_int_equal(symlinkat("../../outside", fd, "tree/a/soft"), 0);
    assert_int_equal(mkfifoat(fd, "tree/a/b/fifo", 0600), 0);
}

static void test_a_tree_with_links_out_of_it(void **state)
{
    Scratch *scratch = *state;
    make_tree(scratch->fd);
    assert_true(remove_tree(scratch->fd, "tree", FALSE, NULL, NULL));
    assert_false(exists(scratch->fd, "tree"));
    assert_true(exists(scratch->fd, "outside/kept"));
    assert_int_equal(count_names(scratch->fd), 1);
}

static guint64 count(int dir_fd, const char *name)
{
    guint64 entries = 1000;
    assert_true(remove_count(dir_fd, name, NULL, &entries, NULL));
    return entries;
}

static void test_counting_changes_nothing(void **state)
{
    Scratch *scratch = *state;
    make_tree(scratch->fd);
    assert_int_equal(count(scratch->fd, "tree"), 12);
    assert_int_equal(count(scratch->fd, "outside"), 2);
    assert_int_equal(count(scratch->fd, "missing"), 0);
    AutoFd tree = dir_open(scratch->fd, "tree", NULL);
    assert_int_equal(count(tree, "hard"), 1);
    assert_int_equal(count(tree, "soft"), 1);
    fd_clear(&tree);
    assert_int_equal(count(scratch->fd, "tree"), 12);
    CancelFlag cancel = {0};
    cancel_set(&cancel);
    guint64 entries;
    g_autoptr(GError) error = NULL;
    assert_false(remove_count(scratch->fd, "tree", &cancel, &entries, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

static void test_the_top_can_stay(void **state)
{
    Scratch *scratch = *state;
    make_tree(scratch->fd);
    assert_true(remove_tree(scratch->fd, "tree", TRUE, NULL, NULL));
    AutoFd tree = dir_open(scratch->fd, "tree", NULL);
    assert_true(tree >= 0);
    assert_int_equal(count_names(tree), 0);
    assert_true(remove_tree(scratch->fd, "", TRUE, NULL, NULL));
    assert_int_equal(count_names(scratch->fd), 0);
}

static int deep_with_few_descriptors(Scratch *scratch)
{
    struct rlimit few = {.rlim_cur = 100, .rlim_max = 100};
    CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
    guint64 entries;
    CHECK(remove_count(scratch->fd, "level", NULL, &entries, NULL) && entries == DEEP + (DEEP + 15) / 16);
    g_autoptr(GError) error = NULL;
    gboolean removed = remove_tree(scratch->fd, "level", FALSE, NULL, &error);
    if (!removed)
        (void)fprintf(stderr, "%s\n", error->message);
    CHECK(removed && !exists(scratch->fd, "level"));
    return 0;
}

static void test_deep_trees_need_few_descriptors(void **state)
{
    Scratch *scratch = *state;
    assert_true(make_chain(scratch->fd, DEEP));
    RUN_CHILD(deep_with_few_descriptors, scratch);
}

static int without_permission(Scratch *scratch)
{
    CHECK(fchmod(scratch->fd, 0777) == 0);
    CHECK(become_nobody());
    CHECK(dir_make_path(scratch->fd, "tree/a/b", 0700, NULL));
    CHECK(mknodat(scratch->fd, "tree/a/b/file", S_IFREG, 0) == 0);
    CHECK(dir_make_path(scratch->fd, "tree/c/d", 0700, NULL));
    static const char *const paths[] = {"tree/a/b", "tree/a", "tree/c/d", "tree/c", "tree"};
    static const mode_t modes[] = {0000, 0000, 0500, 0400, 0000};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++)
        CHECK(fchmodat(scratch->fd, paths[i], modes[i], 0) == 0);
    g_autoptr(GError) error = NULL;
    gboolean removed = remove_tree(scratch->fd, "tree", FALSE, NULL, &error);
    if (!removed)
        (void)fprintf(stderr, "%s\n", error->message);
    CHECK(removed && !exists(scratch->fd, "tree"));
    return 0;
}

static void test_directories_without_permission(void **state)
{
    RUN_CHILD(without_permission, *state);
}

static int of_another_user(Scratch *scratch)
{
    if (geteuid() != 0) {
        (void)fprintf(stderr, "skipped: needs root\n");
        return CHILD_SKIPS;
    }
    CHECK(fchmod(scratch->fd, 0777) == 0 && mkdirat(scratch->fd, "theirs", 0755) == 0);
    CHECK(mknodat(scratch->fd, "theirs/file", S_IFREG | 0600, 0) == 0);
    CHECK(become_nobody());
    g_autoptr(GError) error = NULL;
    CHECK(!remove_tree(scratch->fd, "theirs", FALSE, NULL, &error));
    CHECK(error_is(error, BACKAPP_ERROR_DENIED) && strstr(error->message, "file"));
    return 0;
}

static void test_what_is_not_ours_is_denied(void **state)
{
    RUN_CHILD(of_another_user, *state);
}

static int with_a_mount_inside(Scratch *scratch)
{
    CHECK(dir_make_path(scratch->fd, "tree/sub/mounted", 0700, NULL));
    if (!mount_private_tmpfs(scratch, "tree/sub/mounted", "size=64k"))
        return CHILD_SKIPS;
    g_autofree char *path = g_strconcat(scratch->path, "/tree/sub/mounted", NULL);
    g_autofree char *file = g_strconcat(path, "/file", NULL);
    CHECK(mknod(file, S_IFREG | 0600, 0) == 0);
    guint64 entries;
    CHECK(remove_count(scratch->fd, "tree", NULL, &entries, NULL) && entries == 3);
    g_autoptr(GError) error = NULL;
    CHECK(!remove_tree(scratch->fd, "tree", FALSE, NULL, &error));
    CHECK(error_is(error, BACKAPP_ERROR_CONFLICT) && strstr(error->message, "mounted"));
    CHECK(access(file, F_OK) == 0);
    /* Nor if it is the name itself, however it is given. */
    AutoFd sub = dir_open(scratch->fd, "tree/sub", NULL);
    CHECK(!remove_tree(sub, "mounted", FALSE, NULL, NULL) && !remove_tree(AT_FDCWD, path, TRUE, NULL, NULL));
    CHECK(access(file, F_OK) == 0);
    /* A bind mount has the same device, but its own mount. */
    CHECK(mkdirat(scratch->fd, "bound", 0700) == 0 && mkdirat(scratch->fd, "other", 0700) == 0);
    CHECK(mknodat(scratch->fd, "other/kept", S_IFREG | 0600, 0) == 0);
    g_autofree char *bound = g_strconcat(scratch->path, "/bound", NULL);
    g_autofree char *other = g_strconcat(scratch->path, "/other", NULL);
    CHECK(mount(other, bound, NULL, MS_BIND, NULL) == 0);
    CHECK(!remove_tree(scratch->fd, "bound", FALSE, NULL, NULL) && exists(scratch->fd, "other/kept"));
    return 0;
}

static void test_mounts_are_not_entered(void **state)
{
    RUN_CHILD(with_a_mount_inside, *state);
}

static void test_cancel(void **state)
{
    Scratch *scratch = *state;
    put_file(scratch->fd, "file", "x", 1);
    CancelFlag cancel = {0};
    cancel_set(&cancel);
    g_autoptr(GError) error = NULL;
    assert_false(remove_tree(scratch->fd, "file", FALSE, &cancel, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    assert_true(exists(scratch->fd, "file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_nothing_there_is_success),
        SCRATCH_TEST(test_files_and_links_alone),
        SCRATCH_TEST(test_a_tree_with_links_out_of_it),
        SCRATCH_TEST(test_counting_changes_nothing),
        SCRATCH_TEST(test_the_top_can_stay),
        SCRATCH_TEST(test_deep_trees_need_few_descriptors),
        SCRATCH_TEST(test_directories_without_permission),
        SCRATCH_TEST(test_what_is_not_ours_is_denied),
        SCRATCH_TEST(test_mounts_are_not_entered),
        SCRATCH_TEST(test_cancel),
    };
    return cmocka_run_group_tests_name("fs/remove", tests, NULL, NULL);
}
