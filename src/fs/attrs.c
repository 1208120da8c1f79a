#include "fs/attrs.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

#define NAME_MAX_BYTES  255
#define VALUE_MAX_BYTES 65536
#define LIST_MAX_BYTES  65536
#define TOTAL_MAX_BYTES (16 * 1024 * 1024)
#define COUNT_MAX       65536
/* Below this much free space "no space" for an attribute is believed; above it the file system means "too large". */
#define SPACE_LEFT_BYTES (4 * 1024 * 1024)

/* listxattr relative to a directory exists since Linux 6.13. */
#if !defined(SYS_listxattrat) && !defined(__alpha__)
#define SYS_listxattrat 465
#endif

typedef struct {
    gsize name;  /* offset in data, zero-terminated */
    gsize value; /* offset in data */
    gsize length;
} Entry;

struct Attrs {
    GByteArray *data;
    GArray *entries; /* of Entry, sorted by name */
};

static const Attrs empty_set;

const Attrs *attrs_empty(void)
{
    return &empty_set;
}

gboolean attrs_is_empty(const Attrs *attrs)
{
    return !attrs->entries || attrs->entries->len == 0;
}

void attrs_free(const Attrs *attrs)
{
    if (!attrs || attrs == &empty_set)
        return;
    g_byte_array_unref(attrs->data);
    g_array_unref(attrs->entries);
    g_free((gpointer)attrs);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Attrs, attrs_free)

static Attrs *attrs_new(void)
{
    Attrs *attrs = g_new(Attrs, 1);
    attrs->data = g_byte_array_new();
    attrs->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
    return attrs;
}

static guint entry_count(const Attrs *attrs)
{
    return attrs->entries ? attrs->entries->len : 0;
}

static const Entry *entry_at(const Attrs *attrs, guint i)
{
    return &g_array_index(attrs->entries, Entry, i);
}

static const char *entry_name(const Attrs *attrs, const Entry *entry)
{
    return (const char *)attrs->data->data + entry->name;
}

static const guint8 *entry_value(const Attrs *attrs, const Entry *entry)
{
    return attrs->data->data + entry->value;
}

static gboolean value_equal(const Attrs *a, const Entry *x, const Attrs *b, const Entry *y)
{
    return x->length == y->length && memcmp(entry_value(a, x), entry_value(b, y), x->length) == 0;
}

gboolean attrs_equal(const Attrs *a, const Attrs *b)
{
    if (entry_count(a) != entry_count(b))
        return FALSE;
    for (guint i = 0; i < entry_count(a); i++) {
        const Entry *x = entry_at(a, i), *y = entry_at(b, i);
        if (strcmp(entry_name(a, x), entry_name(b, y)) != 0 || !value_equal(a, x, b, y))
            return FALSE;
    }
    return TRUE;
}

gboolean attrs_each(const Attrs *attrs,
                    gboolean (*visit)(const char *name, const guint8 *value, gsize length, gpointer user_data),
                    gpointer user_data)
{
    gboolean good = TRUE;
    for (guint i = 0; i < entry_count(attrs) && good; i++) {
        const Entry *entry = entry_at(attrs, i);
        good = visit(entry_name(attrs, entry), entry_value(attrs, entry), entry->length, user_data);
    }
    return good;
}

static gboolean add_entry(Attrs *attrs, const char *name, const void *value, gsize length)
{
    gsize name_size = strlen(name) + 1;
    if (attrs->entries->len >= COUNT_MAX || attrs->data->len + name_size + length > TOTAL_MAX_BYTES)
        return FALSE;
    Entry entry = {.name = attrs->data->len, .value = attrs->data->len + name_size, .length = length};
    g_byte_array_append(attrs->data, (const guint8 *)name, (guint)name_size);
    if (length > 0)
        g_byte_array_append(attrs->data, value, (guint)length);
    g_array_append_val(attrs->entries, entry);
    return TRUE;
}

static int compare_names(gconstpointer a, gconstpointer b, gpointer data)
{
    return strcmp((const char *)data + ((const Entry *)a)->name, (const char *)data + ((const Entry *)b)->name);
}

/* Whether an attribute counts, as for rsync -X and -A. Its own user.rsync.%... never travel. */
static gboolean name_counts(const char *name, const AttrsFilter *filter)
{
    if (strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0)
        return filter->acls;
    if (!filter->xattrs || g_str_has_prefix(name, "user.rsync.%"))
        return FALSE;
    /* XFS shows the ACLs a second time under these names; to remove them as extra would remove the ACLs. */
    if (g_str_has_prefix(name, "trusted.SGI_ACL_"))
        return FALSE;
    if (g_str_has_prefix(name, "user."))
        return TRUE;
    return !g_str_has_prefix(name, "system.") && geteuid() == 0;
}

