#include "engine/restore/restore.h"

#include "base/error.h"
#include "base/human.h"
#include "base/pool.h"
#include "engine/restore/existing.h"
#include "engine/restore/place.h"
#include "engine/restore/plan.h"
#include "fs/dir.h"
#include "fs/facts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEFAULT_CONCURRENCY 16
#define QUEUE               64
/* Fewer are deleted without being asked. */
#define DELETES_UNASKED 100
/* Left free on the target beside the files' contents. */
#define SPACE_RESERVE (G_GUINT64_CONSTANT(16) * 1024 * 1024)

void restore_options_default(RestoreOptions *options)
{
    *options = (RestoreOptions){.acls = TRUE, .xattrs = TRUE, .max_delete_percent = 50};
}

void restore_stats_clear(RestoreStats *stats)
{
    g_clear_pointer(&stats->point, g_free);
}

/* A file on its way to a thread of the pool: the item's bytes. */
static void run_task(gpointer data, gpointer user_data)
{
    g_autoptr(GByteArray) bytes = data;
    RestoreRun *run = user_data;
    GError *error = NULL;
    g_autoptr(GByteArray) arena = g_byte_array_new();
    RestoreItem item;
    if (restore_goes_on(run) &&
        (!restore_item_decode(bytes->data, bytes->len, arena, &item, &error) || !place_file(run, &item, &error)))
        restore_fail(run, error);
}

static void push_task(Pool *pool, const RestoreItem *item)
{
    GByteArray *bytes = g_byte_array_new();
    restore_item_encode(item, bytes);
    pool_push(pool, bytes);
}

typedef gboolean (*ItemFunc)(RestoreRun *run, const RestoreItem *item, gpointer user_data, GError **error);

/* One pass over the plan. */
static gboolean each_item(RestoreRun *run, RestorePlan *plan, ItemFunc func, gpointer user_data, GError **error)
{
    g_autoptr(RestorePlanReader) reader = restore_plan_read(plan);
    RestoreItem item;
    int more = 0;
    while (restore_goes_on(run) && (more = restore_plan_next(reader, &item, error)) > 0)
        if (!func(run, &item, user_data, error))
            return FALSE;
    return more >= 0;
}

/* First pass: folders, and all that has its own content or none. */
static gboolean first_pass(RestoreRun *run, const RestoreItem *item, gpointer user_data, GError **error)
{
    switch (item->op) {
    case RESTORE_DIR:
    case RESTORE_PARENT:
        return place_dir(run, item, error);
    case RESTORE_FILE:
        push_task(user_data, item);
        return TRUE;
    case RESTORE_OTHER:
        return place_other(run, item, error);
    case RESTORE_META:
        return place_metadata(run, item, error);
    case RESTORE_LINK:
    case RESTORE_DELETE:
        break;
    }
    return TRUE;
}

/* Second pass: what needs the first to be over. */
static gboolean second_pass(RestoreRun *run, const RestoreItem *item, gpointer user_data, GError **error)
{
    if (item->op == RESTORE_LINK)
        return place_link(run, item, error);
    return item->op != RESTORE_DELETE || place_delete(run, item, error);
}

/* Third pass: metadata of folders, when nothing in them changes any more: each one after all below it. */
typedef struct {
    GByteArray *bytes;
    char *path;
} OpenFolder;

static void clear_open_folder(gpointer data)
{
    OpenFolder *folder = data;
    g_byte_array_unref(folder->bytes);
    g_free(folder->path);
}

static gboolean close_folders(RestoreRun *run, GArray *folders, const char *next, GError **error)
{
    while (folders->len > 0) {
        const OpenFolder *last = &g_array_index(folders, OpenFolder, folders->len - 1);
        gsize length = strlen(last->path);
        if (next && (length == 0 || (strncmp(next, last->path, length) == 0 && next[length] == '/')))
            return TRUE;
        g_autoptr(GByteArray) arena = g_byte_array_new();
        RestoreItem item = {.op = RESTORE_DIR, .exists = TRUE};
        BytesReader in = bytes_reader(last->bytes->data, last->bytes->len);
        if (!entry_decode(&in, "", arena, &item.entry, error) || !place_dir_metadata(run, &item, error))
            return FALSE;
        g_array_set_size(folders, folders->len - 1);
    }
    return TRUE;
}

