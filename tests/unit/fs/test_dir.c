#include "scratch.h"

#include <dirent.h>

#include "fs/atomic.h"
#include "fs/facts.h"

#define LONG_COMPONENT 250
#define LONG_LEVELS    20

/* A path of 20 components of 250 bytes: over 4,096. */
static char *long_path(void)
{
    GString *path = g_string_new(NULL);
    for (int i = 0; i < LONG_LEVELS; i++) {
        if (i > 0)
            g_string_append_c(path, '/');
        for (int j = 0; j < LONG_COMPONENT; j++)
            g_string_append_c(path, (char)('a' + i));
    }
    return g_string_free(path, FALSE);
}

static gboolean same_inode(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_ino == y.st_ino && x.st_dev == y.st_dev;
}

/* How many descriptors this process has. */
static guint open_descriptors(void)
{
    guint count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    assert_int_equal(closedir(dir), 0);
    return count;
}

/* A run with as many directories as there are descriptors must not fail. */
static void test_no_descriptor_is_left(void **state)
{
    Scratch *scratch = *state;
    g_autofree char *data = NULL;
    const char *base = NULL;
    put_file(scratch->fd, "file", "x", 1);
    guint before = open_descriptors();
    assert_true(dir_make_path(scratch->fd, "a/b/c", 0755, NULL));
    assert_true(dir_make_path(scratch->fd, "a/b/c", 0700, NULL));
    assert_false(dir_make_path(scratch->fd, "a/../c", 0700, NULL));
    assert_false(dir_make_path(scratch->fd, "file/c", 0700, NULL));
    assert_int_equal(dir_open(scratch->fd, "a/b/none", NULL), -1);
    assert_int_equal(dir_open_parent(scratch->fd, "a/none/x", &base, NULL), -1);
    assert_true(atomic_write(scratch->fd, "small", "y", 1, 0600, NULL));
    assert_true(atomic_read(scratch->fd, "small", 10, &data, NULL, NULL));
    assert_false(atomic_read(scratch->fd, "a", 10, &data, NULL, NULL));
    g_free(facts_boot_id());
    assert_false(facts_is_mount_point(scratch->path));
    assert_int_equal(open_descriptors(), before);
}

