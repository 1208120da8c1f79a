#include "fs/meta.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000
#define MODE_BITS     07777

/* fchmodat with AT_SYMLINK_NOFOLLOW exists since Linux 6.6, under the same number everywhere but on alpha. */
#if !defined(SYS_fchmodat2) && !defined(__alpha__)
#define SYS_fchmodat2 452
#endif

gboolean meta_read(int dir_fd, const char *name, FileMeta *meta, GError **error)
{
    struct statx st;
    int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | (name[0] ? 0 : AT_EMPTY_PATH);
    if (statx(dir_fd, name, flags, STATX_BASIC_STATS | STATX_MNT_ID, &st) != 0) {
        int saved = errno;
        error_set_errno(error, saved, "cannot read the metadata of %s", name[0] ? name : "an open file");
        errno = saved;
        return FALSE;
    }
    *meta = (FileMeta){
        .mode = st.stx_mode,
        .uid = st.stx_uid,
        .gid = st.stx_gid,
        .nlink = st.stx_nlink,
        .mtime_s = st.stx_mtime.tv_sec,
        .mtime_ns = st.stx_mtime.tv_nsec,
        .ctime_s = st.stx_ctime.tv_sec,
        .ctime_ns = st.stx_ctime.tv_nsec,
        .size = st.stx_size,
        .blocks = st.stx_blocks,
        .ino = st.stx_ino,
        .dev = makedev(st.stx_dev_major, st.stx_dev_minor),
        .rdev = makedev(st.stx_rdev_major, st.stx_rdev_minor),
        .mount = st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : 0,
    };
    return TRUE;
}

guint inode_key_hash(gconstpointer key)
{
    const InodeKey *inode = key;
    guint64 mixed = (inode->ino ^ (inode->dev << 32)) * G_GUINT64_CONSTANT(0x9E3779B97F4A7C15);
    return (guint)(mixed >> 32);
}

gboolean inode_key_equal(gconstpointer a, gconstpointer b)
{
    const InodeKey *x = a;
    const InodeKey *y = b;
    return x->ino == y->ino && x->dev == y->dev;
}

const char *meta_kind(guint32 mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "symlink";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    default:
        return "device";
    }
}

static gint64 floor_divide(gint64 value, gint64 by)
{
    gint64 quotient = value / by;
    return value % by < 0 ? quotient - 1 : quotient;
}

gboolean meta_same_mtime(const FileMeta *a, const FileMeta *b, guint64 granularity_ns)
{
    if (granularity_ns < NS_PER_SECOND) {
        guint32 step = granularity_ns > 1 ? (guint32)granularity_ns : 1;
        return a->mtime_s == b->mtime_s && a->mtime_ns / step == b->mtime_ns / step;
    }
    /* Seconds alone: seconds times 10^9 would not fit into 64 bits for every time there is. */
    gint64 step = (gint64)(granularity_ns / NS_PER_SECOND + (granularity_ns % NS_PER_SECOND != 0));
    return floor_divide(a->mtime_s, step) == floor_divide(b->mtime_s, step);
}

static gboolean is_in_group(gid_t gid)
{
    if (getegid() == gid)
        return TRUE;
    int count = getgroups(0, NULL);
    if (count <= 0)
        return FALSE;
    g_autofree gid_t *groups = g_new(gid_t, (gsize)count);
    count = getgroups(count, groups);
    for (int i = 0; i < count; i++)
        if (groups[i] == gid)
            return TRUE;
    return FALSE;
}

static gboolean owner_differs(const FileMeta *want, const FileMeta *have)
{
    /* Who runs this is only asked where it matters: each answer is a system call. */
    if (want->uid == have->uid && want->gid == have->gid)
        return FALSE;
    if (geteuid() == 0)
        return TRUE;
    return want->gid != have->gid && is_in_group(want->gid);
}

MetaParts meta_difference(const FileMeta *want, const FileMeta *have, guint64 granularity_ns)
{
    guint parts = 0;
    if (!S_ISLNK(want->mode) && (want->mode & MODE_BITS) != (have->mode & MODE_BITS))
        parts |= META_MODE;
    if (owner_differs(want, have))
        parts |= META_OWNER;
    if (!meta_same_mtime(want, have, granularity_ns))
        parts |= META_MTIME;
    return (MetaParts)parts;
}

/* What a part's system call said. */
typedef enum { SET_DONE, SET_REFUSED, SET_ERROR } SetResult;

static SetResult judge(int result)
{
    if (result == 0)
        return SET_DONE;
    switch (errno) {
    case EPERM:
    case EACCES:
    case EOPNOTSUPP:
    case ENOSYS:
    case EINVAL: /* an id or a mode that this file system or user namespace does not have */
        return SET_REFUSED;
    default:
        return SET_ERROR;
    }
}

