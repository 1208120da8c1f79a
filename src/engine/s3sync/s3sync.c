#include "engine/s3sync/s3sync.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/s3sync/check.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/estimate.h"
#include "engine/s3sync/housekeep.h"
#include "engine/s3sync/items.h"
#include "engine/s3sync/job.h"
#include "engine/s3sync/place.h"
#include "engine/s3sync/record.h"
#include "engine/s3sync/transfer.h"
#include "engine/s3sync/verify.h"
#include "fs/dir.h"
#include "store/drivers.h"
#include "store/lock_object.h"

#define GENERATION_KEY ".backapp/generation"
#define GENERATION_MAX 100
#define REPLANS_MAX    3
#define DAY_S          86400
#define PLAIN_KIND     "plain"
#define KIND_BYTES     8

/* A run beside what its parts share. */
typedef struct {
    S3Run run;
    const S3syncOptions *options;
    S3syncStats *stats;
    S3Keys keys;
    char *prefix, *common, *base_prefix;
    gboolean dated, fresh, unfinished, listed, versioned;
    Store *store;
    Catalogue *catalogue, *base;
    S3Names *names;
    char *generation; /* what the bucket said when the plan was made, or got then */
    S3Plan *plan;
    ScanStats scan;
} Sync;

void s3sync_options_default(S3syncOptions *options)
{
    *options = (S3syncOptions){.trash_days = 30, .max_delete_percent = 50};
}

void s3sync_stats_clear(S3syncStats *stats)
{
    g_clear_pointer(&stats->s3_path, g_free);
    g_clear_pointer(&stats->plan_hash, g_free);
}

static void run_item(gpointer item, gpointer user_data)
{
    S3Work *work = item;
    work->run(work);
}

static void sync_clear(Sync *sync)
{
    S3Run *run = &sync->run;
    workers_free(run->workers);
    buffers_free(run->buffers);
    g_free(run->trash);
    fd_clear(&run->root_fd);
    g_clear_error(&run->error);
    g_mutex_clear(&run->lock);
    g_ptr_array_unref(run->wrong);
    s3plan_free(sync->plan);
    scan_stats_clear(&sync->scan);
    lock_object_release(sync->run.locked);
    catalogue_free(sync->catalogue);
    catalogue_free(sync->base);
    names_free(sync->names);
    store_free(sync->store);
    s3keys_clear(&sync->keys);
    g_free(sync->generation);
    g_free(sync->prefix);
    g_free(sync->common);
    g_free(sync->base_prefix);
}

/* Where it goes, below what prefix (newest: of dated ones the last that was completed), with which keys. */
static gboolean open_place(Sync *sync, gboolean newest, GError **error)
{
    const S3syncOptions *options = sync->options;
    S3Run *run = &sync->run;
    gint64 time = options->time > 0 ? options->time : run->time;
    if (!place_prefix(options, time, &sync->prefix, &sync->common, &sync->dated, error))
        return FALSE;
    if (sync->dated && newest) {
        char *last = place_last(options, sync->common);
        g_free(last != NULL ? sync->prefix : NULL);
        sync->prefix = last != NULL ? last : sync->prefix;
    }
    sync->store = store_prefix_borrow(options->store, sync->prefix);
    sync->stats->s3_path = g_strdup(sync->store->url);
    if (options->master_key != NULL) {
        s3keys_derive(options->master_key, &sync->keys);
        run->content_key = sync->keys.content;
    }
    sync->names = names_new(options->master_key != NULL ? sync->keys.names : NULL);
    run->store = sync->store;
    run->prefix = sync->prefix;
    run->prefix_length = strlen(sync->prefix);
    run->names = sync->names;
    run->buffers = buffers_new();
    run->workers = workers_new(options->concurrency, options->store, run_item, NULL, error);
    return run->workers != NULL;
}

static void sync_init(Sync *sync, const S3syncOptions *options, S3syncStats *stats)
{
    *sync = (Sync){.options = options, .stats = stats};
    sync->run = (S3Run){.options = options,
                        .cancel = options->cancel,
                        .sink = options->sink,
                        .root_fd = -1,
                        .time = g_get_real_time() / G_USEC_PER_SEC};
    g_mutex_init(&sync->run.lock);
    sync->run.wrong = g_ptr_array_new_with_free_func(g_free);
}

