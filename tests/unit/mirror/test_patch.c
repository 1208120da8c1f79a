#include "scene.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/mirror/patch.h"
#include "fs/dir.h"

#define BLOCK (64 * 1024)

/* Three open files of a scene. */
typedef struct {
    Scene *scene;
    int src, old, patch;
} Files;

static int open_file(Scene *scene, const char *name, const void *data, gsize length)
{
    int fd = openat(scene->dest.root_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, length), length);
    return fd;
}

static Files files_new(const void *new, gsize new_length, const void *old, gsize old_length)
{
    Files files = {.scene = scene_new()};
    files.src = open_file(files.scene, "src", new, new_length);
    files.old = open_file(files.scene, "old", old, old_length);
    files.patch = open_file(files.scene, "patch", "", 0);
    return files;
}

static void files_clear(Files *files)
{
    fd_clear(&files->src);
    fd_clear(&files->old);
    fd_clear(&files->patch);
    scene_free(files->scene);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Files, files_clear)

static guint64 size_of(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    return (guint64)st.st_size;
}

static char *content(int fd)
{
    gsize length = (gsize)size_of(fd);
    char *data = g_malloc(length + 1);
    assert_int_equal(pread(fd, data, length, 0), length);
    return data;
}

static void expect_same(const Files *files)
{
    g_autofree char *a = content(files->src);
    g_autofree char *b = content(files->old);
    assert_int_equal(size_of(files->src), size_of(files->old));
    assert_memory_equal(a, b, size_of(files->src));
}

/* Bytes that repeat in no block. */
static guint8 *noise(gsize length, guint32 seed)
{
    guint8 *data = g_malloc(length + 1);
    GRand *rand = g_rand_new_with_seed(seed);
    for (gsize i = 0; i < length; i++)
        data[i] = (guint8)g_rand_int(rand);
    g_rand_free(rand);
    return data;
}

/* Makes the patch and applies it twice; returns the bytes that it carries. */
static guint64 patch_twice(Files *files)
{
    CopyResult result;
    assert_true(patch_make(files->src, files->old, files->patch, size_of(files->src), NULL, &result, NULL));
    assert_false(result.shrunk);
    for (guint i = 0; i < 2; i++) {
        assert_true(patch_apply(files->patch, files->old, NULL));
        expect_same(files);
    }
    return result.copied;
}

static void test_only_what_differs_is_in_it(void **state)
{
    g_autofree guint8 *data = noise(10 * BLOCK, 1);
    g_autofree guint8 *old = g_memdup2(data, 10 * BLOCK);
    old[3 * BLOCK] ^= 1;
    old[8 * BLOCK - 1] ^= 1;
    g_auto(Files) files = files_new(data, 10 * BLOCK, old, 10 * BLOCK);
    assert_int_equal(patch_twice(&files), 2 * BLOCK);
    assert_true(size_of(files.patch) < 2 * BLOCK + 1000);
}

static void test_every_pair_of_lengths(void **state)
{
    static const gsize lengths[] = {0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7};
    g_autofree guint8 *data = noise(4 * BLOCK, 2);
    g_autofree guint8 *other = noise(4 * BLOCK, 3);
    for (guint i = 0; i < G_N_ELEMENTS(lengths); i++) {
        for (guint j = 0; j < G_N_ELEMENTS(lengths); j++) {
            g_auto(Files) prefix = files_new(data, lengths[i], data, lengths[j]);
            patch_twice(&prefix);
            g_auto(Files) all = files_new(data, lengths[i], other, lengths[j]);
            patch_twice(&all);
        }
    }
}

static void test_equal_files_need_nothing(void **state)
{
    g_autofree guint8 *data = noise(3 * BLOCK, 4);
    g_auto(Files) files = files_new(data, 3 * BLOCK, data, 3 * BLOCK);
    assert_int_equal(patch_twice(&files), 0);
}

