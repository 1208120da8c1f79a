#include "fs/facts.h"

#include "base/error.h"
#include "fs/dir.h"
#include "fs/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FSTAB_LINE_MAX 8192
#define BOOT_ID_LENGTH 36

/* STATX_MNT_ID_UNIQUE; the C library's header may be older than the kernel. */
#define MNT_ID_UNIQUE 0x4000U

static const struct {
    guint32 magic;
    const char *name;
} known_types[] = {
    {0x0000ef53, "ext4"},    {0x58465342, "xfs"},      {0x9123683e, "btrfs"},    {0x01021994, "tmpfs"},
    {0x00004d44, "vfat"},    {0x2011bab0, "exfat"},    {0x5346544e, "ntfs"},     {0x7366746e, "ntfs"},
    {0x65735546, "fuse"},    {0x00006969, "nfs"},      {0xff534d42, "cifs"},     {0xfe534d42, "smb"},
    {0x0000517b, "smb"},     {0x794c7630, "overlay"},  {0x2fc12fc1, "zfs"},      {0xf2f52010, "f2fs"},
    {0x01021997, "9p"},      {0x73717368, "squashfs"}, {0x00009660, "iso9660"},  {0x15013346, "udf"},
    {0x0000482b, "hfsplus"}, {0x858458f6, "ramfs"},    {0xca451a4e, "bcachefs"}, {0x00009fa0, "proc"},
    {0x62656572, "sysfs"},   {0x52654973, "reiserfs"}, {0x3153464a, "jfs"},      {0x00003434, "nilfs2"},
    {0xe0f5e1e2, "erofs"},   {0x00c36400, "ceph"},     {0x00004244, "hfs"},      {0x0000f15f, "ecryptfs"},
};

static void set_type(FsFacts *facts, guint32 magic)
{
    for (guint i = 0; i < G_N_ELEMENTS(known_types); i++) {
        if (known_types[i].magic == magic) {
            (void)g_strlcpy(facts->type, known_types[i].name, sizeof facts->type);
            return;
        }
    }
    (void)snprintf(facts->type, sizeof facts->type, "0x%x", magic);
}

gboolean facts_read(int fd, FsFacts *facts, GError **error)
{
    struct statfs fs;
    int result = 0;
    do
        result = fstatfs(fd, &fs);
    while (result != 0 && errno == EINTR);
    if (result != 0)
        return error_set_errno(error, errno, "cannot read the facts of a file system");
    guint64 unit = fs.f_frsize > 0 ? (guint64)fs.f_frsize : (guint64)fs.f_bsize;
    *facts = (FsFacts){
        .free_bytes = fs.f_bavail * unit,
        .total_bytes = fs.f_blocks * unit,
        .free_inodes = fs.f_files > 0 ? fs.f_ffree : G_MAXUINT64,
        .block_size = unit,
        .read_only = (fs.f_flags & ST_RDONLY) != 0,
    };
    set_type(facts, (guint32)fs.f_type);
    return TRUE;
}

gboolean facts_is_mount_point(const char *path)
{
    g_auto(AutoFd) fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return FALSE;
    struct statx st;
    if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st) == 0 &&
        (st.stx_attributes_mask & STATX_ATTR_MOUNT_ROOT) && (st.stx_attributes & STATX_ATTR_MOUNT_ROOT))
        return TRUE;
    FileMeta here, above;
    if (!meta_read(fd, "", &here, NULL) || !meta_read(fd, "..", &above, NULL))
        return FALSE;
    gboolean is_root = here.ino == above.ino && here.dev == above.dev;
    return is_root || here.dev != above.dev || here.mount != above.mount;
}

static gboolean is_octal(char c)
{
    return c >= '0' && c <= '7';
}

/* Replaces \ooo by the byte it stands for. */
static void unescape(char *text)
{
    char *out = text;
    for (const char *in = text; *in;) {
        if (in[0] == '\\' && is_octal(in[1]) && is_octal(in[2]) && is_octal(in[3])) {
            *out++ = (char)(((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0')) & 0xff);
            in += 4;
        } else {
            *out++ = *in++;
        }
    }
    *out = '\0';
}

/* How long the path is without the slashes at its end; "/" stays. */
static gsize trimmed_length(const char *path)
{
    gsize length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

/* Whether a line of fstab has `path` in its second field. The line is changed. */
static gboolean line_names(char *line, const char *path)
{
    static const char blanks[] = " \t\n\r";
    char *rest = NULL;
    const char *device = strtok_r(line, blanks, &rest);
    char *mount = strtok_r(NULL, blanks, &rest);
    if (!device || device[0] == '#' || !mount)
        return FALSE;
    unescape(mount);
    gsize length = trimmed_length(mount);
    return length == trimmed_length(path) && strncmp(mount, path, length) == 0;
}

static void close_file(FILE **file)
{
    if (*file)
        (void)fclose(*file);
}

gboolean facts_in_fstab(const char *path, const char *fstab)
{
    FILE *file __attribute__((cleanup(close_file))) = fopen(fstab ? fstab : "/etc/fstab", "re");
    if (!file)
        return FALSE;
    g_autofree char *line = g_malloc(FSTAB_LINE_MAX + 2);
    gboolean in_long_line = FALSE;
    while (fgets(line, FSTAB_LINE_MAX + 2, file)) {
        gboolean complete = strchr(line, '\n') || feof(file);
        gboolean skip = in_long_line || !complete;
        in_long_line = !complete;
        if (!skip && line_names(line, path))
            return TRUE;
    }
    return FALSE;
}

char *facts_boot_id(void)
{
    char id[BOOT_ID_LENGTH + 1];
    g_auto(AutoFd) fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, id, BOOT_ID_LENGTH) : -1;
    if (got != BOOT_ID_LENGTH)
        return g_strdup("unknown");
    id[BOOT_ID_LENGTH] = '\0';
    return g_strdup(id);
}

char *facts_session(int fd)
{
    struct statx st = {0};
    g_autofree char *boot_id = facts_boot_id();
    int flags = AT_EMPTY_PATH | AT_NO_AUTOMOUNT;
    if (g_str_equal(boot_id, "unknown") || statx(fd, "", flags, STATX_BASIC_STATS | MNT_ID_UNIQUE, &st) != 0)
        return g_strdup("unknown");
    if ((st.stx_mask & MNT_ID_UNIQUE) != 0)
        return g_strdup_printf("%s u%" G_GUINT64_FORMAT, boot_id, (guint64)st.stx_mnt_id);
    if (statx(fd, "", flags, STATX_BASIC_STATS | STATX_MNT_ID, &st) != 0 || (st.stx_mask & STATX_MNT_ID) == 0)
        return g_strdup("unknown");
    return g_strdup_printf("%s m%u.%u.%u", boot_id, (guint)st.stx_mnt_id, st.stx_dev_major, st.stx_dev_minor);
}

gboolean facts_sync(int fd, const char *what, GError **error)
{
    if (syncfs(fd) == 0)
        return TRUE;
    return error_set_errno(error, errno, "cannot write %s to disk", what);
}
