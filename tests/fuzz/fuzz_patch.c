/*
 * A patch from the input, and one made from it. First byte 0: the rest is the patch file as it is; it is applied twice
 * to a small file, which must give the same, or be refused and change nothing. Else: the rest is cut into an old and a
 * new file (each byte stands for many, so that they have several blocks); the patch between them must turn the one into
 * the other.
 */
#include "engine/mirror/patch.h"
#include "fs/dir.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REPEAT           8000U
#define SIZE_MAX_APPLIED (64 * 1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int new_file(const void *data, gsize size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pwrite(fd, data, size, 0), ==, (gssize)size);
    return fd;
}

static guint64 size_of(int fd)
{
    struct stat st;
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return (guint64)st.st_size;
}

static void assert_same(int a, int b)
{
    gboolean same = FALSE;
    g_assert_cmpuint(size_of(a), ==, size_of(b));
    g_assert_true(copy_same_content(a, b, size_of(a), NULL, &same, NULL));
    g_assert_true(same);
}

static void apply_raw(const uint8_t *data, size_t size)
{
    g_auto(AutoFd) patch = new_file(data, size);
    g_auto(AutoFd) once = new_file("before", 6);
    g_auto(AutoFd) twice = new_file("before", 6);
    gboolean good = patch_apply(patch, once, NULL);
    g_assert_true(patch_apply(patch, twice, NULL) == good);
    if (!good) {
        g_auto(AutoFd) before = new_file("before", 6);
        /* A length that the file system does not take is the one thing that is only noticed at the end. */
        if (size_of(once) == 6)
            assert_same(once, before);
        return;
    }
    g_assert_true(patch_apply(patch, twice, NULL));
    if (size_of(once) <= SIZE_MAX_APPLIED)
        assert_same(once, twice);
}

/* Each byte many times; a zero byte is a hole. */
static int stretched(const uint8_t *data, size_t size)
{
    g_auto(AutoFd) fd = new_file("", 0);
    g_autofree guint8 *run = g_malloc(REPEAT);
    for (size_t i = 0; i < size; i++) {
        memset(run, data[i], REPEAT);
        if (data[i] != 0)
            g_assert_cmpint(pwrite(fd, run, REPEAT, (off_t)(i * REPEAT)), ==, REPEAT);
    }
    g_assert_cmpint(ftruncate(fd, (off_t)(size * REPEAT)), ==, 0);
    return fd_steal(&fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > 4096)
        return 0;
    if (data[0] == 0) {
        apply_raw(data + 1, size - 1);
        return 0;
    }
    size_t rest = MIN(size - 1, 200);
    size_t cut = rest * data[0] / 256;
    g_auto(AutoFd) old = stretched(data + 1, cut);
    g_auto(AutoFd) new = stretched(data + 1 + cut, rest - cut);
    g_auto(AutoFd) patch = new_file("", 0);
    CopyResult result;
    g_assert_true(patch_make(new, old, patch, size_of(new), NULL, &result, NULL));
    for (int i = 0; i < 2; i++) {
        g_assert_true(patch_apply(patch, old, NULL));
        assert_same(old, new);
    }
    return 0;
}
