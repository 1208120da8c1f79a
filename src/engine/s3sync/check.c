#include "engine/s3sync/check.h"

#include "base/error.h"
#include "base/human.h"

#define DELETE_FILES_MIN 100

static gboolean deletes_too_much(const S3syncOptions *options, const S3PlanCounts *counts, guint64 source_files)
{
    if (counts->deletes == 0)
        return FALSE;
    if (source_files == 0)
        return TRUE; /* an emptied source, whatever the numbers */
    return counts->deletes >= DELETE_FILES_MIN && counts->deletes * 100 > counts->objects * options->max_delete_percent;
}

gboolean check_plan(const S3syncOptions *options, const S3PlanCounts *counts, guint64 source_files, const char *hash,
                    const char *where, gboolean *refused, GError **error)
{
    *refused = FALSE;
    /* A hash is of one plan, and says nothing of another stage's or source's: those are checked as if there was none. */
    gboolean agreed = options->force || g_strcmp0(options->confirm, hash) == 0;
    if (agreed || !deletes_too_much(options, counts, source_files))
        return TRUE;
    g_autofree char *deleted = human_count(counts->deletes);
    g_autofree char *all = human_count(counts->objects);
    *refused = TRUE;
    return error_set(error, BACKAPP_ERROR_CONFLICT,
                     "%s of %s objects in %s would be deleted (%s)%s: is the source complete? Look at the plan with "
                     "--dry-run; to do it all the same: --force, or --confirm %s",
                     deleted, all, where, source_files == 0 ? "the source is empty" : "more than --max-delete allows",
                     options->confirm != NULL ? ", and this plan is not the one that was confirmed" : "", hash);
}
