#include "scratch.h"

#include "fs/spool.h"

#define MIB (1024 * 1024)

/* Content that differs from record to record and from place to place. */
static void fill(guint8 *data, gsize length, guint seed)
{
    guint32 x = seed * 2654435761U + 1;
    for (gsize i = 0; i < length; i++) {
        x = x * 1664525U + 1013904223U;
        data[i] = (guint8)(x >> 24);
    }
}

static const gsize sizes[] = {0, 1, 127, 128, 65526, 65536, 0, 65535, 200000, 3, 16 * MIB, 5, 0, 70000, 16383, 16384};

static void assert_next(SpoolReader *reader, guint record)
{
    const guint8 *data = NULL;
    gsize length = 0;
    assert_int_equal(spool_reader_next(reader, &data, &length, NULL), 1);
    assert_int_equal(length, sizes[record]);
    g_autofree guint8 *expected = g_malloc(length + 1);
    fill(expected, length, record);
    assert_memory_equal(data, expected, length);
}

static Spool *filled(int temp_fd)
{
    Spool *spool = spool_new(temp_fd, NULL);
    assert_non_null(spool);
    guint64 total = 0;
    g_autofree guint8 *data = g_malloc(16 * MIB);
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        fill(data, sizes[i], i);
        assert_true(spool_put(spool, data, sizes[i], NULL));
        total += sizes[i];
    }
    assert_true(spool_finish(spool, NULL));
    assert_true(spool_size(spool) >= total + G_N_ELEMENTS(sizes));
    assert_true(spool_size(spool) <= total + 4 * G_N_ELEMENTS(sizes));
    return spool;
}

static void test_records_come_back_in_order(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Spool) spool = filled(scratch->fd);
    assert_int_equal(count_names(scratch->fd), 0);
    for (int round = 0; round < 2; round++) {
        g_autoptr(SpoolReader) reader = spool_reader_new(spool);
        for (guint i = 0; i < G_N_ELEMENTS(sizes); i++)
            assert_next(reader, i);
        const guint8 *data = NULL;
        gsize length = 0;
        assert_int_equal(spool_reader_next(reader, &data, &length, NULL), 0);
        assert_int_equal(spool_reader_next(reader, &data, &length, NULL), 0);
    }
}

static void test_readers_are_independent(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Spool) spool = filled(scratch->fd);
    g_autoptr(SpoolReader) ahead = spool_reader_new(spool);
    g_autoptr(SpoolReader) behind = spool_reader_new(spool);
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        assert_next(ahead, i);
        if (i >= 5)
            assert_next(behind, i - 5);
    }
}

static void test_many_small_records(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(Spool) spool = spool_new(scratch->fd, NULL);
    char text[32];
    for (guint i = 0; i < 50000; i++) {
        int n = snprintf(text, sizeof text, "record %u", i);
        assert_true(spool_put(spool, text, (gsize)n, NULL));
    }
    assert_true(spool_finish(spool, NULL));
    g_autoptr(SpoolReader) reader = spool_reader_new(spool);
    const guint8 *data = NULL;
    gsize length = 0;
    guint count = 0;
    while (spool_reader_next(reader, &data, &length, NULL) == 1) {
        int n = snprintf(text, sizeof text, "record %u", count++);
        assert_int_equal(length, n);
        assert_memory_equal(data, text, length);
    }
    assert_int_equal(count, 50000);
}

static void test_a_length_across_the_end_of_a_buffer(void **state)
{
    /* 255 bytes each with its two bytes of length, and 65,536 modulo 255 is 1. */
    Scratch *scratch = *state;
    g_autoptr(Spool) spool = spool_new(scratch->fd, NULL);
    guint8 expected[253];
    for (guint i = 0; i < 2000; i++) {
        fill(expected, sizeof expected, i);
        assert_true(spool_put(spool, expected, sizeof expected, NULL));
    }
    assert_true(spool_finish(spool, NULL));
    g_autoptr(SpoolReader) reader = spool_reader_new(spool);
    for (guint i = 0; i < 2000; i++) {
        const guint8 *data = NULL;
        gsize length = 0;
        assert_int_equal(spool_reader_next(reader, &data, &length, NULL), 1);
        fill(expected, sizeof expected, i);
        assert_int_equal(length, sizeof expected);
        assert_memory_equal(data, expected, sizeof expected);
    }
}

static void test_empty_and_in_the_temporary_directory(void **state)
{
    g_autoptr(Spool) spool = spool_new(-1, NULL);
    assert_non_null(spool);
    assert_true(spool_finish(spool, NULL));
    assert_int_equal(spool_size(spool), 0);
    g_autoptr(SpoolReader) reader = spool_reader_new(spool);
    const guint8 *data = NULL;
    gsize length = 0;
    assert_int_equal(spool_reader_next(reader, &data, &length, NULL), 0);
    spool_free(NULL);
    spool_reader_free(NULL);
}

static void test_wrong_use_is_an_error(void **state)
{
    Scratch *scratch = *state;
    g_autoptr(GError) error = NULL;
    g_autoptr(Spool) spool = spool_new(scratch->fd, NULL);
    assert_false(spool_put(spool, "", 16 * MIB + 1, &error));
    assert_non_null(error);
    g_clear_error(&error);
    assert_true(spool_put(spool, "x", 1, NULL));
    g_autoptr(SpoolReader) reader = spool_reader_new(spool);
    const guint8 *data = NULL;
    gsize length = 0;
    assert_int_equal(spool_reader_next(reader, &data, &length, &error), -1);
    assert_non_null(error);
    g_clear_error(&error);
    put_file(scratch->fd, "file", "", 0);
    AutoFd file = openat(scratch->fd, "file", O_RDONLY | O_CLOEXEC);
    assert_null(spool_new(file, &error));
    assert_non_null(error);
}

static int on_a_full_disk(Scratch *scratch)
{
    if (!mount_private_tmpfs(scratch, "", "size=256k"))
        return CHILD_SKIPS;
    int fd = scratch->fd;
    g_autoptr(Spool) spool = spool_new(fd, NULL);
    CHECK(spool);
    g_autofree guint8 *data = g_malloc0(100000);
    for (int i = 0; i < 10; i++)
        (void)spool_put(spool, data, 100000, NULL);
    g_autoptr(GError) error = NULL;
    /* However late one asks. */
    CHECK(!spool_put(spool, "x", 1, NULL));
    CHECK(!spool_finish(spool, &error));
    CHECK(error_is(error, BACKAPP_ERROR_NO_SPACE));
    return 0;
}

static void test_full_disk_is_reported_by_finish(void **state)
{
    RUN_CHILD(on_a_full_disk, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_records_come_back_in_order),
        SCRATCH_TEST(test_readers_are_independent),
        SCRATCH_TEST(test_many_small_records),
        SCRATCH_TEST(test_a_length_across_the_end_of_a_buffer),
        cmocka_unit_test(test_empty_and_in_the_temporary_directory),
        SCRATCH_TEST(test_wrong_use_is_an_error),
        SCRATCH_TEST(test_full_disk_is_reported_by_finish),
    };
    return cmocka_run_group_tests_name("fs/spool", tests, NULL, NULL);
}
