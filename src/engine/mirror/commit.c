#include "engine/mirror/commit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/mirror/journal.h"
#include "engine/mirror/replay.h"
#include "engine/mirror/resume.h"
#include "engine/mirror/sidecar.h"
#include "fs/dir.h"
#include "fs/remove.h"

typedef gboolean (*Step)(Replay *replay, const JournalRecord *record, GError **error);

/* Runs `step` for all records with one of the two operations. */
static gboolean each_record(Replay *replay, Journal *journal, JournalOp a, JournalOp b, Step step, GError **error)
{
    JournalRecord record;
    int got;
    if (!journal_rewind(journal, error))
        return FALSE;
    while ((got = journal_next(journal, &record, error)) > 0) {
        if ((record.op == a || record.op == b) && !step(replay, &record, error))
            return FALSE;
    }
    return got == 0;
}

static gboolean place_or_patch(Replay *replay, const JournalRecord *record, GError **error)
{
    return record->op == JOURNAL_PATCH ? replay_patch(replay, record, error) : replay_place(replay, record, error);
}

/* Phases 1 to 5 of docs/formats/mirror.md. */
static gboolean run_phases(Replay *replay, Journal *journal, GError **error)
{
    gboolean sidecar = journal_header(journal)->sidecar;
    /* root may do everything already */
    if (geteuid() != 0 && !each_record(replay, journal, JOURNAL_DIR, JOURNAL_DIR, replay_open_up, error))
        return FALSE;
    return each_record(replay, journal, JOURNAL_REMOVE, JOURNAL_REMOVE, replay_remove, error) &&
           each_record(replay, journal, JOURNAL_PLACE, JOURNAL_PATCH, place_or_patch, error) &&
           each_record(replay, journal, JOURNAL_META, JOURNAL_META, replay_meta, error) &&
           each_record(replay, journal, JOURNAL_DIR, JOURNAL_DIR, replay_meta, error) &&
           (!sidecar || sidecar_replay(replay->dest, error)) &&
           facts_sync(replay->dest->root_fd, replay->dest->path, error);
}

static gboolean drop_journal(const Destination *dest, GError **error)
{
    if (unlinkat(dest->state_fd, "journal", 0) != 0 && errno != ENOENT)
        return error_set_errno(error, errno, "cannot remove %s/.backapp/journal", dest->path);
    if (unlinkat(dest->state_fd, "journal.new", 0) != 0 && errno != ENOENT)
        return error_set_errno(error, errno, "cannot remove %s/.backapp/journal.new", dest->path);
    if (!sidecar_drop_new(dest, error))
        return FALSE;
    return dir_sync(dest->state_fd, DESTINATION_STATE_DIR, error);
}

/* A journal that cannot be read back. Nothing of it was replayed if it was torn; if it was damaged later, what it had
 * displaced must not go with the rubbish. */
static gboolean discard(const Destination *dest, RunSink *sink, const GError *why, GError **error)
{
    g_autofree char *message =
        g_strdup_printf("%s; it is thrown away, the next run compares everything anew", why->message);
    sink->warning(sink, "note", NULL, message);
    if (faccessat(dest->state_fd, "old", F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        gint64 now = g_get_real_time();
        g_autofree char *kept = g_strdup_printf("found/old-%" G_GINT64_FORMAT, now);
        if (!dir_make_path(dest->state_fd, "found", 0700, error))
            return FALSE;
        if (renameat(dest->state_fd, "old", dest->state_fd, kept) != 0)
            return error_set_errno(error, errno, "cannot rename %s/.backapp/old to %s", dest->path, kept);
        sink->warning(sink, "note", NULL, "what was displaced before is kept in .backapp/found");
    }
    return drop_journal(dest, error);
}

/* Phase 7. What cannot be removed now is removed by the next run. */
static void clean_up(Destination *dest, RunSink *sink, gboolean stage, const CancelFlag *cancel)
{
    g_autoptr(GError) error = NULL;
    gboolean good = remove_tree(dest->state_fd, "old", FALSE, cancel, &error);
    if (stage)
        good = good && remove_tree(dest->state_fd, "stage", FALSE, cancel, &error) &&
               resume_drop_old(dest, cancel, &error);
    if (good)
        return;
    g_autofree char *message =
        g_strdup_printf("old data in .backapp could not be removed yet (%s); the next run tries again", error->message);
    sink->warning(sink, "note", NULL, message);
}

static gboolean replay_journal(Destination *dest, RunSink *sink, Journal *journal, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_auto(Replay) replay;
    gboolean good = replay_init(&replay, dest, sink, journal_header(journal), &local) &&
                    run_phases(&replay, journal, &local) && drop_journal(dest, &local);
    if (good)
        return TRUE;
    error_set(error, (BackappError)local->code,
              "%s; the run is committed but not complete: the next run, or backapp mirror --recover %s, completes it",
              local->message, dest->path);
    return FALSE;
}

gboolean commit_replay(Destination *dest, RunSink *sink, const CancelFlag *cancel, gboolean *replayed, GError **error)
{
    *replayed = FALSE;
    if (dest->state_fd < 0)
        return TRUE;
    g_autoptr(GError) local = NULL;
    g_autoptr(Journal) journal = journal_open(dest->state_fd, &local);
    if (journal == NULL && error_is(local, BACKAPP_ERROR_CORRUPT)) {
        if (!discard(dest, sink, local, error))
            return FALSE;
    } else if (journal == NULL && error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        if (unlinkat(dest->state_fd, "journal.new", 0) != 0 && errno != ENOENT)
            return error_set_errno(error, errno, "cannot remove %s/.backapp/journal.new", dest->path);
        if (!sidecar_drop_new(dest, error))
            return FALSE;
    } else if (journal == NULL) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "%s: ", dest->path);
        return FALSE;
    } else {
        if (!replay_journal(dest, sink, journal, error))
            return FALSE;
        *replayed = TRUE;
    }
    clean_up(dest, sink, *replayed, cancel);
    return TRUE;
}
