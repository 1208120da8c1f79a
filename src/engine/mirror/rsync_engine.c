#include "engine/mirror/rsync_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "engine/mirror/destination.h"
#include "engine/mirror/lock.h"
#include "engine/mirror/rsync_args.h"
#include "engine/mirror/rsync_exit.h"
#include "engine/mirror/rsync_output.h"
#include "engine/mirror/rsync_process.h"
#include "engine/source/folders.h"
#include "fs/dir.h"

#define VERSION_MIN      30100
#define DELETE_FILES_MIN 100

typedef enum {
    PASS_COUNT, /* a dry run before a real one, to see what would be deleted: tells nobody */
    PASS_RUN,   /* what was asked for */
    PASS_PROOF  /* afterwards: compares content */
} PassKind;

/* What the passes of one run share. */
typedef struct {
    const MirrorOptions *options;
    MirrorStats *stats;
    RsyncPlace place;
    char *program;
    guint version;
    char **folders;
    guint64 expected_bytes; /* that will travel; 0: not known */
} Engine;

/* One pass. */
typedef struct {
    const Engine *engine;
    PassKind kind;
    MirrorStats stats;
    guint64 entries, directories;         /* of the sources' list */
    guint64 created_files, deleted_files; /* directories not among them */
    guint64 transferred_bytes, literal_bytes;
    RunProgress progress;
    char *current;
    RsyncTail *tail; /* the last messages, for an error */
} Pass;

static void engine_clear(Engine *engine)
{
    g_free(engine->program);
    g_strfreev(engine->folders);
}

static void pass_clear(Pass *pass)
{
    g_free(pass->current);
    rsync_tail_free(pass->tail);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Engine, engine_clear)
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Pass, pass_clear)
typedef char **Environment;
static void environment_clear(Environment *environment)
{
    rsync_args_free_environment(*environment);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Environment, environment_clear)

static void warn(const Engine *engine, const char *code, const char *path, const char *message)
{
    RunSink *sink = engine->options->sink;
    sink->warning(sink, code, path, message);
}

static void tell_progress(Pass *pass)
{
    RunSink *sink = pass->engine->options->sink;
    pass->progress.current_file = pass->current;
    sink->progress(sink, &pass->progress);
}

static void count_item(Pass *pass, const RsyncLine *line)
{
    MirrorStats *stats = &pass->stats;
    if (line->deleted) {
        stats->deleted++;
        pass->deleted_files += line->is_directory ? 0 : 1;
    } else if (line->created) {
        stats->created++;
        pass->created_files += line->is_directory ? 0 : 1;
    } else {
        stats->changed++;
        stats->metadata_changed += line->metadata_only ? 1 : 0;
    }
}

/* An item of the comparison after a run: the file's content is not what the source's is. */
static void count_unproven(Pass *pass, const RsyncLine *line)
{
    if (line->deleted || line->metadata_only || line->is_directory)
        return;
    if (line->same_size_and_time) {
        pass->stats.damaged++;
        warn(pass->engine, "damaged", line->path, "the copy differs from the source, at the same size and time");
    } else {
        pass->stats.unproven++;
        pass->stats.changed_during_read++;
        warn(pass->engine, "changed", line->path, "the source was changed after it was copied");
    }
}

static void take_item(Pass *pass, const RsyncLine *line)
{
    RunSink *sink = pass->engine->options->sink;
    if (pass->kind == PASS_PROOF) {
        count_unproven(pass, line);
        return;
    }
    count_item(pass, line);
    if (pass->kind == PASS_COUNT)
        return;
    if (sink->item)
        sink->item(sink, &line->item);
    if (!line->deleted) {
        g_free(pass->current);
        pass->current = g_strdup(line->path);
    }
}

static void take_progress(Pass *pass, const RsyncLine *line)
{
    pass->progress.bytes_done = line->bytes;
    pass->progress.bytes_total = MAX(pass->engine->expected_bytes, line->bytes);
    if (pass->engine->expected_bytes == 0)
        pass->progress.bytes_total = 0;
    pass->progress.files_total = line->files_total;
    pass->progress.files_done = line->files_total > 0 ? line->files_total - line->files_left : 0;
    tell_progress(pass);
}

