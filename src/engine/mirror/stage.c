#include "engine/mirror/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/pool.h"
#include "engine/mirror/stage_file.h"
#include "fs/dir.h"

#define BATCH_FILES         64
#define BATCH_BYTES         (4 * 1024 * 1024)
#define WRITE_BACK_BYTES    (G_GUINT64_CONSTANT(192) * 1024 * 1024)
#define CHECKPOINT_BYTES    (G_GUINT64_CONSTANT(4) * 1024 * 1024 * 1024)
#define CHECKPOINT_INTERVAL (30 * G_USEC_PER_SEC)

/* The two open sides of one directory, shared by the batches that work in it. */
typedef struct {
    gatomicrefcount references;
    int src_fd, stage_fd;
    char *path;
} Pair;

/* Some files of one directory, for one thread. */
typedef struct {
    Pair *pair;
    GArray *files;  /* of BatchFile */
    GString *names; /* zero-terminated, one after another */
    guint64 bytes;
} Batch;

typedef struct {
    gsize name;
    FileMeta want;
    guint flags;
    guint32 have_mode;
} BatchFile;

typedef struct {
    MirrorRun *run;
    Resume *resume;
    Pool *pool;
    Pair *pair;   /* of the directory that the plan is in */
    Batch *batch; /* being filled */
    GMutex lock;
    GCond more;        /* more was copied, or all */
    guint64 unwritten; /* bytes since the last writing in the background began; under the lock */
    gboolean copied;   /* under the lock */
    GError *error;     /* the first one of any thread */
    atomic_bool failed;
    guint64 since_checkpoint; /* bytes */
    gint64 checkpoint_time;   /* monotonic, microseconds */
    GHashTable *lost_links;   /* first name of a link group that could not be staged -> name that took its part */
    GHashTable *copied_links; /* first names of link groups that this run copies: the destination's are not theirs */
} Stage;

static void pair_unref(Pair *pair)
{
    if (pair == NULL || !g_atomic_ref_count_dec(&pair->references))
        return;
    fd_clear(&pair->src_fd);
    fd_clear(&pair->stage_fd);
    g_free(pair->path);
    g_free(pair);
}

static void batch_free(Batch *batch)
{
    if (batch == NULL)
        return;
    pair_unref(batch->pair);
    g_array_unref(batch->files);
    g_string_free(batch->names, TRUE);
    g_free(batch);
}

static void fail(Stage *stage, GError *error)
{
    g_mutex_lock(&stage->lock);
    if (stage->error == NULL)
        stage->error = error;
    else
        g_error_free(error);
    g_mutex_unlock(&stage->lock);
    atomic_store(&stage->failed, true);
}

static void copy_batch(gpointer data, gpointer user_data)
{
    Batch *batch = data;
    Stage *stage = user_data;
    g_autoptr(GString) path = g_string_new(batch->pair->path);
    gsize base = path->len;
    for (guint i = 0; i < batch->files->len && !atomic_load(&stage->failed); i++) {
        const BatchFile *file = &g_array_index(batch->files, BatchFile, i);
        const char *name = batch->names->str + file->name;
        GError *error = NULL;
        g_string_truncate(path, base);
        if (base > 0)
            g_string_append_c(path, '/');
        g_string_append(path, name);
        StageItem item = {.src_fd = batch->pair->src_fd,
                          .stage_fd = batch->pair->stage_fd,
                          .name = name,
                          .path = path->str,
                          .want = &file->want,
                          .flags = file->flags,
                          .have_mode = file->have_mode};
        if (!cancel_check(stage->run->cancel, &error) || !stage_item(stage->run, stage->resume, &item, &error))
            fail(stage, error);
    }
    batch_free(batch);
}

/* Has the file system write out what was copied while copying goes on: the sync at the end then finds little to do. An error is
 * one now as well as there: each open file learns of it once, and this is another one than the sync at the end uses. */
static gpointer write_back(gpointer data)
{
    Stage *stage = data;
    g_mutex_lock(&stage->lock);
    while (!stage->copied) {
        if (stage->unwritten < WRITE_BACK_BYTES) {
            g_cond_wait(&stage->more, &stage->lock);
            continue;
        }
        stage->unwritten = 0;
        g_mutex_unlock(&stage->lock);
        GError *error = NULL;
        if (!facts_sync(resume_tree_fd(stage->resume), stage->run->dest->path, &error))
            fail(stage, error);
        g_mutex_lock(&stage->lock);
    }
    g_mutex_unlock(&stage->lock);
    return NULL;
}

static void push_batch(Stage *stage)
{
    if (stage->batch == NULL)
        return;
    stage->since_checkpoint += stage->batch->bytes;
    g_mutex_lock(&stage->lock);
    stage->unwritten += stage->batch->bytes;
    if (stage->unwritten >= WRITE_BACK_BYTES)
        g_cond_signal(&stage->more);
    g_mutex_unlock(&stage->lock);
    pool_push(stage->pool, g_steal_pointer(&stage->batch));
}

