/* Compiled with the module's source and a small limit in memory, so that runs are spilled and merged. */
#include "../fs/scratch.h"

#include "engine/source/scan_names.h"

#ifndef IN_MEMORY_MAX /* the build says the same to scan_names.c */
#define IN_MEMORY_MAX 50
#endif

static guint read_sorted(Scratch *scratch, const S3Names *names, guint *directories)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ScanNames) scan = scan_names_read(scratch->fd, names, "parent", -1, NULL, &error);
    if (scan == NULL)
        fail_msg("%s", error->message);
    g_autoptr(GString) previous = g_string_new(NULL);
    g_autoptr(GString) key = g_string_new(NULL);
    ScanName name;
    guint count = 0;
    int got;
    *directories = 0;
    while ((got = scan_names_next(scan, &name, &error)) > 0) {
        struct stat st;
        g_string_truncate(key, 0);
        names_child_key(names, "parent", name.name, key);
        assert_string_equal(key->str + strlen("parent/"), name.segment);
        assert_int_equal(fstatat(scratch->fd, name.name, &st, AT_SYMLINK_NOFOLLOW), 0);
        assert_int_equal(S_ISDIR(st.st_mode) != 0, name.directory);
        g_string_append(key, name.directory ? "/" : "");
        assert_true(strcmp(previous->str, key->str) < 0);
        g_string_assign(previous, key->str);
        *directories += name.directory ? 1 : 0;
        count++;
    }
    assert_int_equal(got, 0);
    return count;
}

static void make_names(Scratch *scratch, guint count)
{
    g_autoptr(GRand) random = g_rand_new_with_seed(count);
    for (guint i = 0; i < count; i++) {
        g_autofree char *name = g_strdup_printf("%c%c%s%u", "a-.\xff"[g_rand_int_range(random, 0, 4)],
                                                g_rand_int_range(random, '#', '~'), i % 3 ? "" : "\xc3", i);
        g_strdelimit(name, "/", '_');
        if (i % 5 == 0)
            assert_int_equal(mkdirat(scratch->fd, name, 0700), 0);
        else
            put_file(scratch->fd, name, "", 0);
    }
}

static void test_count(Scratch *scratch, guint count)
{
    static const guint8 KEY[64] = {4};
    guint directories;
    g_autoptr(S3Names) plain = names_new(NULL);
    g_autoptr(S3Names) encrypted = names_new(KEY);
    make_names(scratch, count);
    assert_int_equal(read_sorted(scratch, plain, &directories), count);
    assert_int_equal(directories, (count + 4) / 5);
    assert_int_equal(read_sorted(scratch, encrypted, &directories), count);
}

static void test_an_empty_directory(void **state)
{
    test_count(*state, 0);
}

static void test_names_in_memory(void **state)
{
    test_count(*state, IN_MEMORY_MAX - 1);
}

static void test_one_full_run(void **state)
{
    test_count(*state, IN_MEMORY_MAX);
}

static void test_several_runs(void **state)
{
    test_count(*state, 7 * IN_MEMORY_MAX + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_an_empty_directory),
        SCRATCH_TEST(test_names_in_memory),
        SCRATCH_TEST(test_one_full_run),
        SCRATCH_TEST(test_several_runs),
    };
    return cmocka_run_group_tests_name("source/scan_names", tests, NULL, NULL);
}
