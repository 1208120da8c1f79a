#include "scratch.h"

#include "fs/meta.h"

#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#define UNKNOWN_ID 54321

static FileMeta read_meta(int dir_fd, const char *name)
{
    FileMeta meta;
    assert_true(meta_read(dir_fd, name, &meta, NULL));
    return meta;
}

static void test_read_says_what_stat_says(void **state)
{
    Scratch *scratch = *state;
    put_file(scratch->fd, "file", "12345", 5);
    assert_int_equal(linkat(scratch->fd, "file", scratch->fd, "second", 0), 0);
    struct stat st;
    assert_int_equal(fstatat(scratch->fd, "file", &st, 0), 0);
    FileMeta meta = read_meta(scratch->fd, "file");
    assert_int_equal(meta.mode, st.st_mode);
    assert_int_equal(meta.uid, st.st_uid);
    assert_int_equal(meta.gid, st.st_gid);
    assert_int_equal(meta.nlink, 2);
    assert_int_equal(meta.size, 5);
    assert_int_equal(meta.blocks, st.st_blocks);
    assert_int_equal(meta.ino, st.st_ino);
    assert_int_equal(meta.dev, st.st_dev);
    assert_int_equal(meta.mtime_s, st.st_mtim.tv_sec);
    assert_int_equal(meta.mtime_ns, st.st_mtim.tv_nsec);
    assert_int_equal(meta.ctime_s, st.st_ctim.tv_sec);
    assert_int_equal(meta.ctime_ns, st.st_ctim.tv_nsec);
    AutoFd fd = openat(scratch->fd, "file", O_RDONLY | O_CLOEXEC);
    assert_int_equal(read_meta(fd, "").ino, st.st_ino);
    assert_int_equal(read_meta(scratch->fd, "").mount, meta.mount);
    AutoFd null = open("/dev", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(read_meta(null, "null").rdev, makedev(1, 3));
}

static void test_what_vanished_is_not_found(void **state)
{
    Scratch *scratch = *state;
    FileMeta meta;
    g_autoptr(GError) error = NULL;
    assert_false(meta_read(scratch->fd, "missing", &meta, &error));
    int saved = errno;
    assert_int_equal(saved, ENOENT);
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    assert_non_null(strstr(error->message, "missing"));
}

static void test_kinds(void **state)
{
    Scratch *scratch = *state;
    put_file(scratch->fd, "file", "", 0);
    assert_int_equal(symlinkat("nowhere", scratch->fd, "link"), 0);
    assert_int_equal(mkfifoat(scratch->fd, "fifo", 0600), 0);
    assert_string_equal(meta_kind(read_meta(scratch->fd, "file").mode), "file");
    assert_string_equal(meta_kind(read_meta(scratch->fd, "link").mode), "symlink");
    assert_string_equal(meta_kind(read_meta(scratch->fd, "fifo").mode), "fifo");
    assert_string_equal(meta_kind(read_meta(scratch->fd, "").mode), "directory");
    assert_string_equal(meta_kind(S_IFSOCK | 0600), "socket");
    assert_string_equal(meta_kind(S_IFBLK), "device");
    assert_string_equal(meta_kind(S_IFCHR), "device");
}

static void test_times_far_away(void **state)
{
    Scratch *scratch = *state;
    put_file(scratch->fd, "file", "", 0);
    static const struct {
        gint64 s;
        guint32 ns;
    } times[] = {{-1, 999999999}, {-1, 1}, {0, 0}, {-1500000000, 123456789}, {4102444800, 5}, {1700000000, 987654321}};
    for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
        FileMeta want = read_meta(scratch->fd, "file");
        want.mtime_s = times[i].s;
        want.mtime_ns = times[i].ns;
        assert_true(meta_apply(scratch->fd, "file", -1, &want, META_MTIME, NULL, NULL));
        FileMeta have = read_meta(scratch->fd, "file");
        if (have.mtime_ns == 0 && times[i].ns != 0) {
            print_message("skipped: the file system keeps whole seconds only\n");
            skip();
        }
        assert_int_equal(have.mtime_s, times[i].s);
        assert_int_equal(have.mtime_ns, times[i].ns);
        assert_int_equal(meta_difference(&want, &have, 1), 0);
    }
}