static void take_stat(Pass *pass, const RsyncLine *line)
{
    switch (line->stat) {
    case RSYNC_STAT_FILES:
        pass->entries = line->value;
        pass->directories = MIN(line->directories, line->value);
        pass->stats.files_total = line->value - pass->directories;
        break;
    case RSYNC_STAT_TRANSFERRED_FILES:
        pass->stats.files_transferred = line->value;
        break;
    case RSYNC_STAT_TOTAL_BYTES:
        pass->stats.bytes_total = line->value;
        break;
    case RSYNC_STAT_TRANSFERRED_BYTES:
        pass->transferred_bytes = line->value;
        break;
    case RSYNC_STAT_LITERAL_BYTES:
        pass->literal_bytes = line->value;
        break;
    }
}

/* rsync names files by their whole path; ours are relative to the destination. */
static const char *relative_path(const Engine *engine, const char *path)
{
    for (guint i = 0; engine->options->sources[i]; i++) {
        const char *source = engine->options->sources[i];
        gsize length = strlen(source);
        while (length > 0 && source[length - 1] == '/')
            length--;
        if (strncmp(path, source, length) != 0 || path[length] != '/')
            continue;
        gsize folder = strlen(engine->folders[i]);
        const char *below = path + length + strspn(path + length, "/");
        /* The folder of one of several sources is the source's own last component. */
        return folder == 0 ? below : path + length - folder;
    }
    return path;
}

static void take_message(Pass *pass, const RsyncLine *line)
{
    const char *path = line->path ? relative_path(pass->engine, line->path) : NULL;
    pass->stats.vanished += g_str_equal(line->code, "vanished") ? 1 : 0;
    pass->stats.unreadable += g_str_equal(line->code, "unreadable") ? 1 : 0;
    pass->stats.files_skipped += g_str_equal(line->code, "skipped") || g_str_equal(line->code, "unreadable") ? 1 : 0;
    pass->stats.changed_during_read += g_str_equal(line->code, "changed") ? 1 : 0;
    if (pass->kind == PASS_RUN)
        warn(pass->engine, line->code, path, line->message);
}

static void take_line(gpointer data, const char *text, gboolean is_error)
{
    Pass *pass = data;
    g_auto(RsyncLine) line = {0};
    if (is_error)
        rsync_output_read_error(text, &line);
    else
        rsync_output_read(text, &line);
    switch (line.kind) {
    case RSYNC_LINE_NOTHING:
        break;
    case RSYNC_LINE_ITEM:
        take_item(pass, &line);
        break;
    case RSYNC_LINE_PROGRESS:
        take_progress(pass, &line);
        break;
    case RSYNC_LINE_STAT:
        take_stat(pass, &line);
        break;
    case RSYNC_LINE_MESSAGE:
        if (is_error)
            rsync_tail_add(pass->tail, line.message);
        take_message(pass, &line);
        break;
    case RSYNC_LINE_END:
        rsync_tail_end(pass->tail, line.message);
        break;
    }
}

/* Runs rsync once. FALSE with what its end means; a partial transfer is none of that. */
static gboolean run_pass(Engine *engine, PassKind kind, Pass *pass, GError **error)
{
    const MirrorOptions *options = engine->options;
    pass->engine = engine;
    pass->kind = kind;
    pass->tail = rsync_tail_new();
    RsyncPass how = {.program = engine->program,
                     .version = engine->version,
                     .folders = (const char *const *)engine->folders,
                     .dry_run = options->dry_run || kind != PASS_RUN,
                     .delete_extraneous = options->delete_extraneous && kind != PASS_PROOF,
                     .checksum = options->checksum || kind == PASS_PROOF};
    g_auto(GStrv) argv = rsync_args_build(options, &how, error);
    if (!argv)
        return FALSE;
    g_auto(Environment) environment = rsync_args_environment(options);
    int status = 0;
    if (!cancel_check(options->cancel, error) ||
        !rsync_process_run(argv, environment, take_line, pass, options->cancel, &status, error))
        return FALSE;
    pass->stats.unchanged = pass->entries - MIN(pass->entries, pass->stats.created + pass->stats.changed);
    if (!rsync_exit_check(status, pass->tail, options->destination, &pass->stats.partial, error))
        return cancel_is_set(options->cancel) ? (g_clear_error(error), cancel_check(options->cancel, error)) : FALSE;
    return TRUE;
}

