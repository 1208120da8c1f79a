#include "engine/mirror/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/mirror/patch.h"
#include "fs/apply.h"
#include "fs/dir.h"

gboolean replay_init(Replay *replay, Destination *dest, RunSink *sink, const JournalHeader *header, GError **error)
{
    *replay = (Replay){.dest = dest, .sink = sink, .header = header, .parts = META_ALL, .stage_fd = -1};
    if (!dest->abilities.modes)
        replay->parts &= ~(MetaParts)META_MODE;
    /* Without root the group may still be set. */
    if (!dest->abilities.owners && geteuid() == 0)
        replay->parts &= ~(MetaParts)META_OWNER;
    replay->place = (ReplayTree){.root_fd = dest->root_fd, .parent_fd = -1};
    replay->stage = (ReplayTree){.root_fd = -1, .parent_fd = -1};
    for (guint i = 0; i < REPLAY_ASIDE; i++) {
        replay->aside[i] = (ReplayTree){.root_fd = -1, .make = TRUE, .parent_fd = -1};
        replay->aside_fds[i] = -1;
    }
    /* All of it may have been moved already: then an empty one serves. */
    if (!dir_make_path(dest->state_fd, "stage/tree", 0700, error))
        return FALSE;
    replay->stage_fd = replay->stage.root_fd = dir_open(dest->state_fd, "stage/tree", error);
    return replay->stage_fd >= 0;
}

void replay_clear(Replay *replay)
{
    replay_tree_forget(&replay->place);
    replay_tree_forget(&replay->stage);
    fd_clear(&replay->stage_fd);
    for (guint i = 0; i < REPLAY_ASIDE; i++) {
        replay_tree_forget(&replay->aside[i]);
        fd_clear(&replay->aside_fds[i]);
    }
}

static void note(const Replay *replay, const char *path, const char *message)
{
    replay->sink->warning(replay->sink, "note", path, message);
}

/* The tree that takes what is set aside, made when it is needed first. */
static ReplayTree *aside_tree(Replay *replay, ReplayAside which, GError **error)
{
    static const char *const folders[REPLAY_ASIDE] = {"old", "versions", "found"};
    if (replay->aside_fds[which] < 0) {
        const char *name = which == REPLAY_VERSIONS ? replay->header->versions : replay->header->run_id;
        g_autofree char *path = g_strdup_printf("%s/%s", folders[which], name);
        if (!dir_make_path(replay->dest->state_fd, path, 0700, error))
            return NULL;
        replay->aside_fds[which] = dir_open(replay->dest->state_fd, path, error);
        replay->aside[which].root_fd = replay->aside_fds[which];
    }
    return replay->aside_fds[which] >= 0 ? &replay->aside[which] : NULL;
}

/* Moves what is at `path` of the destination out of the way. */
static gboolean set_aside(Replay *replay, ReplayAside which, const char *path, const FileMeta *have, GError **error)
{
    ReplayTree *tree = aside_tree(replay, which, error);
    if (tree == NULL || !replay_set_aside(&replay->place, path, tree, error))
        return FALSE;
    if (S_ISDIR(have->mode))
        replay_tree_forget(&replay->place);
    if (which == REPLAY_FOUND)
        note(replay, path,
             "was changed in the destination by somebody else during the run; what was there is kept in "
             ".backapp/found");
    return TRUE;
}

/* TRUE if what is there is not what the plan saw there. */
static gboolean is_foreign(const Replay *replay, const JournalRecord *record, const FileMeta *have)
{
    /* Nothing (0) was there, or something of another type. */
    if (((record->have_mode ^ have->mode) & S_IFMT) != 0)
        return TRUE;
    return replay->header->stable_inodes && have->ino != record->have_ino;
}

static ReplayAside aside_of(const Replay *replay)
{
    return replay->header->versions[0] != '\0' ? REPLAY_VERSIONS : REPLAY_OLD;
}

gboolean replay_open_up(Replay *replay, const JournalRecord *record, GError **error)
{
    const char *base = "";
    int parent =
        record->path[0] == '\0' ? replay->dest->root_fd : replay_tree_parent(&replay->place, record->path, &base, NULL);
    /* What is not there yet is staged with the permissions that it needs. */
    if (parent >= 0)
        replay_make_usable(parent, base);
    return TRUE;
}

