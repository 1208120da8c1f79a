#include "engine/mirror/stage_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/mirror/patch.h"
#include "fs/apply.h"
#include "fs/copy.h"
#include "fs/dir.h"

#define CLONE_MIN_SIZE     (1024 * 1024)
#define WRITEBACK_MIN_SIZE (1024 * 1024)

/* Without root no owner can be kept: that is said once, not for each file. */
static MetaParts note_owner(MirrorRun *run, MetaParts failed)
{
    if ((failed & META_OWNER) == 0 || geteuid() == 0)
        return failed;
    if (!atomic_exchange(&run->owners_noted, true))
        run_warn(run, "note", NULL,
                 "files of other owners or groups are kept as your own: to keep owners, run as root");
    return failed & ~(MetaParts)META_OWNER;
}

static void warn_losses(MirrorRun *run, const char *path, const ApplyLosses *losses)
{
    ApplyLosses counted = {.failed = note_owner(run, losses->failed & run->parts),
                           .refused_attrs = losses->refused_attrs};
    g_autofree char *text = apply_losses_text(&counted);
    if (text != NULL)
        run_warn(run, "metadata", path, text);
}

/* The source's attributes; NULL if they cannot be read (a warning was sent) or are not kept at all. */
static const Attrs *source_attrs(MirrorRun *run, int dir_fd, const char *name, int fd, const char *path)
{
    if (!run->filter.acls && !run->filter.xattrs)
        return NULL;
    g_autoptr(GError) local = NULL;
    const Attrs *attrs = attrs_read(dir_fd, name, fd, &run->filter, &local);
    if (attrs == NULL)
        run_warn(run, "metadata", path, local->message);
    return attrs;
}

/* Opens a source's file without touching its access time where that is allowed. */
static int open_source(const StageItem *item)
{
    int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(item->src_fd, item->name, flags | O_NOATIME);
    return fd >= 0 || errno != EPERM ? fd : openat(item->src_fd, item->name, flags);
}

/* What a file's copying needs. */
typedef struct {
    MirrorRun *run;
    Resume *resume;
    const StageItem *item;
    int src, dst;
    FileMeta want; /* what is believed of the source now */
} FileCopy;

static void add_progress(guint64 bytes, gpointer user_data)
{
    const FileCopy *copy = user_data;
    run_progress(copy->run, 0, bytes, copy->item->path);
}