/* What the bucket's generation is: "" if it has none. The caller frees. */
static gboolean read_generation(Sync *sync, char **generation, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(GBytes) bytes = store_get_bytes(sync->store, GENERATION_KEY, NULL, GENERATION_MAX, NULL, &local);
    *generation = NULL;
    if (bytes == NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND) && !error_is(local, BACKAPP_ERROR_CORRUPT)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    gsize length = 0;
    const char *text = bytes != NULL ? g_bytes_get_data(bytes, &length) : NULL;
    *generation = text != NULL ? g_strndup(text, length) : g_strdup("");
    return TRUE;
}

/* A number of the catalogue; 0 if there is none. */
static gint64 catalogue_number(Catalogue *catalogue, const char *name)
{
    g_autofree char *text = catalogue_get_value(catalogue, name, NULL);
    return text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
}

/* Whether the catalogue alone says what is in the bucket. */
static gboolean must_list(Sync *sync)
{
    const S3syncOptions *options = sync->options;
    g_autofree char *known = catalogue_get_value(sync->catalogue, "generation", NULL);
    gint64 listed = catalogue_number(sync->catalogue, "listed");
    gint64 age = sync->run.time - listed;
    return options->relist || options->relist_days == 0 || sync->fresh || sync->unfinished || listed == 0 || age < 0 ||
           age >= (gint64)options->relist_days * DAY_S || g_strcmp0(known, sync->generation) != 0;
}

static gboolean make_plan(Sync *sync, GError **error)
{
    const S3syncOptions *options = sync->options;
    g_clear_pointer(&sync->generation, g_free);
    g_clear_pointer(&sync->plan, s3plan_free);
    scan_stats_clear(&sync->scan);
    sync->scan = (ScanStats){0};
    if (!read_generation(sync, &sync->generation, error))
        return FALSE;
    sync->listed = must_list(sync);
    s3run_stage(&sync->run, "scan", 0, 0);
    S3PlanInput input = {.options = options,
                         .store = sync->store,
                         .prefix_length = sync->run.prefix_length,
                         .catalogue = sync->catalogue,
                         .list = sync->listed,
                         .base = sync->base,
                         .base_prefix = sync->base_prefix};
    ScanOptions scan = {.root_fd = sync->run.root_fd,
                        .names = sync->names,
                        .patterns = options->patterns,
                        .one_file_system = options->one_file_system,
                        .exclude_caches = options->exclude_caches,
                        .exclude_if_present = options->exclude_if_present,
                        .exclude_larger_than = options->exclude_larger_than,
                        .is_mirror = options->is_mirror,
                        .metadata = TRUE,
                        .cancel = options->cancel,
                        .sink = options->sink};
    sync->plan = s3plan_make(&input, &scan, &sync->scan, error);
    if (sync->plan == NULL)
        return FALSE;
    g_free(sync->stats->plan_hash);
    sync->stats->plan_hash = s3plan_hash(sync->plan);
    return TRUE;
}

static void fill_planned(Sync *sync)
{
    const S3PlanCounts *counts = s3plan_counts(sync->plan);
    S3syncStats *stats = sync->stats;
    stats->files_total = sync->scan.files;
    stats->bytes_total = sync->scan.bytes;
    stats->files_uploaded = counts->uploads;
    stats->bytes_uploaded = counts->upload_bytes;
    stats->files_copied = counts->copies + counts->touches;
    stats->bytes_saved = counts->copy_bytes;
    stats->files_deleted = counts->deletes;
    stats->files_unchanged = counts->kept;
    stats->created = counts->created;
    stats->changed = counts->changed;
}

static gboolean has_work(const S3PlanCounts *counts)
{
    return counts->uploads + counts->checks + counts->touches + counts->copies + counts->deletes > 0;
}

/* Takes the destination's lock. *stale: somebody has written since the plan was made. */
static gboolean take_lock(Sync *sync, gboolean *stale, GError **error)
{
    *stale = FALSE;
    if (sync->run.locked == NULL)
        sync->run.locked = lock_object_take(sync->store, sync->options->sink, error);
    if (sync->run.locked == NULL)
        return FALSE;
    g_autofree char *now = NULL;
    if (!read_generation(sync, &now, error))
        return FALSE;
    *stale = g_strcmp0(now, sync->generation) != 0;
    return TRUE;
}

