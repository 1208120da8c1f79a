#include "scratch.h"

#include "fs/facts.h"

static void test_facts_of_the_scratch_directory(void **state)
{
    Scratch *scratch = *state;
    FsFacts facts;
    assert_true(facts_read(scratch->fd, &facts, NULL));
    assert_true(facts.total_bytes > 0);
    assert_true(facts.free_bytes <= facts.total_bytes);
    assert_true(facts.free_inodes > 0);
    assert_true(facts.block_size >= 512);
    assert_true(strlen(facts.type) > 1);
    assert_false(facts.read_only);
    g_auto(AutoFd) proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(facts_read(proc, &facts, NULL));
    assert_string_equal(facts.type, "proc");
    assert_true(facts.free_inodes == G_MAXUINT64);
    g_autoptr(GError) error = NULL;
    assert_false(facts_read(-1, &facts, &error));
    assert_non_null(error);
}

static int with_a_mount(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=1m,nr_inodes=100"))
        return CHILD_SKIPS;
    CHECK(facts_is_mount_point(scratch->path));
    int fd = scratch->fd;
    FsFacts facts;
    CHECK(facts_read(fd, &facts, NULL));
    CHECK(strcmp(facts.type, "tmpfs") == 0 && facts.total_bytes == 1024 * 1024);
    CHECK(facts.free_inodes > 0 && facts.free_inodes < 100 && !facts.read_only);
    /* A bind mount has its neighbours' device. */
    CHECK(mkdirat(fd, "a", 0700) == 0 && mkdirat(fd, "b", 0700) == 0);
    g_autofree char *a = g_strconcat(scratch->path, "/a", NULL);
    g_autofree char *b = g_strconcat(scratch->path, "/b", NULL);
    CHECK(!facts_is_mount_point(b));
    CHECK(mount(a, b, NULL, MS_BIND, NULL) == 0);
    CHECK(facts_is_mount_point(b) && !facts_is_mount_point(a));
    CHECK(mount(NULL, b, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) == 0);
    g_auto(AutoFd) read_only = open(b, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(facts_read(read_only, &facts, NULL) && facts.read_only);
    return 0;
}

static void test_mounts(void **state)
{
    RUN_CHILD(with_a_mount, *state);
}

/* The session of what is mounted at path. */
static char *session_of(const char *path)
{
    g_auto(AutoFd) fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return facts_session(fd);
}

static int with_a_mount_made_anew(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=1m"))
        return CHILD_SKIPS;
    CHECK(mkdirat(scratch->fd, "a", 0700) == 0 && mkdirat(scratch->fd, "b", 0700) == 0);
    g_autofree char *a = g_strconcat(scratch->path, "/a", NULL);
    g_autofree char *b = g_strconcat(scratch->path, "/b", NULL);
    CHECK(mount(a, b, NULL, MS_BIND, NULL) == 0);
    g_autofree char *first = session_of(b);
    g_autofree char *again = session_of(b);
    g_autofree char *outside = session_of(a);
    g_autofree char *boot_id = facts_boot_id();
    CHECK(strcmp(first, again) == 0 && strcmp(first, outside) != 0 && strlen(first) < 80);
    CHECK(g_str_has_prefix(first, boot_id));
    CHECK(umount(b) == 0 && mount(a, b, NULL, MS_BIND, NULL) == 0);
    g_autofree char *later = session_of(b);
    /* The other kind of id may come again. */
    CHECK(strstr(first, " u") == NULL || strcmp(first, later) != 0);
    return 0;
}

static void test_session(void **state)
{
    g_autofree char *none = facts_session(-1);
    assert_string_equal(none, "unknown");
    RUN_CHILD(with_a_mount_made_anew, *state);
}

static void test_mount_points_there_always_are(void **state)
{
    Scratch *scratch = *state;
    assert_true(facts_is_mount_point("/"));
    assert_true(facts_is_mount_point("/proc"));
    assert_false(facts_is_mount_point("/proc/self"));
    assert_false(facts_is_mount_point(scratch->path));
    g_autofree char *missing = g_strconcat(scratch->path, "/missing", NULL);
    assert_false(facts_is_mount_point(missing));
    put_file(scratch->fd, "missing", "", 0);
    assert_false(facts_is_mount_point(missing));
}

static void test_fstab(void **state)
{
    Scratch *scratch = *state;
    GString *text = g_string_new("# UUID=1 /commented ext4\n"
                                 "  #UUID=2 /indented ext4\n"
                                 "\n"
                                 "UUID=3\t/ ext4 errors=remount-ro 0 1\n"
                                 "UUID=4 /mnt/My\\040Drive\\134x vfat defaults 0 0\n"
                                 "UUID=5   /media/slash/   ext4\n"
                                 "/bind /not-the-first bind bind\n"
                                 "lonely\n"
                                 "UUID=6 /ends\\04 ext4\n"
                                 "UUID=7 /");
    for (int i = 0; i < 8192; i++)
        g_string_append_c(text, 'l');
    /* What follows the first 8 KiB of a long line is no line. */
    g_string_append(text, " UUID=8 /inside ext4\nUUID=9 /last ext4");
    put_file(scratch->fd, "fstab", text->str, text->len);
    g_string_free(text, TRUE);
    g_autofree char *fstab = g_strconcat(scratch->path, "/fstab", NULL);
    static const char *const named[] = {
        "/", "/mnt/My Drive\\x", "/media/slash", "/media/slash/", "/not-the-first", "/ends\\04", "/last",
    };
    for (guint i = 0; i < G_N_ELEMENTS(named); i++)
        assert_true(facts_in_fstab(named[i], fstab));
    static const char *const not_named[] = {
        "/commented",
        "/indented",
        "/mnt/My\\040Drive\\134x",
        "/media",
        "/media/slash/below",
        "/bind",
        "lonely",
        "/inside",
        "UUID=8",
        "/media/slas",
    };
    for (guint i = 0; i < G_N_ELEMENTS(not_named); i++)
        assert_false(facts_in_fstab(not_named[i], fstab));
    g_autofree char *missing = g_strconcat(scratch->path, "/missing", NULL);
    assert_false(facts_in_fstab("/", missing));
}

static void test_boot_id(void **state)
{
    g_autofree char *one = facts_boot_id();
    g_autofree char *two = facts_boot_id();
    assert_string_equal(one, two);
    assert_true(strlen(one) == 36 || strcmp(one, "unknown") == 0);
    assert_null(strchr(one, '\n'));
}

static void test_sync(void **state)
{
    Scratch *scratch = *state;
    assert_true(facts_sync(scratch->fd, "the test", NULL));
    g_autoptr(GError) error = NULL;
    assert_false(facts_sync(-1, "the test", &error));
    assert_non_null(strstr(error->message, "the test"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_facts_of_the_scratch_directory),
        SCRATCH_TEST(test_mounts),
        SCRATCH_TEST(test_mount_points_there_always_are),
        SCRATCH_TEST(test_fstab),
        cmocka_unit_test(test_boot_id),
        SCRATCH_TEST(test_session),
        SCRATCH_TEST(test_sync),
    };
    return cmocka_run_group_tests_name("fs/facts", tests, NULL, NULL);
}
