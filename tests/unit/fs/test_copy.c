#include "scratch.h"

#include "fs/copy.h"

#define KIB     1024U
#define MIB     (1024U * KIB)
#define PATTERN 4093

/* Bytes that differ from place to place and never are zero. */
static guint8 byte_at(guint64 offset)
{
    return (guint8)(offset % PATTERN % 251 + 1 + (offset / PATTERN) % 3);
}

static void fill(guint8 *data, guint64 offset, gsize length)
{
    for (gsize i = 0; i < length; i++)
        data[i] = byte_at(offset + i);
}

static int create(int dir_fd, const char *name)
{
    int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static void put_at(int fd, guint64 offset, gsize length)
{
    g_autofree guint8 *data = g_malloc(length + 1);
    fill(data, offset, length);
    assert_int_equal(pwrite(fd, data, length, (off_t)offset), length);
}

static guint64 length_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (guint64)st.st_size;
}

static guint64 blocks_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (guint64)st.st_blocks;
}

/* Independent of the code under test: both read as a whole. */
static gboolean equal(int a, int b)
{
    guint64 length = length_of(a);
    if (length != length_of(b))
        return FALSE;
    g_autofree guint8 *x = g_malloc(MIB), *y = g_malloc(MIB);
    for (guint64 at = 0; at < length; at += MIB) {
        ssize_t got = pread(a, x, MIB, (off_t)at);
        if (got <= 0 || pread(b, y, MIB, (off_t)at) != got || memcmp(x, y, (size_t)got) != 0)
            return FALSE;
    }
    return TRUE;
}

static const guint64 sizes[] = {0,   1,       4095,        4096, 4097, 64 * KIB, 64 * KIB + 1, 128 * KIB, 128 * KIB + 1,
                                MIB, MIB + 3, 9 * MIB + 17};

static void copy_all_sizes(int dir_fd, const CopyOptions *options)
{
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        AutoFd src = create(dir_fd, "src"), dst = create(dir_fd, "dst");
        put_at(src, 0, sizes[i]);
        CopyResult result;
        assert_true(copy_data(src, dst, sizes[i], blocks_of(src), options, &result, NULL));
        assert_int_equal(result.copied, sizes[i]);
        assert_false(result.shrunk);
        assert_false(result.source_failed);
        assert_true(equal(src, dst));
    }
}

static void add_up(guint64 bytes, gpointer user_data)
{
    *(guint64 *)user_data += bytes;
}

static void test_all_sizes(void **state)
{
    Scratch *scratch = *state;
    copy_all_sizes(scratch->fd, NULL);
    g_autoptr(Rate) rate = rate_new(G_GUINT64_CONSTANT(1) << 40);
    CancelFlag cancel = {0};
    guint64 sum = 0, expected = 0;
    CopyOptions options = {.rate = rate, .cancel = &cancel, .progress = add_up, .user_data = &sum, .no_reflink = TRUE};
    copy_all_sizes(scratch->fd, &options);
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++)
        expected += sizes[i];
    assert_int_equal(sum, expected);
}

