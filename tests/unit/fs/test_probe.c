#include "scratch.h"

#include "fs/facts.h"
#include "fs/probe.h"

#include <sys/xattr.h>

#define SECOND G_GUINT64_CONSTANT(1000000000)
#define IMAGE  "image"
#define MOUNT  "mount"

/* ---- system calls that fail or forget, as those of a worse file system ---- */

static int symlink_fails; /* errno, or 0 */
static guint64 time_step; /* what times are rounded down to; 0: they stay */

int symlinkat(const char *from, int tofd, const char *to)
{
    if (symlink_fails == 0)
        return (int)syscall(SYS_symlinkat, from, tofd, to);
    errno = symlink_fails;
    return -1;
}

int utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
    struct timespec rounded[2] = {times[0], times[1]};
    for (guint i = 0; i < 2 && time_step > 0; i++) {
        guint64 ns = (guint64)times[i].tv_sec * SECOND + (guint64)times[i].tv_nsec;
        ns = ns / time_step * time_step;
        rounded[i] = (struct timespec){.tv_sec = (time_t)(ns / SECOND), .tv_nsec = (long)(ns % SECOND)};
    }
    return (int)syscall(SYS_utimensat, fd, path, rounded, flags);
}

static void probe_type(int fd, const char *type, FsAbilities *can)
{
    g_autoptr(GError) error = NULL;
    if (!probe_abilities(fd, type, can, &error))
        fail_msg("%s", error->message);
    assert_null(error);
}

/* Abilities that every file system made for Linux has. */
static gboolean is_complete(const FsAbilities *can)
{
    return can->symlinks && can->hard_links && can->owners && can->modes && can->fifos && can->case_sensitive &&
           can->any_name && can->stable_inodes && can->mtime_granularity_ns == 1;
}

static gboolean is_native(int fd)
{
    FsFacts facts;
    assert_true(facts_read(fd, &facts, NULL));
    return g_str_equal(facts.type, "ext4") || g_str_equal(facts.type, "xfs") || g_str_equal(facts.type, "btrfs") ||
           g_str_equal(facts.type, "tmpfs");
}

static void test_native_file_system_holds_all(void **state)
{
    const Scratch *scratch = *state;
    FsAbilities can;
    if (!is_native(scratch->fd))
        skip();
    probe_type(scratch->fd, "ext4", &can);
    assert_true(is_complete(&can));
    assert_true(can.max_file_size == G_MAXUINT64);
    put_file(scratch->fd, "file", "x", 1);
    AutoFd fd = openat(scratch->fd, "file", O_RDONLY | O_CLOEXEC);
    assert_int_equal(can.xattrs, fsetxattr(fd, "user.test", "v", 1, 0) == 0);
    assert_int_equal(can.devices, mknodat(scratch->fd, "device", S_IFCHR | 0600, 0x103) == 0);
}

static void test_nothing_stays_and_leftovers_go(void **state)
{
    const Scratch *scratch = *state;
    FsAbilities can;
    assert_true(dir_make_path(scratch->fd, "probe/left/over", 0700, NULL));
    probe_type(scratch->fd, "ext4", &can);
    assert_int_equal(count_names(scratch->fd), 0);
}

static void test_a_link_in_its_place_is_not_followed(void **state)
{
    const Scratch *scratch = *state;
    FsAbilities can;
    assert_true(dir_make_path(scratch->fd, "elsewhere", 0700, NULL));
    AutoFd elsewhere = dir_open(scratch->fd, "elsewhere", NULL);
    put_file(elsewhere, "kept", "x", 1);
    assert_int_equal(symlinkat("elsewhere", scratch->fd, "probe"), 0);
    probe_type(scratch->fd, "ext4", &can);
    assert_int_equal(count_names(elsewhere), 1);
    assert_int_equal(count_names(scratch->fd), 1);
}

static void test_every_step_of_time_is_recognised(void **state)
{
    const Scratch *scratch = *state;
    const guint64 steps[] = {1, 100, 1000, 1000 * 1000, 10 * 1000 * 1000, SECOND, 2 * SECOND};
    FsAbilities can;
    if (!is_native(scratch->fd))
        skip();
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        time_step = steps[i];
        probe_type(scratch->fd, "ext4", &can);
        assert_true(can.mtime_granularity_ns == steps[i]);
    }
    time_step = 0;
}

static void test_a_refusal_is_an_ability_that_is_missing(void **state)
{
    const Scratch *scratch = *state;
    const int refusals[] = {EPERM, EOPNOTSUPP, ENOSYS};
    FsAbilities can;
    for (guint i = 0; i < G_N_ELEMENTS(refusals); i++) {
        symlink_fails = refusals[i];
        probe_type(scratch->fd, "ext4", &can);
        assert_false(can.symlinks);
        assert_true(can.hard_links);
    }
    symlink_fails = 0;
}