static void test_root_is_a_descriptor_of_its_own(void **state)
{
    Scratch *scratch = *state;
    g_auto(AutoFd) fd = dir_open(scratch->fd, "", NULL);
    assert_true(fd >= 0 && fd != scratch->fd);
    assert_true(same_inode(fd, scratch->fd));
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void test_paths_beyond_path_max(void **state)
{
    Scratch *scratch = *state;
    g_autofree char *path = long_path();
    assert_true(strlen(path) > 4096);
    assert_true(dir_make_path(scratch->fd, path, 0755, NULL));
    g_auto(AutoFd) fd = dir_open(scratch->fd, path, NULL);
    assert_true(fd >= 0);
    /* Step by step one comes to the same directory. */
    g_auto(AutoFd) step = dir_open(scratch->fd, "", NULL);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (int i = 0; parts[i]; i++) {
        int next = openat(step, parts[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        fd_clear(&step);
        step = next;
    }
    assert_true(same_inode(fd, step));
    const char *base = NULL;
    g_auto(AutoFd) parent = dir_open_parent(scratch->fd, path, &base, NULL);
    assert_true(parent >= 0);
    assert_ptr_equal(base, path + strlen(path) - LONG_COMPONENT);
    g_auto(AutoFd) again = openat(parent, base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(same_inode(again, step));
}

/* What must hold with openat2 and without. */
static int check_refusals(Scratch *scratch)
{
    CHECK(mkdirat(scratch->fd, "real", 0755) == 0 && mkdirat(scratch->fd, "real/sub", 0755) == 0);
    CHECK(symlinkat("real", scratch->fd, "link") == 0 && symlinkat("sub", scratch->fd, "real/last") == 0);
    g_auto(AutoFd) made = openat(scratch->fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(made >= 0);
    g_auto(AutoFd) fd = dir_open(scratch->fd, "real/sub", NULL);
    CHECK(fd >= 0);
    static const struct {
        const char *path;
        BackappError code;
        int errnum;
    } cases[] = {
        {"link/sub", BACKAPP_ERROR_CONFLICT, 0},
        {"real/last", BACKAPP_ERROR_CONFLICT, 0},
        {"link", BACKAPP_ERROR_CONFLICT, 0},
        {"file", BACKAPP_ERROR_CONFLICT, ENOTDIR},
        {"file/sub", BACKAPP_ERROR_CONFLICT, ENOTDIR},
        {"real/missing", BACKAPP_ERROR_NOT_FOUND, ENOENT},
        {"missing/sub", BACKAPP_ERROR_NOT_FOUND, ENOENT},
        {"..", BACKAPP_ERROR_CONFLICT, EXDEV},
        {"real/../../etc", BACKAPP_ERROR_CONFLICT, EXDEV},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        errno = 0;
        CHECK(dir_open(scratch->fd, cases[i].path, &error) == -1);
        int saved = errno;
        CHECK(error_is(error, cases[i].code));
        CHECK(saved != 0 && (cases[i].errnum == 0 || cases[i].errnum == saved));
    }
    g_autoptr(GError) error = NULL;
    const char *base = NULL;
    CHECK(dir_open_parent(scratch->fd, "link/sub", &base, &error) == -1);
    CHECK(error_is(error, BACKAPP_ERROR_CONFLICT));
    g_clear_error(&error);
    CHECK(!dir_make_path(scratch->fd, "link/new", 0755, &error));
    CHECK(error_is(error, BACKAPP_ERROR_CONFLICT) && faccessat(scratch->fd, "real/new", F_OK, 0) != 0);
    g_clear_error(&error);
    CHECK(!dir_make_path(scratch->fd, "file/new", 0755, &error));
    CHECK(error_is(error, BACKAPP_ERROR_CONFLICT));
    return 0;
}

static void test_no_symlink_is_followed(void **state)
{
    assert_int_equal(check_refusals(*state), 0);
}

static int without_openat2(Scratch *scratch)
{
    if (!forbid_call(SYS_openat2))
        return CHILD_SKIPS;
    CHECK(check_refusals(scratch) == 0);
    g_autofree char *path = long_path();
    CHECK(dir_make_path(scratch->fd, path, 0755, NULL));
    g_auto(AutoFd) fd = dir_open(scratch->fd, path, NULL);
    g_auto(AutoFd) root = dir_open(scratch->fd, "", NULL);
    CHECK(fd >= 0 && same_inode(root, scratch->fd));
    return 0;
}

static void test_kernel_without_openat2(void **state)
{
    RUN_CHILD(without_openat2, *state);
}

static int across_a_mount(Scratch *scratch)
{
    CHECK(mkdirat(scratch->fd, "mounted", 0755) == 0);
    if (!mount_private_tmpfs(scratch, "mounted", "size=64k"))
        return CHILD_SKIPS;
    CHECK(dir_make_path(scratch->fd, "mounted/a/b", 0755, NULL));
    g_auto(AutoFd) fd = dir_open(scratch->fd, "mounted/a/b", NULL);
    CHECK(fd >= 0);
    return 0;
}

static void test_mounts_are_crossed(void **state)
{
    RUN_CHILD(across_a_mount, *state);
}

static guint32 mode_of(int dir_fd, const char *name)
{
    struct stat st;
    assert_int_equal(fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
    return st.st_mode & 07777;
}

static void test_make_path(void **state)
{
    Scratch *scratch = *state;
    mode_t mask = umask(077);
    gboolean good = dir_make_path(scratch->fd, "a/b/c", 01755, NULL);
    (void)umask(mask);
    assert_true(good);
    assert_int_equal(mode_of(scratch->fd, "a"), 0700);
    assert_int_equal(mode_of(scratch->fd, "a/b"), 0700);
    assert_int_equal(mode_of(scratch->fd, "a/b/c"), 01755);
    /* What exists stays as it is. */
    assert_true(dir_make_path(scratch->fd, "a/b/c", 0700, NULL));
    assert_true(dir_make_path(scratch->fd, "a/b/d", 0711, NULL));
    assert_true(dir_make_path(scratch->fd, "", 0711, NULL));
    assert_int_equal(mode_of(scratch->fd, "a/b/c"), 01755);
    assert_int_equal(mode_of(scratch->fd, "a/b/d"), 0711);
}

static void test_open_parent(void **state)
{
    Scratch *scratch = *state;
    const char *base = NULL;
    g_auto(AutoFd) root = dir_open_parent(scratch->fd, "name", &base, NULL);
    assert_true(same_inode(root, scratch->fd));
    assert_string_equal(base, "name");
    g_autoptr(GError) error = NULL;
    assert_int_equal(dir_open_parent(scratch->fd, "", &base, &error), -1);
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
}

static void test_names_of_any_bytes_are_sorted(void **state)
{
    Scratch *scratch = *state;
    char longest[256];
    memset(longest, 'x', 255);
    longest[255] = '\0';
    char nearly[256];
    memcpy(nearly, longest, sizeof nearly);
    nearly[254] = '\xff';
    /* In order. */
    const char *expected[] = {"\x01",  "\n", " ",         "...",      ".hidden",      "a",         "a-b",
                              "a.b",   "ab", "abcdefg",   "abcdefgh", "abcdefgh\x01", "abcdefghi", "b",
                              "b\xff", "c",  "directory", longest,    nearly,         "\xc3\xa4",  "\xff\xfe"};
    guint count = G_N_ELEMENTS(expected);
    for (guint i = 0; i < count; i++) {
        const char *name = expected[i * 5 % count];
        if (strcmp(name, "directory") == 0)
            assert_int_equal(mkdirat(scratch->fd, name, 0700), 0);
        else if (strcmp(name, "ab") == 0)
            assert_int_equal(symlinkat("target", scratch->fd, name), 0);
        else
            put_file(scratch->fd, name, "", 0);
    }
    g_auto(DirNames) names;
    assert_true(dir_names_read(scratch->fd, &names, NULL, NULL));
    assert_int_equal(dir_names_count(&names), count);
    for (guint i = 0; i < count; i++) {
        assert_string_equal(dir_names_get(&names, i), expected[i]);
        guint8 type = dir_names_type(&names, i);
        guint8 wanted = strcmp(expected[i], "directory") == 0 ? DT_DIR
                        : strcmp(expected[i], "ab") == 0      ? DT_LNK
                                                              : DT_REG;
        assert_true(type == wanted || type == DT_UNKNOWN);
    }
}

static void assert_sorted(int dir_fd, guint expected)
{
    g_auto(DirNames) names;
    assert_true(dir_names_read(dir_fd, &names, NULL, NULL));
    assert_int_equal(dir_names_count(&names), expected);
    for (guint i = 1; i < expected; i++)
        assert_true(strcmp(dir_names_get(&names, i - 1), dir_names_get(&names, i)) < 0);
}

static void test_more_than_a_buffer(void **state)
{
    Scratch *scratch = *state;
    char name[256];
    for (guint i = 0; i < 2000; i++) {
        (void)snprintf(name, sizeof name, "%04u%0200u", i * 7919 % 2000, i);
        assert_int_equal(symlinkat("x", scratch->fd, name), 0);
    }
    assert_sorted(scratch->fd, 2000);
    /* Wherever the descriptor stands: a second read starts anew. */
    assert_sorted(scratch->fd, 2000);
}

static void test_more_than_are_sorted_by_keys(void **state)
{
    char *template = g_strdup("/dev/shm/backapp-test-XXXXXX");
    if (!g_mkdtemp(template)) {
        print_message("skipped: no /dev/shm to make many files in\n");
        g_free(template);
        skip();
    }
    g_auto(AutoFd) fd = open(template, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char name[32];
    put_file(fd, "0", "", 0);
    gboolean made = TRUE;
    for (guint i = 1; i < 66000 && made; i++) {
        (void)snprintf(name, sizeof name, "%u", i * 48271U);
        made = linkat(fd, "0", fd, name, 0) == 0;
    }
    if (made)
        assert_sorted(fd, 66000);
    assert_true(remove_tree(AT_FDCWD, template, FALSE, NULL, NULL));
    g_free(template);
    assert_true(made);
}

static void test_names_of_nothing(void **state)
{
    Scratch *scratch = *state;
    DirNames names;
    assert_true(dir_names_read(scratch->fd, &names, NULL, NULL));
    assert_int_equal(dir_names_count(&names), 0);
    dir_names_clear(&names);
    dir_names_clear(&names);
    assert_int_equal(dir_names_count(&names), 0);
    CancelFlag cancel = {0};
    cancel_set(&cancel);
    g_autoptr(GError) error = NULL;
    assert_false(dir_names_read(scratch->fd, &names, &cancel, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    assert_null(names.arena);
    g_clear_error(&error);
    put_file(scratch->fd, "file", "", 0);
    g_auto(AutoFd) file = openat(scratch->fd, "file", O_RDONLY | O_CLOEXEC);
    assert_false(dir_names_read(file, &names, NULL, &error));
    assert_non_null(error);
}

static void test_descriptors(void **state)
{
    Scratch *scratch = *state;
    int fd = dir_open(scratch->fd, "", NULL);
    int copy = fd;
    errno = EDOM;
    fd_clear(&fd);
    assert_int_equal(errno, EDOM);
    assert_int_equal(fd, -1);
    g_autoptr(GError) error = NULL;
    assert_true(fd_close(&fd, "nothing", NULL));
    assert_false(fd_close(&copy, "it", &error));
    assert_int_equal(copy, -1);
    assert_non_null(error);
    assert_true(dir_sync(scratch->fd, "it", NULL));
    assert_false(dir_sync(-1, "it", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_root_is_a_descriptor_of_its_own),
        SCRATCH_TEST(test_paths_beyond_path_max),
        SCRATCH_TEST(test_no_symlink_is_followed),
        SCRATCH_TEST(test_kernel_without_openat2),
        SCRATCH_TEST(test_mounts_are_crossed),
        SCRATCH_TEST(test_make_path),
        SCRATCH_TEST(test_open_parent),
        SCRATCH_TEST(test_names_of_any_bytes_are_sorted),
        SCRATCH_TEST(test_more_than_a_buffer),
        cmocka_unit_test(test_more_than_are_sorted_by_keys),
        SCRATCH_TEST(test_names_of_nothing),
        SCRATCH_TEST(test_descriptors),
        SCRATCH_TEST(test_no_descriptor_is_left),
    };
    return cmocka_run_group_tests_name("fs/dir", tests, NULL, NULL);
}
