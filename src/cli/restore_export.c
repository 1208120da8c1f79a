#include "cli/restore_export.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/job_options.h"
#include "cli/terminal.h"
#include "crypto/secret.h"
#include "engine/restore/export.h"
#include "fs/dir.h"
#include "job/engine_common.h"
#include "job/engine_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* How often a terminal is told where the export stands. */
#define PROGRESS_US (G_USEC_PER_SEC / 4)

/* Shows what happens on standard error, from any thread. */
typedef struct {
    RunSink sink; /* first */
    GMutex lock;
    gboolean live;
    gint64 shown; /* when progress was shown last; 0: there is no line of it */
} ErrorSink;

static void show_stage(RunSink *sink, const char *name)
{
}

static void clear_line(ErrorSink *self)
{
    if (self->shown)
        fputs("\r\033[K", stderr);
    self->shown = 0;
}

static void show_progress(RunSink *sink, const RunProgress *progress)
{
    ErrorSink *self = (ErrorSink *)sink;
    gint64 now = g_get_monotonic_time();
    if (!self->live)
        return;
    g_mutex_lock(&self->lock);
    if (now - self->shown >= PROGRESS_US) {
        g_autofree char *files = human_count(progress->files_done), *size = human_size(progress->bytes_done);
        fprintf(stderr, "\r\033[K%s files, %s", files, size);
        self->shown = now;
    }
    g_mutex_unlock(&self->lock);
}

static void show_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    ErrorSink *self = (ErrorSink *)sink;
    g_autofree char *name = path ? human_name(path, -1) : NULL;
    g_autofree char *text = terminal_safe(message);
    g_mutex_lock(&self->lock);
    clear_line(self);
    fprintf(stderr, "%s: %s%s%s\n", strcmp(code, "note") == 0 ? "note" : "warning", name ? name : "", name ? ": " : "",
            text);
    g_mutex_unlock(&self->lock);
}

gboolean restore_export_wanted(const OptionArgs *args)
{
    return options_has(args, OPT_TO_TAR) || options_has(args, OPT_TO_ZIP);
}

static gboolean fits(int id)
{
    static const int ids[] = {OPT_TO_TAR, OPT_TO_ZIP,    OPT_AT,          OPT_NAME,    OPT_PASSPHRASE_FILE,
                              OPT_THAW,   OPT_THAW_TIER, OPT_CONCURRENCY, OPT_NO_ACLS, OPT_NO_XATTRS};
    for (guint i = 0; i < G_N_ELEMENTS(ids); i++)
        if (ids[i] == id)
            return TRUE;
    return id >= OPT_ENDPOINT && id <= OPT_PATH_STYLE;
}

gboolean restore_export_check(const OptionArgs *args, GError **error)
{
    const char *own = options_has(args, OPT_TO_TAR) ? "to-tar" : "to-zip";
    if (options_has(args, OPT_TO_TAR) && options_has(args, OPT_TO_ZIP))
        return error_set(error, BACKAPP_ERROR_INVALID, "--to-tar and --to-zip cannot be combined");
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        if (!fits(def->id))
            return error_set(error, BACKAPP_ERROR_INVALID,
                             "--%s is for a restore to a directory: it cannot be "
                             "combined with --%s",
                             def->name, own);
    }
    const char *file = options_value(args, options_has(args, OPT_TO_TAR) ? OPT_TO_TAR : OPT_TO_ZIP);
    if (!*file)
        return error_set(error, BACKAPP_ERROR_INVALID, "--%s needs a FILE, or - for standard output", own);
    return strcmp(file, "-") != 0 || !isatty(STDOUT_FILENO) ||
           error_set(error, BACKAPP_ERROR_INVALID,
                     "--%s - would write to the terminal: send the output to a program or "
                     "a file",
                     own);
}

/* Opens the store and writes. */
static gboolean export_to(const JobSpec *spec, const OptionArgs *args, int fd, ErrorSink *sink, RestoreStats *stats,
                          GError **error)
{
    const JobRestoreOptions *restore = &spec->options.restore;
    guint8 key[32] = {0};
    gboolean has_key = FALSE;
    g_autoptr(Store) store = engine_open_store(&spec->store, NULL, NULL, error);
    if (!store || !engine_master_key(spec, store, key, &has_key, error))
        return FALSE;
    g_autofree char *directory = engine_store_directory(&spec->store);
    g_autofree const char **paths = engine_borrow_strings(restore->paths);
    const RestoreExportOptions options = {.source = {.store = store,
                                                     .directory = directory,
                                                     .name = spec->options.archive.name,
                                                     .at = restore->at,
                                                     .master_key = has_key ? key : NULL,
                                                     .thaw_days = restore->thaw_days,
                                                     .thaw_tier = restore->thaw_tier},
                                          .paths = paths,
                                          .format = options_has(args, OPT_TO_ZIP) ? RESTORE_ZIP : RESTORE_TAR,
                                          .fd = fd,
                                          .attributes = spec->options.acls || spec->options.xattrs,
                                          .concurrency = restore->concurrency,
                                          .sink = &sink->sink};
    gboolean fine = restore_export(&options, stats, error);
    secret_wipe(key, sizeof key);
    return fine;
}

/* Under another name until it is whole. */
static gboolean export_to_file(const JobSpec *spec, const OptionArgs *args, const char *file, ErrorSink *sink,
                               RestoreStats *stats, GError **error)
{
    if (strcmp(file, "-") == 0)
        return export_to(spec, args, STDOUT_FILENO, sink, stats, error);
    g_autofree char *partial = g_strconcat(file, ".partial", NULL);
    g_auto(AutoFd) fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot make %s", partial);
    gboolean fine = export_to(spec, args, fd, sink, stats, error) && fd_close(&fd, partial, error);
    if (fine && rename(partial, file) < 0)
        fine = error_set_errno(error, errno, "cannot make %s", file);
    if (!fine)
        (void)unlink(partial);
    return fine;
}

static void show_end(const RestoreStats *stats)
{
    g_autofree char *files = human_count(stats->files_restored), *size = human_size(stats->bytes_restored);
    g_autofree char *point = human_name(stats->point, -1);
    fprintf(stderr, "%s %s, %s, from the point %s\n", files, stats->files_restored == 1 ? "file" : "files", size,
            point);
    if (stats->damaged + stats->missing + stats->cold > 0)
        fprintf(stderr,
                "left out: %" G_GUINT64_FORMAT " damaged, %" G_GUINT64_FORMAT " missing, %" G_GUINT64_FORMAT
                " in cold storage\n",
                stats->damaged, stats->missing, stats->cold);
}

int restore_export_run(const JobSpec *spec, const OptionArgs *args)
{
    const char *file = options_value(args, options_has(args, OPT_TO_TAR) ? OPT_TO_TAR : OPT_TO_ZIP);
    ErrorSink sink = {.sink = {.stage = show_stage, .progress = show_progress, .warning = show_warning},
                      .live = terminal_is_live(stderr)};
    g_autoptr(GError) error = NULL;
    RestoreStats stats = {0};
    g_mutex_init(&sink.lock);
    gboolean fine = export_to_file(spec, args, file, &sink, &stats, &error);
    clear_line(&sink);
    g_mutex_clear(&sink.lock);
    if (fine) {
        show_end(&stats);
    } else {
        g_autofree char *message = terminal_safe(error->message);
        fprintf(stderr, "backapp: failed: %s\n", message);
    }
    gboolean partial = stats.partial;
    restore_stats_clear(&stats);
    return job_status_exit_code(!fine ? JOB_FAILED : partial ? JOB_PARTIAL : JOB_COMPLETED);
}