/* Where a file's attributes are: behind a descriptor, or a name in a directory. */
typedef struct {
    int dir_fd;
    const char *name;
    int fd;                   /* -1: by path */
    gboolean follow;          /* the path is a magic link to the file itself */
    char path[NAME_MAX + 64]; /* /proc/self/fd/N/name, made when first needed */
} Target;

static void target_init(Target *target, int dir_fd, const char *name, int fd)
{
    target->dir_fd = dir_fd;
    target->name = name;
    target->fd = fd >= 0 || name[0] ? fd : dir_fd;
    target->follow = FALSE;
    target->path[0] = '\0';
}

/* The path, or NULL with errno for a name that no file can have. */
static const char *target_path(Target *target)
{
    if (target->path[0])
        return target->path;
    int n = target->follow
                ? snprintf(target->path, sizeof target->path, "/proc/self/fd/%d", target->fd)
                : snprintf(target->path, sizeof target->path, "/proc/self/fd/%d/%s", target->dir_fd, target->name);
    if (n > 0 && (gsize)n < sizeof target->path)
        return target->path;
    target->path[0] = '\0';
    errno = ENAMETOOLONG;
    return NULL;
}

/* Descriptors made with O_PATH take no attribute calls: their magic link does. TRUE if that is to be tried. */
static gboolean target_use_link(Target *target)
{
    if (errno != EBADF || target->fd < 0 || target->follow)
        return FALSE;
    target->follow = TRUE;
    return TRUE;
}

static const char *target_shown(const Target *target)
{
    return target->name[0] ? target->name : "an open file";
}

static ssize_t list_by_name(Target *target, char *list, gsize size)
{
#ifdef SYS_listxattrat
    /* Saves the walk through /proc, which costs more than the call itself. */
    static atomic_bool is_missing;
    if (!atomic_load_explicit(&is_missing, memory_order_relaxed)) {
        long got = syscall(SYS_listxattrat, target->dir_fd, target->name, AT_SYMLINK_NOFOLLOW, list, size);
        if (got >= 0 || (errno != ENOSYS && errno != EPERM))
            return (ssize_t)got;
        atomic_store_explicit(&is_missing, TRUE, memory_order_relaxed);
    }
#endif
    const char *path = target_path(target);
    return path ? llistxattr(path, list, size) : -1;
}

static ssize_t list_names(Target *target, char *list, gsize size)
{
    if (target->fd < 0)
        return list_by_name(target, list, size);
    ssize_t got = target->follow ? -1 : flistxattr(target->fd, list, size);
    if (target->follow || (got < 0 && target_use_link(target)))
        got = listxattr(target_path(target), list, size);
    return got;
}

static ssize_t get_value(Target *target, const char *name, void *value, gsize size)
{
    if (target->fd >= 0 && !target->follow)
        return fgetxattr(target->fd, name, value, size);
    const char *path = target_path(target);
    if (!path)
        return -1;
    return target->follow ? getxattr(path, name, value, size) : lgetxattr(path, name, value, size);
}

static int set_value(Target *target, const char *name, const void *value, gsize size)
{
    if (target->fd >= 0 && !target->follow) {
        int result = fsetxattr(target->fd, name, value, size, 0);
        if (result == 0 || !target_use_link(target))
            return result;
    }
    const char *path = target_path(target);
    if (!path)
        return -1;
    return target->follow ? setxattr(path, name, value, size, 0) : lsetxattr(path, name, value, size, 0);
}

static int remove_value(Target *target, const char *name)
{
    if (target->fd >= 0 && !target->follow) {
        int result = fremovexattr(target->fd, name);
        if (result == 0 || !target_use_link(target))
            return result;
    }
    const char *path = target_path(target);
    if (!path)
        return -1;
    return target->follow ? removexattr(path, name) : lremovexattr(path, name);
}

