#include "fs/dir.h"

#include "base/error.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH_MAX        100000
#define OPEN_FLAGS       (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
#define READ_BUFFER      (128 * 1024)
#define NAMES_MAX        50000000U
#define SORT_BY_KEYS_MAX 65536U
#define AGAIN_MAX        100

/* Set once the kernel (or a seccomp filter) turns out not to have openat2. */
static atomic_bool openat2_is_missing;

void fd_clear(int *fd)
{
    /* Runs at the end of scopes whose callers look at errno. */
    int saved = errno;
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
    errno = saved;
}

gboolean fd_close(int *fd, const char *what, GError **error)
{
    int closing = fd_steal(fd);
    /* Linux has closed the descriptor even if it says EINTR. */
    if (closing < 0 || close(closing) == 0 || errno == EINTR)
        return TRUE;
    return error_set_errno(error, errno, "cannot close %s", what);
}

int fd_steal(int *fd)
{
    int stolen = *fd;
    *fd = -1;
    return stolen;
}

/* Sets the error for `path`, and errno to errnum again. */
static int open_failed(int errnum, const char *path, GError **error)
{
    const char *shown = path[0] ? path : ".";
    if (errnum == ENOTDIR || errnum == ELOOP)
        error_set(error, BACKAPP_ERROR_CONFLICT, "cannot open the directory %s: a part of it is not a directory",
                  shown);
    else
        error_set_errno(error, errnum, "cannot open the directory %s", shown);
    errno = errnum;
    return -1;
}

