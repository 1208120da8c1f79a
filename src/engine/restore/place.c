#include "engine/restore/place.h"

#include "base/error.h"
#include "engine/restore/existing.h"
#include "fs/apply.h"
#include "fs/dir.h"
#include "fs/facts.h"
#include "fs/probe.h"
#include "fs/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLOSED      "cannot open the folder for writing"
#define TEMP_TRIES  100
#define TEMP_PREFIX ".backapp-restore-"
#define TEMP_DIGITS 16

/* What ends the restore: nothing can be written any more, or it is to stop. All else concerns one entry. */
static gboolean ends_restore(const GError *error)
{
    return error_is(error, BACKAPP_ERROR_NO_SPACE) || error_is(error, BACKAPP_ERROR_CANCELLED);
}

/* Turns an entry's error into a warning; FALSE if it ends the restore (then *error is set). Takes `local`. */
static gboolean settle(RestoreRun *run, const char *path, const char *code, GError *local, GError **error)
{
    if (ends_restore(local)) {
        g_propagate_error(error, local);
        return FALSE;
    }
    restore_warn(run, code, *path ? path : NULL, local->message);
    g_error_free(local);
    return TRUE;
}

/* Opens the folder of a path. -1 with an error. */
static int open_parent(RestoreRun *run, const char *path, const char **base, GError **error)
{
    return dir_open_parent(run->root_fd, path, base, error);
}

/* What stands in the way under the name: moved aside, or removed if it cannot be renamed over. */
static gboolean make_room(RestoreRun *run, int dir_fd, const char *base, const RestoreItem *item, GError **error)
{
    struct stat st;
    const char *path = item->entry.path;
    if (!item->exists || fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return TRUE;
    if (item->aside) {
        g_autofree char *other = g_strconcat(base, run->aside, NULL);
        if (renameat2(dir_fd, base, dir_fd, other, RENAME_NOREPLACE) < 0)
            return error_set_errno(error, errno, "cannot keep %s as %s", path, other);
        atomic_fetch_add(&run->renamed, 1);
        return TRUE;
    }
    if (S_ISDIR(st.st_mode) == S_ISDIR(item->entry.meta.mode))
        return TRUE;
    if (!S_ISDIR(st.st_mode))
        return unlinkat(dir_fd, base, 0) == 0 ||
               error_set_errno(error, errno, "cannot remove %s, which is in the way of a folder", path);
    if (unlinkat(dir_fd, base, AT_REMOVEDIR) == 0)
        return TRUE;
    if (!run->options->delete_extraneous)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "a folder that is not empty is in its place: --conflict rename keeps it under another name, "
                         "--delete removes it");
    return remove_tree(dir_fd, base, FALSE, run->options->cancel, error);
}

/* A name that nothing has yet in the folder. */
static void temp_name(char *name, gsize size)
{
    g_snprintf(name, size, TEMP_PREFIX "%08x%08x", g_random_int(), g_random_int());
}

typedef struct {
    char name[64];
    gboolean there;
} Temp;

/* Gives the finished thing its name. */
static gboolean move_in(RestoreRun *run, int dir_fd, Temp *temp, const char *base, const RestoreItem *item,
                        GError **error)
{
    if (!make_room(run, dir_fd, base, item, error))
        return FALSE;
    if (renameat(dir_fd, temp->name, dir_fd, base) < 0)
        return error_set_errno(error, errno, "cannot put %s in place", item->entry.path);
    /* Two names of one inode: rename does nothing then. */
    (void)unlinkat(dir_fd, temp->name, 0);
    temp->there = FALSE;
    return TRUE;
}

static void drop_temp(int dir_fd, const Temp *temp)
{
    if (temp->there)
        (void)unlinkat(dir_fd, temp->name, 0);
}

static gboolean give_metadata(RestoreRun *run, int dir_fd, const char *name, int fd, const S3Entry *entry,
                              GError **error)
{
    ApplyLosses losses;
    const Attrs *attrs ATTRS_AUTO = existing_entry_attrs(entry, error);
    gboolean want_attrs = run->filter.xattrs || run->filter.acls;
    if (!attrs || !apply_metadata(dir_fd, name, fd, &entry->meta, META_ALL, want_attrs ? attrs : NULL, NULL,
                                  &run->filter, &losses, error))
        return FALSE;
    g_autofree char *text = apply_losses_text(&losses);
    if (text)
        restore_losses(run, entry->path, losses.failed == META_OWNER && losses.refused_attrs == 0, text);
    return TRUE;
}