/* The plan, and the lock if it has anything to do. Planned again if another machine wrote in between. */
static gboolean plan_and_lock(Sync *sync, GError **error)
{
    gboolean stale = FALSE;
    if (!lock_object_look(sync->store, error))
        return FALSE;
    for (guint i = 0; i < REPLANS_MAX; i++) {
        if (!make_plan(sync, error))
            return FALSE;
        if (sync->options->dry_run || !has_work(s3plan_counts(sync->plan)))
            return TRUE;
        if (!take_lock(sync, &stale, error))
            return FALSE;
        if (!stale)
            return TRUE;
    }
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "other runs write to %s again and again: try again later",
                     sync->store->url);
}

/* Others see by it that the bucket is not what their catalogues say: before the first change, so that a run that is
 * killed is noticed too. */
static gboolean new_generation(Sync *sync, GError **error)
{
    g_autofree char *text = g_uuid_string_random();
    g_auto(StoreResult) result = {0};
    StoreBody body = {.data = text, .length = strlen(text)};
    StorePut how = {.content_type = "text/plain"};
    if (!store_put(sync->store, GENERATION_KEY, &body, &how, &result, error))
        return FALSE;
    g_free(sync->generation);
    sync->generation = g_steal_pointer(&text);
    return TRUE;
}

/* Where replaced and deleted objects go. A bucket with versions keeps them by itself. */
static gboolean choose_trash(Sync *sync, GError **error)
{
    const S3PlanCounts *counts = s3plan_counts(sync->plan);
    S3Run *run = &sync->run;
    if (counts->changed + counts->deletes + counts->checks == 0)
        return TRUE;
    int versioning = 0;
    if (!s3run_versioning(run, &versioning, error))
        return FALSE;
    sync->versioned = versioning == 1;
    if (sync->versioned || sync->options->trash_days == 0)
        return TRUE;
    if (!store_can(sync->store, STORE_COPY)) {
        s3run_note(run, NULL, "this store cannot copy objects, so there is no trash");
        return TRUE;
    }
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(run->time);
    g_autofree char *stamp = g_date_time_format(time, "%Y-%m-%dT%H%M%SZ");
    run->trash = g_strconcat(S3_TRASH_PREFIX, stamp, "/", NULL);
    return TRUE;
}

/* Uploads, copies, deletions. */
static gboolean change_objects(Sync *sync, GError **error)
{
    const S3PlanCounts *counts = s3plan_counts(sync->plan);
    S3Run *run = &sync->run;
    if (!catalogue_begin_run(sync->catalogue, error) || !new_generation(sync, error) || !choose_trash(sync, error))
        return FALSE;
    run->kept = counts->kept;
    s3run_stage(run, "s3-sync", counts->uploads + counts->checks + counts->touches + counts->copies + counts->deletes,
                counts->upload_bytes + counts->copy_bytes);
    return transfer_run(run, sync->plan, error) && s3run_check_refused(run, error) &&
           lock_object_check(sync->run.locked, error) &&
           (counts->deletes == 0 || transfer_delete(run, sync->plan, sync->versioned, error)) &&
           catalogue_flush(sync->catalogue, error);
}

static gboolean is_partial(const Sync *sync)
{
    return atomic_load(&sync->run.partial) || sync->scan.partial;
}

/* The list of files, and with its root the run's commit. *stale: another machine has written meanwhile. */
static gboolean commit(Sync *sync, gboolean *stale, GError **error)
{
    S3Run *run = &sync->run;
    g_autofree char *run_id = g_uuid_string_random();
    TreeRoot root = {.run_id = run_id,
                     .time = run->time,
                     .source = (char *)sync->options->source,
                     .host = (char *)g_get_host_name(),
                     .files = sync->scan.files,
                     .directories = sync->scan.directories,
                     .bytes = sync->scan.bytes,
                     .partial = is_partial(sync),
                     .encrypted = run->content_key != NULL,
                     .encrypted_names = run->content_key != NULL};
    gboolean changed = FALSE;
    *stale = FALSE;
    g_autoptr(TreeWriter) writer = tree_writer_new(sync->store, run->content_key, run->cancel, error);
    if (writer == NULL || !record_tree(run, sync->plan, &sync->scan, writer, error) ||
        !tree_writer_finish(writer, &root, &changed, error))
        return FALSE;
    if (!changed)
        return TRUE;
    if (sync->run.locked == NULL && (!take_lock(sync, stale, error) || *stale))
        return *stale;
    return lock_object_check(sync->run.locked, error) && tree_writer_commit(writer, &root, NULL, error);
}

static gboolean set_number(Catalogue *catalogue, const char *name, gint64 number, GError **error)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, number);
    return catalogue_set_value(catalogue, name, text, error);
}