static gboolean same(gint64 a_s, guint32 a_ns, gint64 b_s, guint32 b_ns, guint64 granularity)
{
    FileMeta a = {.mtime_s = a_s, .mtime_ns = a_ns}, b = {.mtime_s = b_s, .mtime_ns = b_ns};
    return meta_same_mtime(&a, &b, granularity);
}

static void test_granularity(void **state)
{
    const guint64 second = 1000000000;
    assert_true(same(10, 5, 10, 5, 1));
    assert_false(same(10, 5, 10, 6, 1));
    assert_false(same(10, 5, 10, 6, 0));
    assert_false(same(10, 5, 11, 5, 1));
    assert_true(same(10, 5, 10, 99, 100));
    assert_false(same(10, 99, 10, 100, 100));
    assert_false(same(10, 0, 11, 0, 100));
    assert_true(same(10, 5, 10, 999999999, second));
    assert_false(same(10, 999999999, 11, 0, second));
    assert_true(same(10, 0, 11, 999999999, 2 * second));
    assert_false(same(11, 0, 12, 0, 2 * second));
    /* Down also before 1970. */
    assert_true(same(-2, 0, -1, 0, 2 * second));
    assert_false(same(-1, 0, 0, 0, 2 * second));
    assert_false(same(-3, 0, -2, 0, 2 * second));
    assert_true(same(G_MAXINT64, 0, G_MAXINT64, 5, second));
    assert_false(same(G_MININT64, 0, G_MAXINT64, 0, second));
}

static void test_difference(void **state)
{
    FileMeta want = {.mode = S_IFREG | 0644, .uid = 1, .gid = 2, .mtime_s = 3, .mtime_ns = 4};
    FileMeta have = want;
    assert_int_equal(meta_difference(&want, &have, 1), 0);
    have.size = 99;
    have.ino = 12;
    have.ctime_s = 77;
    assert_int_equal(meta_difference(&want, &have, 1), 0);
    have.mode = S_IFREG | 04644;
    assert_int_equal(meta_difference(&want, &have, 1), META_MODE);
    have.mode = want.mode;
    have.mtime_ns = 5;
    assert_int_equal(meta_difference(&want, &have, 1), META_MTIME);
    assert_int_equal(meta_difference(&want, &have, 10), 0);
    want.mode = S_IFLNK | 0777;
    have.mode = S_IFLNK | 0755;
    assert_int_equal(meta_difference(&want, &have, 10), 0);
}

static int difference_as_root(Scratch *scratch)
{
    if (geteuid() != 0) {
        (void)fprintf(stderr, "skipped: needs root\n");
        return CHILD_SKIPS;
    }
    FileMeta want = {.mode = S_IFREG | 0644, .uid = UNKNOWN_ID, .gid = 0}, have = want;
    have.uid = 0;
    CHECK(meta_difference(&want, &have, 1) == META_OWNER);
    have = want;
    have.gid = UNKNOWN_ID;
    CHECK(meta_difference(&want, &have, 1) == META_OWNER);
    return 0;
}

