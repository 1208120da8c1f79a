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
    if (options->confirm != NULL && !g_str_equal(options->confirm, hash) && !options->force) {
        *refused = TRUE;
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "the plan is no longer the one that was confirmed (it is %s now): look at it again with "
                         "--dry-run",
                         hash);
    }
    if (options->force || options->confirm != NULL || !deletes_too_much(options, counts, source_files))
        return TRUE;
    g_autofree char *deleted = human_count(counts->deletes);
    g_autofree char *all = human_count(counts->objects);
    *refused = TRUE;
    return error_set(error, BACKAPP_ERROR_CONFLICT,
                     "%s of %s objects in %s would be deleted (%s): is the source complete? Look at the plan with "
                     "--dry-run; to do it all the same: --force, or --confirm %s",
                     deleted, all, where, source_files == 0 ? "the source is empty" : "more than --max-delete allows",
                     hash);
}