/* Tells plain and encrypted, and keys, apart; says nothing of the key itself. */
static char *kind_of(const guint8 *content_key)
{
    guint8 hash[HASH_BYTES];
    if (content_key == NULL)
        return g_strdup(PLAIN_KIND);
    digest_sha256(content_key, TINK_KEY_BYTES, hash);
    return digest_hex(hash, KIND_BYTES);
}

/* What the catalogue has to know for the next run. */
static gboolean end_run(Sync *sync, GError **error)
{
    if (sync->listed && !set_number(sync->catalogue, "listed", sync->run.time, error))
        return FALSE;
    if (!catalogue_set_value(sync->catalogue, "generation", sync->generation, error))
        return FALSE;
    g_autofree char *kind = kind_of(sync->run.content_key);
    return catalogue_set_value(sync->catalogue, "kind", kind, error) && catalogue_end_run(sync->catalogue, error);
}

/* What was written here before is plain if this is, or encrypted with the same key. (Without a catalogue the newest
 * root tells.) */
static gboolean check_kind(Sync *sync, GError **error)
{
    g_autofree char *was = catalogue_get_value(sync->catalogue, "kind", NULL);
    g_autofree char *is = kind_of(sync->run.content_key);
    if (was == NULL) /* a new one was filled from the newest root; another knows it after its first complete run */
        return sync->fresh || record_check_kind(sync->store, sync->run.content_key, error);
    return strcmp(was, is) == 0 || record_other_kind(strcmp(was, PLAIN_KIND) != 0, sync->store, error);
}

static gboolean housekeep(Sync *sync, GError **error)
{
    gboolean due = FALSE;
    gboolean stale = FALSE;
    if (!housekeep_due(&sync->run, sync->run.locked != NULL, &due, error))
        return FALSE;
    return !due || (take_lock(sync, &stale, error) && housekeep_run(&sync->run, error));
}

/* Notes for the next sync what is wrong. The catalogue may be another run's just now: then it is not noted. */
static gboolean mark_wrong(Sync *sync)
{
    const S3syncOptions *options = sync->options;
    g_autoptr(GError) local = NULL;
    if (sync->catalogue == NULL && options->state_dir != NULL)
        sync->catalogue = place_catalogue(options->state_dir, options->store, sync->prefix, sync->run.content_key,
                                          &sync->fresh, &sync->unfinished, &local);
    sync->run.catalogue = sync->catalogue;
    if (sync->catalogue != NULL && verify_mark(&sync->run, &local))
        return TRUE;
    s3run_note(&sync->run, NULL, local != NULL ? local->message : "there is no catalogue to note it in");
    return FALSE;
}

static gboolean verify(Sync *sync, gboolean read_back, GError **error)
{
    S3Run *run = &sync->run;
    gboolean whole = verify_objects(run, read_back, error);
    /* What was found counts also if the rest could not be looked at. */
    gboolean marked = run->wrong->len == 0 || mark_wrong(sync);
    guint64 wrong = atomic_load(&run->damaged) + atomic_load(&run->missing);
    if (!whole || wrong == 0)
        return whole;
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "verification found %" G_GUINT64_FORMAT " damaged or missing objects in %s; each is named in a "
                     "warning; %s",
                     wrong, sync->store->url,
                     marked ? "the next sync stores them anew"
                            : "they could not be noted for the next sync: verify again when no other run is at work");
}

/* The plan is made and may be carried out. */
static gboolean carry_out(Sync *sync, GError **error)
{
    gboolean stale = TRUE;
    for (guint i = 0; i < REPLANS_MAX && stale; i++) {
        if (i > 0 && !plan_and_lock(sync, error))
            return FALSE;
        if (has_work(s3plan_counts(sync->plan)) && !change_objects(sync, error))
            return FALSE;
        if (!commit(sync, &stale, error))
            return FALSE;
    }
    if (stale)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "other runs write to %s again and again: try again later",
                         sync->store->url);
    if (!end_run(sync, error) || !housekeep(sync, error))
        return FALSE;
    if (sync->dated) {
        /* Its file goes: it has to be closed. */
        g_clear_pointer(&sync->base, catalogue_free);
        sync->run.base = NULL;
        if (!place_done(sync->options, sync->common, sync->prefix, sync->base_prefix, error))
            return FALSE;
    }
    return !sync->options->verify || verify(sync, sync->options->read_back, error);
}

