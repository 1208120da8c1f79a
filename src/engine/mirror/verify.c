#include "engine/mirror/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/pool.h"
#include "engine/mirror/plan.h"
#include "engine/mirror/verify_file.h"
#include "engine/source/folders.h"
#include "fs/dir.h"
#include "fs/walk.h"

#define WINDOW   512 /* files being read or waiting to be written down, in order */
#define JOBS_MAX 64

typedef struct {
    VerifyItem item;
    gboolean done; /* under the lock */
} Slot;

/* One verification. The walk's records come in the order of the hash record; files are read by a pool, and their results are taken in order again. */
typedef struct {
    VerifyContext context;
    Destination *dest;
    RunSink *sink;
    VerifyStats *stats;
    HashesReader *reader; /* NULL: no record yet */
    HashesWriter *writer;
    GHashTable *dropped;
    HashRecord old; /* the next one of the reader */
    gboolean has_old;
    GString *path;
    gsize base;
    Pool *pool;
    GQueue slots; /* of Slot, oldest first; only the caller's thread */
    GMutex lock;
    GCond done;
    GError *error;      /* of a pool thread; under the lock */
    guint64 bytes_done; /* under the lock */
} Verify;

static void slot_free(Slot *slot)
{
    g_free(slot->item.path);
    g_free(slot->item.message);
    g_free(slot);
}

static void add_bytes(guint64 bytes, gpointer user_data)
{
    Verify *verify = user_data;
    g_mutex_lock(&verify->lock);
    verify->bytes_done += bytes;
    g_mutex_unlock(&verify->lock);
}

static void prove(gpointer data, gpointer user_data)
{
    Slot *slot = data;
    Verify *verify = user_data;
    GError *error = NULL;
    gboolean good = verify_file(&verify->context, &slot->item, &error);
    g_mutex_lock(&verify->lock);
    if (!good && verify->error == NULL)
        verify->error = g_steal_pointer(&error);
    slot->done = TRUE;
    g_cond_signal(&verify->done);
    g_mutex_unlock(&verify->lock);
    g_clear_error(&error);
}

/* Files of the directory as records; subdirectories as children. */
static gboolean visit(WalkDir *dir, gpointer visit_data, GError **error)
{
    const Verify *verify = visit_data;
    const char *path = walk_dir_path(dir);
    g_auto(DirNames) names = {0};
    g_auto(AutoFd) fd = dir_open(verify->dest->root_fd, path, error);
    if (fd < 0 || !dir_names_read(fd, &names, verify->context.cancel, error))
        return FALSE;
    g_autoptr(GPtrArray) subdirs = g_ptr_array_new();
    for (guint i = 0; i < dir_names_count(&names); i++) {
        const char *name = dir_names_get(&names, i);
        FileMeta meta;
        if ((path[0] == '\0' && g_str_has_prefix(name, DESTINATION_STATE_DIR)) || !meta_read(fd, name, &meta, NULL))
            continue;
        if (S_ISDIR(meta.mode))
            g_ptr_array_add(subdirs, (gpointer)name);
        if (!S_ISREG(meta.mode))
            continue;
        g_autoptr(GByteArray) out = g_byte_array_new();
        meta_encode(&meta, out);
        bytes_put_blob(out, name, strlen(name));
        if (!walk_dir_put(dir, out->data, out->len, error))
            return FALSE;
    }
    for (guint i = 0; i < subdirs->len; i++)
        walk_dir_child(dir, g_ptr_array_index(subdirs, i), 0);
    return TRUE;
}

static gboolean take_oldest(Verify *verify, GError **error);

static gboolean next_old(Verify *verify, GError **error)
{
    verify->has_old = FALSE;
    if (verify->reader == NULL)
        return TRUE;
    int got = hashes_reader_next(verify->reader, &verify->old, error);
    verify->has_old = got > 0;
    return got >= 0;
}

