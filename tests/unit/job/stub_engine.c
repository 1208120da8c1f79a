/*
 * An engine that does nothing but what the destination's last component asks for, so that the worker can be tested
 * without a file system: it prints the options it was given as warnings with code "option".
 */
#include "base/error.h"
#include "engine/mirror/destination.h"
#include "engine/mirror/mirror.h"
#include "engine/mirror/rsync_engine.h"
#include "engine/mirror/verify.h"
#include "engine/source/folders.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void mirror_options_default(MirrorOptions *options)
{
    *options = (MirrorOptions){.hard_links = TRUE, .acls = TRUE, .xattrs = TRUE, .max_delete_percent = 50};
}

gboolean rsync_is_remote(const char *destination)
{
    return strchr(destination, ':') != NULL;
}

static void tell(RunSink *sink, const char *path, const char *format, ...) G_GNUC_PRINTF(3, 4);

static void tell(RunSink *sink, const char *path, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    g_autofree char *message = g_strdup_vprintf(format, arguments);
    va_end(arguments);
    sink->warning(sink, "option", path, message);
}

static void tell_options(const MirrorOptions *options)
{
    RunSink *sink = options->sink;
    for (guint i = 0; options->sources[i]; i++)
        tell(sink, options->sources[i], "source %u", i);
    tell(sink, options->destination, "destination id=%s", options->expected_id);
    tell(sink, NULL,
         "delete=%d links=%d acls=%d xattrs=%d checksum=%d one=%d caches=%d inplace=%d verify=%d force=%d dry=%d",
         options->delete_extraneous, options->hard_links, options->acls, options->xattrs, options->checksum,
         options->one_file_system, options->exclude_caches, options->inplace, options->verify, options->force,
         options->dry_run);
    tell(sink, NULL, "present=%s larger=%" G_GUINT64_FORMAT " percent=%u days=%u count=%u confirm=%s jobs=%u rsync=%d",
         options->exclude_if_present, options->exclude_larger_than, options->max_delete_percent,
         options->keep_versions_days, options->keep_versions_count, options->confirm, options->jobs,
         options->engine == MIRROR_ENGINE_RSYNC);
    tell(sink, NULL, "ssh=%s,%s,%s,%u password=%s", options->ssh.user, options->ssh.identity_file,
         options->ssh.known_hosts, options->ssh.port, options->rsync_password);
    tell(sink, NULL, "patterns=%d a.o=%d a.c=%d", options->patterns != NULL,
         pattern_list_match(options->patterns, "a.o", FALSE), pattern_list_match(options->patterns, "a.c", FALSE));
}

/* Works until it is cancelled; with a bound, should the test fail. */
static gboolean work(RunSink *sink, Rate *rate, const CancelFlag *cancel, GError **error)
{
    sink->stage(sink, "copy");
    for (guint i = 0; i < 3000; i++) {
        const RunProgress progress = {i, 0, i, 0, "file"};
        sink->progress(sink, &progress);
        if (!cancel_check(cancel, error))
            return FALSE;
        g_usleep(10000);
    }
    return error_set(error, BACKAPP_ERROR_INTERNAL, "nobody cancelled");
}

static gboolean end(const MirrorOptions *options, MirrorStats *stats, GError **error)
{
    const char *how = strrchr(options->destination, '/') + 1;
    if (strcmp(how, "refuse") == 0) {
        stats->refused = TRUE;
        stats->plan_hash = g_strdup("c0ffee");
        return error_set(error, BACKAPP_ERROR_CONFLICT, "too much would be deleted");
    }
    if (strcmp(how, "fail") == 0)
        return error_set(error, BACKAPP_ERROR_NO_SPACE, "the disk is full");
    if (strcmp(how, "work") == 0)
        return work(options->sink, options->rate, options->cancel, error);
    if (strcmp(how, "deaf") == 0) {
        options->sink->stage(options->sink, "copy");
        sleep(20);
    }
    if (strcmp(how, "crash") == 0)
        abort();
    if (strcmp(how, "slow") == 0) {
        options->sink->stage(options->sink, "copy");
        /* Ten seconds at the rate the spec gives; at once when it is lifted. */
        return rate_take(options->rate, 10 * 65536, options->cancel, error);
    }
    stats->partial = strcmp(how, "partial") == 0;
    stats->damaged = strcmp(how, "damaged") == 0;
    return TRUE;
}

gboolean mirror_run(const MirrorOptions *options, MirrorStats *stats, GError **error)
{
    *stats = (MirrorStats){.files_total = 10,
                           .bytes_total = 1000,
                           .files_transferred = 4,
                           .bytes_transferred = 250,
                           .created = 1,
                           .changed = 2,
                           .deleted = 3,
                           .unchanged = 5,
                           .metadata_changed = 1,
                           .files_skipped = 6,
                           .vanished = 7,
                           .unreadable = 8,
                           .changed_during_read = 9,
                           .verified = 11,
                           .duration = 1.5};
    stats->local_path = g_strdup(options->destination);
    stats->destination_id = g_strdup("the-id");
    if (g_str_has_suffix(options->destination, "/tell"))
        tell_options(options);
    /* What the engine's libraries print must not reach the parent. */
    if (g_str_has_suffix(options->destination, "/noise") && write(STDOUT_FILENO, "noise\n", 6) != 6)
        return FALSE;
    if (options->sink->item) {
        const RunItem item = {"create", "file", "name", 5, 0};
        options->sink->item(options->sink, &item);
    }
    return end(options, stats, error);
}

void mirror_stats_clear(MirrorStats *stats)
{
    g_free(stats->local_path);
    g_free(stats->destination_id);
    g_free(stats->plan_hash);
}

gboolean mirror_recover(const char *destination, gboolean force, gboolean *refused, RunSink *sink,
                        const CancelFlag *cancel, gboolean *did_something, GError **error)
{
    *did_something = TRUE;
    return !g_str_has_suffix(destination, "/fail") ||
           error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s is no mirror", destination);
}

gboolean mirror_verify(const char *destination, const char *const *sources, guint jobs, Rate *rate,
                       const CancelFlag *cancel, RunSink *sink, VerifyStats *stats, GError **error)
{
    *stats = (VerifyStats){.files = 5, .bytes = 50, .proven = 2, .recorded = 1, .unproven = 1, .duration = 0.25};
    stats->missing = g_str_has_suffix(destination, "/missing") ? 1 : 0;
    tell(sink, NULL, "jobs=%u sources=%s", jobs, sources ? sources[0] : NULL);
    return TRUE;
}

/* The worker's second stages are not tried with this engine. */
gboolean mirror_hold(const MirrorOptions *options, gboolean *refused, GError **error)
{
    return error_set(error, BACKAPP_ERROR_NOT_FOUND, "there is no mirror in %s", options->destination);
}

char **source_folders(const char *const *sources, GError **error)
{
    return g_strsplit("", " ", 0);
}