static int difference_as_nobody(Scratch *scratch)
{
    gid_t groups[] = {100};
    gboolean root = geteuid() == 0;
    if (!root) {
        (void)fprintf(stderr, "skipped: needs root to choose groups\n");
        return CHILD_SKIPS;
    }
    CHECK(setgroups(1, groups) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK(setresuid(NOBODY, NOBODY, NOBODY) == 0);
    FileMeta want = {.mode = S_IFREG | 0644, .uid = 0, .gid = NOBODY};
    FileMeta have = {.mode = S_IFREG | 0644, .uid = NOBODY, .gid = NOBODY};
    CHECK(meta_difference(&want, &have, 1) == 0);
    want.gid = 100;
    CHECK(meta_difference(&want, &have, 1) == META_OWNER);
    want.gid = 0;
    CHECK(meta_difference(&want, &have, 1) == 0);
    have.gid = 100;
    want.gid = NOBODY;
    CHECK(meta_difference(&want, &have, 1) == META_OWNER);
    return 0;
}

static void test_owner_difference_depends_on_who_asks(void **state)
{
    RUN_CHILD(difference_as_root, *state);
    RUN_CHILD(difference_as_nobody, *state);
}

static const FileMeta special_bits = {
    .mode = S_IFREG | 06755, .uid = UNKNOWN_ID, .gid = UNKNOWN_ID + 1, .mtime_s = -5, .mtime_ns = 7};

static void test_setuid_survives_the_owner(void **state)
{
    Scratch *scratch = *state;
    if (geteuid() != 0) {
        print_message("skipped: needs root\n");
        skip();
    }
    put_file(scratch->fd, "name", "x", 1);
    put_file(scratch->fd, "open", "x", 1);
    MetaParts failed = META_ALL;
    assert_true(meta_apply(scratch->fd, "name", -1, &special_bits, META_ALL, &failed, NULL));
    assert_int_equal(failed, 0);
    AutoFd fd = openat(scratch->fd, "open", O_WRONLY | O_CLOEXEC);
    assert_true(meta_apply(scratch->fd, "no such name", fd, &special_bits, META_ALL, &failed, NULL));
    assert_int_equal(failed, 0);
    static const char *const names[] = {"name", "open"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        FileMeta have = read_meta(scratch->fd, names[i]);
        assert_int_equal(have.mode, special_bits.mode);
        assert_int_equal(have.uid, UNKNOWN_ID);
        assert_int_equal(have.gid, UNKNOWN_ID + 1);
        assert_true(meta_same_mtime(&have, &special_bits, 1));
    }
}

static void test_only_the_parts_asked_for(void **state)
{
    Scratch *scratch = *state;
    put_file(scratch->fd, "file", "x", 1);
    FileMeta before = read_meta(scratch->fd, "file");
    FileMeta want = {.mode = S_IFREG | 0400, .uid = UNKNOWN_ID, .gid = UNKNOWN_ID, .mtime_s = 1};
    assert_true(meta_apply(scratch->fd, "file", -1, &want, META_MODE, NULL, NULL));
    FileMeta have = read_meta(scratch->fd, "file");
    assert_int_equal(have.mode & 07777, 0400);
    assert_int_equal(have.uid, before.uid);
    assert_true(meta_same_mtime(&have, &before, 1));
    assert_true(meta_apply(scratch->fd, "", -1, &(FileMeta){.mode = S_IFDIR | 0711}, META_MODE, NULL, NULL));
    assert_int_equal(read_meta(scratch->fd, "").mode & 07777, 0711);
}

/* A link's own metadata is set; what it points to stays as it is. */
static int check_symlink(Scratch *scratch)
{
    AutoFd made = openat(scratch->fd, "target", O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    CHECK(made >= 0 && symlinkat("target", scratch->fd, "link") == 0);
    FileMeta before, after, want;
    CHECK(meta_read(scratch->fd, "target", &before, NULL) && meta_read(scratch->fd, "link", &want, NULL));
    want.mtime_s = 12345;
    want.mtime_ns = 678;
    if (geteuid() == 0)
        want.uid = want.gid = UNKNOWN_ID;
    CHECK(meta_apply(scratch->fd, "link", -1, &want, META_ALL, NULL, NULL));
    CHECK(meta_read(scratch->fd, "link", &after, NULL));
    CHECK(after.mtime_s == 12345 && after.mtime_ns == 678 && after.uid == want.uid);
    /* Even if it was no link when it was looked at. */
    want.mode = S_IFREG | 0777;
    MetaParts failed = 0;
    CHECK(meta_apply(scratch->fd, "link", -1, &want, META_MODE, &failed, NULL) && failed == META_MODE);
    CHECK(meta_read(scratch->fd, "target", &after, NULL));
    CHECK(after.mode == before.mode && after.uid == before.uid && meta_same_mtime(&before, &after, 1));
    return 0;
}

static void test_symlinks_are_not_followed(void **state)
{
    assert_int_equal(check_symlink(*state), 0);
}

static int without_fchmodat2(Scratch *scratch)
{
    if (!forbid_call(452))
        return CHILD_SKIPS;
    CHECK(check_symlink(scratch) == 0);
    FileMeta want = {.mode = S_IFREG | 0751}, have;
    CHECK(meta_apply(scratch->fd, "target", -1, &want, META_MODE, NULL, NULL));
    CHECK(meta_read(scratch->fd, "target", &have, NULL) && (have.mode & 07777) == 0751);
    return 0;
}

static void test_kernel_without_fchmodat2(void **state)
{
    RUN_CHILD(without_fchmodat2, *state);
}

static void test_specials_are_not_opened(void **state)
{
    Scratch *scratch = *state;
    /* Opening a fifo would wait for its other end, a socket cannot be opened at all. */
    assert_int_equal(mkfifoat(scratch->fd, "fifo", 0600), 0);
    AutoFd sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", scratch->path);
    assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof address), 0);
    static const char *const names[] = {"fifo", "socket"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        FileMeta want = read_meta(scratch->fd, names[i]);
        want.mode = (want.mode & S_IFMT) | 0612;
        want.mtime_s = 99;
        assert_true(meta_apply(scratch->fd, names[i], -1, &want, META_ALL, NULL, NULL));
        FileMeta have = read_meta(scratch->fd, names[i]);
        assert_int_equal(have.mode, want.mode);
        assert_int_equal(have.mtime_s, 99);
    }
}

