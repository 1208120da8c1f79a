#include "fs/select.h"

#include "fs/dir.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char *const CACHE_TAG_SIGNATURE = "Signature: 8a477f597d28d172789f06886806bc55";

static gboolean is_cache(int fd)
{
    g_auto(AutoFd) tag = openat(fd, "CACHEDIR.TAG", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    char start[64] = {0};
    gsize length = strlen(CACHE_TAG_SIGNATURE);
    return tag >= 0 && read(tag, start, sizeof start - 1) >= (gssize)length &&
           memcmp(start, CACHE_TAG_SIGNATURE, length) == 0;
}

gboolean select_leaves_out(int dir_fd, const char *name, gboolean exclude_caches, const char *exclude_if_present)
{
    if (!exclude_caches && exclude_if_present == NULL)
        return FALSE;
    g_auto(AutoFd) fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return FALSE;
    if (exclude_if_present != NULL && faccessat(fd, exclude_if_present, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return TRUE;
    return exclude_caches && is_cache(fd);
}
