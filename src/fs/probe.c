#include "fs/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"
#include "fs/meta.h"
#include "fs/remove.h"

#define PLACE      "probe"
#define NTFS_STEP  100
#define EXFAT_STEP (10 * 1000 * 1000)
#define FAT_STEP   (2 * G_GUINT64_CONSTANT(1000000000))
#define ODD_TIME   1000000001 /* seconds; FAT keeps even ones only */

static gboolean is_fat(const char *type)
{
    return g_str_equal(type, "vfat") || g_str_equal(type, "msdos");
}

static gboolean is_weak(const char *type)
{
    return is_fat(type) || g_str_equal(type, "exfat") || g_str_has_prefix(type, "ntfs");
}

/* Where inode numbers are made up by the client they may change whenever its cache is dropped. */
static gboolean makes_up_inodes(const char *type)
{
    return g_str_equal(type, "fuse") || g_str_equal(type, "cifs") || g_str_equal(type, "smb") ||
           g_str_equal(type, "9p");
}

static guint64 usual_granularity(const char *type)
{
    if (is_fat(type))
        return FAT_STEP;
    if (g_str_equal(type, "exfat"))
        return EXFAT_STEP;
    return is_weak(type) ? NTFS_STEP : 1;
}

static gboolean has_no_attr(int fd, const char *name)
{
    return fgetxattr(fd, name, NULL, 0) < 0 && errno == EOPNOTSUPP;
}

void probe_look(int fd, const char *type, FsAbilities *abilities)
{
    gboolean strong = !is_weak(type);
    *abilities = (FsAbilities){.symlinks = strong,
                               .hard_links = strong,
                               .owners = strong,
                               .modes = strong,
                               .xattrs = strong && (fd < 0 || !has_no_attr(fd, "user.backapp")),
                               .acls = strong && (fd < 0 || !has_no_attr(fd, "system.posix_acl_access")),
                               .fifos = strong,
                               .devices = strong && geteuid() == 0,
                               .case_sensitive = strong,
                               .any_name = strong,
                               .stable_inodes = strong && !makes_up_inodes(type),
                               .reflink = g_str_equal(type, "btrfs") || g_str_equal(type, "xfs"),
                               .mtime_granularity_ns = usual_granularity(type),
                               .max_file_size = is_fat(type) ? G_MAXUINT32 : G_MAXUINT64};
}