static int without_copy_file_range(Scratch *scratch)
{
    if (!forbid_call(SYS_copy_file_range))
        return CHILD_SKIPS;
    for (int round = 0; round < 2; round++) {
        AutoFd src = openat(scratch->fd, "src", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        AutoFd dst = openat(scratch->fd, "dst", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        gsize size = 3 * MIB + 5;
        g_autofree guint8 *data = g_malloc(size);
        fill(data, 0, size);
        CHECK(pwrite(src, data, size, 0) == (ssize_t)size);
        CopyResult result;
        CHECK(copy_data(src, dst, size, size / 512 + 1, NULL, &result, NULL));
        CHECK(result.copied == size && !result.shrunk && equal(src, dst));
    }
    return 0;
}

static void test_kernel_without_copy_file_range(void **state)
{
    RUN_CHILD(without_copy_file_range, *state);
}

static void test_zeros_that_are_data_stay_data(void **state)
{
    Scratch *scratch = *state;
    g_autofree guint8 *zeros = g_malloc0(256 * KIB);
    AutoFd src = create(scratch->fd, "src"), dst = create(scratch->fd, "dst"), old = create(scratch->fd, "old");
    assert_int_equal(pwrite(src, zeros, 100 * KIB, 0), 100 * KIB);
    CopyResult result;
    assert_true(copy_data(src, dst, 100 * KIB, 200, &(CopyOptions){.no_reflink = TRUE}, &result, NULL));
    assert_int_equal(result.copied, 100 * KIB);
    assert_int_equal(pwrite(src, zeros, 256 * KIB, 0), 256 * KIB);
    put_at(old, 0, 256 * KIB);
    assert_int_equal(fsync(src), 0);
    assert_true(copy_changed_blocks(src, old, 256 * KIB, NULL, &result, NULL));
    assert_int_equal(result.copied, 256 * KIB);
    assert_true(equal(src, old));
}

/* Copies src, of which only `data` bytes are no hole, and wants the same content and no more blocks. */
static void copy_sparse(int dir_fd, int src, guint64 data)
{
    AutoFd dst = create(dir_fd, "dst");
    CopyResult result;
    assert_true(copy_data(src, dst, length_of(src), blocks_of(src), NULL, &result, NULL));
    assert_true(equal(src, dst));
    assert_false(result.shrunk);
    if (lseek(src, 0, SEEK_HOLE) == (off_t)length_of(src) && data < length_of(src)) {
        print_message("skipped: the file system has no holes\n");
        skip();
    }
    assert_true(result.copied <= data + 64 * KIB);
    assert_true(blocks_of(dst) <= blocks_of(src) + 64);
    /* Where the holes are. */
    off_t a = 0, b = 0;
    for (int i = 0; a >= 0 && i < 20; i++) {
        int whence = i % 2 == 0 ? SEEK_DATA : SEEK_HOLE;
        a = lseek(src, a, whence);
        b = lseek(dst, b, whence);
        assert_int_equal(a, b);
    }
}

static void test_holes_stay_holes(void **state)
{
    Scratch *scratch = *state;
    static const struct {
        guint64 size, at[2], length[2];
    } cases[] = {
        {8 * MIB, {4 * MIB, 0}, {MIB, 0}},              /* at the start and the end */
        {8 * MIB, {0, 7 * MIB}, {MIB, MIB}},            /* in the middle */
        {8 * MIB, {0, 4 * MIB}, {64 * KIB, 200 * KIB}}, /* in the middle and at the end */
        {8 * MIB + 123, {8 * MIB, 0}, {123, 0}},        /* up to the last bytes */
        {100 * KIB, {0, 64 * KIB}, {4 * KIB, 4 * KIB}}, /* in a small file */
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        AutoFd src = create(scratch->fd, "src");
        assert_int_equal(ftruncate(src, (off_t)cases[i].size), 0);
        put_at(src, cases[i].at[0], cases[i].length[0]);
        put_at(src, cases[i].at[1], cases[i].length[1]);
        copy_sparse(scratch->fd, src, cases[i].length[0] + cases[i].length[1]);
    }
}

static void test_all_is_a_hole(void **state)
{
    Scratch *scratch = *state;
    static const guint64 lengths[] = {1, 4096, 5000, 300 * KIB, 3 * MIB + 1};
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        AutoFd src = create(scratch->fd, "src");
        assert_int_equal(ftruncate(src, (off_t)lengths[i]), 0);
        copy_sparse(scratch->fd, src, 0);
    }
    /* Too large to be read: only holes that are left out end in time. */
    AutoFd src = create(scratch->fd, "src"), dst = create(scratch->fd, "dst");
    guint64 huge = G_GUINT64_CONSTANT(1) << 40;
    if (ftruncate(src, (off_t)huge) != 0)
        return;
    put_at(src, huge / 2, 5);
    CopyResult result;
    assert_true(copy_data(src, dst, huge, blocks_of(src), NULL, &result, NULL));
    assert_int_equal(length_of(dst), huge);
    assert_true(result.copied <= 64 * KIB);
    guint8 got[5], expected[5];
    fill(expected, huge / 2, 5);
    assert_int_equal(pread(dst, got, 5, (off_t)(huge / 2)), 5);
    assert_memory_equal(got, expected, 5);
}

static void test_a_source_that_changes_its_length(void **state)
{
    Scratch *scratch = *state;
    static const guint64 lengths[] = {100, 50 * KIB, 300 * KIB, 2 * MIB};
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        for (int reflink = 0; reflink < 2; reflink++) {
            CopyOptions options = {.no_reflink = !reflink};
            AutoFd src = create(scratch->fd, "src"), grown = create(scratch->fd, "grown");
            put_at(src, 0, lengths[i]);
            CopyResult result;
            /* It was shorter when it was looked at: what came after is left out. */
            guint64 before = lengths[i] - 7;
            assert_true(copy_data(src, grown, before, before / 512 + 1, &options, &result, NULL));
            assert_int_equal(length_of(grown), before);
            assert_int_equal(result.copied, before);
            assert_false(result.shrunk);
            gboolean same = FALSE;
            assert_true(copy_same_content(src, grown, before, NULL, &same, NULL));
            assert_true(same);
            /* It was longer; and both with and without holes then. */
            for (int sparse = 0; sparse < 2; sparse++) {
                AutoFd dst = create(scratch->fd, "dst");
                guint64 larger = lengths[i] + 5 * MIB;
                assert_true(copy_data(src, dst, larger, sparse ? 1 : larger / 512 + 1, &options, &result, NULL));
                assert_true(result.shrunk);
                assert_true(equal(src, dst));
            }
        }
    }
}