static void warn(Verify *verify, const char *code, const char *path, const char *message)
{
    verify->sink->warning(verify->sink, code, path, message);
}

/* Queues the old record, whose file is not in the mirror, for its turn in the order. */
static void queue_missing(Verify *verify)
{
    Slot *slot = g_new0(Slot, 1);
    slot->item.path = g_strdup(verify->old.path);
    slot->item.meta = (FileMeta){.size = verify->old.size,
                                 .mtime_s = verify->old.mtime_s,
                                 .mtime_ns = verify->old.mtime_ns,
                                 .ino = verify->old.ino};
    memcpy(slot->item.recorded, verify->old.hash, HASH_BYTES);
    slot->item.verdict = VERIFY_MISSING;
    slot->done = TRUE;
    g_queue_push_tail(&verify->slots, slot);
}

/* Records before `path` in the order belong to files that are gone; the one at path is taken. path NULL: all that are left. */
static gboolean skip_old(Verify *verify, const char *path, GError **error)
{
    while (verify->has_old && (path == NULL || hashes_order(verify->old.path, path) < 0)) {
        if (!hashes_is_dropped(verify->dropped, verify->old.path))
            queue_missing(verify);
        if (!next_old(verify, error))
            return FALSE;
        if (g_queue_get_length(&verify->slots) >= WINDOW && !take_oldest(verify, error))
            return FALSE;
    }
    return TRUE;
}

/* TRUE if the old record is about this very file as it is now. */
static gboolean record_counts(const Verify *verify, const char *path, const FileMeta *meta)
{
    const HashRecord *old = &verify->old;
    return old->size == meta->size && old->mtime_s == meta->mtime_s && old->mtime_ns == meta->mtime_ns &&
           (!verify->context.check_inode || old->ino == meta->ino) && !hashes_is_dropped(verify->dropped, path);
}

static gboolean keep_record(Verify *verify, const VerifyItem *item, const guint8 hash[HASH_BYTES], GError **error)
{
    HashRecord record = {.path = item->path,
                         .size = item->meta.size,
                         .mtime_s = item->meta.mtime_s,
                         .mtime_ns = item->meta.mtime_ns,
                         .ino = item->meta.ino};
    memcpy(record.hash, hash, HASH_BYTES);
    return hashes_writer_put(verify->writer, &record, error);
}

static gboolean count_result(Verify *verify, const VerifyItem *item, GError **error)
{
    VerifyStats *stats = verify->stats;
    if (item->verdict != VERIFY_MISSING && item->verdict != VERIFY_GONE) {
        stats->files++;
        stats->bytes += item->meta.size;
    }
    switch (item->verdict) {
    case VERIFY_PROVEN:
        stats->proven++;
        return keep_record(verify, item, item->hash, error);
    case VERIFY_RECORDED:
        stats->recorded++;
        return keep_record(verify, item, item->hash, error);
    case VERIFY_DAMAGED:
        stats->damaged++;
        warn(verify, "damaged", item->path, item->message);
        /* The old record stays, so that the damage is found again until it is repaired. */
        return !item->has_record || keep_record(verify, item, item->recorded, error);
    case VERIFY_UNPROVEN:
        stats->unproven++;
        warn(verify, "unproven", item->path, item->message);
        return TRUE;
    case VERIFY_MISSING:
        stats->missing++;
        warn(verify, "missing", item->path,
             "it was proven before and is gone from the mirror; mirror again to copy it anew");
        /* As long as the source has it (or cannot be asked) it stays missing, also the next time. */
        return verify_is_gone_from_source(&verify->context, item->path) ||
               keep_record(verify, item, item->recorded, error);
    case VERIFY_GONE:
    default:
        return TRUE;
    }
}

