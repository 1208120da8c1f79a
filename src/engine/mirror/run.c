#include "engine/mirror/run.h"

#include <errno.h>
#include <string.h>

guint run_source_of(const MirrorRun *run, const char *path, const char **source_path)
{
    if (run->sources == 1) {
        *source_path = path;
        return 0;
    }
    const char *slash = strchrnul(path, '/');
    gsize length = (gsize)(slash - path);
    for (guint i = 0; i < run->sources; i++) {
        if (strlen(run->folders[i]) == length && memcmp(run->folders[i], path, length) == 0) {
            *source_path = *slash == '/' ? slash + 1 : slash;
            return i;
        }
    }
    *source_path = path;
    return G_MAXUINT;
}

int run_source_fd(const MirrorRun *run, guint source)
{
    return g_array_index(run->source_fds, int, source);
}

void run_stage(MirrorRun *run, const char *name, guint64 expected_files, guint64 expected_bytes)
{
    run_stage_begin(&run->stage, run->sink, name, expected_files, expected_bytes);
}

void run_progress(MirrorRun *run, guint64 files, guint64 bytes, const char *path)
{
    run_stage_add(&run->stage, run->sink, files, bytes, path);
}

void run_warn(MirrorRun *run, const char *code, const char *path, const char *message)
{
    run->sink->warning(run->sink, code, path, message);
}

/* What the sidecar says of it would not be true. */
static void note_unstaged(MirrorRun *run, const char *path)
{
    if (run->unstaged == NULL)
        return;
    g_mutex_lock(&run->unstaged_lock);
    g_hash_table_add(run->unstaged, g_strdup(path));
    g_mutex_unlock(&run->unstaged_lock);
}

void run_warn_unreadable(MirrorRun *run, const char *path, const char *message)
{
    note_unstaged(run, path);
    atomic_fetch_add(&run->unreadable, 1);
    atomic_store(&run->partial, true);
    run_warn(run, "unreadable", path, message);
}

void run_warn_vanished(MirrorRun *run, const char *path)
{
    note_unstaged(run, path);
    atomic_fetch_add(&run->vanished, 1);
    run_warn(run, "vanished", path, "it was gone when it should be read");
}

void run_warn_changed(MirrorRun *run, const char *path)
{
    note_unstaged(run, path);
    atomic_fetch_add(&run->changed_during_read, 1);
    atomic_store(&run->partial, true);
    run_warn(run, "changed", path, "it changed while it was read, twice; the copy may mix old and new content");
}

void run_warn_skipped(MirrorRun *run, const char *path, const char *message, gboolean partial)
{
    note_unstaged(run, path);
    atomic_fetch_add(&run->skipped, 1);
    if (partial)
        atomic_store(&run->partial, true);
    run_warn(run, "skipped", path, message);
}

void run_source_error(MirrorRun *run, const char *path, int errnum, GError **error)
{
    if (errnum == ENOENT || errnum == ENOTDIR || errnum == ESTALE || errnum == ELOOP)
        run_warn_vanished(run, path);
    else
        run_warn_unreadable(run, path, error != NULL && *error != NULL ? (*error)->message : g_strerror(errnum));
    g_clear_error(error);
}