static void test_a_sparse_source_that_shrinks(void **state)
{
    Scratch *scratch = *state;
    AutoFd src = create(scratch->fd, "src"), dst = create(scratch->fd, "dst");
    put_at(src, 0, 64 * KIB);
    assert_int_equal(ftruncate(src, 2 * MIB), 0);
    CopyResult result;
    assert_true(copy_data(src, dst, 8 * MIB, 128, &(CopyOptions){.no_reflink = TRUE}, &result, NULL));
    assert_true(result.shrunk);
    assert_true(equal(src, dst));
}

static void test_files_of_proc(void **state)
{
    Scratch *scratch = *state;
    AutoFd src = open("/proc/version", O_RDONLY | O_CLOEXEC);
    char expected[4096];
    ssize_t length = pread(src, expected, sizeof expected, 0);
    assert_true(length > 0);
    /* Size 0 is what was asked for; a wrong size ends where the content ends. */
    static const guint64 asked[] = {0, 4096, MIB};
    for (guint i = 0; i < G_N_ELEMENTS(asked); i++) {
        AutoFd dst = create(scratch->fd, "dst");
        CopyResult result;
        assert_true(copy_data(src, dst, asked[i], asked[i] / 512 + 1, NULL, &result, NULL));
        assert_int_equal(length_of(dst), asked[i] == 0 ? 0 : length);
        assert_true(result.shrunk == (asked[i] > 0));
        char got[4096];
        assert_int_equal(pread(dst, got, sizeof got, 0), asked[i] == 0 ? 0 : length);
        if (asked[i] > 0)
            assert_memory_equal(got, expected, (size_t)length);
    }
}