/* Takes the oldest file's result, waiting for it. */
static gboolean take_oldest(Verify *verify, GError **error)
{
    Slot *slot = g_queue_pop_head(&verify->slots);
    g_mutex_lock(&verify->lock);
    while (!slot->done)
        g_cond_wait(&verify->done, &verify->lock);
    gboolean good = verify->error == NULL;
    guint64 bytes = verify->bytes_done;
    g_mutex_unlock(&verify->lock);
    if (good) {
        RunProgress progress = {.files_done = verify->stats->files + 1,
                                .files_total = verify->dest->known_files,
                                .bytes_done = bytes,
                                .bytes_total = verify->dest->known_bytes,
                                .current_file = slot->item.path};
        verify->sink->progress(verify->sink, &progress);
        good = count_result(verify, &slot->item, error);
    } else {
        g_mutex_lock(&verify->lock);
        if (error != NULL && *error == NULL)
            *error = g_error_copy(verify->error);
        g_mutex_unlock(&verify->lock);
    }
    slot_free(slot);
    return good;
}

static gboolean handle_file(const guint8 *data, gsize length, gpointer user_data, GError **error)
{
    Verify *verify = user_data;
    BytesReader in = bytes_reader(data, length);
    g_autofree Slot *slot = g_new0(Slot, 1);
    meta_decode(&in, &slot->item.meta);
    g_autofree char *name = bytes_get_string(&in, 65536);
    if (name == NULL)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "verify: a record was damaged on its way through the walk");
    g_string_truncate(verify->path, verify->base);
    if (verify->base > 0)
        g_string_append_c(verify->path, '/');
    g_string_append(verify->path, name);
    if (!skip_old(verify, verify->path->str, error))
        return FALSE;
    if (verify->has_old && hashes_order(verify->old.path, verify->path->str) == 0) {
        slot->item.has_record = record_counts(verify, verify->path->str, &slot->item.meta);
        memcpy(slot->item.recorded, verify->old.hash, HASH_BYTES);
        if (!next_old(verify, error))
            return FALSE;
    }
    slot->item.path = g_strdup(verify->path->str);
    g_queue_push_tail(&verify->slots, slot);
    pool_push(verify->pool, g_steal_pointer(&slot));
    return g_queue_get_length(&verify->slots) < WINDOW || take_oldest(verify, error);
}

static gboolean enter(const char *path, guint tag, gpointer user_data, GError **error)
{
    Verify *verify = user_data;
    g_string_assign(verify->path, path);
    verify->base = verify->path->len;
    return TRUE;
}

static gboolean leave(const char *path, guint tag, gpointer user_data, GError **error)
{
    Verify *verify = user_data;
    const char *slash = strrchr(path, '/');
    g_string_truncate(verify->path, 0);
    g_string_append_len(verify->path, path, slash != NULL ? slash - path : 0);
    verify->base = verify->path->len;
    return TRUE;
}

static gboolean read_all(Verify *verify, guint jobs, GError **error)
{
    WalkFuncs funcs = {.visit = visit,
                       .record = handle_file,
                       .enter = enter,
                       .leave = leave,
                       .visit_data = verify,
                       .user_data = verify};
    gboolean good = next_old(verify, error) &&
                    walk_run(MIN(jobs, 4), 0, verify->dest->state_fd, &funcs, verify->context.cancel, error);
    good = good && skip_old(verify, NULL, error);
    while (good && !g_queue_is_empty(&verify->slots))
        good = take_oldest(verify, error);
    return good && hashes_writer_commit(verify->writer, error);
}

static gboolean run_verify(Verify *verify, guint jobs, GError **error)
{
    g_autoptr(HashesReader) reader = NULL;
    g_autoptr(GHashTable) dropped = hashes_dropped(verify->dest, error);
    g_autoptr(GError) local = NULL;
    if (dropped == NULL)
        return FALSE;
    reader = hashes_reader_open(verify->dest, &local);
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autoptr(HashesWriter) writer = hashes_writer_open(verify->dest, error);
    g_autoptr(GString) path = g_string_new(NULL);
    verify->dropped = dropped;
    verify->reader = reader;
    verify->writer = writer;
    verify->path = path;
    if (writer == NULL)
        return FALSE;
    verify->pool = pool_new("verify", jobs, WINDOW, prove, verify, error);
    if (verify->pool == NULL)
        return FALSE;
    gboolean good = read_all(verify, jobs, error);
    pool_free(verify->pool);
    Slot *slot;
    while ((slot = g_queue_pop_head(&verify->slots)) != NULL)
        slot_free(slot);
    g_clear_error(&verify->error);
    return good;
}

