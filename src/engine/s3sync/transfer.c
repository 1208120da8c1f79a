#include "engine/s3sync/transfer.h"

#include <errno.h>
#include <string.h>

#include "base/error.h"
#include "engine/s3sync/copy.h"
#include "engine/s3sync/remove.h"
#include "engine/s3sync/source.h"
#include "engine/s3sync/upload.h"

char *transfer_key(const S3Run *run, const char *path)
{
    g_autoptr(GString) key = g_string_new(NULL);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (guint i = 0; parts[i] != NULL; i++) {
        g_autofree char *parent = g_strdup(key->str);
        g_string_truncate(key, 0);
        names_child_key(run->names, parent, parts[i], key);
    }
    if (names_is_long(run->prefix_length, key->str))
        return names_long_key(key->str);
    return g_strdup(key->str);
}

/* Where the reader of the plan is: items come directory by directory, so each is opened about once. */
typedef struct {
    S3Run *run;
    S3Parent *parent;
    gboolean deferred; /* there are links to be copied when their first names are there */
} Dispatch;

static gboolean is_deferred(const Dispatch *dispatch, const S3PlanItem *item)
{
    return s3plan_is_link_copy(item) && store_can(dispatch->run->store, STORE_COPY);
}

/* The directory that holds the job's file. NULL if it cannot be opened: errno says why. */
static S3Parent *parent_of(Dispatch *dispatch, const char *path)
{
    const char *slash = strrchr(path, '/');
    g_autofree char *directory = slash != NULL ? g_strndup(path, (gsize)(slash - path)) : g_strdup("");
    if (dispatch->parent != NULL && strcmp(dispatch->parent->path, directory) == 0)
        return dispatch->parent;
    g_clear_pointer(&dispatch->parent, s3parent_unref);
    g_autoptr(GError) local = NULL;
    errno = 0;
    dispatch->parent = s3parent_open(dispatch->run, directory, &local);
    if (dispatch->parent == NULL && errno == 0)
        errno = EIO;
    return dispatch->parent;
}

static gboolean dispatch_item(Dispatch *dispatch, const S3PlanItem *item, GError **error)
{
    S3Run *run = dispatch->run;
    S3Parent *parent = parent_of(dispatch, item->entry.path);
    int errnum = parent != NULL ? 0 : errno;
    g_autoptr(S3Job) job = s3job_new(run, item, parent);
    if (parent == NULL)
        return source_lost(job, errnum, error);
    if (is_deferred(dispatch, item)) {
        g_free(job->source);
        job->source = transfer_key(run, item->entry.link);
        job->work.run = copy_of_name;
    } else {
        job->work.run = item->op == S3PLAN_CHECK   ? check_object
                        : item->op == S3PLAN_TOUCH ? copy_onto_itself
                        : item->op == S3PLAN_COPY  ? copy_from_base
                                                   : upload_file;
    }
    workers_push(run->workers, &g_steal_pointer(&job)->work);
    return TRUE;
}

/* One pass over the plan; the second one is for deferred links only. */
static gboolean dispatch_all(Dispatch *dispatch, S3Plan *plan, gboolean links, GError **error)
{
    g_autoptr(S3PlanReader) reader = s3plan_reader_new(plan);
    S3PlanItem item;
    int got = 0;
    while (s3run_goes_on(dispatch->run) && (got = s3plan_reader_next(reader, &item, error)) > 0) {
        if (item.op == S3PLAN_KEEP || item.op == S3PLAN_META || item.op == S3PLAN_DELETE)
            continue;
        gboolean deferred = is_deferred(dispatch, &item);
        dispatch->deferred = dispatch->deferred || deferred;
        if (!lock_object_check(dispatch->run->locked, error) ||
            (deferred == links && !dispatch_item(dispatch, &item, error)))
            return FALSE;
    }
    return got >= 0;
}

gboolean transfer_run(S3Run *run, S3Plan *plan, GError **error)
{
    Dispatch dispatch = {.run = run};
    gboolean good = dispatch_all(&dispatch, plan, FALSE, error);
    workers_wait(run->workers);
    if (good && dispatch.deferred) {
        good = dispatch_all(&dispatch, plan, TRUE, error);
        workers_wait(run->workers);
    }
    s3parent_unref(dispatch.parent);
    return good && s3run_result(run, error);
}

gboolean transfer_delete(S3Run *run, S3Plan *plan, gboolean versioned, GError **error)
{
    /* What could not be stored may be what an object was renamed to. */
    if (atomic_load(&run->skipped) > 0) {
        s3run_note(run, NULL, "nothing was deleted, because some files could not be stored");
        return TRUE;
    }
    g_autoptr(Removal) removal = removal_new(run, versioned);
    g_autoptr(S3PlanReader) reader = s3plan_reader_new(plan);
    S3PlanItem item;
    int got = 0;
    while (s3run_goes_on(run) && (got = s3plan_reader_next(reader, &item, error)) > 0) {
        if (item.op != S3PLAN_DELETE)
            continue;
        if (!lock_object_check(run->locked, error)) {
            got = -1;
            break;
        }
        removal_add(removal, &item);
    }
    removal_finish(removal);
    return got >= 0 && s3run_result(run, error);
}
