#include "../fs/scratch.h"

#include "engine/mirror/destination.h"

typedef struct {
    GArray *fds;
    GError *error;
    gboolean good;
} Check;

static void close_fd(gpointer fd)
{
    fd_clear(fd);
}

static void check_clear(Check *check)
{
    g_array_unref(check->fds);
    g_clear_error(&check->error);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Check, check_clear)

/* Checks sources (relative to the scratch directory, up to NULL) against a destination there. */
static Check check_sources(const Scratch *scratch, const char *dest, const char *const *sources)
{
    Check check = {.fds = g_array_new(FALSE, FALSE, sizeof(int))};
    g_autofree char *dest_path = g_build_filename(scratch->path, dest, NULL);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    g_array_set_clear_func(check.fds, close_fd);
    for (; *sources != NULL; sources++)
        g_ptr_array_add(paths, g_build_filename(scratch->path, *sources, NULL));
    g_ptr_array_add(paths, NULL);
    check.good = destination_check_sources((const char *const *)paths->pdata, dest_path, check.fds, &check.error);
    g_assert(check.good == (check.error == NULL));
    return check;
}

static Check check_one(const Scratch *scratch, const char *source, const char *dest)
{
    const char *const sources[] = {source, NULL};
    return check_sources(scratch, dest, sources);
}

static void make_dir(const Scratch *scratch, const char *name)
{
    assert_true(dir_make_path(scratch->fd, name, 0755, NULL));
}

static void assert_refused(const Scratch *scratch, const char *source, const char *dest, const char *part)
{
    g_auto(Check) check = check_one(scratch, source, dest);
    assert_false(check.good);
    if (!error_is(check.error, BACKAPP_ERROR_INVALID) || strstr(check.error->message, part) == NULL)
        fail_msg("%s -> %s: %s", source, dest, check.error->message);
}

static void assert_fine(const Scratch *scratch, const char *source, const char *dest)
{
    g_auto(Check) check = check_one(scratch, source, dest);
    if (!check.good)
        fail_msg("%s -> %s: %s", source, dest, check.error->message);
    assert_int_equal(check.fds->len, 1);
}

static void test_side_by_side_is_fine(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "a/b");
    make_dir(scratch, "ab");
    make_dir(scratch, "c");
    assert_fine(scratch, "a", "c");
    assert_fine(scratch, "a", "ab");
    assert_fine(scratch, "ab", "a");
    assert_fine(scratch, "a/b", "c");
    assert_fine(scratch, "a", "missing");
    assert_fine(scratch, "a/b", "a/missing");
    assert_fine(scratch, "a", "no/parent");
}

static void test_descriptors_are_those_of_the_sources(void **state)
{
    const Scratch *scratch = *state;
    const char *const sources[] = {"a", "b", NULL};
    make_dir(scratch, "a");
    make_dir(scratch, "b");
    g_auto(Check) check = check_sources(scratch, "dest", sources);
    assert_true(check.good);
    assert_int_equal(check.fds->len, 2);
    for (guint i = 0; i < 2; i++) {
        struct stat want;
        struct stat have;
        assert_int_equal(fstatat(scratch->fd, sources[i], &want, 0), 0);
        assert_int_equal(fstat(g_array_index(check.fds, int, i), &have), 0);
        assert_true(want.st_ino == have.st_ino);
    }
}

static void test_overlaps_are_refused(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "a/b/c");
    assert_refused(scratch, "a", "a", "the same directory");
    assert_refused(scratch, "a", "a/b", "lies inside the source");
    assert_refused(scratch, "a", "a/b/c", "lies inside the source");
    assert_refused(scratch, "a", "a/missing", "lies inside the source");
    assert_refused(scratch, "a", "a/b/missing", "lies inside the source");
    assert_refused(scratch, "a/b", "a", "lies inside the destination");
    assert_refused(scratch, "a/b/c", "a", "lies inside the destination");
}

static void test_spelling_does_not_hide_an_overlap(void **state)
{
    const Scratch *scratch = *state;
    make_dir(scratch, "a/b");
    make_dir(scratch, "x");
    assert_int_equal(symlinkat("a", scratch->fd, "link"), 0);
    assert_int_equal(symlinkat("../a/b", scratch->fd, "x/deep"), 0);
    assert_refused(scratch, "a", "link", "the same directory");
    assert_refused(scratch, "link", "a", "the same directory");
    assert_refused(scratch, "a", "link/b", "lies inside the source");
    assert_refused(scratch, "a", "x/deep", "lies inside the source");
    assert_refused(scratch, "a", "link/missing", "lies inside the source");
    assert_refused(scratch, "a", "x/deep/missing", "lies inside the source");
    assert_refused(scratch, "x/deep", "a", "lies inside the destination");
    assert_refused(scratch, "a/./b/..", "a//", "the same directory");
}

static void test_sources_that_cannot_be_one(void **state)
{
    const Scratch *scratch = *state;
    const char *const empty[] = {"", NULL};
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_autoptr(GError) error = NULL;
    put_file(scratch->fd, "file", "x", 1);
    assert_int_equal(mkfifoat(scratch->fd, "fifo", 0600), 0);
    assert_refused(scratch, "file", "dest", "is not a directory");
    assert_refused(scratch, "fifo", "dest", "is not a directory");
    g_auto(Check) missing = check_one(scratch, "missing", "dest");
    assert_true(error_is(missing.error, BACKAPP_ERROR_NOT_FOUND));
    assert_false(destination_check_sources(empty, scratch->path, fds, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

static void test_a_source_given_twice_is_refused(void **state)
{
    const Scratch *scratch = *state;
    const char *const same[] = {"a", "b", "a", NULL};
    const char *const linked[] = {"a", "link", NULL};
    make_dir(scratch, "a");
    make_dir(scratch, "b");
    assert_int_equal(symlinkat("a", scratch->fd, "link"), 0);
    g_auto(Check) first = check_sources(scratch, "dest", same);
    assert_true(error_is(first.error, BACKAPP_ERROR_INVALID) && strstr(first.error->message, "given twice") != NULL);
    g_auto(Check) second = check_sources(scratch, "dest", linked);
    assert_true(error_is(second.error, BACKAPP_ERROR_INVALID) && strstr(second.error->message, "given twice") != NULL);
}

static void test_every_source_is_checked(void **state)
{
    const Scratch *scratch = *state;
    const char *const sources[] = {"a", "b", NULL};
    make_dir(scratch, "a");
    make_dir(scratch, "b/dest");
    g_auto(Check) check = check_sources(scratch, "b/dest", sources);
    assert_true(error_is(check.error, BACKAPP_ERROR_INVALID));
    assert_non_null(strstr(check.error->message, "lies inside the source"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_side_by_side_is_fine),       SCRATCH_TEST(test_descriptors_are_those_of_the_sources),
        SCRATCH_TEST(test_overlaps_are_refused),       SCRATCH_TEST(test_spelling_does_not_hide_an_overlap),
        SCRATCH_TEST(test_sources_that_cannot_be_one), SCRATCH_TEST(test_a_source_given_twice_is_refused),
        SCRATCH_TEST(test_every_source_is_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