static void test_holes_stay_holes(void **state)
{
    g_autofree guint8 *data = noise(BLOCK, 5);
    g_auto(Files) files = files_new(data, BLOCK, data, BLOCK);
    /* The source: data, a long hole, data. The old one: data where the hole is, and at its end a hole. */
    assert_int_equal(pwrite(files.src, data, BLOCK, 100 * BLOCK), BLOCK);
    assert_int_equal(pwrite(files.old, data, BLOCK, 5 * BLOCK), BLOCK);
    assert_int_equal(ftruncate(files.src, 201 * BLOCK), 0);
    assert_int_equal(patch_twice(&files), BLOCK);
    struct stat st;
    assert_int_equal(fstat(files.old, &st), 0);
    if (lseek(files.old, BLOCK, SEEK_DATA) == BLOCK)
        skip(); /* a file system without holes */
    assert_true(st.st_blocks * 512 < 20 * BLOCK);
}

static void test_a_half_applied_patch_is_completed(void **state)
{
    g_autofree guint8 *data = noise(6 * BLOCK, 6);
    g_autofree guint8 *old = noise(9 * BLOCK, 7);
    for (guint done = 0; done <= 6; done++) {
        g_auto(Files) files = files_new(data, 6 * BLOCK, old, 9 * BLOCK);
        CopyResult result;
        assert_true(patch_make(files.src, files.old, files.patch, 6 * BLOCK, NULL, &result, NULL));
        assert_int_equal(pwrite(files.old, data, done * BLOCK, 0), done * BLOCK);
        assert_int_equal(pwrite(files.old, "torn", 4, done * BLOCK), 4);
        assert_true(patch_apply(files.patch, files.old, NULL));
        expect_same(&files);
    }
}