/* A guess from a broken disk would lose data silently. */
static void test_a_broken_disk_is_an_error(void **state)
{
    const Scratch *scratch = *state;
    const int causes[] = {EIO, ENOSPC, EDQUOT, EROFS};
    FsAbilities can;
    for (guint i = 0; i < G_N_ELEMENTS(causes); i++) {
        g_autoptr(GError) error = NULL;
        symlink_fails = causes[i];
        assert_false(probe_abilities(scratch->fd, "ext4", &can, &error));
        assert_true(error_is(error, error_code_from_errno(causes[i])));
        assert_int_equal(count_names(scratch->fd), 0);
    }
    symlink_fails = 0;
}

static int child_without_links(Scratch *scratch)
{
    FsAbilities can;
    if (!forbid_call(SYS_linkat))
        return CHILD_SKIPS;
    CHECK(probe_abilities(scratch->fd, "ext4", &can, NULL));
    CHECK(!can.hard_links && can.symlinks && can.modes);
    return 0;
}

static void test_without_hard_links(void **state)
{
    RUN_CHILD(child_without_links, *state);
}

static int child_unwritable(Scratch *scratch)
{
    FsAbilities can;
    g_autoptr(GError) error = NULL;
    CHECK(fchmod(scratch->fd, 0555) == 0);
    CHECK(become_nobody());
    CHECK(!probe_abilities(scratch->fd, "ext4", &can, &error));
    CHECK(error_is(error, BACKAPP_ERROR_DENIED));
    return 0;
}

static void test_an_unwritable_directory_is_denied(void **state)
{
    RUN_CHILD(child_unwritable, *state);
}

/* As a user who is not root: owners cannot be tried and are believed, devices cannot be made. */
static int child_as_nobody(Scratch *scratch)
{
    FsAbilities can;
    if (geteuid() != 0)
        return CHILD_SKIPS;
    CHECK(fchmod(scratch->fd, 0777) == 0);
    CHECK(become_nobody());
    CHECK(probe_abilities(scratch->fd, "ext4", &can, NULL));
    CHECK(can.owners && can.modes && can.symlinks && !can.devices);
    return 0;
}

static void test_without_root(void **state)
{
    RUN_CHILD(child_as_nobody, *state);
}

/* However few inodes there are: all abilities, or NO_SPACE; never fewer abilities. */
static int child_few_inodes(Scratch *scratch)
{
    guint complete = 0;
    CHECK(mkdirat(scratch->fd, MOUNT, 0700) == 0);
    for (guint inodes = 1; inodes < 24; inodes++) {
        g_autofree char *options = g_strdup_printf("size=1m,nr_inodes=%u", inodes);
        g_autofree char *path = g_strconcat(scratch->path, "/" MOUNT, NULL);
        if (!mount_private_tmpfs(scratch, MOUNT, options))
            return CHILD_SKIPS;
        AutoFd fd = dir_open(scratch->fd, MOUNT, NULL);
        g_autoptr(GError) error = NULL;
        FsAbilities can;
        gboolean good = probe_abilities(fd, "tmpfs", &can, &error);
        CHECK(good ? is_complete(&can) : error_is(error, BACKAPP_ERROR_NO_SPACE));
        CHECK(count_names(fd) == 0);
        complete += good ? 1 : 0;
        fd_clear(&fd);
        CHECK(umount2(path, MNT_DETACH) == 0);
    }
    CHECK(complete > 0 && complete < 23);
    return 0;
}

static void test_a_full_disk_is_not_an_inability(void **state)
{
    RUN_CHILD(child_few_inodes, *state);
}

