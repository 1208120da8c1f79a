#include "engine/mirror/mirror.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "engine/mirror/commit.h"
#include "engine/mirror/compare.h"
#include "engine/mirror/hashes.h"
#include "engine/mirror/preflight.h"
#include "engine/mirror/prepare.h"
#include "engine/mirror/resume.h"
#include "engine/mirror/rsync_engine.h"
#include "engine/mirror/sidecar_merge.h"
#include "engine/mirror/stage.h"
#include "engine/mirror/verify.h"
#include "engine/source/folders.h"
#include "fs/dir.h"
#include "fs/remove.h"

#define JOBS_MAX 64

void mirror_options_default(MirrorOptions *options)
{
    *options = (MirrorOptions){.hard_links = TRUE, .acls = TRUE, .xattrs = TRUE, .max_delete_percent = 50};
}

void mirror_stats_clear(MirrorStats *stats)
{
    g_clear_pointer(&stats->local_path, g_free);
    g_clear_pointer(&stats->destination_id, g_free);
    g_clear_pointer(&stats->plan_hash, g_free);
}

/* Links and special files that exist only in the sidecar, in words. */
static void name_record_only(const FsAbilities *can, GString *lost)
{
    if (!can->symlinks)
        g_string_append(lost, ", symbolic links");
    if (!can->hard_links)
        g_string_append(lost, ", hard links");
    if (!can->fifos)
        g_string_append(lost, ", fifos");
    if (!can->devices && geteuid() == 0)
        g_string_append(lost, ", devices");
}

/* A dry run may not try what the file system can hold, and of FUSE its type says nothing: an earlier run knew. */
static void recall_abilities(MirrorRun *run)
{
    Destination *dest = run->dest;
    if (!run->options->dry_run || !g_str_equal(dest->facts.type, "fuse"))
        return;
    g_autoptr(SidecarReader) reader = sidecar_reader_open(dest, SIDECAR_NAME, NULL);
    if (reader != NULL)
        sidecar_reader_abilities(reader, &dest->abilities);
}

/* What the destination's file system cannot hold is neither compared with what is there nor applied, but goes to the
 * sidecar; that is said once a run. */
static void adapt_to_destination(MirrorRun *run)
{
    const FsAbilities *can = &run->dest->abilities;
    g_autoptr(GString) lost = g_string_new(NULL);
    recall_abilities(run);
    run->wanted = run->filter;
    run->sidecar = sidecar_is_needed(can, &run->wanted);
    run->parts = META_ALL;
    run->granularity_ns = can->mtime_granularity_ns;
    if (!can->owners && geteuid() == 0) {
        run->parts &= ~(MetaParts)META_OWNER;
        g_string_append(lost, ", owners");
    }
    if (!can->modes) {
        run->parts &= ~(MetaParts)META_MODE;
        g_string_append(lost, ", permission bits");
    }
    if (run->filter.xattrs && !can->xattrs) {
        run->filter.xattrs = FALSE;
        g_string_append(lost, ", extended attributes");
    }
    if (run->filter.acls && !can->acls) {
        run->filter.acls = FALSE;
        g_string_append(lost, ", ACLs");
    }
    if (run->sidecar) {
        name_record_only(can, lost);
        g_autofree char *text = g_strdup_printf(
            "the destination's file system (%s) cannot hold %s: they are kept in .backapp/" SIDECAR_NAME,
            run->dest->facts.type, lost->str + 2);
        run_warn(run, "note", NULL, text);
    }
}

static guint choose_jobs(guint wanted)
{
    return wanted > 0 ? MIN(wanted, JOBS_MAX) : CLAMP(g_get_num_processors(), 2, 16);
}