static void take_version(gpointer data, const char *line, gboolean is_error)
{
    Engine *engine = data;
    guint major = 0;
    guint minor = 0;
    guint patch = 0;
    if (!is_error && engine->version == 0 && rsync_output_version(line, &major, &minor, &patch))
        engine->version = major * 10000 + MIN(minor, 99) * 100 + MIN(patch, 99);
}

static gboolean find_program(Engine *engine, GError **error)
{
    engine->program = g_find_program_in_path("rsync");
    if (!engine->program)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the rsync program was not found in PATH: install it (the package is called rsync)");
    char *argv[] = {engine->program, (char *)"--version", NULL};
    g_auto(Environment) environment = rsync_args_environment(engine->options);
    int status = 0;
    if (!rsync_process_run(argv, environment, take_version, engine, engine->options->cancel, &status, error) ||
        !cancel_check(engine->options->cancel, error))
        return FALSE;
    if (engine->version < VERSION_MIN)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "%s is not rsync 3.1 or newer: install a newer one (the package is called rsync)",
                         engine->program);
    return TRUE;
}

/* rsync leaves out our own files without a word. */
static void warn_own_names(const Engine *engine, int source_fd)
{
    g_auto(DirNames) names = {0};
    if (!dir_names_read(source_fd, &names, NULL, NULL))
        return; /* rsync will say why */
    for (guint i = 0; i < dir_names_count(&names); i++)
        if (g_str_has_prefix(dir_names_get(&names, i), DESTINATION_STATE_DIR))
            warn(engine, "note", dir_names_get(&names, i),
                 "names that begin with .backapp at a source's root are BackApp's own and are left out");
}

static void close_source(gpointer data)
{
    fd_clear(data);
}

static gboolean check_sources(Engine *engine, GError **error)
{
    const MirrorOptions *options = engine->options;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_set_clear_func(fds, close_source);
    engine->folders = source_folders(options->sources, error);
    const char *destination = engine->place == RSYNC_LOCAL ? options->destination : NULL;
    if (!engine->folders || !destination_check_sources(options->sources, destination, fds, error))
        return FALSE;
    if (fds->len == 1)
        warn_own_names(engine, g_array_index(fds, int, 0));
    return TRUE;
}