static void test_cancel(void **state)
{
    Scratch *scratch = *state;
    CancelFlag cancel = {0};
    cancel_set(&cancel);
    CopyOptions options = {.cancel = &cancel};
    static const guint64 lengths[] = {10, 200 * KIB, 2 * MIB};
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        AutoFd src = create(scratch->fd, "src"), dst = create(scratch->fd, "dst");
        put_at(src, 0, lengths[i]);
        CopyResult result;
        g_autoptr(GError) error = NULL;
        assert_false(copy_data(src, dst, lengths[i], lengths[i] / 512 + 1, &options, &result, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
        g_clear_error(&error);
        assert_false(copy_changed_blocks(src, dst, lengths[i], &options, &result, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
        g_clear_error(&error);
        gboolean same = FALSE;
        assert_false(copy_same_content(src, src, lengths[i], &cancel, &same, &error));
        assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    }
}

static void test_which_side_failed(void **state)
{
    Scratch *scratch = *state;
    AutoFd good = create(scratch->fd, "good"), dst = create(scratch->fd, "dst");
    put_at(good, 0, 2 * MIB);
    AutoFd write_only = openat(scratch->fd, "good", O_WRONLY | O_CLOEXEC);
    AutoFd read_only = openat(scratch->fd, "dst", O_RDONLY | O_CLOEXEC);
    static const guint64 lengths[] = {10, 200 * KIB, 2 * MIB};
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        CopyResult result;
        g_autoptr(GError) error = NULL;
        assert_false(copy_data(write_only, dst, lengths[i], 1 << 20, NULL, &result, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INTERNAL));
        assert_true(result.source_failed);
        g_clear_error(&error);
        assert_false(copy_data(good, read_only, lengths[i], 1 << 20, NULL, &result, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INTERNAL));
        assert_false(result.source_failed);
        g_clear_error(&error);
        gboolean same = FALSE;
        assert_false(copy_same_content(good, write_only, lengths[i], NULL, &same, &error));
        assert_non_null(error);
    }
}

static int on_a_full_disk(Scratch *scratch)
{
    AutoFd src = openat(scratch->fd, "src", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    gsize size = 2 * MIB;
    g_autofree guint8 *data = g_malloc(size);
    fill(data, 0, size);
    CHECK(pwrite(src, data, size, 0) == (ssize_t)size);
    if (!mount_private_tmpfs(scratch, "", "size=64k"))
        return CHILD_SKIPS;
    AutoFd near = openat(scratch->fd, "near", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(ftruncate(near, (off_t)size) == 0);
    static const guint64 lengths[] = {100 * KIB, 200 * KIB, 2 * MIB};
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        AutoFd dst = openat(scratch->fd, "dst", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        CopyResult result;
        g_autoptr(GError) error = NULL;
        CHECK(!copy_data(src, dst, lengths[i], lengths[i] / 512, NULL, &result, &error));
        CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE) && !result.source_failed);
        g_clear_error(&error);
        CHECK(!copy_changed_blocks(src, dst, lengths[i], NULL, &result, &error));
        CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE) && !result.source_failed);
    }
    return 0;
}

static void test_full_disk(void **state)
{
    RUN_CHILD(on_a_full_disk, *state);
}

static void test_reflink(void **state)
{
    Scratch *scratch = *state;
    AutoFd src = create(scratch->fd, "src"), dst = create(scratch->fd, "dst");
    put_at(src, 0, MIB);
    gboolean shares = copy_try_reflink(src, dst);
    assert_int_equal(length_of(dst), shares ? MIB : 0);
    for (int allowed = 0; allowed < 2; allowed++) {
        AutoFd again = create(scratch->fd, "again");
        CopyOptions options = {.no_reflink = !allowed};
        CopyResult result;
        assert_true(copy_data(src, again, MIB, blocks_of(src), &options, &result, NULL));
        assert_true(result.reflinked == (shares && allowed));
        assert_int_equal(result.copied, MIB);
        assert_true(equal(src, again));
    }
}

/* Makes dst like src and returns the bytes written. */
static guint64 rewrite(int src, int dst)
{
    CopyResult result;
    guint64 sum = 0;
    CopyOptions options = {.progress = add_up, .user_data = &sum};
    assert_true(copy_changed_blocks(src, dst, length_of(src), &options, &result, NULL));
    assert_true(equal(src, dst));
    assert_false(result.shrunk);
    assert_int_equal(sum, result.copied);
    return result.copied;
}

static void test_only_changed_blocks_are_written(void **state)
{
    Scratch *scratch = *state;
    AutoFd src = create(scratch->fd, "src"), dst = create(scratch->fd, "dst");
    put_at(src, 0, 2 * MIB + 100);
    assert_int_equal(rewrite(src, dst), 2 * MIB + 100);
    assert_int_equal(rewrite(src, dst), 0);
    assert_int_equal(pwrite(src, "\0", 1, 3 * 64 * KIB + 5), 1);
    assert_int_equal(pwrite(src, "\0", 1, 20 * 64 * KIB), 1);
    assert_int_equal(pwrite(src, "\0", 1, 2 * MIB + 99), 1);
    assert_int_equal(rewrite(src, dst), 2 * 64 * KIB + 100);
    /* Longer, shorter, empty. */
    put_at(src, 2 * MIB + 100, 64 * KIB);
    assert_int_equal(rewrite(src, dst), 64 * KIB + 100);
    assert_int_equal(ftruncate(src, MIB + 1), 0);
    assert_int_equal(rewrite(src, dst), 0);
    assert_int_equal(ftruncate(src, 0), 0);
    assert_int_equal(rewrite(src, dst), 0);
    CopyResult result;
    put_at(src, 0, 1000);
    assert_true(copy_changed_blocks(src, dst, 5000, NULL, &result, NULL));
    assert_true(result.shrunk);
    assert_true(equal(src, dst));
    assert_true(copy_changed_blocks(src, dst, 500, NULL, &result, NULL));
    assert_int_equal(length_of(dst), 500);
}

