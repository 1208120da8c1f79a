#include "scratch.h"

#include "fs/attrs.h"
#include "fs/meta.h"

#include <sys/xattr.h>

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

static const AttrsFilter all = {.xattrs = TRUE, .acls = TRUE};
static const AttrsFilter only_xattrs = {.xattrs = TRUE};
static const AttrsFilter only_acls = {.acls = TRUE};
static const AttrsFilter neither = {0};

/* "user::rwx, user:1234:r--, group::r-x, mask::r-x, other::---" as the kernel keeps it. */
static const guint8 acl[] = {2,    0, 0, 0,                         /* version */
                             1,    0, 7, 0, 0xff, 0xff, 0xff, 0xff, /* the owner */
                             2,    0, 4, 0, 0xd2, 0x04, 0,    0,    /* user 1234 */
                             4,    0, 5, 0, 0xff, 0xff, 0xff, 0xff, /* the group */
                             0x10, 0, 5, 0, 0xff, 0xff, 0xff, 0xff, /* the mask */
                             0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};

static int attrs_setup(void **state)
{
    if (scratch_setup(state) != 0)
        return -1;
    Scratch *scratch = *state;
    put_file(scratch->fd, "file", "x", 1);
    return mkdirat(scratch->fd, "directory", 0755);
}

#define ATTRS_TEST(test) cmocka_unit_test_setup_teardown(test, attrs_setup, scratch_teardown)

static int set_attr(const Scratch *scratch, const char *file, const char *name, const void *value, size_t length)
{
    g_autofree char *path = g_build_filename(scratch->path, file, NULL);
    return lsetxattr(path, name, value, length, 0);
}

/* Sets one, or skips the test where the file system has none. */
static void need_attr(const Scratch *scratch, const char *file, const char *name, const void *value, size_t length)
{
    if (set_attr(scratch, file, name, value, length) == 0)
        return;
    if (errno != EOPNOTSUPP) {
        print_message("cannot set %s: %s\n", name, g_strerror(errno));
        fail();
    }
    print_message("skipped: the file system does not take %s\n", name);
    skip();
}

static gboolean has_attr(const Scratch *scratch, const char *file, const char *name)
{
    g_autofree char *path = g_build_filename(scratch->path, file, NULL);
    return lgetxattr(path, name, NULL, 0) >= 0;
}

static const Attrs *must_read(int dir_fd, const char *name, const AttrsFilter *filter)
{
    g_autoptr(GError) error = NULL;
    const Attrs *attrs = attrs_read(dir_fd, name, -1, filter, &error);
    assert_null(error);
    assert_non_null(attrs);
    return attrs;
}

static void test_none_is_the_shared_set(void **state)
{
    Scratch *scratch = *state;
    AutoFd fd = openat(scratch->fd, "file", O_RDONLY | O_CLOEXEC);
    assert_int_equal(symlinkat("file", scratch->fd, "link"), 0);
    assert_ptr_equal(must_read(scratch->fd, "file", &only_acls), attrs_empty());
    assert_ptr_equal(must_read(scratch->fd, "directory", &only_acls), attrs_empty());
    assert_ptr_equal(must_read(scratch->fd, "link", &only_acls), attrs_empty());
    assert_ptr_equal(must_read(scratch->fd, "", &only_acls), attrs_empty());
    assert_ptr_equal(must_read(fd, "", &only_acls), attrs_empty());
    assert_ptr_equal(attrs_read(-1, "no matter", fd, &only_acls, NULL), attrs_empty());
    assert_true(attrs_is_empty(attrs_empty()));
    assert_true(attrs_equal(attrs_empty(), attrs_empty()));
    attrs_free(attrs_empty());
    attrs_free(NULL);
    /* Who looks for nothing does not even look. */
    assert_ptr_equal(attrs_read(-1, "missing", -1, &neither, NULL), attrs_empty());
}

