#include "engine/archive/verify.h"

#include <sys/stat.h>

#include "base/error.h"
#include "engine/archive/verify_run.h"

/* Warns of something that is not as it should be; path NULL: of an object. */
void verify_bad(VerifyRun *run, gboolean missing, const char *path, const char *message)
{
    *(missing ? &run->stats->missing : &run->stats->damaged) += 1;
    run->sink->warning(run->sink, missing ? "missing" : "damaged", path, message);
}

/* What one volume is in the store: its size, or SWEEP_MISSING. */
static gboolean look_at_volume(VerifyRun *run, const ArchivePoint *point, guint number, guint64 *size, GError **error)
{
    const ArchiveVolume *volume = &g_array_index(point->volumes, ArchiveVolume, number);
    g_autofree char *key = archive_volume_key(point, number);
    g_autoptr(GError) local = NULL;
    if (!cancel_check(run->cancel, error))
        return FALSE;
    g_autoptr(StoreObject) object = store_head(run->place->store, key, NULL, &local);
    if (object == NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    *size = object != NULL ? object->size : SWEEP_MISSING;
    if (object != NULL && object->size == volume->size)
        return TRUE;
    g_autofree char *message = object == NULL
                                   ? g_strdup_printf("%s is missing", key)
                                   : g_strdup_printf("%s has %" G_GUINT64_FORMAT " bytes, not %" G_GUINT64_FORMAT
                                                     ": it was cut off or replaced",
                                                     key, object->size, volume->size);
    verify_bad(run, object == NULL, NULL, message);
    return TRUE;
}

/* The index of one point of the chain, and that its volumes are there. */
static gboolean look_at_point(VerifyRun *run, guint number, GError **error)
{
    Index *index = chain_index(run->chain, number);
    const ArchivePoint *point = index_point(index);
    g_autoptr(GError) local = NULL;
    guint64 before = run->stats->damaged + run->stats->missing;
    if (!index_check(index, NULL, &local)) {
        if (!error_is(local, BACKAPP_ERROR_CORRUPT) && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        verify_bad(run, error_is(local, BACKAPP_ERROR_NOT_FOUND), NULL, local->message);
        run->index_damaged = TRUE;
    }
    guint64 *sizes = g_new0(guint64, MAX(point->volumes->len, 1));
    g_ptr_array_add(run->sizes, sizes);
    for (guint i = 0; i < point->volumes->len; i++)
        if (!look_at_volume(run, point, i, &sizes[i], error))
            return FALSE;
    if (before == run->stats->damaged + run->stats->missing)
        run->stats->points++;
    return TRUE;
}

static guint64 stored_bytes(Chain *chain)
{
    guint64 bytes = 0;
    for (guint i = 0; i < chain_length(chain); i++) {
        const ArchivePoint *point = index_point(chain_index(chain, i));
        for (guint v = 0; v < point->volumes->len; v++)
            bytes += g_array_index(point->volumes, ArchiveVolume, v).packed_size;
    }
    return bytes;
}

static gboolean verify_chain(VerifyRun *run, gboolean full, GError **error)
{
    const ArchivePoint *newest = index_point(chain_index(run->chain, 0));
    run_stage_begin(&run->stage, run->sink, "verify", full ? newest->files : 0, full ? stored_bytes(run->chain) : 0);
    for (guint i = 0; i < chain_length(run->chain); i++)
        if (!look_at_point(run, i, error))
            return FALSE;
    /* Without whole indexes nobody knows what there is to be proven. */
    return !full || run->index_damaged || verify_contents(run, error);
}

/* The chain, or NULL; if it cannot be because something is damaged or missing, that is counted. */
static Chain *open_chain(VerifyRun *run, const char *base, GError **error)
{
    g_autoptr(GError) local = NULL;
    Chain *chain = chain_open(run->place, base, run->cancel, NULL, &local);
    if (chain != NULL)
        return chain;
    gboolean missing = error_is(local, BACKAPP_ERROR_NOT_FOUND);
    if (missing || error_is(local, BACKAPP_ERROR_CORRUPT)) {
        verify_bad(run, missing, NULL, local->message);
        (void)error_set(error, BACKAPP_ERROR_CORRUPT, "%s cannot be restored: %s", base, local->message);
    } else {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return NULL;
}

static void run_clear(VerifyRun *run)
{
    g_clear_pointer(&run->chain, chain_close);
    g_clear_pointer(&run->sizes, g_ptr_array_unref);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VerifyRun, run_clear)

static gboolean verify(VerifyRun *run, const char *at, gboolean full, GError **error)
{
    ArchiveVerifyStats *stats = run->stats;
    stats->point = chain_choose(run->place, at, run->cancel, error);
    if (stats->point == NULL)
        return FALSE;
    run->chain = open_chain(run, stats->point, error);
    if (run->chain == NULL || !verify_chain(run, full, error))
        return FALSE;
    if (stats->damaged + stats->missing == 0)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "%s is damaged: %" G_GUINT64_FORMAT " damaged, %" G_GUINT64_FORMAT
                     " missing; make a new full archive",
                     stats->point, stats->damaged, stats->missing);
}

gboolean archive_verify(const ArchivePlace *place, const char *at, gboolean full, guint threads,
                        const CancelFlag *cancel, RunSink *sink, ArchiveVerifyStats *stats, GError **error)
{
    gint64 started = g_get_monotonic_time();
    *stats = (ArchiveVerifyStats){0};
    g_auto(VerifyRun) run = {.place = place, .threads = threads, .cancel = cancel, .sink = sink, .stats = stats};
    run.sizes = g_ptr_array_new_with_free_func(g_free);
    gboolean good = verify(&run, at, full, error);
    stats->duration = (double)(g_get_monotonic_time() - started) / G_USEC_PER_SEC;
    return good;
}

void archive_verify_stats_clear(ArchiveVerifyStats *stats)
{
    g_clear_pointer(&stats->point, g_free);
}