static int as_nobody(Scratch *scratch)
{
    gboolean root = geteuid() == 0;
    AutoFd foreign = openat(scratch->fd, "foreign", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    CHECK(foreign >= 0 && fchmod(scratch->fd, 0777) == 0);
    CHECK(become_nobody());
    AutoFd own = openat(scratch->fd, "own", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(own >= 0);
    FileMeta want = special_bits, have;
    want.uid = 0;
    want.gid = getegid();
    MetaParts failed = 0;
    CHECK(meta_apply(scratch->fd, "own", -1, &want, META_ALL, &failed, NULL));
    CHECK(failed == META_OWNER);
    CHECK(meta_read(scratch->fd, "own", &have, NULL));
    CHECK((have.mode & 07777) == 06755 && meta_same_mtime(&have, &want, 1) && have.uid == geteuid());
    want.uid = geteuid();
    CHECK(meta_apply(scratch->fd, "own", own, &want, META_ALL, &failed, NULL) && failed == 0);
    want.gid = UNKNOWN_ID;
    CHECK(meta_apply(scratch->fd, "own", own, &want, META_ALL, &failed, NULL) && failed == META_OWNER);
    if (!root)
        return 0;
    CHECK(meta_apply(scratch->fd, "foreign", -1, &want, META_ALL, &failed, NULL) && failed == META_ALL);
    return 0;
}

static void test_what_needs_root_is_named(void **state)
{
    RUN_CHILD(as_nobody, *state);
}

static void test_what_vanished_cannot_be_changed(void **state)
{
    Scratch *scratch = *state;
    FileMeta want = {.mode = S_IFREG | 0600};
    g_autoptr(GError) error = NULL;
    assert_false(meta_apply(scratch->fd, "missing", -1, &want, META_MTIME, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_read_says_what_stat_says),
        SCRATCH_TEST(test_what_vanished_is_not_found),
        SCRATCH_TEST(test_kinds),
        SCRATCH_TEST(test_times_far_away),
        cmocka_unit_test(test_granularity),
        cmocka_unit_test(test_difference),
        cmocka_unit_test(test_owner_difference_depends_on_who_asks),
        SCRATCH_TEST(test_setuid_survives_the_owner),
        SCRATCH_TEST(test_only_the_parts_asked_for),
        SCRATCH_TEST(test_symlinks_are_not_followed),
        SCRATCH_TEST(test_kernel_without_fchmodat2),
        SCRATCH_TEST(test_specials_are_not_opened),
        SCRATCH_TEST(test_what_needs_root_is_named),
        SCRATCH_TEST(test_what_vanished_cannot_be_changed),
    };
    return cmocka_run_group_tests_name("fs/meta", tests, NULL, NULL);
}