static void close_source(gpointer data)
{
    fd_clear(data);
}

/* Opens the sources that can be opened; a missing one leaves its files unproven, which is said for each. */
static GArray *open_sources(const char *const *sources, RunSink *sink)
{
    GArray *fds = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_set_clear_func(fds, close_source);
    for (guint i = 0; sources != NULL && sources[i] != NULL; i++) {
        int fd = open(sources[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) {
            g_autofree char *text = g_strdup_printf(
                "the source cannot be read now (%s): only files with a record are proven", g_strerror(errno));
            sink->warning(sink, "note", sources[i], text);
        }
        g_array_append_val(fds, fd);
    }
    return fds;
}

static gboolean verify_in(Destination *dest, const char *const *sources, guint jobs, Rate *rate,
                          const CancelFlag *cancel, RunSink *sink, VerifyStats *stats, GError **error)
{
    g_auto(GStrv) remembered = sources == NULL ? destination_load_sources(dest) : NULL;
    const char *const *known = sources != NULL ? sources : (const char *const *)remembered;
    g_autoptr(GArray) source_fds = open_sources(known, sink);
    g_auto(GStrv) folders = known != NULL ? source_folders(known, error) : g_new0(char *, 1);
    if (folders == NULL)
        return FALSE;
    Verify verify = {.dest = dest,
                     .sink = sink,
                     .stats = stats,
                     .slots = G_QUEUE_INIT,
                     .context = {.root_fd = dest->root_fd,
                                 .source_fds = source_fds,
                                 .folders = folders,
                                 .rate = rate,
                                 .cancel = cancel,
                                 .check_inode = dest->abilities.stable_inodes,
                                 .granularity_ns = dest->abilities.mtime_granularity_ns,
                                 .progress = add_bytes}};
    verify.context.user_data = &verify;
    g_mutex_init(&verify.lock);
    g_cond_init(&verify.done);
    sink->stage(sink, "verify");
    if (dest->known_files == 0)
        destination_load_totals(dest);
    guint threads = jobs > 0 ? MIN(jobs, JOBS_MAX) : CLAMP(g_get_num_processors(), 1, 16);
    gboolean good = run_verify(&verify, threads, error);
    g_cond_clear(&verify.done);
    g_mutex_clear(&verify.lock);
    return good;
}

gboolean mirror_verify_destination(Destination *dest, const char *const *sources, guint jobs, Rate *rate,
                                   const CancelFlag *cancel, RunSink *sink, VerifyStats *stats, GError **error)
{
    gint64 start = g_get_monotonic_time();
    *stats = (VerifyStats){0};
    gboolean good = verify_in(dest, sources, jobs, rate, cancel, sink, stats, error);
    stats->duration = (double)(g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    return good;
}

gboolean mirror_verify(const char *destination, const char *const *sources, guint jobs, Rate *rate,
                       const CancelFlag *cancel, RunSink *sink, VerifyStats *stats, GError **error)
{
    /* Nothing is replayed here, so it does not matter whose folder it is. */
    DestinationOptions how = {.existing_only = TRUE, .force = TRUE};
    gboolean refused = FALSE;
    g_autoptr(Destination) dest = NULL;
    *stats = (VerifyStats){0};
    return destination_open(destination, &how, sink, &dest, &refused, error) &&
           mirror_verify_destination(dest, sources, jobs, rate, cancel, sink, stats, error);
}