static int open_beneath(int dir_fd, const char *path)
{
    struct open_how how = {
        .flags = OPEN_FLAGS,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    long fd = -1;
    int again = 0;
    do
        fd = syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
    while (fd < 0 && (errno == EAGAIN || errno == EINTR) && ++again < AGAIN_MAX);
    return (int)fd;
}

static int open_component(int dir_fd, const char *name)
{
    if (strcmp(name, "..") == 0) {
        errno = EXDEV;
        return -1;
    }
    int fd = -1;
    do
        fd = openat(dir_fd, name, OPEN_FLAGS);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* How much of `path` (length bytes) fits into `max` bytes and ends before a slash or at its end; 0 if nothing. */
static gsize piece_length(const char *path, gsize length, gsize max)
{
    if (length <= max)
        return length;
    const char *slash = memrchr(path, '/', max + 1);
    return slash ? (gsize)(slash - path) : 0;
}

/* Opens the first `length` bytes of path in pieces: as long as openat2 takes them, or component by component. */
static int open_pieces(int root_fd, const char *path, gsize length)
{
    char piece[PATH_MAX];
    g_auto(AutoFd) current = -1;
    for (gsize at = 0; at < length || current < 0;) {
        gboolean whole = !atomic_load_explicit(&openat2_is_missing, memory_order_relaxed);
        const char *slash = memchr(path + at, '/', length - at);
        gsize n = slash ? (gsize)(slash - (path + at)) : length - at;
        if (whole)
            n = piece_length(path + at, length - at, sizeof piece - 1);
        if (n >= sizeof piece || (n == 0 && at < length)) {
            errno = slash == path + at ? EINVAL : ENAMETOOLONG;
            return -1;
        }
        memcpy(piece, path + at, n);
        piece[n] = '\0';
        const char *name = n > 0 ? piece : ".";
        int base = current >= 0 ? current : root_fd;
        int next = whole ? open_beneath(base, name) : open_component(base, name);
        if (whole && next < 0 && (errno == ENOSYS || errno == EPERM)) {
            atomic_store_explicit(&openat2_is_missing, TRUE, memory_order_relaxed);
            continue;
        }
        fd_clear(&current);
        if (next < 0)
            return -1;
        current = next;
        at += n + 1;
    }
    return fd_steal(&current);
}

static int open_length(int root_fd, const char *path, gsize length, GError **error)
{
    int fd = open_pieces(root_fd, path, length);
    if (fd >= 0)
        return fd;
    int saved = errno;
    g_autofree char *shown = g_strndup(path, length);
    return open_failed(saved, shown, error);
}

int dir_open(int root_fd, const char *path, GError **error)
{
    return open_length(root_fd, path, strlen(path), error);
}

int dir_open_parent(int root_fd, const char *path, const char **base, GError **error)
{
    const char *slash = strrchr(path, '/');
    *base = slash ? slash + 1 : path;
    if (!**base) {
        error_set(error, BACKAPP_ERROR_INVALID, "the path \"%s\" has no last component", path);
        errno = EINVAL;
        return -1;
    }
    return open_length(root_fd, path, slash ? (gsize)(slash - path) : 0, error);
}

/* Makes (if missing) and opens one component. */
static int make_component(int parent_fd, const char *name, guint32 mode)
{
    gboolean made = mkdirat(parent_fd, name, S_IRWXU) == 0;
    if (!made && errno != EEXIST)
        return -1;
    g_auto(AutoFd) fd = open_component(parent_fd, name);
    /* The umask had its say in mkdirat, and must not. What was made just now says EPERM if there are no modes (FAT). */
    if (fd >= 0 && made && mode != S_IRWXU && fchmod(fd, mode & 07777) != 0 && errno != EPERM)
        return -1;
    return fd_steal(&fd);
}

gboolean dir_make_path(int root_fd, const char *path, guint32 mode, GError **error)
{
    g_auto(AutoFd) current = dir_open(root_fd, path, NULL);
    if (current >= 0)
        return TRUE;
    g_autofree char *copy = g_strdup(path);
    char *name = copy;
    while (name) {
        char *slash = strchr(name, '/');
        if (slash)
            *slash = '\0';
        int next = make_component(current >= 0 ? current : root_fd, name, slash ? S_IRWXU : mode);
        int saved = errno;
        fd_clear(&current);
        if (next < 0 && (saved == ENOTDIR || saved == ELOOP))
            return error_set(error, BACKAPP_ERROR_CONFLICT, "cannot make the directory %s: %s is not a directory", path,
                             copy);
        if (next < 0)
            return error_set_errno(error, saved, "cannot make the directory %s", path);
        current = next;
        if (slash)
            *slash = '/';
        name = slash ? slash + 1 : NULL;
    }
    return TRUE;
}

gboolean dir_is_inner_path(const char *path)
{
    for (const char *at = path;; at++) {
        gsize length = strcspn(at, "/");
        if (length == 0 || (length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.'))
            return FALSE;
        at += length;
        if (*at == '\0')
            return TRUE;
    }
}

gboolean dir_lies_in(int fd, int in_fd)
{
    struct stat wanted;
    struct stat here;
    struct stat last = {0};
    g_auto(AutoFd) at = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fstat(in_fd, &wanted) != 0)
        return FALSE;
    for (guint depth = 0; at >= 0 && depth < DEPTH_MAX && fstat(at, &here) == 0; depth++) {
        if (here.st_dev == wanted.st_dev && here.st_ino == wanted.st_ino)
            return TRUE;
        if (depth > 0 && here.st_dev == last.st_dev && here.st_ino == last.st_ino)
            return FALSE; /* the root is its own parent */
        last = here;
        int parent = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        fd_clear(&at);
        at = parent;
    }
    return FALSE;
}

gboolean dir_sync(int dir_fd, const char *what, GError **error)
{
    if (fsync(dir_fd) == 0)
        return TRUE;
    return error_set_errno(error, errno, "cannot make the directory %s durable", what);
}

/* The first eight bytes of a name as a number that sorts like them, so that most comparisons touch nothing else. */
typedef struct {
    guint64 prefix;
    guint32 offset;
} SortKey;

static int compare_keys(const void *a, const void *b, void *arena)
{
    const SortKey *x = a, *y = b;
    if (x->prefix != y->prefix)
        return x->prefix < y->prefix ? -1 : 1;
    return strcmp((const char *)arena + x->offset + 1, (const char *)arena + y->offset + 1);
}

static int compare_offsets(const void *a, const void *b, void *arena)
{
    const guint32 *x = a, *y = b;
    return strcmp((const char *)arena + *x + 1, (const char *)arena + *y + 1);
}

static guint64 name_prefix(const guint8 *name)
{
    guint64 prefix = 0;
    for (guint i = 0; i < 8; i++) {
        prefix = prefix << 8 | *name;
        if (*name)
            name++;
    }
    return prefix;
}

static void sort_names(DirNames *names)
{
    guint count = names->offsets->len;
    guint32 *offsets = (guint32 *)(void *)names->offsets->data;
    guint8 *arena = names->arena->data;
    if (count > SORT_BY_KEYS_MAX) {
        /* Keys would cost 16 bytes a name more than the header states. */
        qsort_r(offsets, count, sizeof *offsets, compare_offsets, arena);
        return;
    }
    if (count < 2)
        return;
    g_autofree SortKey *keys = g_new(SortKey, count);
    for (guint i = 0; i < count; i++)
        keys[i] = (SortKey){.prefix = name_prefix(arena + offsets[i] + 1), .offset = offsets[i]};
    qsort_r(keys, count, sizeof *keys, compare_keys, arena);
    for (guint i = 0; i < count; i++)
        offsets[i] = keys[i].offset;
}

static guint8 *read_buffer(void)
{
    static GPrivate private = G_PRIVATE_INIT(g_free);
    guint8 *buffer = g_private_get(&private);
    if (!buffer) {
        buffer = g_malloc(READ_BUFFER);
        g_private_set(&private, buffer);
    }
    return buffer;
}

gboolean dir_each(int dir_fd, DirEntryFunc func, gpointer user_data, const CancelFlag *cancel, GError **error)
{
    guint8 *buffer = read_buffer();
    if (lseek(dir_fd, 0, SEEK_SET) < 0)
        return error_set_errno(error, errno, "cannot rewind the directory");
    for (;;) {
        if (!cancel_check(cancel, error))
            return FALSE;
        ssize_t got = getdents64(dir_fd, buffer, READ_BUFFER);
        if (got == 0)
            return TRUE;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(error, errno, "cannot read the directory");
        for (gsize at = 0; at < (gsize)got;) {
            const struct dirent64 *entry = (const void *)(buffer + at);
            const char *name = entry->d_name;
            at += entry->d_reclen;
            gboolean dots = name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
            if (!dots && !func(name, entry->d_type, user_data, error))
                return FALSE;
        }
    }
}

static gboolean add_name(const char *name, guint8 type, gpointer user_data, GError **error)
{
    DirNames *names = user_data;
    guint32 offset = names->arena->len;
    guint length = (guint)strlen(name) + 1;
    if (names->offsets->len >= NAMES_MAX || length + 1 > G_MAXUINT32 - offset)
        return error_set(error, BACKAPP_ERROR_INVALID, "the directory has too many names (more than %u)",
                         names->offsets->len);
    g_byte_array_append(names->arena, &type, 1);
    g_byte_array_append(names->arena, (const guint8 *)name, length);
    g_array_append_val(names->offsets, offset);
    return TRUE;
}

gboolean dir_names_read(int dir_fd, DirNames *names, const CancelFlag *cancel, GError **error)
{
    names->arena = g_byte_array_new();
    names->offsets = g_array_new(FALSE, FALSE, sizeof(guint32));
    if (!dir_each(dir_fd, add_name, names, cancel, error)) {
        dir_names_clear(names);
        return FALSE;
    }
    sort_names(names);
    return TRUE;
}

guint dir_names_count(const DirNames *names)
{
    return names->offsets ? names->offsets->len : 0;
}

static const guint8 *entry_at(const DirNames *names, guint i)
{
    return names->arena->data + g_array_index(names->offsets, guint32, i);
}

const char *dir_names_get(const DirNames *names, guint i)
{
    return (const char *)entry_at(names, i) + 1;
}

guint8 dir_names_type(const DirNames *names, guint i)
{
    return *entry_at(names, i);
}

void dir_names_clear(DirNames *names)
{
    if (names->arena)
        g_byte_array_unref(names->arena);
    if (names->offsets)
        g_array_unref(names->offsets);
    names->arena = NULL;
    names->offsets = NULL;
}