/* Writes the damaged patch, tries to apply it, and expects a refusal that has changed nothing. */
static void refuse(const Files *files, const guint8 *patch, gsize length, const char *before)
{
    g_autoptr(GError) error = NULL;
    assert_int_equal(pwrite(files->patch, patch, length, 0), length);
    assert_int_equal(ftruncate(files->patch, (off_t)length), 0);
    assert_false(patch_apply(files->patch, files->old, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    g_autofree char *after = content(files->old);
    assert_memory_equal(before, after, size_of(files->old));
}

static void test_damage_is_refused_before_anything_is_written(void **state)
{
    g_autofree guint8 *old = noise(2 * BLOCK, 8);
    g_autofree guint8 *new = g_memdup2(old, 2 * BLOCK);
    new[5] ^= 1;
    /* A short last block makes a short patch, of which each byte can be tried. */
    g_auto(Files) files = files_new(new, 40, old, 20);
    CopyResult result;
    assert_true(patch_make(files.src, files.old, files.patch, 40, NULL, &result, NULL));
    gsize length = (gsize)size_of(files.patch);
    g_autofree guint8 *patch = (guint8 *)content(files.patch);
    g_autofree char *before = content(files.old);
    for (gsize i = 0; i < length; i++)
        refuse(&files, patch, i, before);
    for (gsize i = 0; i < length * 8; i++) {
        patch[i / 8] ^= (guint8)(1 << (i % 8));
        refuse(&files, patch, length, before);
        patch[i / 8] ^= (guint8)(1 << (i % 8));
    }
    g_autofree guint8 *longer = g_malloc0(length + 1);
    memcpy(longer, patch, length);
    refuse(&files, longer, length + 1, before);
    assert_int_equal(pwrite(files.patch, patch, length, 0), length);
    assert_int_equal(ftruncate(files.patch, (off_t)length), 0);
    assert_true(patch_apply(files.patch, files.old, NULL));
    expect_same(&files);
}

static void test_blocks_of_another_patch_are_refused(void **state)
{
    /* Two patches with one block each at the same place, of equal length. */
    g_autofree guint8 *data = noise(100, 9);
    g_auto(Files) one = files_new(data, 50, "", 0);
    g_auto(Files) two = files_new(data + 50, 50, "", 0);
    CopyResult result;
    assert_true(patch_make(one.src, one.old, one.patch, 50, NULL, &result, NULL));
    assert_true(patch_make(two.src, two.old, two.patch, 50, NULL, &result, NULL));
    g_autofree guint8 *a = (guint8 *)content(one.patch);
    g_autofree guint8 *b = (guint8 *)content(two.patch);
    gsize length = (gsize)size_of(one.patch);
    g_autofree char *before = content(one.old);
    memcpy(a + 12, b + 12, 28 + 50);
    refuse(&one, a, length, before);
}

static void test_a_source_that_ends_early(void **state)
{
    g_autofree guint8 *data = noise(3 * BLOCK, 10);
    g_auto(Files) files = files_new(data, 2 * BLOCK + 9, data, 3 * BLOCK);
    CopyResult result;
    assert_true(patch_make(files.src, files.old, files.patch, 3 * BLOCK, NULL, &result, NULL));
    assert_true(result.shrunk);
    assert_true(patch_apply(files.patch, files.old, NULL));
    expect_same(&files);
}

static void shrink_source(guint64 bytes, gpointer user_data)
{
    const Files *files = user_data;
    assert_int_equal(ftruncate(files->src, BLOCK), 0);
}

static void test_a_source_that_shrinks_meanwhile_gives_a_whole_patch(void **state)
{
    g_autofree guint8 *data = noise(4 * BLOCK, 11);
    g_autofree guint8 *old = noise(4 * BLOCK, 12);
    g_auto(Files) files = files_new(data, 4 * BLOCK, old, 4 * BLOCK);
    CopyOptions options = {.progress = shrink_source, .user_data = &files};
    CopyResult result;
    memcpy(old, data, 2 * BLOCK);
    assert_int_equal(pwrite(files.old, old, 2 * BLOCK, 0), 2 * BLOCK);
    assert_true(patch_make(files.src, files.old, files.patch, 4 * BLOCK, &options, &result, NULL));
    assert_true(result.shrunk);
    assert_true(patch_apply(files.patch, files.old, NULL));
    /* What was written down of it before it shrank is there. */
    assert_int_equal(size_of(files.old), 3 * BLOCK);
    g_autofree char *got = content(files.old);
    assert_memory_equal(got, data, 3 * BLOCK);
}

static void test_cancel(void **state)
{
    g_autofree guint8 *data = noise(BLOCK, 13);
    g_auto(Files) files = files_new(data, BLOCK, "", 0);
    CancelFlag cancel = {0};
    CopyOptions options = {.cancel = &cancel};
    CopyResult result;
    g_autoptr(GError) error = NULL;
    cancel_set(&cancel);
    assert_false(patch_make(files.src, files.old, files.patch, BLOCK, &options, &result, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

static void test_an_unreadable_source_is_told_apart(void **state)
{
    g_auto(Files) files = files_new("a", 1, "b", 1);
    g_auto(AutoFd) write_only = openat(files.scene->dest.root_fd, "src", O_WRONLY | O_CLOEXEC);
    CopyResult result;
    assert_false(patch_make(write_only, files.old, files.patch, 1, NULL, &result, NULL));
    assert_true(result.source_failed);
    g_auto(AutoFd) old_write_only = openat(files.scene->dest.root_fd, "old", O_WRONLY | O_CLOEXEC);
    assert_false(patch_make(files.src, old_write_only, files.patch, 1, NULL, &result, NULL));
    assert_false(result.source_failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_what_differs_is_in_it),
        cmocka_unit_test(test_every_pair_of_lengths),
        cmocka_unit_test(test_equal_files_need_nothing),
        cmocka_unit_test(test_holes_stay_holes),
        cmocka_unit_test(test_a_half_applied_patch_is_completed),
        cmocka_unit_test(test_damage_is_refused_before_anything_is_written),
        cmocka_unit_test(test_blocks_of_another_patch_are_refused),
        cmocka_unit_test(test_a_source_that_ends_early),
        cmocka_unit_test(test_a_source_that_shrinks_meanwhile_gives_a_whole_patch),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_an_unreadable_source_is_told_apart),
    };
    return cmocka_run_group_tests_name("unit/mirror/patch", tests, NULL, NULL);
}