/* Adds one attribute. What went away meanwhile is left out. */
static gboolean read_value(Target *target, const char *name, Attrs *attrs, GError **error)
{
    guint8 small[1024];
    const guint8 *value = small;
    g_autofree guint8 *large = NULL;
    ssize_t got = get_value(target, name, small, sizeof small);
    if (got < 0 && errno == ERANGE) {
        value = large = g_malloc(VALUE_MAX_BYTES);
        got = get_value(target, name, large, VALUE_MAX_BYTES);
    }
    if (got < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
        return TRUE;
    if (got < 0) {
        int saved = errno;
        error_set_errno(error, saved, "cannot read the attribute %s of %s", name, target_shown(target));
        errno = saved;
        return FALSE;
    }
    if (add_entry(attrs, name, value, (gsize)got))
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s has more than 16 MiB of attributes", target_shown(target));
}

/* Reads what the list of `length` bytes names. */
static const Attrs *read_listed(Target *target, const char *list, gsize length, const AttrsFilter *filter,
                                GError **error)
{
    g_autoptr(Attrs) attrs = NULL;
    for (gsize at = 0; at < length; at += strlen(list + at) + 1) {
        if (!name_counts(list + at, filter))
            continue;
        if (!attrs)
            attrs = attrs_new();
        if (!read_value(target, list + at, attrs, error))
            return NULL;
    }
    if (!attrs || attrs->entries->len == 0)
        return attrs_empty();
    g_array_sort_with_data(attrs->entries, compare_names, attrs->data->data);
    return g_steal_pointer(&attrs);
}

static const Attrs *target_read(Target *target, const AttrsFilter *filter, GError **error)
{
    char small[1024];
    const char *list = small;
    g_autofree char *large = NULL;
    ssize_t got = list_names(target, small, sizeof small);
    if (got < 0 && errno == ERANGE) {
        list = large = g_malloc(LIST_MAX_BYTES);
        got = list_names(target, large, LIST_MAX_BYTES);
    }
    if (got == 0 || (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS)))
        return attrs_empty();
    if (got < 0) {
        int saved = errno;
        error_set_errno(error, saved, "cannot list the attributes of %s", target_shown(target));
        errno = saved;
        return NULL;
    }
    return read_listed(target, list, (gsize)got, filter, error);
}

const Attrs *attrs_read(int dir_fd, const char *name, int fd, const AttrsFilter *filter, GError **error)
{
    if (!filter->xattrs && !filter->acls)
        return attrs_empty();
    Target target;
    target_init(&target, dir_fd, name, fd);
    return target_read(&target, filter, error);
}

/* A change under way: the target, and the mode it gets back if it was made writable. */
typedef struct {
    Target target;
    guint refused;
    gboolean made_writable;
    mode_t mode;
} Change;

static int target_chmod(const Target *target, mode_t mode)
{
    return target->fd >= 0 ? fchmod(target->fd, mode) : fchmodat(target->dir_fd, target->name, mode, 0);
}

/* user.* attributes need write permission, which an owner may lack on its own file. TRUE if it was given now. */
static gboolean make_writable(Change *change)
{
    struct stat st;
    const Target *target = &change->target;
    int result =
        target->fd >= 0 ? fstat(target->fd, &st) : fstatat(target->dir_fd, target->name, &st, AT_SYMLINK_NOFOLLOW);
    if (change->made_writable || result != 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) || (st.st_mode & S_IWUSR))
        return FALSE;
    change->mode = st.st_mode & 07777;
    change->made_writable = target_chmod(target, change->mode | S_IWUSR) == 0;
    return change->made_writable;
}

/* TRUE if "no space" only means that this file system does not take so large an attribute. */
static gboolean space_is_left(const Target *target)
{
    struct statfs fs;
    if (fstatfs(target->fd >= 0 ? target->fd : target->dir_fd, &fs) != 0)
        return FALSE;
    return fs.f_bavail > (guint64)SPACE_LEFT_BYTES / (guint64)MAX(fs.f_bsize, 1);
}

/* Counts a refusal; FALSE if it is an error. */
static gboolean judge(Change *change, int errnum, const char *verb, const char *name, GError **error)
{
    switch (errnum) {
    case EPERM:
    case EACCES:
    case EOPNOTSUPP:
    case ENOSYS:
    case EINVAL:
    case E2BIG:
    case ERANGE:
    case ENAMETOOLONG:
        change->refused++;
        return TRUE;
    case ENOSPC:
        if (space_is_left(&change->target)) {
            change->refused++;
            return TRUE;
        }
        break;
    default:
        break;
    }
    error_set_errno(error, errnum, "cannot %s the attribute %s of %s", verb, name, target_shown(&change->target));
    errno = errnum;
    return FALSE;
}