static int open_existing(const FileCopy *copy)
{
    const char *base = NULL;
    g_auto(AutoFd) parent = dir_open_parent(copy->run->dest->root_fd, copy->item->path, &base, NULL);
    return parent < 0 ? -1 : openat(parent, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
}

static gboolean copy_content(const FileCopy *copy, CopyResult *result, GError **error)
{
    CopyOptions options = {.rate = copy->run->options->rate,
                           .cancel = copy->run->cancel,
                           .progress = add_progress,
                           .user_data = (gpointer)copy};
    guint64 size = copy->want.size;
    gboolean patch = (copy->item->flags & PLAN_PATCH) != 0;
    gboolean clone = !patch && S_ISREG(copy->item->have_mode) && copy->run->dest->abilities.reflink &&
                     size >= CLONE_MIN_SIZE && copy->want.dev != copy->run->dest->dev;
    if (patch || clone) {
        g_auto(AutoFd) old = open_existing(copy);
        if (patch && old < 0)
            return error_set_errno(error, errno, "cannot read the present version of %s", copy->item->path);
        if (patch)
            return patch_make(copy->src, old, copy->dst, size, &options, result, error);
        /* A clone of the old version gets only what differs: both then share the rest. */
        if (old >= 0 && copy_try_reflink(old, copy->dst))
            return copy_changed_blocks(copy->src, copy->dst, size, &options, result, error);
    }
    return copy_data(copy->src, copy->dst, size, copy->want.blocks, &options, result, error);
}

/* TRUE if the source is no longer what was copied; *now is what it is. */
static gboolean source_changed(FileCopy *copy, const CopyResult *result)
{
    FileMeta now;
    if (!meta_read(copy->src, "", &now, NULL))
        return FALSE;
    gboolean changed = result->shrunk || now.size != copy->want.size || now.mtime_s != copy->want.mtime_s ||
                       now.mtime_ns != copy->want.mtime_ns || now.ctime_s != copy->want.ctime_s ||
                       now.ctime_ns != copy->want.ctime_ns || now.ino != copy->want.ino;
    copy->want = now;
    return changed;
}

/* Copies the data; once more if the source changed meanwhile. FALSE only if the stage fails; *readable tells of the
 * source. */
static gboolean copy_steady(FileCopy *copy, gboolean *readable, GError **error)
{
    *readable = TRUE;
    for (guint attempt = 0; attempt < 2; attempt++) {
        CopyResult result = {0};
        g_autoptr(GError) local = NULL;
        if (attempt > 0 && (ftruncate(copy->dst, 0) != 0 || lseek(copy->dst, 0, SEEK_SET) != 0))
            return error_set_errno(error, errno, "cannot empty the staged copy of %s", copy->item->path);
        if (!copy_content(copy, &result, &local)) {
            if (!result.source_failed) {
                g_propagate_error(error, g_steal_pointer(&local));
                return FALSE;
            }
            run_warn_unreadable(copy->run, copy->item->path, local->message);
            *readable = FALSE;
            return TRUE;
        }
        gboolean changed = source_changed(copy, &result);
        if (!changed || attempt == 1) {
            atomic_fetch_add(&copy->run->bytes_transferred, result.copied);
            if (changed)
                run_warn_changed(copy->run, copy->item->path);
            return TRUE;
        }
    }
    return TRUE;
}

/* Owner, mode, time and attributes of the staged file. */
static gboolean apply_meta(FileCopy *copy, GError **error)
{
    MirrorRun *run = copy->run;
    const StageItem *item = copy->item;
    if ((item->flags & PLAN_PATCH) != 0)
        return TRUE; /* the patched file gets them when the journal is replayed */
    const Attrs *attrs ATTRS_AUTO = source_attrs(run, item->src_fd, item->name, copy->src, item->path);
    /* The file was made with the final mode and our own owner. */
    MetaParts parts = META_MTIME;
    if (copy->want.uid != geteuid() || copy->want.gid != getegid())
        parts |= META_OWNER | META_MODE;
    if ((copy->want.mode & 07000) != 0)
        parts |= META_MODE;
    ApplyLosses losses;
    if (!apply_metadata(item->stage_fd, item->name, copy->dst, &copy->want, parts & run->parts, attrs, attrs_empty(),
                        &run->filter, &losses, error))
        return FALSE;
    warn_losses(run, item->path, &losses);
    return TRUE;
}

static void drop_staged(const StageItem *item)
{
    if (unlinkat(item->stage_fd, item->name, 0) != 0 && errno != ENOENT)
        g_warning("cannot remove an incomplete file from the stage: %s", g_strerror(errno));
}

/* Creates the staged file, in place of what an earlier attempt of this run may have left. */
static int create_staged(const StageItem *item, guint32 mode, GError **error)
{
    int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    int fd = openat(item->stage_fd, item->name, flags, mode & 0777);
    if (fd < 0)
        error_set_errno(error, errno, "cannot create the staged copy of %s", item->path);
    return fd;
}

static gboolean finish_file(FileCopy *copy, GError **error)
{
    MirrorRun *run = copy->run;
    if (copy->want.size >= WRITEBACK_MIN_SIZE)
        /* Begin writing now, so that the sync at the end finds little to do. Only a hint: its result does not matter.
         */
        (void)sync_file_range(copy->dst, 0, 0, SYNC_FILE_RANGE_WRITE);
    if (!apply_meta(copy, error) || !fd_close(&copy->dst, copy->item->path, error))
        return FALSE;
    atomic_fetch_add(&run->files_transferred, 1);
    run_progress(run, 1, 0, copy->item->path);
    return (copy->item->flags & PLAN_PATCH) != 0 || resume_done(copy->resume, copy->item->path, &copy->want, error);
}

static gboolean stage_regular(MirrorRun *run, Resume *resume, const StageItem *item, GError **error)
{
    FileCopy copy = {.run = run, .resume = resume, .item = item, .src = -1, .dst = -1, .want = *item->want};
    if ((item->flags & PLAN_PATCH) == 0 && resume_take(resume, item->path, item->want, item->stage_fd, item->name)) {
        run_progress(run, 1, item->want->size, item->path);
        return resume_done(resume, item->path, item->want, error);
    }
    g_auto(AutoFd) src = open_source(item);
    if (src < 0) {
        run_source_error(run, item->path, errno, NULL);
        return TRUE;
    }
    g_auto(AutoFd) dst = create_staged(item, copy.want.mode, error);
    if (dst < 0)
        return FALSE;
    copy.src = src;
    copy.dst = dst;
    gboolean readable = TRUE;
    gboolean good = copy_steady(&copy, &readable, error);
    if (good && readable)
        good = finish_file(&copy, error);
    dst = copy.dst;
    if (!good || !readable)
        drop_staged(item);
    return good;
}

static gboolean stage_symlink(MirrorRun *run, const StageItem *item, gboolean *made, GError **error)
{
    g_autofree char *target = g_malloc(PATH_MAX + 1);
    gssize length = readlinkat(item->src_fd, item->name, target, PATH_MAX);
    if (length < 0) {
        run_source_error(run, item->path, errno, NULL);
        return TRUE;
    }
    target[length] = '\0';
    *made = symlinkat(target, item->stage_fd, item->name) == 0;
    if (!*made && errno == ENAMETOOLONG) {
        run_warn_skipped(run, item->path, "its target is longer than the destination's file system can hold", TRUE);
        return TRUE;
    }
    return *made || error_set_errno(error, errno, "cannot create the staged symlink %s", item->path);
}

static gboolean stage_special(MirrorRun *run, const StageItem *item, gboolean *made, GError **error)
{
    *made = mknodat(item->stage_fd, item->name, item->want->mode & (S_IFMT | 0777), (dev_t)item->want->rdev) == 0;
    if (!*made && (errno == EPERM || errno == EOPNOTSUPP)) {
        run_warn_skipped(run, item->path, "a device, fifo or socket that could not be made (devices need root)", FALSE);
        return TRUE;
    }
    if (!*made && errno == EINVAL) {
        run_warn_skipped(run, item->path, "its device number is one that the destination's file system cannot hold",
                         TRUE);
        return TRUE;
    }
    return *made || error_set_errno(error, errno, "cannot create the staged special file %s", item->path);
}

/* Metadata of what has no data. */
static gboolean finish_special(MirrorRun *run, const StageItem *item, GError **error)
{
    ApplyLosses losses;
    const Attrs *attrs ATTRS_AUTO = source_attrs(run, item->src_fd, item->name, -1, item->path);
    if (!apply_metadata(item->stage_fd, item->name, -1, item->want, META_ALL & run->parts, attrs, attrs_empty(),
                        &run->filter, &losses, error))
        return FALSE;
    warn_losses(run, item->path, &losses);
    atomic_fetch_add(&run->files_transferred, 1);
    run_progress(run, 1, 0, item->path);
    return TRUE;
}

gboolean stage_item(MirrorRun *run, Resume *resume, const StageItem *item, GError **error)
{
    if (S_ISREG(item->want->mode))
        return stage_regular(run, resume, item, error);
    gboolean made = FALSE;
    gboolean good =
        S_ISLNK(item->want->mode) ? stage_symlink(run, item, &made, error) : stage_special(run, item, &made, error);
    return good && (!made || finish_special(run, item, error));
}

gboolean stage_directory_meta(MirrorRun *run, int src_fd, int stage_fd, const char *path, const FileMeta *want,
                              GError **error)
{
    ApplyLosses losses;
    const Attrs *attrs ATTRS_AUTO = src_fd >= 0 ? source_attrs(run, src_fd, "", -1, path) : NULL;
    if (!apply_metadata(stage_fd, "", -1, want, META_ALL & run->parts, attrs, attrs_empty(), &run->filter, &losses,
                        error))
        return FALSE;
    warn_losses(run, path, &losses);
    return TRUE;
}