static void test_what_vanished_is_not_found(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(GError) error = NULL;
    assert_null(attrs_read(scratch->fd, "missing", -1, &all, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
}

/* Reads of `from`, applied to `to` (by name or descriptor), must be there then; and once more in their encoded form. */
static void assert_travels(int dir_fd, const char *from, const char *to, gboolean by_fd)
{
    const Attrs *want ATTRS_AUTO = must_read(dir_fd, from, &all);
    assert_false(attrs_is_empty(want));
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    attrs_encode(want, bytes);
    BytesReader in = bytes_reader(bytes->data, bytes->len);
    const Attrs *decoded ATTRS_AUTO = attrs_decode(&in, NULL);
    assert_non_null(decoded);
    assert_true(bytes_reader_done(&in));
    assert_true(attrs_equal(want, decoded));
    AutoFd fd = by_fd ? openat(dir_fd, to, O_RDONLY | O_CLOEXEC) : -1;
    guint refused = 9;
    assert_true(attrs_apply(dir_fd, to, fd, decoded, NULL, &all, &refused, NULL));
    assert_int_equal(refused, 0);
    const Attrs *have ATTRS_AUTO = must_read(dir_fd, to, &all);
    assert_true(attrs_equal(want, have));
}

static void test_values_of_any_kind(void **state)
{
    Scratch *scratch = *state;
    guint8 large[2000];
    for (guint i = 0; i < sizeof large; i++)
        large[i] = (guint8)(i * 7);
    need_attr(scratch, "file", "user.binary", "a\0b\xff\n", 5);
    need_attr(scratch, "file", "user.empty", "", 0);
    need_attr(scratch, "file", "user.\xff\xfe name", "x", 1);
    need_attr(scratch, "file", "user.large", large, sizeof large);
    put_file(scratch->fd, "by name", "", 0);
    put_file(scratch->fd, "by descriptor", "", 0);
    assert_travels(scratch->fd, "file", "by name", FALSE);
    assert_travels(scratch->fd, "file", "by descriptor", TRUE);
}

static void test_more_names_than_fit_a_small_buffer(void **state)
{
    Scratch *scratch = *state;
    char name[64];
    for (guint i = 0; i < 30; i++) {
        (void)snprintf(name, sizeof name, "user.%02u-a-name-of-more-than-forty-characters", i * 7 % 30);
        need_attr(scratch, "file", name, &i, sizeof i);
    }
    put_file(scratch->fd, "copy", "", 0);
    assert_travels(scratch->fd, "file", "copy", FALSE);
}

static void test_acls_travel(void **state)
{
    Scratch *scratch = *state;
    need_attr(scratch, "file", ACL_ACCESS, acl, sizeof acl);
    need_attr(scratch, "directory", ACL_ACCESS, acl, sizeof acl);
    need_attr(scratch, "directory", ACL_DEFAULT, acl, sizeof acl);
    put_file(scratch->fd, "copy", "", 0);
    assert_int_equal(mkdirat(scratch->fd, "copied directory", 0700), 0);
    assert_travels(scratch->fd, "file", "copy", FALSE);
    assert_travels(scratch->fd, "directory", "copied directory", TRUE);
    FileMeta meta;
    assert_true(meta_read(scratch->fd, "copy", &meta, NULL));
    assert_int_equal(meta.mode & 0777, 0750);
    assert_true(has_attr(scratch, "copied directory", ACL_DEFAULT));
}

static void test_filter(void **state)
{
    Scratch *scratch = *state;
    need_attr(scratch, "directory", "user.one", "1", 1);
    need_attr(scratch, "directory", "user.rsync.%stat", "x", 1);
    need_attr(scratch, "directory", ACL_ACCESS, acl, sizeof acl);
    need_attr(scratch, "directory", ACL_DEFAULT, acl, sizeof acl);
    const Attrs *everything ATTRS_AUTO = must_read(scratch->fd, "directory", &all);
    const Attrs *xattrs ATTRS_AUTO = must_read(scratch->fd, "directory", &only_xattrs);
    const Attrs *acls ATTRS_AUTO = must_read(scratch->fd, "directory", &only_acls);
    assert_false(attrs_equal(everything, xattrs));
    assert_false(attrs_equal(everything, acls));
    assert_false(attrs_equal(xattrs, acls));
    /* Each filter sets and removes its own kind only. */
    assert_int_equal(mkdirat(scratch->fd, "copy", 0700), 0);
    need_attr(scratch, "copy", "user.extra", "x", 1);
    need_attr(scratch, "copy", ACL_DEFAULT, acl, sizeof acl);
    assert_true(attrs_apply(scratch->fd, "copy", -1, everything, NULL, &only_xattrs, NULL, NULL));
    assert_true(has_attr(scratch, "copy", "user.one"));
    assert_false(has_attr(scratch, "copy", "user.rsync.%stat"));
    assert_false(has_attr(scratch, "copy", "user.extra"));
    assert_false(has_attr(scratch, "copy", ACL_ACCESS));
    assert_true(has_attr(scratch, "copy", ACL_DEFAULT));
    need_attr(scratch, "copy", "user.extra", "x", 1);
    assert_true(attrs_apply(scratch->fd, "copy", -1, attrs_empty(), NULL, &only_acls, NULL, NULL));
    assert_true(has_attr(scratch, "copy", "user.extra"));
    assert_false(has_attr(scratch, "copy", ACL_DEFAULT));
    assert_true(attrs_apply(scratch->fd, "copy", -1, everything, NULL, &neither, NULL, NULL));
    assert_false(has_attr(scratch, "copy", ACL_ACCESS));
}

static void test_extra_ones_go_and_changed_ones_change(void **state)
{
    Scratch *scratch = *state;
    need_attr(scratch, "file", "user.b", "same", 4);
    need_attr(scratch, "file", "user.d", "new", 3);
    need_attr(scratch, "file", "user.f", "added", 5);
    put_file(scratch->fd, "copy", "", 0);
    need_attr(scratch, "copy", "user.a", "extra", 5);
    need_attr(scratch, "copy", "user.b", "same", 4);
    need_attr(scratch, "copy", "user.c", "extra", 5);
    need_attr(scratch, "copy", "user.d", "old", 3);
    need_attr(scratch, "copy", "user.g", "extra", 5);
    const Attrs *have ATTRS_AUTO = must_read(scratch->fd, "copy", &all);
    const Attrs *want ATTRS_AUTO = must_read(scratch->fd, "file", &all);
    assert_false(attrs_equal(want, have));
    /* Known ones need not be read again: what is not told is not seen. */
    assert_true(attrs_apply(scratch->fd, "copy", -1, want, want, &all, NULL, NULL));
    assert_true(has_attr(scratch, "copy", "user.a"));
    assert_true(attrs_apply(scratch->fd, "copy", -1, want, have, &all, NULL, NULL));
    const Attrs *after ATTRS_AUTO = must_read(scratch->fd, "copy", &all);
    assert_true(attrs_equal(want, after));
    assert_true(attrs_apply(scratch->fd, "copy", -1, attrs_empty(), NULL, &all, NULL, NULL));
    assert_ptr_equal(must_read(scratch->fd, "copy", &only_xattrs), attrs_empty());
}

static void test_symlinks_are_not_followed(void **state)
{
    Scratch *scratch = *state;
    need_attr(scratch, "file", "user.one", "1", 1);
    assert_int_equal(symlinkat("file", scratch->fd, "link"), 0);
    assert_ptr_equal(must_read(scratch->fd, "link", &all), attrs_empty());
    /* A link has no user attributes, so none are set, and those of what it points to stay. */
    const Attrs *want ATTRS_AUTO = must_read(scratch->fd, "file", &all);
    guint refused = 0;
    assert_true(attrs_apply(scratch->fd, "link", -1, want, NULL, &all, &refused, NULL));
    assert_int_equal(refused, 1);
    assert_true(attrs_apply(scratch->fd, "link", -1, attrs_empty(), NULL, &all, &refused, NULL));
    assert_int_equal(refused, 0);
    assert_true(has_attr(scratch, "file", "user.one"));
}

static void test_descriptors_that_are_paths(void **state)
{
    Scratch *scratch = *state;
    need_attr(scratch, "file", "user.one", "1", 1);
    put_file(scratch->fd, "copy", "", 0);
    const Attrs *by_name ATTRS_AUTO = must_read(scratch->fd, "file", &all);
    AutoFd file = openat(scratch->fd, "file", O_PATH | O_CLOEXEC);
    const Attrs *by_path ATTRS_AUTO = must_read(file, "", &all);
    assert_true(attrs_equal(by_name, by_path));
    AutoFd copy = openat(scratch->fd, "copy", O_PATH | O_CLOEXEC);
    assert_true(attrs_apply(-1, "copy", copy, by_path, attrs_empty(), &all, NULL, NULL));
    assert_true(has_attr(scratch, "copy", "user.one"));
    assert_true(attrs_apply(-1, "copy", copy, attrs_empty(), by_path, &all, NULL, NULL));
    assert_false(has_attr(scratch, "copy", "user.one"));
}

static void test_what_the_file_system_does_not_take(void **state)
{
    Scratch *scratch = *state;
    need_attr(scratch, "file", "user.one", "1", 1);
    /* More than ext4 keeps for a file; it calls that "no space", although there is plenty. */
    g_autofree guint8 *huge = g_malloc0(60000);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    bytes_put_varint(bytes, 2);
    bytes_put_blob(bytes, "user.huge", 9);
    bytes_put_blob(bytes, huge, 60000);
    bytes_put_blob(bytes, "user.small", 10);
    bytes_put_blob(bytes, "x", 1);
    BytesReader in = bytes_reader(bytes->data, bytes->len);
    const Attrs *want ATTRS_AUTO = attrs_decode(&in, NULL);
    assert_non_null(want);
    guint refused = 0;
    g_autoptr(GError) error = NULL;
    assert_true(attrs_apply(scratch->fd, "file", -1, want, NULL, &all, &refused, &error));
    assert_int_equal(refused, has_attr(scratch, "file", "user.huge") ? 0 : 1);
    assert_true(has_attr(scratch, "file", "user.small"));
    /* Files in /proc have none and take none. */
    AutoFd proc = open("/proc/version", O_RDONLY | O_CLOEXEC);
    assert_ptr_equal(attrs_read(-1, "version", proc, &only_xattrs, NULL), attrs_empty());
    assert_true(attrs_apply(-1, "version", proc, want, NULL, &all, &refused, &error));
    assert_int_equal(refused, 2);
}

static int as_nobody(Scratch *scratch)
{
    gboolean root = geteuid() == 0;
    CHECK(fchmod(scratch->fd, 0777) == 0);
    AutoFd made = openat(scratch->fd, "theirs", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    CHECK(made >= 0);
    if (set_attr(scratch, "theirs", "user.one", "1", 1) != 0)
        return CHILD_SKIPS;
    if (root)
        CHECK(set_attr(scratch, "theirs", "security.test", "s", 1) == 0);
    const Attrs *want = attrs_read(scratch->fd, "theirs", -1, &all, NULL);
    CHECK(want);
    CHECK(become_nobody());
    const Attrs *seen = attrs_read(scratch->fd, "theirs", -1, &all, NULL);
    CHECK(seen && !attrs_is_empty(seen));
    CHECK(attrs_equal(seen, want) == !root);
    /* A file that its owner may not write, by descriptor and by name; the mode stays. */
    for (int by_fd = 0; by_fd < 2; by_fd++) {
        char name[] = "own0";
        name[3] = (char)('0' + by_fd);
        AutoFd own = openat(scratch->fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        CHECK(own >= 0 && fchmod(own, 0444) == 0);
        guint refused = 9;
        CHECK(attrs_apply(scratch->fd, name, by_fd ? own : -1, seen, NULL, &all, &refused, NULL));
        CHECK(refused == 0 && has_attr(scratch, name, "user.one"));
        struct stat st;
        CHECK(fstat(own, &st) == 0 && (st.st_mode & 07777) == 0444);
        CHECK(attrs_apply(scratch->fd, name, -1, attrs_empty(), NULL, &all, &refused, NULL));
        CHECK(refused == 0 && !has_attr(scratch, name, "user.one"));
        CHECK(fstat(own, &st) == 0 && (st.st_mode & 07777) == 0444);
    }
    if (root) {
        guint refused = 0;
        CHECK(attrs_apply(scratch->fd, "theirs", -1, attrs_empty(), NULL, &all, &refused, NULL));
        CHECK(refused == 1 && has_attr(scratch, "theirs", "user.one"));
    }
    attrs_free(want);
    attrs_free(seen);
    return 0;
}

static void test_without_root(void **state)
{
    RUN_CHILD(as_nobody, *state);
}

static int without_listxattrat(Scratch *scratch)
{
    if (set_attr(scratch, "file", "user.one", "1", 1) != 0 || !forbid_call(465))
        return CHILD_SKIPS;
    const Attrs *some = attrs_read(scratch->fd, "file", -1, &only_xattrs, NULL);
    CHECK(some && !attrs_is_empty(some));
    char longest[256];
    memset(longest, 'x', 255);
    longest[255] = '\0';
    AutoFd made = openat(scratch->fd, longest, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(made >= 0 && attrs_read(scratch->fd, longest, -1, &only_acls, NULL) == attrs_empty());
    CHECK(attrs_apply(scratch->fd, longest, -1, some, NULL, &only_xattrs, NULL, NULL));
    CHECK(has_attr(scratch, longest, "user.one"));
    g_autoptr(GError) error = NULL;
    CHECK(!attrs_read(scratch->fd, "missing", -1, &all, &error) && error_is(error, BACKAPP_ERROR_NOT_FOUND));
    attrs_free(some);
    return 0;
}

static void test_kernel_without_listxattrat(void **state)
{
    RUN_CHILD(without_listxattrat, *state);
}

static void assert_damaged(const guint8 *data, gsize length)
{
    BytesReader in = bytes_reader(data, length);
    g_autoptr(GError) error = NULL;
    assert_null(attrs_decode(&in, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
}

static void put_attr(GByteArray *bytes, const char *name, gsize length)
{
    g_autofree guint8 *value = g_malloc0(length + 1);
    bytes_put_blob(bytes, name, strlen(name));
    bytes_put_blob(bytes, value, length);
}

static void test_damaged_bytes_are_refused(void **state)
{
    g_autoptr(GByteArray) good = g_byte_array_new();
    bytes_put_varint(good, 2);
    put_attr(good, "user.a", 3);
    put_attr(good, "user.b", 0);
    for (guint cut = 0; cut < good->len; cut++)
        assert_damaged(good->data, cut);
    BytesReader in = bytes_reader(good->data, good->len);
    const Attrs *attrs ATTRS_AUTO = attrs_decode(&in, NULL);
    assert_non_null(attrs);
    static const char *const pairs[][2] = {{"user.b", "user.a"}, {"user.a", "user.a"}, {"", "user.a"}};
    for (guint i = 0; i < G_N_ELEMENTS(pairs); i++) {
        g_autoptr(GByteArray) bad = g_byte_array_new();
        bytes_put_varint(bad, 2);
        put_attr(bad, pairs[i][0], 1);
        put_attr(bad, pairs[i][1], 1);
        assert_damaged(bad->data, bad->len);
    }
    g_autoptr(GByteArray) too_large = g_byte_array_new();
    bytes_put_varint(too_large, 1);
    put_attr(too_large, "user.a", 65537);
    assert_damaged(too_large->data, too_large->len);
    g_autoptr(GByteArray) too_many = g_byte_array_new();
    bytes_put_varint(too_many, G_MAXUINT64);
    put_attr(too_many, "user.a", 1);
    assert_damaged(too_many->data, too_many->len);
    g_autoptr(GByteArray) none = g_byte_array_new();
    attrs_encode(attrs_empty(), none);
    BytesReader empty = bytes_reader(none->data, none->len);
    assert_ptr_equal(attrs_decode(&empty, NULL), attrs_empty());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ATTRS_TEST(test_none_is_the_shared_set),
        ATTRS_TEST(test_what_vanished_is_not_found),
        ATTRS_TEST(test_values_of_any_kind),
        ATTRS_TEST(test_more_names_than_fit_a_small_buffer),
        ATTRS_TEST(test_acls_travel),
        ATTRS_TEST(test_filter),
        ATTRS_TEST(test_extra_ones_go_and_changed_ones_change),
        ATTRS_TEST(test_symlinks_are_not_followed),
        ATTRS_TEST(test_descriptors_that_are_paths),
        ATTRS_TEST(test_what_the_file_system_does_not_take),
        ATTRS_TEST(test_without_root),
        ATTRS_TEST(test_kernel_without_listxattrat),
        cmocka_unit_test(test_damaged_bytes_are_refused),
    };
    return cmocka_run_group_tests_name("fs/attrs", tests, NULL, NULL);
}