/* A local destination may be a mirror of the native engine: its unfinished runs and its lock count here too. */
static gboolean open_local(Engine *engine, Lock **lock, GError **error)
{
    const MirrorOptions *options = engine->options;
    g_autofree char *shown = human_name(options->destination, -1);
    engine->stats->local_path = g_canonicalize_filename(options->destination, NULL);
    warn(engine, "note", NULL,
         "with the rsync engine there is no transaction, no marker of the drive and no kept version: a run that is "
         "interrupted leaves a mixture of old and new");
    g_auto(AutoFd) fd = open(options->destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) {
        g_autofree char *parent = g_path_get_dirname(engine->stats->local_path);
        return access(parent, F_OK) == 0 ||
               error_set_errno(error, errno, "cannot make the destination %s in its parent directory", shown);
    }
    if (fd < 0 && errno == ENOTDIR)
        return error_set(error, BACKAPP_ERROR_INVALID, "the destination %s is not a directory", shown);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot open the destination %s", shown);
    g_auto(AutoFd) state = openat(fd, DESTINATION_STATE_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (state < 0 || options->dry_run)
        return TRUE;
    FsFacts facts;
    if (!facts_read(fd, &facts, error))
        return FALSE;
    *lock = lock_take(state, facts.type, shown, options->sink, error);
    if (!*lock)
        return FALSE;
    if (faccessat(state, "journal", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "an interrupted run in %s has to be completed first: backapp mirror --recover DEST", shown);
    return TRUE;
}

static gboolean deletes_too_much(const Pass *pass, guint percent, guint64 *all)
{
    guint64 kept = pass->stats.files_total - MIN(pass->stats.files_total, pass->created_files);
    *all = kept + pass->deleted_files;
    if (pass->deleted_files == 0)
        return FALSE;
    if (pass->stats.files_total == 0)
        return TRUE; /* an emptied source, whatever the numbers */
    return pass->deleted_files >= DELETE_FILES_MIN &&
           pass->deleted_files > *all / 100 * percent + *all % 100 * percent / 100;
}

static gboolean check_deletions(Engine *engine, const Pass *pass, GError **error)
{
    const MirrorOptions *options = engine->options;
    guint64 all = 0;
    if (options->force || !options->delete_extraneous || !deletes_too_much(pass, options->max_delete_percent, &all))
        return TRUE;
    g_autofree char *shown = human_name(options->destination, -1);
    g_autofree char *deleted = human_count(pass->deleted_files);
    g_autofree char *of = human_count(all);
    engine->stats->refused = TRUE;
    return error_set(error, BACKAPP_ERROR_CONFLICT,
                     "%s of %s files in %s would be deleted (%s): is the source complete? Look at the plan with "
                     "--dry-run; to do it all the same: --force",
                     deleted, of, shown,
                     pass->stats.files_total == 0 ? "the source is empty" : "more than --max-delete allows");
}

/* The numbers of a pass, for the caller. */
static void fill_stats(const Pass *pass, MirrorStats *stats)
{
    MirrorStats whole = pass->stats;
    whole.bytes_transferred = pass->engine->options->dry_run ? pass->transferred_bytes : pass->literal_bytes;
    whole.local_path = stats->local_path;
    whole.refused = stats->refused;
    *stats = whole;
}

static gboolean count_first(Engine *engine, GError **error)
{
    const MirrorOptions *options = engine->options;
    g_auto(Pass) pass = {0};
    options->sink->stage(options->sink, "scan");
    if (!run_pass(engine, PASS_COUNT, &pass, error))
        return FALSE;
    engine->expected_bytes = pass.transferred_bytes;
    if (check_deletions(engine, &pass, error))
        return TRUE;
    fill_stats(&pass, engine->stats);
    engine->stats->files_transferred = engine->stats->bytes_transferred = 0;
    return FALSE;
}

/* Compares all content with the sources, by rsync's own checksums. */
static gboolean prove(Engine *engine, GError **error)
{
    const MirrorOptions *options = engine->options;
    g_auto(Pass) pass = {0};
    options->sink->stage(options->sink, "verify");
    if (!run_pass(engine, PASS_PROOF, &pass, error)) {
        g_prefix_error(error, "the copy is made, but could not be verified: ");
        return FALSE;
    }
    MirrorStats *stats = engine->stats;
    stats->damaged = pass.stats.damaged;
    stats->unproven = pass.stats.unproven;
    stats->verified = stats->files_total - MIN(stats->files_total, stats->damaged + stats->unproven);
    stats->changed_during_read += pass.stats.changed_during_read;
    stats->partial = stats->partial || pass.stats.partial || pass.stats.unproven > 0;
    if (stats->damaged == 0)
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CORRUPT,
                     "verification found %" G_GUINT64_FORMAT
                     " files that differ from the source; each is named in a warning; run again with --checksum to "
                     "copy them anew",
                     stats->damaged);
}

/* What rsync has written stands on the disk when the run is reported as complete. */
static gboolean make_durable(const char *destination, GError **error)
{
    g_auto(AutoFd) fd = open(destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0)
        return error_set_errno(error, errno, "cannot write the destination's data to the disk");
    return TRUE;
}

static gboolean copy(Engine *engine, GError **error)
{
    const MirrorOptions *options = engine->options;
    if (options->delete_extraneous && !options->force && !options->dry_run && !count_first(engine, error))
        return FALSE;
    options->sink->stage(options->sink, options->dry_run ? "scan" : "rsync");
    g_auto(Pass) pass = {0};
    gboolean good = run_pass(engine, PASS_RUN, &pass, error);
    fill_stats(&pass, engine->stats);
    if (!good)
        return FALSE;
    if (options->dry_run)
        return check_deletions(engine, &pass, error);
    if (engine->place == RSYNC_LOCAL && !make_durable(options->destination, error))
        return FALSE;
    return !options->verify || prove(engine, error);
}

gboolean rsync_run(const MirrorOptions *options, MirrorStats *stats, GError **error)
{
    g_auto(Engine) engine = {.options = options, .stats = stats, .place = rsync_args_place(options->destination)};
    if (!rsync_args_check(options, error) || !find_program(&engine, error) || !check_sources(&engine, error))
        return FALSE;
    if (engine.place != RSYNC_LOCAL) {
        stats->local_path = g_strdup(options->destination);
        return copy(&engine, error);
    }
    Lock *lock = NULL;
    gboolean good = open_local(&engine, &lock, error) && copy(&engine, error);
    lock_release(lock);
    return good;
}