static int child_read_only(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=1m"))
        return CHILD_SKIPS;
    CHECK(mount(NULL, scratch->path, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    g_autoptr(GError) error = NULL;
    FsAbilities can;
    CHECK(!probe_abilities(scratch->fd, "tmpfs", &can, &error));
    CHECK(error_is(error, BACKAPP_ERROR_DENIED));
    return 0;
}

static void test_a_read_only_mount_is_denied(void **state)
{
    RUN_CHILD(child_read_only, *state);
}

/* ---- real file systems in image files ---- */

/* Makes a file system in an image of this size and mounts it, seen by this process alone. The output of the tools is
 * shown only if it does not work. */
static int mount_image(Scratch *scratch, const char *mkfs, guint megabytes)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return -1;
    g_autofree char *line = g_strdup_printf("cd '%s' && { mkdir " MOUNT " && truncate -s %uM " IMAGE
                                            " && PATH=$PATH:/usr/sbin:/sbin && %s " IMAGE " && mount -o loop " IMAGE
                                            " " MOUNT "; } </dev/null >log 2>&1",
                                            scratch->path, megabytes, mkfs);
    int status = system(line);
    if (status != 0) {
        (void)fprintf(stderr, "skipped: %s or its mount does not work here\n", mkfs);
        return -1;
    }
    fd_clear(&scratch->fd);
    scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return dir_open(scratch->fd, MOUNT, NULL);
}

static int child_old_ext4(Scratch *scratch)
{
    AutoFd fd = mount_image(scratch, "mkfs.ext4 -q -F -I 128 -O ^has_journal", 8);
    FsAbilities can;
    if (fd < 0)
        return CHILD_SKIPS;
    CHECK(probe_abilities(fd, "ext4", &can, NULL));
    CHECK(can.mtime_granularity_ns == SECOND && can.owners && can.stable_inodes && can.any_name);
    return 0;
}

static void test_small_inodes_keep_whole_seconds(void **state)
{
    RUN_CHILD(child_old_ext4, *state);
}

static int child_folded(Scratch *scratch)
{
    AutoFd fd = mount_image(scratch, "mkfs.ext4 -q -F -O casefold,^has_journal", 8);
    g_autofree char *line =
        g_strdup_printf("cd '%s/" MOUNT "' && mkdir folded && chattr +F folded 2>/dev/null", scratch->path);
    FsAbilities can;
    if (fd < 0 || system(line) != 0)
        return CHILD_SKIPS;
    AutoFd folded = dir_open(fd, "folded", NULL);
    CHECK(probe_abilities(folded, "ext4", &can, NULL));
    CHECK(!can.case_sensitive && can.hard_links);
    return 0;
}

static void test_folded_case_is_recognised(void **state)
{
    RUN_CHILD(child_folded, *state);
}

static int child_btrfs(Scratch *scratch)
{
    AutoFd fd = mount_image(scratch, "mkfs.btrfs -q -f", 128);
    FsAbilities can;
    if (fd < 0)
        return CHILD_SKIPS;
    CHECK(probe_abilities(fd, "btrfs", &can, NULL));
    CHECK(can.reflink && is_complete(&can));
    return 0;
}

static void test_btrfs_shares_blocks(void **state)
{
    RUN_CHILD(child_btrfs, *state);
}

/* ---- without writing ---- */

static void test_look_knows_the_weak_ones(void **state)
{
    FsAbilities can;
    probe_look(-1, "vfat", &can);
    assert_true(can.mtime_granularity_ns == 2 * SECOND && can.max_file_size == G_MAXUINT32);
    assert_false(can.symlinks || can.hard_links || can.owners || can.modes || can.xattrs || can.case_sensitive);
    probe_look(-1, "exfat", &can);
    assert_true(can.mtime_granularity_ns == 10 * 1000 * 1000 && can.max_file_size == G_MAXUINT64);
    assert_false(can.symlinks || can.stable_inodes || can.any_name);
    probe_look(-1, "ntfs", &can);
    assert_true(can.mtime_granularity_ns == 100);
    probe_look(-1, "fuse", &can);
    assert_true(can.symlinks && !can.stable_inodes);
    probe_look(-1, "btrfs", &can);
    assert_true(is_complete(&can) && can.reflink);
}

static void test_look_agrees_with_the_trial_and_writes_nothing(void **state)
{
    const Scratch *scratch = *state;
    FsFacts facts;
    FsAbilities seen;
    FsAbilities tried;
    struct stat before;
    struct stat after;
    if (!is_native(scratch->fd))
        skip();
    assert_true(facts_read(scratch->fd, &facts, NULL));
    assert_int_equal(fstat(scratch->fd, &before), 0);
    probe_look(scratch->fd, facts.type, &seen);
    assert_int_equal(fstat(scratch->fd, &after), 0);
    assert_memory_equal(&before.st_ctim, &after.st_ctim, sizeof before.st_ctim);
    probe_type(scratch->fd, facts.type, &tried);
    assert_true(is_complete(&seen));
    assert_int_equal(seen.xattrs, tried.xattrs);
    assert_int_equal(seen.acls, tried.acls);
    assert_int_equal(seen.devices, tried.devices);
}

/* /proc has no extended attributes. */
static void test_look_sees_that_there_are_no_attributes(void **state)
{
    FsAbilities can;
    AutoFd fd = open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    probe_look(fd, "proc", &can);
    assert_false(can.xattrs || can.acls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_native_file_system_holds_all),
        SCRATCH_TEST(test_nothing_stays_and_leftovers_go),
        SCRATCH_TEST(test_a_link_in_its_place_is_not_followed),
        SCRATCH_TEST(test_every_step_of_time_is_recognised),
        SCRATCH_TEST(test_a_refusal_is_an_ability_that_is_missing),
        SCRATCH_TEST(test_a_broken_disk_is_an_error),
        SCRATCH_TEST(test_without_hard_links),
        SCRATCH_TEST(test_an_unwritable_directory_is_denied),
        SCRATCH_TEST(test_without_root),
        SCRATCH_TEST(test_a_full_disk_is_not_an_inability),
        SCRATCH_TEST(test_a_read_only_mount_is_denied),
        SCRATCH_TEST(test_small_inodes_keep_whole_seconds),
        SCRATCH_TEST(test_folded_case_is_recognised),
        SCRATCH_TEST(test_btrfs_shares_blocks),
        SCRATCH_TEST(test_look_knows_the_weak_ones),
        SCRATCH_TEST(test_look_agrees_with_the_trial_and_writes_nothing),
        SCRATCH_TEST(test_look_sees_that_there_are_no_attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