static gboolean change_set(Change *change, const Attrs *want, const Entry *entry, GError **error)
{
    const char *name = entry_name(want, entry);
    int result = set_value(&change->target, name, entry_value(want, entry), entry->length);
    if (result != 0 && errno == EACCES && make_writable(change))
        result = set_value(&change->target, name, entry_value(want, entry), entry->length);
    return result == 0 || judge(change, errno, "set", name, error);
}

static gboolean change_remove(Change *change, const char *name, GError **error)
{
    int result = remove_value(&change->target, name);
    if (result != 0 && errno == EACCES && make_writable(change))
        result = remove_value(&change->target, name);
    return result == 0 || errno == ENODATA || judge(change, errno, "remove", name, error);
}

/* Goes through both sorted sets. Removals come first where they can: they make room. */
static gboolean change_all(Change *change, const Attrs *want, const Attrs *have, const AttrsFilter *filter,
                           gboolean removing, GError **error)
{
    guint i = 0, j = 0;
    while (i < entry_count(want) || j < entry_count(have)) {
        const Entry *x = i < entry_count(want) ? entry_at(want, i) : NULL;
        const Entry *y = j < entry_count(have) ? entry_at(have, j) : NULL;
        g_assert(x || y);
        int order = !x ? 1 : !y ? -1 : strcmp(entry_name(want, x), entry_name(have, y));
        i += order <= 0;
        j += order >= 0;
        const char *name = order <= 0 ? entry_name(want, x) : entry_name(have, y);
        if (!name_counts(name, filter))
            continue;
        if (removing && order > 0 && !change_remove(change, name, error))
            return FALSE;
        if (!removing && (order < 0 || (order == 0 && !value_equal(want, x, have, y))) &&
            !change_set(change, want, x, error))
            return FALSE;
    }
    return TRUE;
}

gboolean attrs_apply(int dir_fd, const char *name, int fd, const Attrs *want, const Attrs *have,
                     const AttrsFilter *filter, guint *refused, GError **error)
{
    if (refused)
        *refused = 0;
    if (!filter->xattrs && !filter->acls)
        return TRUE;
    Change change = {0};
    target_init(&change.target, dir_fd, name, fd);
    const Attrs *present ATTRS_AUTO = have ? NULL : target_read(&change.target, filter, error);
    if (!have && !present)
        return FALSE;
    have = have ? have : present;
    gboolean good =
        change_all(&change, want, have, filter, TRUE, error) && change_all(&change, want, have, filter, FALSE, error);
    if (change.made_writable && target_chmod(&change.target, change.mode) != 0 && good)
        good = error_set_errno(error, errno, "cannot give %s its mode back", target_shown(&change.target));
    if (refused)
        *refused = change.refused;
    return good;
}

void attrs_encode(const Attrs *attrs, GByteArray *out)
{
    bytes_put_varint(out, entry_count(attrs));
    for (guint i = 0; i < entry_count(attrs); i++) {
        const Entry *entry = entry_at(attrs, i);
        const char *name = entry_name(attrs, entry);
        bytes_put_blob(out, name, strlen(name));
        bytes_put_blob(out, entry_value(attrs, entry), entry->length);
    }
}

/* One attribute; FALSE if the bytes are none, or out of order. */
static gboolean decode_entry(BytesReader *in, Attrs *attrs)
{
    g_autofree char *name = bytes_get_string(in, NAME_MAX_BYTES);
    gsize length = 0;
    const guint8 *value = bytes_get_blob(in, VALUE_MAX_BYTES, &length);
    if (in->bad || !name || !name[0])
        return FALSE;
    guint count = attrs->entries->len;
    if (count > 0 && strcmp(entry_name(attrs, entry_at(attrs, count - 1)), name) >= 0)
        return FALSE;
    return add_entry(attrs, name, value, length);
}

const Attrs *attrs_decode(BytesReader *in, GError **error)
{
    guint64 count = bytes_get_varint(in);
    if (!in->bad && count == 0)
        return attrs_empty();
    g_autoptr(Attrs) attrs = attrs_new();
    gboolean good = !in->bad && count <= COUNT_MAX;
    for (guint64 i = 0; i < count && good; i++)
        good = decode_entry(in, attrs);
    if (good)
        return g_steal_pointer(&attrs);
    in->bad = TRUE;
    error_set(error, BACKAPP_ERROR_CORRUPT, "damaged record of extended attributes");
    return NULL;
}