gboolean replay_remove(Replay *replay, const JournalRecord *record, GError **error)
{
    FileMeta have;
    int there = replay_tree_look(&replay->place, record->path, &have, error);
    if (there <= 0)
        return there == 0;
    ReplayAside which = is_foreign(replay, record, &have) ? REPLAY_FOUND : aside_of(replay);
    return set_aside(replay, which, record->path, &have, error);
}

/* A staged entry that is gone must have been moved in. */
static gboolean check_placed(Replay *replay, const JournalRecord *record, GError **error)
{
    FileMeta have;
    int there = replay_tree_look(&replay->place, record->path, &have, error);
    if (there < 0)
        return FALSE;
    if (there > 0 && (!replay->header->stable_inodes || have.ino == record->staged_ino))
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "the new %s is neither in the stage nor at its place: something else changed the destination or "
                     "its .backapp folder; move .backapp/journal away to have the next run compare everything anew",
                     record->path);
}

/* What the rename would lose, or could not replace, goes out of the way first. *done if the staged entry is no longer
 * needed. */
static gboolean make_room(Replay *replay, const JournalRecord *record, const FileMeta *staged, gboolean *done,
                          GError **error)
{
    FileMeta have;
    int there = replay_tree_look(&replay->place, record->path, &have, error);
    if (there <= 0)
        return there == 0;
    if (have.ino == staged->ino && have.dev == staged->dev && !S_ISDIR(have.mode)) {
        /* Two names of one file: rename would do nothing and leave both. */
        const char *base = NULL;
        int parent = replay_tree_parent(&replay->stage, record->path, &base, error);
        if (parent < 0)
            return FALSE;
        *done = TRUE;
        return unlinkat(parent, base, 0) == 0 || error_set_errno(error, errno, "cannot unlink the staged %s", base);
    }
    if (is_foreign(replay, record, &have))
        return set_aside(replay, REPLAY_FOUND, record->path, &have, error);
    gboolean over = !S_ISDIR(have.mode) && !S_ISDIR(staged->mode) && aside_of(replay) == REPLAY_OLD;
    return over || set_aside(replay, aside_of(replay), record->path, &have, error);
}