/* A long run loses at most this much work to a power failure. */
static gboolean checkpoint_if_due(Stage *stage, GError **error)
{
    gint64 now = g_get_monotonic_time();
    if (stage->since_checkpoint < CHECKPOINT_BYTES && now - stage->checkpoint_time < CHECKPOINT_INTERVAL)
        return TRUE;
    push_batch(stage);
    pool_wait(stage->pool);
    stage->since_checkpoint = 0;
    if (atomic_load(&stage->failed) || !resume_checkpoint(stage->resume, error))
        return atomic_load(&stage->failed);
    stage->checkpoint_time = g_get_monotonic_time();
    return TRUE;
}

/* Opens the directory `path` on both sides, making it in the stage if it is only scaffolding. A source that cannot be
 * opened any more leaves src_fd -1. */
static Pair *open_pair(const Stage *stage, const char *path, GError **error)
{
    MirrorRun *run = stage->run;
    const char *source_path = NULL;
    guint source = run_source_of(run, path, &source_path);
    int tree_fd = resume_tree_fd(stage->resume);
    g_auto(AutoFd) stage_fd = dir_open(tree_fd, path, NULL);
    if (stage_fd < 0) {
        if (!dir_make_path(tree_fd, path, 0700, error))
            return NULL;
        stage_fd = dir_open(tree_fd, path, error);
        if (stage_fd < 0)
            return NULL;
    }
    Pair *pair = g_new0(Pair, 1);
    g_atomic_ref_count_init(&pair->references);
    pair->src_fd = source == G_MAXUINT ? -1 : dir_open(run_source_fd(run, source), source_path, NULL);
    pair->stage_fd = fd_steal(&stage_fd);
    pair->path = g_strdup(path);
    return pair;
}

/* Makes the parent of `path` the current directory; returns the last component, or NULL on error. */
static const char *go_to_parent(Stage *stage, const char *path, GError **error)
{
    const char *slash = strrchr(path, '/');
    gsize length = slash != NULL ? (gsize)(slash - path) : 0;
    if (stage->pair == NULL || strlen(stage->pair->path) != length || memcmp(stage->pair->path, path, length) != 0) {
        push_batch(stage);
        pair_unref(g_steal_pointer(&stage->pair));
        g_autofree char *parent = g_strndup(path, length);
        stage->pair = open_pair(stage, parent, error);
        if (stage->pair == NULL)
            return NULL;
    }
    return slash != NULL ? slash + 1 : path;
}

static gboolean queue_file(Stage *stage, const PlanEntry *entry, GError **error)
{
    const char *name = go_to_parent(stage, entry->path, error);
    if (name == NULL)
        return FALSE;
    if (stage->pair->src_fd < 0) {
        run_warn_vanished(stage->run, entry->path);
        return TRUE;
    }
    if (stage->batch == NULL) {
        stage->batch = g_new0(Batch, 1);
        stage->batch->pair = stage->pair;
        g_atomic_ref_count_inc(&stage->pair->references);
        stage->batch->files = g_array_sized_new(FALSE, FALSE, sizeof(BatchFile), BATCH_FILES);
        stage->batch->names = g_string_sized_new(1024);
    }
    Batch *batch = stage->batch;
    BatchFile file = {
        .name = batch->names->len, .want = entry->want, .flags = entry->flags, .have_mode = entry->have_mode};
    g_string_append_len(batch->names, name, (gssize)strlen(name) + 1);
    g_array_append_val(batch->files, file);
    batch->bytes += entry->bytes;
    if (batch->files->len >= BATCH_FILES || batch->bytes >= BATCH_BYTES)
        push_batch(stage);
    return checkpoint_if_due(stage, error);
}

static gboolean make_directory(Stage *stage, const PlanEntry *entry, GError **error)
{
    const char *name = go_to_parent(stage, entry->path, error);
    if (name == NULL)
        return FALSE;
    if (mkdirat(stage->pair->stage_fd, name, 0700) != 0 && errno != EEXIST)
        return error_set_errno(error, errno, "cannot create the staged directory %s", entry->path);
    return TRUE;
}

/* First pass: directories and data. */
static gboolean copy_all(Stage *stage, Plan *plan, GError **error)
{
    g_autoptr(PlanReader) reader = plan_reader_new(plan);
    PlanEntry entry;
    int got = 0;
    gboolean good = TRUE;
    while (good && !atomic_load(&stage->failed) && (got = plan_reader_next(reader, &entry, error)) > 0) {
        if (entry.op == PLAN_DIR_NEW)
            good = make_directory(stage, &entry, error);
        else if (entry.op == PLAN_FILE)
            good = queue_file(stage, &entry, error);
        if (entry.op == PLAN_FILE && entry.want.nlink > 1 && stage->run->options->hard_links)
            g_hash_table_add(stage->copied_links, g_strdup(entry.path));
    }
    push_batch(stage);
    pool_wait(stage->pool);
    return good && got >= 0;
}