/* Without u+rwx nothing could be put into it; its own mode comes at the end. */
static gboolean is_closed(const struct stat *st, const RestoreItem *item)
{
    return (st->st_mode & S_IRWXU) != S_IRWXU && item->op == RESTORE_DIR && geteuid() != 0;
}

static gboolean make_dir(RestoreRun *run, const RestoreItem *item, GError **error)
{
    const char *path = item->entry.path, *base;
    struct stat st;
    g_auto(AutoFd) dir_fd = open_parent(run, path, &base, error);
    if (dir_fd < 0 || !make_room(run, dir_fd, base, item, error))
        return FALSE;
    if (mkdirat(dir_fd, base, 0700) == 0)
        return TRUE;
    if (errno != EEXIST)
        return error_set_errno(error, errno, "cannot make the folder");
    if (fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_set_errno(error, errno, "cannot look at the folder");
    if (!S_ISDIR(st.st_mode))
        return error_set(error, BACKAPP_ERROR_CONFLICT, "something that is no folder is in its place");
    if (is_closed(&st, item) && fchmodat(dir_fd, base, st.st_mode | S_IRWXU, 0) < 0)
        return error_set_errno(error, errno, CLOSED);
    return TRUE;
}

/* The target itself. */
static gboolean open_root(RestoreRun *run, const RestoreItem *item, GError **error)
{
    struct stat st;
    if (fstat(run->root_fd, &st) < 0)
        return error_set_errno(error, errno, "cannot look at the folder");
    if (is_closed(&st, item) && fchmod(run->root_fd, st.st_mode | S_IRWXU) < 0)
        return error_set_errno(error, errno, CLOSED);
    return TRUE;
}

gboolean place_dir(RestoreRun *run, const RestoreItem *item, GError **error)
{
    GError *local = NULL;
    if (*item->entry.path == '\0' ? open_root(run, item, &local) : make_dir(run, item, &local))
        return TRUE;
    return settle(run, item->entry.path, "unwritable", local, error);
}

static gboolean is_temp_name(const char *name)
{
    const char *digits = name + strlen(TEMP_PREFIX);
    return g_str_has_prefix(name, TEMP_PREFIX) && strlen(digits) == TEMP_DIGITS &&
           strspn(digits, "0123456789abcdef") == TEMP_DIGITS;
}

/* Removes what a restore that was killed left in a folder. What changed since this one began is another's at work. What
 * cannot be removed only stays. */
static void sweep(const RestoreRun *run, int dir_fd)
{
    g_auto(DirNames) names = {0};
    if (!dir_names_read(dir_fd, &names, run->options->cancel, NULL))
        return;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        struct stat info;
        const char *name = dir_names_get(&names, i);
        if (is_temp_name(name) && fstatat(dir_fd, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(info.st_mode) &&
            (gint64)info.st_ctim.tv_sec * G_USEC_PER_SEC + info.st_ctim.tv_nsec / 1000 < run->began_us)
            (void)unlinkat(dir_fd, name, 0);
    }
}

gboolean place_dir_metadata(RestoreRun *run, const RestoreItem *item, GError **error)
{
    GError *local = NULL;
    const char *path = item->entry.path;
    g_auto(AutoFd) fd = dir_open(run->root_fd, path, &local);
    if (fd >= 0)
        sweep(run, fd);
    if (fd >= 0 && give_metadata(run, fd, "", fd, &item->entry, &local))
        return TRUE;
    return settle(run, path, "metadata", local, error);
}

/* A file without a name leaves nothing behind if this process is killed. -1 where there is none. */
static int make_unnamed(int dir_fd)
{
    return openat(dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/* A file without a name, or one with a temporary name. */
static int make_temp(int dir_fd, Temp *temp, GError **error)
{
    int unnamed = make_unnamed(dir_fd);
    if (unnamed >= 0)
        return unnamed;
    for (guint i = 0; i < TEMP_TRIES; i++) {
        temp_name(temp->name, sizeof temp->name);
        int fd = openat(dir_fd, temp->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0) {
            temp->there = TRUE;
            return fd;
        }
        if (errno != EEXIST)
            break;
    }
    (void)error_set_errno(error, errno, "cannot make a file");
    return -1;
}

guint64 place_time_granularity(const RestoreRun *run)
{
    char path[64];
    FsFacts facts;
    FsAbilities usual;
    Temp temp = {.there = FALSE};
    if (run->root_fd < 0 || !facts_read(run->root_fd, &facts, NULL))
        return 1;
    probe_look(run->root_fd, facts.type, &usual);
    if (usual.mtime_granularity_ns > 1)
        return usual.mtime_granularity_ns;
    g_auto(AutoFd) fd = run->options->dry_run ? make_unnamed(run->root_fd) : make_temp(run->root_fd, &temp, NULL);
    if (fd < 0)
        return 1;
    g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    guint64 found = probe_time_granularity(AT_FDCWD, path, 1);
    drop_temp(run->root_fd, &temp);
    return found;
}

/* What went wrong with a file's content, counted for the summary. */
static void count_trouble(RestoreRun *run, gboolean cold, const GError *error)
{
    if (cold)
        atomic_fetch_add(&run->cold, 1);
    else if (error_is(error, BACKAPP_ERROR_CORRUPT))
        atomic_fetch_add(&run->damaged, 1);
    else if (error_is(error, BACKAPP_ERROR_NOT_FOUND))
        atomic_fetch_add(&run->missing, 1);
}

static const char *trouble_code(gboolean cold, const GError *error)
{
    if (cold)
        return "cold";
    if (error_is(error, BACKAPP_ERROR_CORRUPT))
        return "damaged";
    return error_is(error, BACKAPP_ERROR_NOT_FOUND) ? "missing" : "unwritable";
}

/* Gives a file without a name its temporary one, just before it gets its own. */
static gboolean name_temp(int dir_fd, int fd, Temp *temp, GError **error)
{
    char path[64];
    if (temp->there)
        return TRUE;
    g_snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (guint i = 0; i < TEMP_TRIES && !temp->there; i++) {
        temp_name(temp->name, sizeof temp->name);
        temp->there = linkat(AT_FDCWD, path, dir_fd, temp->name, AT_SYMLINK_FOLLOW) == 0;
        if (!temp->there && errno != EEXIST)
            break;
    }
    return temp->there || error_set_errno(error, errno, "cannot give a file its name");
}

/* Content comes to the disk before the name of something else: after a power cut the size and time of a file without its
 * content could be called right. restore_source_fetch does it for files that end in a hole; others are too short then, where the
 * size follows the content (ext4, XFS, btrfs). */
static gboolean sync_content(const RestoreItem *item, int fd, GError **error)
{
    return !item->exists || item->aside || fdatasync(fd) == 0 ||
           error_set_errno(error, errno, "cannot write %s", item->entry.path);
}

static void add_progress(gpointer user_data, const S3Entry *entry, guint64 bytes)
{
    restore_progress(user_data, 0, bytes, entry->path);
}

static gboolean fetch_content(RestoreRun *run, const RestoreItem *item, int fd, gboolean *cold, GError **error)
{
    const RestoreEntry entry = {.entry = item->entry, .place = item->place, .place_length = item->place_length};
    RestoreFetch fetch = {.fd = fd, .progress = add_progress, .user_data = run};
    gboolean fine = restore_source_fetch(run->source, &entry, &fetch, error);
    *cold = fetch.cold;
    return fine;
}

static gboolean fill_and_place(RestoreRun *run, const RestoreItem *item, gboolean *cold, GError **error)
{
    const char *base;
    Temp temp = {.there = FALSE};
    g_auto(AutoFd) dir_fd = open_parent(run, item->entry.path, &base, error);
    if (dir_fd < 0)
        return FALSE;
    g_auto(AutoFd) fd = make_temp(dir_fd, &temp, error);
    gboolean fine = fd >= 0 && fetch_content(run, item, fd, cold, error) &&
                    give_metadata(run, dir_fd, temp.name, fd, &item->entry, error) && sync_content(item, fd, error) &&
                    name_temp(dir_fd, fd, &temp, error) && fd_close(&fd, item->entry.path, error) &&
                    move_in(run, dir_fd, &temp, base, item, error);
    drop_temp(dir_fd, &temp);
    return fine;
}

gboolean place_file(RestoreRun *run, const RestoreItem *item, GError **error)
{
    GError *local = NULL;
    gboolean cold = FALSE;
    if (fill_and_place(run, item, &cold, &local)) {
        atomic_fetch_add(&run->restored, 1);
        atomic_fetch_add(&run->restored_bytes, item->entry.meta.size);
        restore_progress(run, 1, 0, item->entry.path);
        return TRUE;
    }
    /* A store that cannot be reached will not serve the next file either. */
    if (ends_restore(local) || error_is(local, BACKAPP_ERROR_TRANSIENT)) {
        g_prefix_error(&local, "%s: ", item->entry.path);
        g_propagate_error(error, local);
        return FALSE;
    }
    count_trouble(run, cold, local);
    return settle(run, item->entry.path, trouble_code(cold, local), local, error);
}

gboolean place_metadata(RestoreRun *run, const RestoreItem *item, GError **error)
{
    GError *local = NULL;
    const char *base;
    g_auto(AutoFd) dir_fd = open_parent(run, item->entry.path, &base, &local);
    if (dir_fd >= 0 && give_metadata(run, dir_fd, base, -1, &item->entry, &local))
        return TRUE;
    return settle(run, item->entry.path, "metadata", local, error);
}

/* The first name may have been left as somebody made it, or could not be restored: a link to it would be another file. */
static gboolean is_first_right(RestoreRun *run, int dir_fd, const char *base, const S3Entry *entry, GError **error)
{
    Existing existing;
    if (!existing_compare(run, dir_fd, base, entry, NULL, &existing, NULL, error))
        return FALSE;
    return existing == EXISTING_RIGHT || existing == EXISTING_META ||
           error_set(error, BACKAPP_ERROR_CONFLICT, "%s, which it was linked to, is not what it was", entry->link);
}

static gboolean link_and_place(RestoreRun *run, const RestoreItem *item, GError **error)
{
    const char *base, *first_base;
    Temp temp = {.there = FALSE};
    g_auto(AutoFd) dir_fd = open_parent(run, item->entry.path, &base, error);
    if (dir_fd < 0)
        return FALSE;
    g_auto(AutoFd) first_fd = open_parent(run, item->entry.link, &first_base, error);
    if (first_fd < 0 || !is_first_right(run, first_fd, first_base, &item->entry, error))
        return FALSE;
    temp_name(temp.name, sizeof temp.name);
    if (linkat(first_fd, first_base, dir_fd, temp.name, 0) < 0)
        return error_set_errno(error, errno, "cannot link it to %s", item->entry.link);
    temp.there = TRUE;
    gboolean fine = move_in(run, dir_fd, &temp, base, item, error);
    drop_temp(dir_fd, &temp);
    return fine;
}

gboolean place_link(RestoreRun *run, const RestoreItem *item, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (link_and_place(run, item, &local)) {
        atomic_fetch_add(&run->restored, 1);
        restore_progress(run, 1, 0, item->entry.path);
        return TRUE;
    }
    if (ends_restore(local)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    /* A file of its own is better than none. */
    g_autofree char *text = g_strdup_printf("%s; it becomes a file of its own", local->message);
    restore_note(run, item->entry.path, text);
    return S_ISREG(item->entry.meta.mode) ? place_file(run, item, error) : place_other(run, item, error);
}

static gboolean make_other(int dir_fd, const char *name, const S3Entry *entry, GError **error)
{
    int failed = 0;
    if (S_ISLNK(entry->meta.mode))
        failed = symlinkat(entry->target ? entry->target : "", dir_fd, name);
    else
        failed = mknodat(dir_fd, name, (entry->meta.mode & S_IFMT) | 0600, (dev_t)entry->meta.rdev);
    return failed == 0 || error_set_errno(error, errno, "cannot make a %s", meta_kind(entry->meta.mode));
}

gboolean place_other(RestoreRun *run, const RestoreItem *item, GError **error)
{
    GError *local = NULL;
    const char *base;
    Temp temp = {.there = FALSE};
    g_auto(AutoFd) dir_fd = open_parent(run, item->entry.path, &base, &local);
    temp_name(temp.name, sizeof temp.name);
    gboolean fine = dir_fd >= 0 && make_other(dir_fd, temp.name, &item->entry, &local);
    temp.there = fine;
    fine = fine && give_metadata(run, dir_fd, temp.name, -1, &item->entry, &local) &&
           move_in(run, dir_fd, &temp, base, item, &local);
    if (dir_fd >= 0)
        drop_temp(dir_fd, &temp);
    if (!fine)
        return settle(run, item->entry.path, "unwritable", local, error);
    atomic_fetch_add(&run->restored, 1);
    restore_progress(run, 1, 0, item->entry.path);
    return TRUE;
}

gboolean place_delete(RestoreRun *run, const RestoreItem *item, GError **error)
{
    GError *local = NULL;
    const char *base;
    g_auto(AutoFd) dir_fd = open_parent(run, item->entry.path, &base, &local);
    if (dir_fd < 0 || !remove_tree(dir_fd, base, FALSE, run->options->cancel, &local))
        return settle(run, item->entry.path, "unwritable", local, error);
    atomic_fetch_add(&run->deleted, 1);
    return TRUE;
}