static void test_holes_when_blocks_are_rewritten(void **state)
{
    Scratch *scratch = *state;
    AutoFd src = create(scratch->fd, "src"), dst = create(scratch->fd, "dst");
    assert_int_equal(ftruncate(src, 4 * MIB), 0);
    put_at(src, MIB, 64 * KIB);
    put_at(dst, 0, 4 * MIB);
    assert_int_equal(rewrite(src, dst), 0);
    assert_true(blocks_of(dst) * 512 <= 256 * KIB || blocks_of(src) * 512 > 256 * KIB);
    /* Data in the source where the destination has a hole, and nothing to read between. */
    guint64 huge = G_GUINT64_CONSTANT(1) << 40;
    if (ftruncate(src, (off_t)huge) != 0)
        return;
    put_at(src, huge - 10, 10);
    put_at(dst, huge / 2, 10);
    CopyResult result;
    assert_true(copy_changed_blocks(src, dst, huge, NULL, &result, NULL));
    guint8 got[10], expected[10], zero[10] = {0};
    fill(expected, huge - 10, 10);
    assert_int_equal(length_of(dst), huge);
    assert_int_equal(pread(dst, got, 10, (off_t)(huge - 10)), 10);
    assert_memory_equal(got, expected, 10);
    assert_int_equal(pread(dst, got, 10, (off_t)(huge / 2)), 10);
    assert_memory_equal(got, zero, 10);
}

static void test_same_content(void **state)
{
    Scratch *scratch = *state;
    AutoFd a = create(scratch->fd, "a"), b = create(scratch->fd, "b");
    gboolean same = FALSE;
    put_at(a, 0, MIB + 5);
    put_at(b, 0, MIB + 5);
    assert_true(copy_same_content(a, b, MIB + 5, NULL, &same, NULL));
    assert_true(same);
    assert_int_equal(pwrite(b, "\0", 1, MIB + 4), 1);
    assert_true(copy_same_content(a, b, MIB + 5, NULL, &same, NULL));
    assert_false(same);
    /* The part that is asked for. */
    assert_true(copy_same_content(a, b, MIB + 4, NULL, &same, NULL));
    assert_true(same);
    assert_int_equal(ftruncate(b, MIB / 2), 0);
    assert_true(copy_same_content(a, b, MIB, NULL, &same, NULL));
    assert_false(same);
    assert_true(copy_same_content(b, a, MIB, NULL, &same, NULL));
    assert_false(same);
    assert_true(copy_same_content(a, b, 0, NULL, &same, NULL));
    assert_true(same);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_all_sizes),
        SCRATCH_TEST(test_kernel_without_copy_file_range),
        SCRATCH_TEST(test_zeros_that_are_data_stay_data),
        SCRATCH_TEST(test_holes_stay_holes),
        SCRATCH_TEST(test_all_is_a_hole),
        SCRATCH_TEST(test_a_source_that_changes_its_length),
        SCRATCH_TEST(test_a_sparse_source_that_shrinks),
        SCRATCH_TEST(test_files_of_proc),
        SCRATCH_TEST(test_cancel),
        SCRATCH_TEST(test_which_side_failed),
        SCRATCH_TEST(test_full_disk),
        SCRATCH_TEST(test_reflink),
        SCRATCH_TEST(test_only_changed_blocks_are_written),
        SCRATCH_TEST(test_holes_when_blocks_are_rewritten),
        SCRATCH_TEST(test_same_content),
    };
    return cmocka_run_group_tests_name("fs/copy", tests, NULL, NULL);
}