/* Moves what is no directory on the way to `path` out of it. */
static gboolean clear_way(Replay *replay, const char *path, GError **error)
{
    g_autofree char *prefix = g_strdup(path);
    for (char *slash = strchr(prefix, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        FileMeta have;
        *slash = '\0';
        int there = replay_tree_look(&replay->place, prefix, &have, error);
        if (there < 0)
            return FALSE;
        if (there > 0 && !S_ISDIR(have.mode))
            return set_aside(replay, REPLAY_FOUND, prefix, &have, error);
        *slash = '/';
    }
    return TRUE;
}

/* The parent may have been removed or replaced by somebody else since the plan. */
static gboolean ensure_parent(Replay *replay, const char *path, GError **error)
{
    const char *base = NULL;
    g_autoptr(GError) local = NULL;
    if (replay_tree_parent(&replay->place, path, &base, &local) >= 0)
        return TRUE;
    if (!error_is(local, BACKAPP_ERROR_NOT_FOUND) && !error_is(local, BACKAPP_ERROR_CONFLICT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *parent = g_path_get_dirname(path);
    note(replay, parent, "was removed from the destination by somebody else during the run; it is made again");
    return clear_way(replay, path, error) && dir_make_path(replay->dest->root_fd, parent, 0700, error);
}

gboolean replay_place(Replay *replay, const JournalRecord *record, GError **error)
{
    FileMeta staged;
    int there = replay_tree_look(&replay->stage, record->path, &staged, error);
    if (there <= 0)
        return there == 0 && check_placed(replay, record, error);
    if (replay->header->stable_inodes && staged.ino != record->staged_ino)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the staged %s is not what the run has put there", record->path);
    gboolean done = FALSE;
    if (!ensure_parent(replay, record->path, error) || !make_room(replay, record, &staged, &done, error))
        return FALSE;
    if (done)
        return TRUE;
    if (S_ISDIR(staged.mode))
        replay_tree_forget(&replay->stage);
    return replay_move(&replay->stage, record->path, &replay->place, record->path, error);
}

static void warn_losses(const Replay *replay, const char *path, const ApplyLosses *losses)
{
    /* Without root no owner can be kept, which staging has said once for all. */
    MetaParts expected = geteuid() == 0 ? 0 : META_OWNER;
    ApplyLosses counted = {.failed = losses->failed & replay->parts & ~expected,
                           .refused_attrs = losses->refused_attrs};
    g_autofree char *text = apply_losses_text(&counted);
    if (text != NULL)
        replay->sink->warning(replay->sink, "metadata", path, text);
}

static gboolean apply(const Replay *replay, const JournalRecord *record, int dir_fd, const char *name, int fd,
                      GError **error)
{
    ApplyLosses losses;
    const Attrs *attrs = record->with_attrs ? record->attrs : NULL;
    if (!apply_metadata(dir_fd, name, fd, &record->meta, META_ALL & replay->parts, attrs, NULL, &replay->header->filter,
                        &losses, error)) {
        g_prefix_error(error, "%s: ", record->path[0] != '\0' ? record->path : replay->dest->path);
        return FALSE;
    }
    warn_losses(replay, record->path, &losses);
    return TRUE;
}

static int open_for_patching(int dir_fd, const char *name, const FileMeta *have)
{
    int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int fd = openat(dir_fd, name, flags);
    if (fd >= 0 || errno != EACCES)
        return fd;
    /* Its final mode comes with the metadata. */
    FileMeta usable = *have;
    usable.mode |= S_IRUSR | S_IWUSR;
    (void)meta_apply(dir_fd, name, -1, &usable, META_MODE, NULL, NULL);
    return openat(dir_fd, name, flags);
}

static gboolean patch_file(const Replay *replay, const JournalRecord *record, int patch_fd, int dir_fd,
                           const char *name, const FileMeta *have, GError **error)
{
    g_auto(AutoFd) fd = open_for_patching(dir_fd, name, have);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open %s to patch it", record->path);
    if (!patch_apply(patch_fd, fd, error)) {
        g_prefix_error(error, "%s: ", record->path);
        return FALSE;
    }
    /* The patch is the only thing that tells what is still to be done, so all must be durable before it goes. */
    if (!apply(replay, record, dir_fd, name, fd, error))
        return FALSE;
    if (fsync(fd) != 0)
        return error_set_errno(error, errno, "cannot write %s to disk", record->path);
    return fd_close(&fd, record->path, error);
}

gboolean replay_patch(Replay *replay, const JournalRecord *record, GError **error)
{
    FileMeta staged, have;
    const char *name = NULL;
    int there = replay_tree_look(&replay->stage, record->path, &staged, error);
    if (there <= 0)
        return there == 0;
    if (replay->header->stable_inodes && staged.ino != record->staged_ino)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the staged patch of %s is not what the run has put there",
                         record->path);
    int stage_fd = replay_tree_parent(&replay->stage, record->path, &name, error);
    there = stage_fd < 0 ? -1 : replay_tree_look(&replay->place, record->path, &have, error);
    if (there < 0)
        return FALSE;
    if (there == 0 || is_foreign(replay, record, &have)) {
        note(replay, record->path,
             "was changed in the destination by somebody else during the run; it is left as it is until the next run");
    } else {
        g_auto(AutoFd) patch_fd = openat(stage_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (patch_fd < 0)
            return error_set_errno(error, errno, "cannot open the patch of %s", record->path);
        int place_fd = replay_tree_parent(&replay->place, record->path, &name, error);
        if (place_fd < 0 || !patch_file(replay, record, patch_fd, place_fd, name, &have, error))
            return FALSE;
    }
    return unlinkat(stage_fd, name, 0) == 0 ||
           error_set_errno(error, errno, "cannot remove the patch of %s", record->path);
}

gboolean replay_meta(Replay *replay, const JournalRecord *record, GError **error)
{
    if (record->path[0] == '\0')
        return apply(replay, record, replay->dest->root_fd, "", -1, error);
    FileMeta have;
    const char *base = NULL;
    int there = replay_tree_look(&replay->place, record->path, &have, error);
    if (there < 0)
        return FALSE;
    guint32 type = record->op == JOURNAL_DIR ? S_IFDIR : record->have_mode & S_IFMT;
    gboolean other = there > 0 && type != 0 && (have.mode & S_IFMT) != type;
    /* A directory may just have been placed, so its inode tells nothing. */
    if (there > 0 && record->op == JOURNAL_META && replay->header->stable_inodes && have.ino != record->have_ino)
        other = TRUE;
    if (there == 0 || other) {
        note(replay, record->path,
             "was changed in the destination by somebody else during the run; it is left as it is until the next run");
        return TRUE;
    }
    int parent = replay_tree_parent(&replay->place, record->path, &base, error);
    return parent >= 0 && apply(replay, record, parent, base, -1, error);
}
