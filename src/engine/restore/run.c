#include "engine/restore/run.h"

#include "base/error.h"

#include <unistd.h>

void restore_stage(RestoreRun *run, const char *name, guint64 files, guint64 bytes)
{
    run_stage_begin(&run->stage, run->options->sink, name, files, bytes);
}

void restore_progress(RestoreRun *run, guint64 files, guint64 bytes, const char *path)
{
    run_stage_add(&run->stage, run->options->sink, files, bytes, path);
}

void restore_warn(RestoreRun *run, const char *code, const char *path, const char *message)
{
    atomic_store(&run->partial, TRUE);
    run->options->sink->warning(run->options->sink, code, path, message);
}

void restore_note(RestoreRun *run, const char *path, const char *message)
{
    run->options->sink->warning(run->options->sink, "note", path, message);
}

void restore_losses(RestoreRun *run, const char *path, gboolean owner_only, const char *text)
{
    if (!owner_only || geteuid() == 0) {
        run->options->sink->warning(run->options->sink, "metadata", path, text);
        return;
    }
    if (!atomic_exchange(&run->owners_noted, TRUE))
        restore_note(run, NULL, "owners and groups are not restored: only root can give files away");
}

void restore_fail(RestoreRun *run, GError *error)
{
    g_mutex_lock(&run->lock);
    if (run->error)
        g_error_free(error);
    else
        run->error = error;
    g_mutex_unlock(&run->lock);
    atomic_store(&run->failed, TRUE);
}

gboolean restore_goes_on(RestoreRun *run)
{
    return !atomic_load(&run->failed) && !cancel_is_set(run->options->cancel);
}

gboolean restore_result(RestoreRun *run, GError **error)
{
    g_mutex_lock(&run->lock);
    GError *first = run->error ? g_error_copy(run->error) : NULL;
    g_mutex_unlock(&run->lock);
    if (first) {
        g_propagate_error(error, first);
        return FALSE;
    }
    return cancel_check(run->options->cancel, error);
}
