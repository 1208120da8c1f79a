#include "scratch.h"

#include "fs/atomic.h"

static void assert_content(int dir_fd, const char *name, const char *expected)
{
    g_autofree char *data = NULL;
    gsize length = 0;
    assert_true(atomic_read(dir_fd, name, 1000, &data, &length, NULL));
    assert_int_equal(length, strlen(expected));
    assert_string_equal(data, expected);
}

static void test_write_and_read(void **state)
{
    Scratch *scratch = *state;
    mode_t mask = umask(077);
    gboolean good = atomic_write(scratch->fd, "file", "one", 3, 0664, NULL);
    (void)umask(mask);
    assert_true(good);
    assert_content(scratch->fd, "file", "one");
    struct stat st;
    assert_int_equal(fstatat(scratch->fd, "file", &st, 0), 0);
    assert_int_equal(st.st_mode & 07777, 0664);
    assert_true(atomic_write(scratch->fd, "empty", NULL, 0, 0600, NULL));
    assert_content(scratch->fd, "empty", "");
    assert_int_equal(count_names(scratch->fd), 2);
}

static void test_who_has_it_open_keeps_the_old_one(void **state)
{
    Scratch *scratch = *state;
    assert_true(atomic_write(scratch->fd, "file", "old", 3, 0600, NULL));
    AutoFd old = openat(scratch->fd, "file", O_RDONLY | O_CLOEXEC);
    assert_true(atomic_write(scratch->fd, "file", "new content", 11, 0600, NULL));
    char text[16] = "";
    assert_int_equal(read(old, text, sizeof text), 3);
    assert_memory_equal(text, "old", 3);
    assert_content(scratch->fd, "file", "new content");
}

static void test_symlinks_are_not_followed(void **state)
{
    Scratch *scratch = *state;
    put_file(scratch->fd, "target", "mine", 4);
    assert_int_equal(symlinkat("target", scratch->fd, "link"), 0);
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    assert_false(atomic_read(scratch->fd, "link", 100, &data, NULL, &error));
    assert_non_null(error);
    assert_true(atomic_write(scratch->fd, "link", "new", 3, 0600, NULL));
    assert_content(scratch->fd, "target", "mine");
    assert_content(scratch->fd, "link", "new");
}

static void test_a_failure_leaves_nothing_behind(void **state)
{
    Scratch *scratch = *state;
    assert_int_equal(mkdirat(scratch->fd, "name", 0700), 0);
    g_autoptr(GError) error = NULL;
    assert_false(atomic_write(scratch->fd, "name", "x", 1, 0600, &error));
    assert_non_null(strstr(error->message, "name"));
    g_clear_error(&error);
    assert_int_equal(count_names(scratch->fd), 1);
    assert_false(atomic_write(-1, "name", "x", 1, 0600, &error));
    assert_non_null(error);
}

static int on_a_full_disk(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=64k"))
        return CHILD_SKIPS;
    int fd = scratch->fd;
    CHECK(atomic_write(fd, "file", "old", 3, 0600, NULL));
    g_autofree guint8 *data = g_malloc0(100000);
    g_autoptr(GError) error = NULL;
    CHECK(!atomic_write(fd, "file", data, 100000, 0600, &error));
    CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE));
    g_auto(DirNames) names;
    CHECK(dir_names_read(fd, &names, NULL, NULL) && dir_names_count(&names) == 1);
    g_autofree char *content = NULL;
    CHECK(atomic_read(fd, "file", 10, &content, NULL, NULL) && strcmp(content, "old") == 0);
    return 0;
}

static void test_full_disk_keeps_the_old_one(void **state)
{
    RUN_CHILD(on_a_full_disk, *state);
}

static void test_read_is_bounded(void **state)
{
    Scratch *scratch = *state;
    g_autofree char *large = g_malloc(10000);
    memset(large, 'x', 10000);
    put_file(scratch->fd, "file", large, 10000);
    g_autofree char *data = NULL;
    gsize length = 0;
    assert_true(atomic_read(scratch->fd, "file", 10000, &data, &length, NULL));
    assert_int_equal(length, 10000);
    assert_int_equal(strlen(data), 10000);
    g_autoptr(GError) error = NULL;
    g_autofree char *none = NULL;
    assert_false(atomic_read(scratch->fd, "file", 9999, &none, &length, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_clear_error(&error);
    assert_null(none);
    /* A file that states no size, and is bounded all the same. */
    assert_true(atomic_read(AT_FDCWD, "/proc/self/mounts", 1000000, &none, &length, NULL));
    assert_true(length > 0);
    g_autofree char *more = NULL;
    assert_false(atomic_read(AT_FDCWD, "/proc/self/mounts", 3, &more, &length, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void test_what_is_no_file_is_not_read(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    assert_false(atomic_read(scratch->fd, "missing", 10, &data, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    g_clear_error(&error);
    /* Nobody writes into it: an open that waits would not return. */
    assert_int_equal(mkfifoat(scratch->fd, "fifo", 0600), 0);
    assert_false(atomic_read(scratch->fd, "fifo", 10, &data, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
    g_clear_error(&error);
    assert_int_equal(mkdirat(scratch->fd, "directory", 0700), 0);
    assert_false(atomic_read(scratch->fd, "directory", 10, &data, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CONFLICT));
    assert_null(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_write_and_read),
        SCRATCH_TEST(test_who_has_it_open_keeps_the_old_one),
        SCRATCH_TEST(test_symlinks_are_not_followed),
        SCRATCH_TEST(test_a_failure_leaves_nothing_behind),
        SCRATCH_TEST(test_full_disk_keeps_the_old_one),
        SCRATCH_TEST(test_read_is_bounded),
        SCRATCH_TEST(test_what_is_no_file_is_not_read),
    };
    return cmocka_run_group_tests_name("fs/atomic", tests, NULL, NULL);
}