/* copy_all with its writing in the background. A machine without room for another thread does without it. */
static gboolean copy_and_write(Stage *stage, Plan *plan, GError **error)
{
    g_cond_init(&stage->more);
    GThread *writer = g_thread_try_new("write-back", write_back, stage, NULL);
    gboolean good = copy_all(stage, plan, error);
    g_mutex_lock(&stage->lock);
    stage->copied = TRUE;
    g_cond_signal(&stage->more);
    g_mutex_unlock(&stage->lock);
    if (writer != NULL)
        g_thread_join(writer);
    g_cond_clear(&stage->more);
    return good;
}

/* The name whose inode a link shall have: in the stage if it was staged, else in the destination if it stays there as
 * it is. What was to be copied and could not be has only its old content there. -1 if it is nowhere. */
static int open_link_target(const Stage *stage, const char *target, gboolean kept, const char **base)
{
    int parent = dir_open_parent(resume_tree_fd(stage->resume), target, base, NULL);
    if (parent >= 0 && faccessat(parent, *base, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return parent;
    fd_clear(&parent);
    return kept ? dir_open_parent(stage->run->dest->root_fd, target, base, NULL) : -1;
}

/* The first name could not be copied: this one takes its part, and later ones are linked to it. */
static gboolean copy_instead(Stage *stage, const PlanEntry *entry, const char *name, GError **error)
{
    StageItem item = {.src_fd = stage->pair->src_fd,
                      .stage_fd = stage->pair->stage_fd,
                      .name = name,
                      .path = entry->path,
                      .want = &entry->want,
                      .flags = entry->flags};
    g_hash_table_insert(stage->lost_links, g_strdup(entry->target), g_strdup(entry->path));
    return stage_item(stage->run, stage->resume, &item, error);
}

static gboolean make_link(Stage *stage, const PlanEntry *entry, GError **error)
{
    const char *name = go_to_parent(stage, entry->path, error);
    if (name == NULL)
        return FALSE;
    const char *instead = g_hash_table_lookup(stage->lost_links, entry->target);
    const char *target = instead != NULL ? instead : entry->target;
    const char *base = NULL;
    gboolean kept = instead == NULL && !g_hash_table_contains(stage->copied_links, target);
    g_auto(AutoFd) parent = open_link_target(stage, target, kept, &base);
    if (parent >= 0 && linkat(parent, base, stage->pair->stage_fd, name, 0) == 0) {
        run_progress(stage->run, 1, 0, entry->path);
        return TRUE;
    }
    int errnum = parent < 0 ? ENOENT : errno;
    if (errnum == ENOENT || errnum == EMLINK || errnum == EPERM || errnum == EOPNOTSUPP)
        return copy_instead(stage, entry, name, error);
    return error_set_errno(error, errnum, "cannot make the staged link %s", entry->path);
}

static gboolean finish_directory(const Stage *stage, const PlanEntry *entry, GError **error)
{
    Pair *pair = open_pair(stage, entry->path, error);
    if (pair == NULL)
        return FALSE;
    gboolean good = stage_directory_meta(stage->run, pair->src_fd, pair->stage_fd, entry->path, &entry->want, error);
    pair_unref(pair);
    return good;
}

/* Second pass: hard links, then the metadata of directories that are complete now, children before parents. The topmost
 * new directory of a subtree gets its own with the journal: it has to stay writable until it is moved. */
static gboolean finish_all(Stage *stage, Plan *plan, GError **error)
{
    g_autoptr(PlanReader) reader = plan_reader_new(plan);
    PlanEntry entry;
    int got = 0;
    gboolean good = TRUE;
    while (good && (got = plan_reader_next(reader, &entry, error)) > 0) {
        if (entry.op == PLAN_LINK)
            good = make_link(stage, &entry, error);
    }
    g_autoptr(PlanReader) again = plan_reader_new(plan);
    while (good && got >= 0 && (got = plan_reader_next(again, &entry, error)) > 0) {
        if (entry.op == PLAN_DIR_END && (entry.flags & PLAN_IN_NEW) != 0)
            good = cancel_check(stage->run->cancel, error) && finish_directory(stage, &entry, error);
    }
    return good && got >= 0;
}

gboolean stage_run(MirrorRun *run, Plan *plan, Resume *resume, GError **error)
{
    Stage stage = {.run = run, .resume = resume, .checkpoint_time = g_get_monotonic_time()};
    stage.pool = pool_new("copy", run->jobs, run->jobs * 4, copy_batch, &stage, error);
    if (stage.pool == NULL)
        return FALSE;
    g_mutex_init(&stage.lock);
    stage.lost_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    stage.copied_links = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GError) own = NULL;
    gboolean good = copy_and_write(&stage, plan, &own);
    pool_free(stage.pool);
    if (stage.error != NULL) {
        g_clear_error(&own);
        own = g_steal_pointer(&stage.error);
        good = FALSE;
    }
    good = good && finish_all(&stage, plan, &own);
    if (!good)
        g_propagate_error(error, g_steal_pointer(&own));
    pair_unref(stage.pair);
    batch_free(stage.batch);
    g_hash_table_destroy(stage.lost_links);
    g_hash_table_destroy(stage.copied_links);
    g_mutex_clear(&stage.lock);
    return good;
}