static gboolean third_pass(RestoreRun *run, const RestoreItem *item, gpointer user_data, GError **error)
{
    GArray *folders = user_data;
    gboolean made_parent = item->op == RESTORE_PARENT && !item->exists;
    if (item->op != RESTORE_DIR && !made_parent)
        return TRUE;
    if (!close_folders(run, folders, item->entry.path, error))
        return FALSE;
    OpenFolder folder = {g_byte_array_new(), g_strdup(item->entry.path)};
    entry_encode(&item->entry, "", folder.bytes);
    g_array_append_val(folders, folder);
    return TRUE;
}

static gboolean finish_folders(RestoreRun *run, RestorePlan *plan, GError **error)
{
    g_autoptr(GArray) folders = g_array_new(FALSE, TRUE, sizeof(OpenFolder));
    g_array_set_clear_func(folders, clear_open_folder);
    return each_item(run, plan, third_pass, folders, error) && close_folders(run, folders, NULL, error);
}

static gboolean fetch_all(RestoreRun *run, RestorePlan *plan, GError **error)
{
    guint threads = run->options->concurrency > 0 ? run->options->concurrency : DEFAULT_CONCURRENCY;
    g_autoptr(Pool) pool = pool_new("restore", threads, QUEUE, run_task, run, error);
    if (!pool)
        return FALSE;
    gboolean fine = each_item(run, plan, first_pass, pool, error);
    pool_wait(pool);
    return fine;
}

static gboolean carry_out(RestoreRun *run, RestorePlan *plan, const RestoreTotals *totals, GError **error)
{
    restore_stage(run, "restore", totals->place_files, totals->fetch_bytes);
    return fetch_all(run, plan, error) && restore_result(run, error) &&
           each_item(run, plan, second_pass, NULL, error) && restore_result(run, error) &&
           finish_folders(run, plan, error) && restore_result(run, error) &&
           facts_sync(run->root_fd, run->options->target, error);
}

static gboolean check_space(RestoreRun *run, const RestoreTotals *totals, GError **error)
{
    FsFacts facts;
    if (run->root_fd < 0 || !facts_read(run->root_fd, &facts, NULL))
        return TRUE;
    if (facts.read_only)
        return error_set(error, BACKAPP_ERROR_DENIED, "%s is on a file system that is mounted read-only",
                         run->options->target);
    if (run->options->force || totals->fetch_bytes == 0 || totals->fetch_bytes + SPACE_RESERVE <= facts.free_bytes)
        return TRUE;
    g_autofree char *need = human_size(totals->fetch_bytes), *have = human_size(facts.free_bytes);
    return error_set(
        error, BACKAPP_ERROR_NO_SPACE,
        "cannot restore to %s: no space left (need %s, have %s); with --force it begins all the same, as it may "
        "if the files have large holes",
        run->options->target, need, have);
}

static gboolean check_deletes(RestoreRun *run, const RestoreTotals *totals, RestoreStats *stats, GError **error)
{
    const RestoreOptions *options = run->options;
    guint64 limit = totals->present * options->max_delete_percent / 100;
    if (options->force || totals->deletes < DELETES_UNASKED || totals->deletes <= limit)
        return TRUE;
    stats->refused = TRUE;
    return error_set(error, BACKAPP_ERROR_CONFLICT,
                     "%" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                     " entries in %s would be deleted, more than %u%% (--max-delete); if that is meant, run again with "
                     "--force",
                     totals->deletes, totals->present, options->target, options->max_delete_percent);
}