static gboolean make_file(int fd, const char *name)
{
    g_auto(AutoFd) file = openat(fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return file >= 0 && write(file, "x", 1) == 1;
}

static gboolean keeps_mode(int fd)
{
    struct stat st;
    return fchmodat(fd, "file", 0640, 0) == 0 && fstatat(fd, "file", &st, 0) == 0 && (st.st_mode & 07777) == 0640 &&
           fchmodat(fd, "file", 0600, 0) == 0 && fstatat(fd, "file", &st, 0) == 0 && (st.st_mode & 07777) == 0600;
}

static gboolean keeps_owner(int fd)
{
    struct stat st;
    if (geteuid() != 0)
        return TRUE;
    return fchownat(fd, "file", 12345, 23456, AT_SYMLINK_NOFOLLOW) == 0 && fstatat(fd, "file", &st, 0) == 0 &&
           st.st_uid == 12345 && st.st_gid == 23456 && fchownat(fd, "file", 0, 0, AT_SYMLINK_NOFOLLOW) == 0;
}

/* The coarsest of the usual steps that a time with all digits survives. */
guint64 probe_time_granularity(int dir_fd, const char *name, guint64 assumed)
{
    const struct timespec odd = {.tv_sec = ODD_TIME, .tv_nsec = 123456789};
    const struct timespec times[2] = {odd, odd};
    const guint64 steps[] = {1, NTFS_STEP, 1000, 1000 * 1000, EXFAT_STEP};
    struct stat st;
    if (utimensat(dir_fd, name, times, 0) != 0 || fstatat(dir_fd, name, &st, 0) != 0)
        return assumed;
    if (st.st_mtim.tv_sec != ODD_TIME)
        return FAT_STEP;
    for (guint i = 0; i < G_N_ELEMENTS(steps); i++) {
        if (st.st_mtim.tv_nsec == odd.tv_nsec / (gint64)steps[i] * (gint64)steps[i])
            return steps[i];
    }
    return 1000 * 1000 * 1000;
}

static gboolean keeps_attr(int dir_fd, const char *name, const void *value, gsize length)
{
    g_auto(AutoFd) file = openat(dir_fd, "file", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    char back[64];
    return file >= 0 && fsetxattr(file, name, value, length, 0) == 0 &&
           fgetxattr(file, name, back, sizeof back) == (gssize)length && fremovexattr(file, name) == 0;
}

/* An access ACL with an entry for user 1, in the kernel's form: version 2; entries of tag, permissions, id. */
static gboolean keeps_acl(int dir_fd)
{
    static const guint8 acl[] = {2, 0, 0,   0,   0x01, 0,    6,    0, 255, 255, 255, 255, 0x02, 0,    4,
                                 0, 1, 0,   0,   0,    0x04, 0,    4, 0,   255, 255, 255, 255,  0x10, 0,
                                 4, 0, 255, 255, 255,  255,  0x20, 0, 0,   0,   255, 255, 255,  255};
    return keeps_attr(dir_fd, "system.posix_acl_access", acl, sizeof acl);
}

static gboolean is_listed(const DirNames *names, const char *name)
{
    for (guint i = 0; i < dir_names_count(names); i++) {
        if (g_str_equal(dir_names_get(names, i), name))
            return TRUE;
    }
    return FALSE;
}

/* Some file systems take a name and make another one of it, and find the file by both: so the listing decides. The last
 * name is an e with an accent, composed, which some decompose. */
static gboolean keeps_names(int fd)
{
    static const char *const wanted[] = {"a:b?c*d\\e", "dot.", "bytes\xff\xfe", "\xc3\xa9"};
    g_auto(DirNames) names = {0};
    for (guint i = 0; i < G_N_ELEMENTS(wanted); i++) {
        if (!make_file(fd, wanted[i]))
            return FALSE;
    }
    if (!dir_names_read(fd, &names, NULL, NULL))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(wanted); i++) {
        if (!is_listed(&names, wanted[i]))
            return FALSE;
    }
    return TRUE;
}

static gboolean keeps_inodes(int fd)
{
    struct stat before;
    struct stat after;
    return make_file(fd, "inode") && fstatat(fd, "inode", &before, 0) == 0 &&
           renameat(fd, "inode", fd, "inode2") == 0 && fstatat(fd, "inode2", &after, 0) == 0 &&
           before.st_ino == after.st_ino && before.st_ino != 0;
}

static gboolean can_reflink(int fd)
{
    g_auto(AutoFd) from = openat(fd, "file", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    g_auto(AutoFd) to = openat(fd, "clone", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return from >= 0 && to >= 0 && ioctl(to, FICLONE, from) == 0;
}

/* Whether it worked. A failure that says nothing of what the file system can hold goes to *broken. errno has to be 0
 * before the trial. */
static gboolean tried(gboolean worked, int *broken)
{
    static const int causes[] = {EIO, ENOSPC, EDQUOT, EROFS, ENOMEM, EMFILE, ENFILE, ENODEV, ESTALE};
    for (guint i = 0; !worked && i < G_N_ELEMENTS(causes); i++) {
        if (errno == causes[i])
            *broken = errno;
    }
    errno = 0;
    return worked;
}

/* Some drivers (exfat-fuse) say EIO to what they do not know, and leave a plain file. If the disk were broken, it would
 * not take another file either. */
static gboolean makes_special(int fd, const char *name, mode_t mode, dev_t device)
{
    struct stat st;
    if (mknodat(fd, name, mode, device) == 0)
        return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == (mode & S_IFMT);
    g_autofree char *control = g_strconcat(name, "-not", NULL);
    int saved = errno;
    if (saved == EIO && make_file(fd, control))
        saved = EPERM;
    errno = saved;
    return FALSE;
}

/* 0, or the errno of a trial that a broken or full disk stopped: a guess from it would lose data silently. */
static int try_all(int fd, const char *type, FsAbilities *abilities)
{
    int broken = 0;
    errno = 0;
    abilities->symlinks = tried(symlinkat("target", fd, "symlink") == 0, &broken);
    abilities->hard_links = tried(linkat(fd, "file", fd, "link", 0) == 0, &broken);
    abilities->owners = tried(keeps_owner(fd), &broken);
    abilities->modes = tried(keeps_mode(fd), &broken);
    abilities->xattrs = tried(keeps_attr(fd, "user.backapp", "v", 1), &broken);
    abilities->acls = tried(keeps_acl(fd), &broken);
    abilities->fifos = tried(makes_special(fd, "fifo", S_IFIFO | 0600, 0), &broken);
    abilities->devices = tried(makes_special(fd, "device", S_IFCHR | 0600, makedev(1, 3)), &broken);
    abilities->case_sensitive = faccessat(fd, "FILE", F_OK, AT_SYMLINK_NOFOLLOW) != 0;
    errno = 0;
    abilities->any_name = tried(keeps_names(fd), &broken);
    abilities->stable_inodes = !is_weak(type) && !makes_up_inodes(type) && tried(keeps_inodes(fd), &broken);
    abilities->reflink = tried(can_reflink(fd), &broken);
    abilities->mtime_granularity_ns = probe_time_granularity(fd, "file", abilities->mtime_granularity_ns);
    tried(errno == 0, &broken);
    return broken;
}

gboolean probe_abilities(int dir_fd, const char *type, FsAbilities *abilities, GError **error)
{
    probe_look(-1, type, abilities);
    if (!remove_tree(dir_fd, PLACE, FALSE, NULL, error))
        return FALSE;
    if (mkdirat(dir_fd, PLACE, 0700) != 0)
        return error_set_errno(error, errno, "cannot try what the file system can hold");
    g_auto(AutoFd) fd = dir_open(dir_fd, PLACE, error);
    gboolean good = fd >= 0;
    if (good && !make_file(fd, "file"))
        good = error_set_errno(error, errno, "cannot write a file to try what the file system can hold");
    int broken = good ? try_all(fd, type, abilities) : 0;
    if (broken != 0)
        good = error_set_errno(error, broken, "cannot try what the file system can hold");
    return remove_tree(dir_fd, PLACE, FALSE, NULL, good ? error : NULL) && good;
}
