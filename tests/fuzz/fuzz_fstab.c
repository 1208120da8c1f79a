/*
 * An fstab and a path: the first line of the input is the path, the rest the file. What must hold: the same answer
 * twice; a comment changes nothing; the path, in a line of its own with every byte escaped, is found.
 */
#include "fs/facts.h"

#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PATH_BYTES_MAX 1000 /* escaped, it is four times as long and still fits in one line */

static gboolean find(const char *path, const char *fstab)
{
    static int fd = -1;
    static char name[64];
    if (fd < 0) {
        fd = memfd_create("fstab", MFD_CLOEXEC);
        g_assert_true(fd >= 0);
        (void)g_snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    }
    size_t length = strlen(fstab);
    g_assert_true(ftruncate(fd, 0) == 0 && pwrite(fd, fstab, length, 0) == (ssize_t)length);
    return facts_in_fstab(path, name);
}

static char *with_line(const char *fstab, const char *device, const char *path)
{
    GString *text = g_string_new(fstab);
    g_string_append_printf(text, "\n%s ", device);
    for (const char *byte = path; *byte; byte++)
        g_string_append_printf(text, "\\%03o", (guint)(guchar)*byte);
    g_string_append(text, " ext4 defaults 0 2");
    return g_string_free(text, FALSE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    char *fstab = strchr(text, '\n');
    if (fstab == NULL)
        return 0;
    *fstab++ = '\0';
    const char *path = text;
    gboolean found = find(path, fstab);
    g_assert_true(find(path, fstab) == found);
    if (*path == '\0' || strlen(path) > PATH_BYTES_MAX)
        return 0;
    g_autofree char *with_comment = with_line(fstab, "#UUID=1", path);
    g_assert_true(find(path, with_comment) == found);
    g_autofree char *with_path = with_line(fstab, "UUID=1", path);
    g_assert_true(find(path, with_path));
    g_autofree char *only_path = with_line("", "UUID=1", path);
    g_assert_true(find(path, only_path));
    return 0;
}
