#include "engine/mirror/preflight.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"

#define DELETE_FILES_MIN 100

/* An interrupted run's stage takes space that this run will use again or free, so the sum cannot be known then; a full
 * disk in the middle is handled all the same. */
static gboolean has_old_stage(const MirrorRun *run)
{
    return faccessat(run->dest->state_fd, "stage", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static gboolean check_space(const MirrorRun *run, const PlanTotals *totals, GError **error)
{
    FsFacts facts;
    if (run->dest->root_fd < 0 || (run->dest->state_fd >= 0 && has_old_stage(run)))
        return TRUE;
    if (!facts_read(run->dest->root_fd, &facts, error))
        return FALSE;
    if (totals->copy_space > facts.free_bytes) {
        g_autofree char *need = human_size(totals->copy_space);
        g_autofree char *have = human_size(facts.free_bytes);
        return error_set(error, BACKAPP_ERROR_NO_SPACE,
                         "cannot write %s: no space left (need %s, have %s); make space, or exclude something",
                         run->dest->path, need, have);
    }
    if (totals->new_inodes > facts.free_inodes) {
        g_autofree char *need = human_count(totals->new_inodes);
        g_autofree char *have = human_count(facts.free_inodes);
        return error_set(
            error, BACKAPP_ERROR_NO_SPACE,
            "cannot write %s: no inodes left (need %s, have %s); the file system cannot hold so many files",
            run->dest->path, need, have);
    }
    return TRUE;
}

static gboolean deletes_too_much(const MirrorRun *run, const PlanTotals *totals)
{
    if (totals->deleted_files == 0)
        return FALSE;
    if (totals->files_total == 0)
        return TRUE; /* an emptied source, whatever the numbers */
    return totals->deleted_files >= DELETE_FILES_MIN &&
           totals->deleted_files * 100 > totals->dest_files * run->options->max_delete_percent;
}

gboolean preflight_check(const MirrorRun *run, const PlanTotals *totals, const char *hash, gboolean *refused,
                         GError **error)
{
    const MirrorOptions *options = run->options;
    *refused = FALSE;
    /* A hash is of one plan, and says nothing of another stage's: that is checked as if there was none. */
    gboolean agreed = options->force || g_strcmp0(options->confirm, hash) == 0;
    if (!agreed && deletes_too_much(run, totals)) {
        g_autofree char *deleted = human_count(totals->deleted_files);
        g_autofree char *all = human_count(totals->dest_files);
        *refused = TRUE;
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "%s of %s files in %s would be deleted (%s)%s: is the source complete? Look at the plan with "
                         "--dry-run; to do it all the same: --force, or --confirm %s",
                         deleted, all, run->dest->path,
                         totals->files_total == 0 ? "the source is empty" : "more than --max-delete allows",
                         options->confirm != NULL ? ", and this plan is not the one that was confirmed" : "", hash);
    }
    return options->dry_run || check_space(run, totals, error);
}
