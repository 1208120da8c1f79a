#include "engine/drill/drill.h"

#include "base/error.h"
#include "base/human.h"
#include "engine/drill/recorded.h"
#include "engine/drill/sample.h"
#include "engine/restore/selection.h"
#include "engine/source/folders.h"
#include "fs/dir.h"
#include "fs/io.h"
#include "fs/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FAILURES_KEPT 100
#define BLOCK         (256 * 1024)
/* The listing says where it is every so many entries. */
#define TELL_EVERY 1000
/* In the sandbox: one at a time. */
#define FILE_NAME "file"

typedef struct {
    const DrillOptions *options;
    DrillStats *stats;
    RestoreSource *source;
    GHashTable *recorded; /* of a mirror: path -> hash; NULL for what has hashes in its entries */
    char *sandbox;        /* path */
    int sandbox_fd;
    char **folders; /* of options->sources */
    GArray *roots;  /* of int, likewise; -1: it is not there */
    RunProgress progress;
    guint8 *left, *right; /* BLOCK each */
} Drill;

void drill_options_default(DrillOptions *options)
{
    *options = (DrillOptions){.files = DRILL_FILES_DEFAULT, .max_bytes = DRILL_BYTES_DEFAULT};
}

static void free_failure(gpointer data)
{
    DrillFailure *failure = data;
    g_free(failure->path);
    g_free(failure->why);
    g_free(failure);
}

void drill_stats_clear(DrillStats *stats)
{
    g_free(stats->point);
    g_free(stats->archive);
    g_clear_pointer(&stats->failures, g_ptr_array_unref);
    *stats = (DrillStats){0};
}

static void close_roots(Drill *drill)
{
    for (guint i = 0; drill->roots && i < drill->roots->len; i++)
        fd_clear(&g_array_index(drill->roots, int, i));
    g_clear_pointer(&drill->roots, g_array_unref);
    g_clear_pointer(&drill->folders, g_strfreev);
}