/* The target, made if its parent is there; in a dry run it may be missing. */
static gboolean open_target(const RestoreOptions *options, int *root_fd, GError **error)
{
    struct stat st;
    *root_fd = -1;
    if (stat(options->target, &st) == 0 && !S_ISDIR(st.st_mode))
        return error_set(error, BACKAPP_ERROR_CONFLICT, "%s is not a directory", options->target);
    if (!options->dry_run && mkdir(options->target, 0700) < 0 && errno != EEXIST)
        return error_set_errno(error, errno, "cannot make %s", options->target);
    *root_fd = open(options->target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*root_fd < 0 && !(options->dry_run && errno == ENOENT))
        return error_set_errno(error, errno, "cannot open %s", options->target);
    return TRUE;
}

static void fill_stats(RestoreRun *run, const RestoreTotals *totals, RestoreStats *stats)
{
    stats->files_total = totals->files_total;
    stats->bytes_total = totals->bytes_total;
    gboolean dry = run->options->dry_run;
    stats->files_restored = dry ? totals->place_files : atomic_load(&run->restored);
    stats->bytes_restored = dry ? totals->fetch_bytes : atomic_load(&run->restored_bytes);
    stats->files_deleted = dry ? totals->delete_items : atomic_load(&run->deleted);
    stats->files_unchanged = atomic_load(&run->unchanged);
    stats->files_skipped = atomic_load(&run->skipped);
    stats->files_renamed = atomic_load(&run->renamed);
    stats->damaged = atomic_load(&run->damaged);
    stats->missing = atomic_load(&run->missing);
    stats->cold = atomic_load(&run->cold);
    stats->partial = atomic_load(&run->partial);
}

/* Plan, check, run. */
static gboolean run_phases(RestoreRun *run, RestoreStats *stats, GError **error)
{
    RestoreTotals totals = {0};
    restore_stage(run, "scan", 0, 0);
    g_autoptr(RestorePlan) plan = restore_plan_make(run, &totals, error);
    gboolean fine = plan && check_deletes(run, &totals, stats, error) && check_space(run, &totals, error) &&
                    (run->options->dry_run || carry_out(run, plan, &totals, error));
    fill_stats(run, &totals, stats);
    return fine;
}

static char *aside_suffix(void)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    return g_date_time_format(now, ".before-restore-%Y%m%dT%H%M%SZ");
}

/* What is open while a restore runs, set up and let go. */
static void begin(RestoreRun *run)
{
    run->aside = aside_suffix();
    run->proven = existing_proven_new();
    run->granularity_ns = place_time_granularity(run);
    g_mutex_init(&run->lock);
}

static void end(RestoreRun *run)
{
    g_clear_error(&run->error);
    g_mutex_clear(&run->lock);
    g_hash_table_unref(run->proven);
    g_free(run->aside);
}

static gboolean restore_to(const RestoreOptions *options, RestoreStats *stats, GError **error)
{
    RestoreSourceOptions from = options->source;
    from.cancel = options->cancel;
    from.sink = options->sink;
    g_autoptr(RestoreSource) source = restore_source_open(&from, error);
    if (!source)
        return FALSE;
    RestoreRun run = {.options = options,
                      .source = source,
                      .began_us = g_get_real_time(),
                      .root_fd = -1,
                      .filter = {.xattrs = options->xattrs, .acls = options->acls}};
    stats->point = g_strdup(source->point.name);
    stats->point_time = source->point.time;
    g_auto(AutoFd) root_fd = -1;
    if (!open_target(options, &root_fd, error))
        return FALSE;
    run.root_fd = root_fd;
    begin(&run);
    if (source->point.partial)
        restore_note(&run, NULL, "some files could not be read when this point was made: they are not in it");
    gboolean fine = run_phases(&run, stats, error);
    end(&run);
    return fine;
}

gboolean restore_run(const RestoreOptions *options, RestoreStats *stats, GError **error)
{
    *stats = (RestoreStats){0};
    gint64 start = g_get_monotonic_time();
    mode_t mask = umask(0);
    gboolean fine = restore_to(options, stats, error);
    umask(mask);
    stats->duration = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    return fine;
}