/* What the plan would take. */
static gboolean estimate(Sync *sync, GError **error)
{
    EstimateHow how = {.store = sync->store,
                       .put_max = store_part_size(sync->store, 0),
                       .trash = sync->options->trash_days > 0,
                       .prices = sync->options->prices};
    Estimate result = {0};
    if (!estimate_plan(sync->plan, &how, &result, error))
        return FALSE;
    sync->stats->cost = result.requests_cost;
    memcpy(sync->stats->counts.requests, result.requests, sizeof result.requests);
    sync->stats->counts.bytes_sent = result.bytes_sent;
    return TRUE;
}

static gboolean run_phases(Sync *sync, GError **error)
{
    const S3syncOptions *options = sync->options;
    S3Run *run = &sync->run;
    sync->catalogue = place_catalogue(options->state_dir, options->store, sync->prefix, run->content_key, &sync->fresh,
                                      &sync->unfinished, error);
    if (sync->catalogue == NULL || (sync->dated && !place_base(options, sync->common, sync->prefix, run->content_key,
                                                               &sync->base_prefix, &sync->base, error)))
        return FALSE;
    if (!check_kind(sync, error))
        return FALSE;
    run->catalogue = sync->catalogue;
    run->base = sync->base;
    run->base_prefix = sync->base_prefix;
    sync->stats->last_listed = catalogue_number(sync->catalogue, "listed");
    if (!plan_and_lock(sync, error))
        return FALSE;
    fill_planned(sync);
    if (sync->listed)
        sync->stats->last_listed = run->time;
    if (!items_show(sync->plan, options->sink, error) ||
        !check_plan(options, s3plan_counts(sync->plan), sync->scan.files, sync->stats->plan_hash, sync->store->url,
                    &sync->stats->refused, error))
        return FALSE;
    return options->dry_run ? estimate(sync, error) : carry_out(sync, error);
}

/* What really happened. */
static void fill_done(Sync *sync)
{
    const S3Run *run = &sync->run;
    S3syncStats *stats = sync->stats;
    if (sync->plan != NULL && !sync->options->dry_run && !stats->refused) {
        stats->files_uploaded = atomic_load(&run->uploaded);
        stats->bytes_uploaded = atomic_load(&run->uploaded_bytes);
        stats->files_copied = atomic_load(&run->copied);
        stats->files_deleted = atomic_load(&run->deleted);
        stats->files_unchanged = s3plan_counts(sync->plan)->kept + atomic_load(&run->unchanged);
        stats->bytes_saved = atomic_load(&run->saved_bytes);
    }
    stats->vanished = atomic_load(&run->vanished) + sync->scan.vanished;
    stats->unreadable = atomic_load(&run->unreadable) + sync->scan.unreadable;
    stats->files_skipped = atomic_load(&run->skipped) + sync->scan.skipped;
    stats->changed_during_read = atomic_load(&run->changed_during_read);
    stats->verified = atomic_load(&run->verified);
    stats->damaged = atomic_load(&run->damaged);
    stats->missing = atomic_load(&run->missing);
    stats->partial = is_partial(sync);
    if (sync->options->dry_run && stats->plan_hash != NULL)
        return; /* the plan's numbers stand */
    store_counts(sync->options->store, &stats->counts);
    stats->cost = estimate_requests_cost(stats->counts.requests, sync->options->prices);
}

gboolean s3sync_run(const S3syncOptions *options, S3syncStats *stats, GError **error)
{
    gint64 start = g_get_monotonic_time();
    Sync sync;
    *stats = (S3syncStats){0};
    sync_init(&sync, options, stats);
    sync.run.root_fd = open(options->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    gboolean good =
        sync.run.root_fd >= 0 || error_set_errno(error, errno, "cannot open the source %s", options->source);
    good = good && open_place(&sync, FALSE, error) && run_phases(&sync, error);
    if (sync.catalogue != NULL && !good)
        (void)catalogue_flush(sync.catalogue, NULL); /* what was stored is known to the next run; else it looks */
    g_clear_pointer(&sync.run.locked, lock_object_release);
    fill_done(&sync);
    stats->duration = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    sync_clear(&sync);
    return good;
}

gboolean s3sync_verify(const S3syncOptions *options, S3syncStats *stats, GError **error)
{
    gint64 start = g_get_monotonic_time();
    Sync sync;
    *stats = (S3syncStats){0};
    sync_init(&sync, options, stats);
    gboolean good = open_place(&sync, options->time == 0, error);
    good = good && verify(&sync, options->read_back, error);
    fill_done(&sync);
    stats->duration = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    sync_clear(&sync);
    return good;
}