static SetResult set_owner(int dir_fd, const char *name, int fd, const FileMeta *want)
{
    uid_t uid = want->uid;
    gid_t gid = want->gid;
    gboolean partial = FALSE;
    if (geteuid() != 0) {
        partial = uid != geteuid();
        uid = (uid_t)-1;
    }
    int result = fd >= 0 ? fchown(fd, uid, gid) : fchownat(dir_fd, name, uid, gid, AT_SYMLINK_NOFOLLOW);
    SetResult judged = judge(result);
    return judged == SET_DONE && partial ? SET_REFUSED : judged;
}

/* chmod by name that does not follow a symlink. */
static int chmod_name(int dir_fd, const char *name, mode_t mode)
{
#ifdef SYS_fchmodat2
    static atomic_bool is_missing;
    if (!atomic_load_explicit(&is_missing, memory_order_relaxed)) {
        if (syscall(SYS_fchmodat2, dir_fd, name, mode, AT_SYMLINK_NOFOLLOW) == 0)
            return 0;
        if (errno != ENOSYS && errno != EPERM)
            return -1;
        /* EPERM may be a seccomp filter that does not know the call: then only the long way tells. */
        if (errno == ENOSYS)
            atomic_store_explicit(&is_missing, TRUE, memory_order_relaxed);
    }
#endif
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    if (S_ISLNK(st.st_mode)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return fchmodat(dir_fd, name, mode, 0);
}

static SetResult set_mode(int dir_fd, const char *name, int fd, const FileMeta *want)
{
    if (S_ISLNK(want->mode))
        return SET_DONE;
    mode_t mode = want->mode & MODE_BITS;
    return judge(fd >= 0 ? fchmod(fd, mode) : chmod_name(dir_fd, name, mode));
}

static SetResult set_mtime(int dir_fd, const char *name, int fd, const FileMeta *want)
{
    /* Not UTIME_OMIT: drivers made with older libfuse (exfat-fuse) ignore a call that sets only one of the two, and say
     * that all is well. */
    struct timespec times[2] = {
        {.tv_nsec = UTIME_NOW},
        {.tv_sec = want->mtime_s, .tv_nsec = want->mtime_ns},
    };
    return judge(fd >= 0 ? futimens(fd, times) : utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW));
}

gboolean meta_apply(int dir_fd, const char *name, int fd, const FileMeta *want, MetaParts parts, MetaParts *failed,
                    GError **error)
{
    static const struct {
        MetaParts part;
        const char *what;
        SetResult (*set)(int dir_fd, const char *name, int fd, const FileMeta *want);
    } steps[] = {
        {META_OWNER, "owner", set_owner},
        {META_MODE, "mode", set_mode},
        {META_MTIME, "time", set_mtime},
    };
    if (fd < 0 && !name[0])
        fd = dir_fd;
    guint refused = 0;
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (!(parts & steps[i].part))
            continue;
        SetResult result = steps[i].set(dir_fd, name, fd, want);
        if (result == SET_REFUSED)
            refused |= steps[i].part;
        if (result == SET_ERROR) {
            int saved = errno;
            error_set_errno(error, saved, "cannot set the %s of %s", steps[i].what, name[0] ? name : "an open file");
            errno = saved;
            return FALSE;
        }
    }
    if (failed)
        *failed = (MetaParts)refused;
    return TRUE;
}

void meta_encode(const FileMeta *meta, GByteArray *out)
{
    bytes_put_varint(out, meta->mode);
    bytes_put_varint(out, meta->uid);
    bytes_put_varint(out, meta->gid);
    bytes_put_varint(out, meta->nlink);
    bytes_put_signed(out, meta->mtime_s);
    bytes_put_varint(out, meta->mtime_ns);
    bytes_put_signed(out, meta->ctime_s);
    bytes_put_varint(out, meta->ctime_ns);
    bytes_put_varint(out, meta->size);
    bytes_put_varint(out, meta->blocks);
    bytes_put_varint(out, meta->ino);
    bytes_put_varint(out, meta->dev);
    bytes_put_varint(out, meta->rdev);
}

void meta_decode(BytesReader *in, FileMeta *meta)
{
    *meta = (FileMeta){0};
    meta->mode = (guint32)bytes_get_varint(in);
    meta->uid = (guint32)bytes_get_varint(in);
    meta->gid = (guint32)bytes_get_varint(in);
    meta->nlink = (guint32)bytes_get_varint(in);
    meta->mtime_s = bytes_get_signed(in);
    meta->mtime_ns = (guint32)bytes_get_varint(in);
    meta->ctime_s = bytes_get_signed(in);
    meta->ctime_ns = (guint32)bytes_get_varint(in);
    meta->size = bytes_get_varint(in);
    meta->blocks = bytes_get_varint(in);
    meta->ino = bytes_get_varint(in);
    meta->dev = bytes_get_varint(in);
    meta->rdev = bytes_get_varint(in);
}