/* Numbers of the plan, for the caller. */
static void fill_planned(MirrorStats *stats, const PlanTotals *totals)
{
    stats->files_total = totals->files_total;
    stats->bytes_total = totals->bytes_total;
    stats->created = totals->created;
    stats->changed = totals->changed;
    stats->metadata_changed = totals->metadata_changed;
    stats->deleted = totals->deleted;
    stats->unchanged = totals->unchanged;
    stats->files_transferred = totals->copy_files;
    stats->bytes_transferred = totals->copy_bytes;
}

/* What really happened. */
static void fill_done(MirrorRun *run, MirrorStats *stats)
{
    stats->files_transferred = atomic_load(&run->files_transferred);
    stats->bytes_transferred = atomic_load(&run->bytes_transferred);
}

static void fill_problems(MirrorRun *run, MirrorStats *stats)
{
    stats->files_skipped = atomic_load(&run->skipped);
    stats->vanished = atomic_load(&run->vanished);
    stats->unreadable = atomic_load(&run->unreadable);
    stats->changed_during_read = atomic_load(&run->changed_during_read);
    stats->partial = atomic_load(&run->partial);
}

/* Frees the space that an earlier or failed run holds, unless it is committed: then the stage has what completes it. Another
 * failure there changes nothing. */
static void empty_stage(MirrorRun *run)
{
    g_autoptr(GError) local = NULL;
    if (faccessat(run->dest->state_fd, "journal", F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
        return;
    if (!remove_tree(run->dest->state_fd, "stage", FALSE, NULL, &local) || !resume_drop_old(run->dest, NULL, &local) ||
        !sidecar_drop_new(run->dest, &local))
        run_warn(run, "note", NULL, local->message);
}

/* Everything is in the stage: makes it durable, writes the journal (the commit point), replays it. */
static gboolean commit_run(MirrorRun *run, Plan *plan, Resume *resume, gint64 now_s, GError **error)
{
    const MirrorOptions *options = run->options;
    gboolean keep = options->keep_versions_days > 0 || options->keep_versions_count > 0;
    g_autofree char *versions = keep ? versions_name(run->dest, now_s) : g_strdup("");
    g_autofree char *run_id = g_uuid_string_random();
    g_autoptr(GPtrArray) unproven = g_ptr_array_new_with_free_func(g_free);
    if (!resume_checkpoint(resume, error) || !resume_close_log(resume, error))
        return FALSE;
    if (run->sidecar_new && !sidecar_mark_unsure(run->dest, run->unstaged, error))
        return FALSE;
    JournalHeader header = {.run_id = run_id,
                            .versions = versions,
                            .sidecar = run->sidecar_new,
                            .stable_inodes = run->dest->abilities.stable_inodes,
                            .filter = run->filter};
    g_autoptr(JournalWriter) writer = journal_writer_new(run->dest->state_fd, &header, error);
    if (writer == NULL || !prepare_journal(run, plan, resume_tree_fd(resume), writer, unproven, error) ||
        !hashes_drop(run->dest, unproven, error) || !cancel_check(run->cancel, error) || !journal_commit(writer, error))
        return FALSE;
    /* Not before: who hears of this stage may count on the new state. */
    run_stage(run, "commit", 0, 0);
    gboolean replayed = FALSE;
    return commit_replay(run->dest, run->sink, run->cancel, &replayed, error);
}

static gboolean stage_and_commit(MirrorRun *run, Plan *plan, const PlanTotals *totals, GError **error)
{
    gint64 now_s = g_get_real_time() / G_USEC_PER_SEC;
    run_stage(run, "rsync", totals->copy_files, totals->copy_bytes);
    g_autoptr(Resume) resume = resume_open(run->dest, &run->filter, run->sink, run->cancel, error);
    g_autoptr(GHashTable) unstaged = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_mutex_init(&run->unstaged_lock);
    run->unstaged = unstaged;
    gboolean good =
        resume != NULL && stage_run(run, plan, resume, error) && commit_run(run, plan, resume, now_s, error);
    run->unstaged = NULL;
    g_mutex_clear(&run->unstaged_lock);
    return good;
}

static gboolean verify_after(MirrorRun *run, MirrorStats *stats, GError **error)
{
    VerifyStats verify = {0};
    const MirrorOptions *options = run->options;
    gboolean good = mirror_verify_destination(run->dest, options->sources, run->jobs, options->rate, run->cancel,
                                              run->sink, &verify, error);
    stats->verified = verify.proven + verify.recorded;
    stats->unproven = verify.unproven;
    stats->damaged = verify.damaged + verify.missing;
    if (good && stats->damaged > 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "verification found %" G_GUINT64_FORMAT " damaged or missing files in %s; each is named in a "
                         "warning; run again with --checksum to copy them anew",
                         stats->damaged, run->dest->path);
    return good;
}

/* A destination that holds everything by now needs none, and what it says would become wrong. */
static gboolean drop_old_sidecar(const MirrorRun *run, GError **error)
{
    return atomic_load(&run->partial) || unlinkat(run->dest->state_fd, SIDECAR_NAME, 0) == 0 || errno == ENOENT ||
           error_set_errno(error, errno, "cannot remove %s/.backapp/" SIDECAR_NAME, run->dest->path);
}

static gboolean finish(MirrorRun *run, MirrorStats *stats, GError **error)
{
    const MirrorOptions *options = run->options;
    gint64 now_s = g_get_real_time() / G_USEC_PER_SEC;
    if ((options->keep_versions_days > 0 || options->keep_versions_count > 0) &&
        !versions_prune(run->dest, options->keep_versions_days, options->keep_versions_count, now_s, run->cancel,
                        error)) {
        g_prefix_error(error, "the mirror is complete, but old versions could not be removed: ");
        return FALSE;
    }
    if (!run->sidecar && !drop_old_sidecar(run, error))
        return FALSE;
    run->dest->known_files = stats->files_total;
    run->dest->known_bytes = stats->bytes_total;
    if (!destination_save_state(run->dest, options->sources, error))
        return FALSE;
    return !options->verify || verify_after(run, stats, error);
}

/* Plan, check, run, verify. The destination is open and locked. */
static gboolean run_phases(MirrorRun *run, MirrorStats *stats, GError **error)
{
    const MirrorOptions *options = run->options;
    PlanTotals totals;
    /* A dry run may not write to the destination. */
    g_autoptr(Plan) plan = plan_new(options->dry_run ? -1 : run->dest->state_fd, error);
    if (plan == NULL)
        return FALSE;
    run_stage(run, "scan", 0, 0);
    gboolean good = compare_plan(run, plan, run->sink->item != NULL, &totals, error);
    fill_planned(stats, &totals);
    if (!good)
        return FALSE;
    stats->plan_hash = plan_hash(plan);
    if (!preflight_check(run, &totals, stats->plan_hash, &stats->refused, error))
        return FALSE;
    if (options->dry_run)
        return TRUE;
    if (plan_is_empty(plan))
        empty_stage(run); /* what an interrupted run left there helps nobody any more */
    else
        good = stage_and_commit(run, plan, &totals, error);
    fill_done(run, stats);
    return good && finish(run, stats, error);
}

/* Completes what an interrupted run left. A dry run only says so. */
static gboolean recover_first(MirrorRun *run, MirrorStats *stats, GError **error)
{
    gboolean interrupted = run->dest->state_fd >= 0 && faccessat(run->dest->state_fd, "journal", F_OK, 0) == 0;
    if (interrupted && !run->options->dry_run)
        run_stage(run, "recover", 0, 0);
    if (!run->options->dry_run)
        return commit_replay(run->dest, run->sink, run->cancel, &stats->recovered, error);
    if (interrupted)
        run_warn(run, "note", NULL,
                 "an interrupted run will be completed first; this plan is for the state before that");
    return TRUE;
}

static void call_then(const MirrorOptions *options)
{
    if (!options->then)
        return;
    /* What a second stage makes is not the mirror's: nobody else's to read. */
    mode_t mask = umask(077);
    options->then(options->then_data);
    umask(mask);
}

static gboolean run_in_destination(MirrorRun *run, MirrorStats *stats, GError **error)
{
    const MirrorOptions *options = run->options;
    DestinationOptions how = {
        .expected_id = options->expected_id, .force = options->force, .dry_run = options->dry_run};
    g_autoptr(Destination) dest = NULL;
    if (!destination_open(options->destination, &how, options->sink, &dest, &stats->refused, error))
        return FALSE;
    run->dest = dest;
    stats->local_path = g_strdup(dest->path);
    stats->destination_id = g_strdup(dest->id);
    adapt_to_destination(run);
    g_autoptr(GError) own = NULL;
    if (recover_first(run, stats, &own) && run_phases(run, stats, &own)) {
        call_then(options);
        return TRUE;
    }
    /* Wherever it was: the plan's temporary file may not fit either when a killed run has filled the disk. */
    if (error_is(own, BACKAPP_ERROR_NO_SPACE) && !options->dry_run)
        empty_stage(run);
    g_propagate_error(error, g_steal_pointer(&own));
    return FALSE;
}

static void close_source(gpointer data)
{
    fd_clear(data);
}

static gboolean run_native(const MirrorOptions *options, MirrorStats *stats, GError **error)
{
    g_autoptr(GArray) source_fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_set_clear_func(source_fds, close_source);
    g_auto(GStrv) folders = source_folders(options->sources, error);
    if (folders == NULL || !destination_check_sources(options->sources, options->destination, source_fds, error))
        return FALSE;
    MirrorRun run = {.options = options,
                     .cancel = options->cancel,
                     .sink = options->sink,
                     .source_fds = source_fds,
                     .folders = folders,
                     .sources = source_fds->len,
                     .jobs = choose_jobs(options->jobs),
                     .filter = {.xattrs = options->xattrs, .acls = options->acls}};
    gboolean good = run_in_destination(&run, stats, error);
    fill_problems(&run, stats);
    return good;
}

gboolean mirror_run(const MirrorOptions *options, MirrorStats *stats, GError **error)
{
    *stats = (MirrorStats){0};
    gint64 start = g_get_monotonic_time();
    /* Staged files are made with their final mode; the stage itself is 0700. */
    mode_t mask = umask(0);
    gboolean remote = rsync_is_remote(options->destination);
    gboolean by_rsync = remote || options->engine == MIRROR_ENGINE_RSYNC;
    gboolean good = by_rsync ? rsync_run(options, stats, error) : run_native(options, stats, error);
    if (good && by_rsync)
        call_then(options);
    umask(mask);
    stats->duration = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    return good;
}

gboolean mirror_hold(const MirrorOptions *options, gboolean *refused, GError **error)
{
    DestinationOptions how = {.expected_id = options->expected_id,
                              .force = options->force,
                              .dry_run = options->dry_run,
                              .existing_only = TRUE};
    gboolean did_something = FALSE;
    g_autoptr(Destination) dest = NULL;
    if (!destination_open(options->destination, &how, options->sink, &dest, refused, error) ||
        (!options->dry_run && !commit_replay(dest, options->sink, options->cancel, &did_something, error)))
        return FALSE;
    call_then(options);
    return TRUE;
}

gboolean mirror_recover(const char *destination, gboolean force, gboolean *refused, RunSink *sink,
                        const CancelFlag *cancel, gboolean *did_something, GError **error)
{
    DestinationOptions how = {.force = force, .existing_only = TRUE};
    g_autoptr(Destination) dest = NULL;
    *did_something = FALSE;
    sink->stage(sink, "recover");
    return destination_open(destination, &how, sink, &dest, refused, error) &&
           commit_replay(dest, sink, cancel, did_something, error);
}