static gboolean open_roots(Drill *drill, GError **error)
{
    const char *const *sources = drill->options->sources;
    if (!sources || !sources[0])
        return TRUE;
    drill->folders = source_folders(sources, error);
    if (!drill->folders)
        return FALSE;
    drill->roots = g_array_new(FALSE, FALSE, sizeof(int));
    for (guint i = 0; sources[i]; i++) {
        int fd = open(sources[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        g_array_append_val(drill->roots, fd);
        if (fd >= 0)
            continue;
        g_autofree char *shown = human_name(sources[i], -1);
        return error_set_errno(error, errno, "cannot open the source %s", shown);
    }
    return TRUE;
}

/* The source that a path of the point comes from, and the path in it. -1: none of those that were given. */
static int find_root(const Drill *drill, const char *path, const char **below)
{
    for (guint i = 0; drill->roots && i < drill->roots->len; i++) {
        const char *folder = drill->folders[i];
        gsize length = strlen(folder);
        *below = length > 0 ? path + length + 1 : path;
        if (length == 0 || (strncmp(path, folder, length) == 0 && path[length] == '/'))
            return g_array_index(drill->roots, int, i);
    }
    return -1;
}

static void note_failure(Drill *drill, const char *code, const char *path, const char *why)
{
    DrillStats *stats = drill->stats;
    RunSink *sink = drill->options->sink;
    sink->warning(sink, code, path, why);
    if (stats->failures->len == FAILURES_KEPT)
        return;
    DrillFailure *failure = g_new(DrillFailure, 1);
    *failure = (DrillFailure){g_strdup(path), g_strdup(why)};
    g_ptr_array_add(stats->failures, failure);
}

static void failed(Drill *drill, const char *code, const char *path, const char *why)
{
    drill->stats->failed++;
    note_failure(drill, code, path, why);
}

static void unproven(Drill *drill, const char *code, const char *path, const char *why)
{
    drill->stats->unproven++;
    drill->stats->partial = TRUE;
    note_failure(drill, code, path, why);
}

/* TRUE in *equal if two open files hold the same `size` bytes. */
static gboolean same_content(Drill *drill, int left, int right, guint64 size, gboolean *equal, GError **error)
{
    *equal = TRUE;
    for (guint64 at = 0; *equal && at < size; at += BLOCK) {
        gsize wanted = (gsize)MIN(size - at, BLOCK);
        gssize a = io_read_at(left, drill->left, wanted, at), b = io_read_at(right, drill->right, wanted, at);
        if (a < 0 || b < 0)
            return error_set_errno(error, errno, "cannot be read");
        if (!cancel_check(drill->options->cancel, error))
            return FALSE;
        *equal = a == b && (gsize)a == wanted && memcmp(drill->left, drill->right, wanted) == 0;
    }
    return TRUE;
}

static gboolean is_as_recorded(const struct stat *st, const FileMeta *meta)
{
    return S_ISREG(st->st_mode) && (guint64)st->st_size == meta->size && st->st_mtim.tv_sec == meta->mtime_s &&
           st->st_mtim.tv_nsec == meta->mtime_ns;
}

/* Compares with the source: 1 equal, 0 another content, -1 it cannot tell (it is gone, changed, or cannot be read). */
static int compare_source(Drill *drill, const S3Entry *entry, int fd)
{
    const char *below = NULL, *base = NULL;
    struct stat st;
    int root = restore_path_is_inside(entry->path) ? find_root(drill, entry->path, &below) : -1;
    if (root < 0)
        return -1;
    g_auto(AutoFd) parent = dir_open_parent(root, below, &base, NULL);
    g_auto(AutoFd) file = parent < 0 ? -1 : openat(parent, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    gboolean equal = FALSE;
    if (file < 0 || fstat(file, &st) < 0 || !is_as_recorded(&st, &entry->meta) ||
        !same_content(drill, file, fd, entry->meta.size, &equal, NULL))
        return -1;
    /* One that was written to meanwhile proves nothing. */
    if (!equal && (fstat(file, &st) < 0 || !is_as_recorded(&st, &entry->meta)))
        return -1;
    return equal;
}

static gboolean hash_file(Drill *drill, int fd, guint64 size, guint8 hash[HASH_BYTES], GError **error)
{
    g_autoptr(Hash) context = hash_new();
    for (guint64 at = 0; at < size; at += BLOCK) {
        gsize wanted = (gsize)MIN(size - at, BLOCK);
        if (!cancel_check(drill->options->cancel, error))
            return FALSE;
        if (io_read_at(fd, drill->left, wanted, at) != (gssize)wanted)
            return error_set_errno(error, errno, "cannot read what was restored in %s", drill->sandbox);
        hash_update(context, drill->left, wanted);
    }
    hash_finish(context, hash);
    return TRUE;
}

/* Compares with the recorded hash. *known: there is one. */
static gboolean compare_hash(Drill *drill, const S3Entry *entry, int fd, gboolean *known, gboolean *equal,
                             GError **error)
{
    guint8 hash[HASH_BYTES];
    if (!drill->recorded) {
        *known = restore_source_knows(drill->source, entry);
        return !*known || restore_source_matches(drill->source, entry, fd, drill->options->cancel, equal, error);
    }
    const guint8 *wanted = g_hash_table_lookup(drill->recorded, entry->path);
    *known = wanted != NULL;
    if (!wanted)
        return TRUE;
    if (!hash_file(drill, fd, entry->meta.size, hash, error))
        return FALSE;
    *equal = memcmp(hash, wanted, HASH_BYTES) == 0;
    return TRUE;
}

/* Proves what was restored. FALSE ends the drill. */
static gboolean prove(Drill *drill, const S3Entry *entry, int fd, GError **error)
{
    struct stat st;
    gboolean equal = FALSE, known = FALSE;
    if (fstat(fd, &st) < 0)
        return error_set_errno(error, errno, "cannot look at what was restored in %s", drill->sandbox);
    if ((guint64)st.st_size != entry->meta.size) {
        failed(drill, "damaged", entry->path, "what was restored has another size than was recorded");
        return TRUE;
    }
    if (!compare_hash(drill, entry, fd, &known, &equal, error))
        return FALSE;
    if (known && !equal) {
        failed(drill, "damaged", entry->path, "what was restored has another hash than was recorded");
        return TRUE;
    }
    int source = compare_source(drill, entry, fd);
    if (source == 0)
        failed(drill, "damaged", entry->path,
               "what was restored differs from its source, which has the recorded size and time");
    else if (!known && source < 0)
        unproven(drill, "unproven", entry->path, "no hash was recorded, and there is no unchanged source");
    else
        drill->stats->proven++;
    drill->stats->compared += source > 0;
    return TRUE;
}

static const char *code_of(const GError *why)
{
    if (error_is(why, BACKAPP_ERROR_NOT_FOUND))
        return "missing";
    return error_is(why, BACKAPP_ERROR_CORRUPT) ? "damaged" : "unreadable";
}

/* What the fetch of one file failed of: it concerns the file, or all. */
static gboolean fetch_failed(Drill *drill, const char *path, gboolean cold, GError *why, GError **error)
{
    g_autoptr(GError) own = why;
    if (error_is(own, BACKAPP_ERROR_CANCELLED) || error_is(own, BACKAPP_ERROR_NO_SPACE)) {
        g_propagate_error(error, g_steal_pointer(&own));
        return FALSE;
    }
    if (cold)
        unproven(drill, "cold", path, own->message);
    else
        failed(drill, code_of(own), path, own->message);
    return TRUE;
}

static gboolean drill_file(Drill *drill, const RestoreEntry *entry, GError **error)
{
    const S3Entry *of = &entry->entry;
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) fd = openat(drill->sandbox_fd, FILE_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return error_set_errno(error, errno, "cannot make a file in %s", drill->sandbox);
    RestoreFetch fetch = {.fd = fd};
    drill->stats->files++;
    drill->stats->bytes += of->meta.size;
    gboolean good = restore_source_fetch(drill->source, entry, &fetch, &local)
                        ? prove(drill, of, fd, error)
                        : fetch_failed(drill, of->path, fetch.cold, g_steal_pointer(&local), error);
    if (unlinkat(drill->sandbox_fd, FILE_NAME, 0) < 0 && good)
        return error_set_errno(error, errno, "cannot remove a file from %s", drill->sandbox);
    drill->progress.files_done++;
    drill->progress.bytes_done += of->meta.size;
    drill->progress.current_file = of->path;
    drill->options->sink->progress(drill->options->sink, &drill->progress);
    return good;
}

/* The pass over the entries. */
typedef struct {
    Drill *drill;
    Sample *sample;
    guint64 seen;
} Pass;

static gboolean look_at(const RestoreEntry *entry, gboolean parent, gpointer user_data, GError **error)
{
    Pass *pass = user_data;
    RunSink *sink = pass->drill->options->sink;
    if (!parent)
        sample_offer(pass->sample, entry);
    if (++pass->seen % TELL_EVERY == 0) {
        const RunProgress progress = {.files_done = pass->seen};
        sink->progress(sink, &progress);
    }
    return TRUE;
}

static gboolean choose(Drill *drill, Sample *sample, GError **error)
{
    const DrillOptions *options = drill->options;
    Pass pass = {.drill = drill, .sample = sample};
    g_autoptr(Selection) selection = selection_new(options->paths);
    options->sink->stage(options->sink, "list");
    gboolean good = selection_each(selection, drill->source, options->cancel, look_at, &pass, error);
    sample_totals(sample, &drill->stats->files_total, &drill->stats->bytes_total);
    return good;
}

static gboolean nothing_to_prove(const Drill *drill, GError **error)
{
    g_autofree char *most = human_size(drill->options->max_bytes);
    if (drill->stats->files_total == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "nothing is proven: the point %s holds no regular file there",
                         drill->stats->point);
    return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                     "nothing is proven: no file of the point %s is as small as %s; allow more", drill->stats->point,
                     most);
}

static gboolean restore_sample(Drill *drill, const GPtrArray *chosen, GError **error)
{
    RunSink *sink = drill->options->sink;
    gint64 began = g_get_monotonic_time();
    gboolean good = TRUE;
    drill->progress.files_total = chosen->len;
    for (guint i = 0; i < chosen->len; i++)
        drill->progress.bytes_total += ((const RestoreEntry *)g_ptr_array_index(chosen, i))->entry.meta.size;
    sink->stage(sink, "drill");
    for (guint i = 0; good && i < chosen->len; i++)
        good = cancel_check(drill->options->cancel, error) && drill_file(drill, g_ptr_array_index(chosen, i), error);
    drill->stats->duration = (double)(g_get_monotonic_time() - began) / G_USEC_PER_SEC;
    return good;
}

/* A mirror's entries have none. */
static gboolean look_up_hashes(Drill *drill, const GPtrArray *chosen, GError **error)
{
    if (drill->source->kind != RESTORE_FROM_MIRROR)
        return TRUE;
    drill->recorded = recorded_find(drill->options->source.directory, chosen, error);
    return drill->recorded != NULL;
}

static gboolean run_sample(Drill *drill, GError **error)
{
    DrillStats *stats = drill->stats;
    g_autoptr(Sample) sample = sample_new(drill->options->files, drill->options->max_bytes, stats->seed);
    if (!choose(drill, sample, error))
        return FALSE;
    g_autoptr(GPtrArray) chosen = sample_take(sample, error);
    if (!chosen || (chosen->len == 0 && !nothing_to_prove(drill, error)) || !look_up_hashes(drill, chosen, error) ||
        !restore_sample(drill, chosen, error))
        return FALSE;
    return stats->failed == 0 || error_set(error, BACKAPP_ERROR_CORRUPT,
                                           "the drill failed: %" G_GUINT64_FORMAT " of %" G_GUINT64_FORMAT
                                           " files could not be restored as they were",
                                           stats->failed, stats->files);
}

/* A directory of its own, for nobody else. */
static gboolean make_sandbox(Drill *drill, GError **error)
{
    const char *tmp = drill->options->tmp ? drill->options->tmp : g_get_tmp_dir();
    drill->sandbox = g_build_filename(tmp, "backapp-drill-XXXXXX", NULL);
    if (!g_mkdtemp_full(drill->sandbox, 0700)) {
        int why = errno;
        g_clear_pointer(&drill->sandbox, g_free);
        return error_set_errno(error, why, "cannot make a directory for the drill in %s (TMPDIR says where)", tmp);
    }
    drill->sandbox_fd = open(drill->sandbox, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return drill->sandbox_fd >= 0 || error_set_errno(error, errno, "cannot open %s", drill->sandbox);
}

/* Even if it was cancelled. What cannot be removed is said, and is no failure of the restore. */
static void remove_sandbox(Drill *drill)
{
    RunSink *sink = drill->options->sink;
    g_autoptr(GError) error = NULL;
    if (!drill->sandbox)
        return;
    gboolean good = drill->sandbox_fd < 0 || remove_tree(drill->sandbox_fd, FILE_NAME, FALSE, NULL, &error);
    if (good && rmdir(drill->sandbox) < 0)
        good = error_set_errno(&error, errno, "cannot remove %s", drill->sandbox);
    if (!good)
        sink->warning(sink, "note", NULL, error->message);
    fd_clear(&drill->sandbox_fd);
    g_free(drill->sandbox);
}

gboolean drill_run(const DrillOptions *options, DrillStats *stats, GError **error)
{
    Drill drill = {.options = options, .stats = stats, .sandbox_fd = -1};
    RestoreSourceOptions where = options->source;
    where.sink = options->sink;
    where.cancel = options->cancel;
    *stats = (DrillStats){.seed = options->seed ? options->seed : MAX(g_random_int(), 1)};
    stats->failures = g_ptr_array_new_with_free_func(free_failure);
    g_autoptr(RestoreSource) source = restore_source_open(&where, error);
    if (!source)
        return FALSE;
    drill.source = source;
    stats->kind = source->kind;
    stats->point = g_strdup(source->point.name);
    stats->archive = g_strdup(source->point.archive);
    stats->point_time = source->point.time;
    g_autofree guint8 *blocks = g_malloc(2 * BLOCK);
    drill.left = blocks;
    drill.right = blocks + BLOCK;
    gboolean good = open_roots(&drill, error) && make_sandbox(&drill, error) && run_sample(&drill, error);
    remove_sandbox(&drill);
    close_roots(&drill);
    g_clear_pointer(&drill.recorded, g_hash_table_unref);
    return good;
}
