#include <string.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/s3sync/copy.h"
#include "engine/s3sync/mtime.h"
#include "engine/s3sync/source.h"
#include "engine/s3sync/upload.h"
#include "fs/dir.h"

#define CHANGED_TWICE "it changed while it was read, twice; the copy may mix old and new content"

typedef enum { PART_TODO, PART_SAME, PART_DONE } PartState;

typedef struct {
    guint8 hash[HASH_BYTES];
    char *etag;
    char *found; /* ETag of the part that an unfinished upload has; NULL: none */
    PartState state;
} Part;

/* A file on its way, part by part. The last worker that ends a part goes on with the next step. */
typedef struct {
    S3Job *job;
    S3Run *run;
    int fd;
    gboolean again; /* this is the second attempt */
    guint64 size, part_size;
    guint count;
    Part *parts;
    CatalogueRow *old; /* the object that is there: equal parts are copied from it; NULL: none */
    atomic_uint left;
    atomic_bool stopped;
    atomic_uint_fast64_t sent, saved;
    GMutex lock; /* for what follows */
    char *upload;
    gboolean shorter, rewritten;
    int errnum; /* of the source */
    GError *error;
} Large;

typedef struct {
    S3Work work;
    Large *large;
    guint index;
} PartTask;

static void large_free(Large *large)
{
    for (guint i = 0; i < large->count; i++) {
        g_free(large->parts[i].etag);
        g_free(large->parts[i].found);
    }
    g_free(large->parts);
    catalogue_row_free(large->old);
    s3job_free(large->job);
    fd_clear(&large->fd);
    g_mutex_clear(&large->lock);
    g_clear_error(&large->error);
    g_free(large->upload);
    g_free(large);
}

/* Ends it with the error (taken), or as done. An upload that was begun stays for the next run to go on with. */
static void end(Large *large, GError *error)
{
    S3Job *job = large->job;
    if (error != NULL)
        s3job_failed(job, error);
    else
        s3run_progress(large->run, 1, 0, job->path);
    large_free(large);
}

static void stop_with(Large *large, GError *error)
{
    g_mutex_lock(&large->lock);
    if (large->error == NULL)
        large->error = g_steal_pointer(&error);
    g_mutex_unlock(&large->lock);
    g_clear_error(&error);
    atomic_store(&large->stopped, true);
}

static guint64 part_length(const Large *large, guint index)
{
    return MIN(large->part_size, large->size - (guint64)index * large->part_size);
}

/* Forgets the unfinished upload, here and in the store. */
static gboolean drop_upload(Large *large, GError **error)
{
    if (large->upload == NULL)
        return TRUE;
    gboolean good = store_abort(large->run->store, large->job->key, large->upload, error) &&
                    catalogue_remove_upload(large->run->catalogue, large->upload, error);
    g_clear_pointer(&large->upload, g_free);
    return good;
}

static gboolean begin(Large *large, GError **error)
{
    S3Run *run = large->run;
    S3Job *job = large->job;
    char mtime[MTIME_TEXT_BYTES];
    StorePut how = s3job_put(job, mtime);
    large->upload = store_begin(run->store, job->key, &how, error);
    if (large->upload == NULL)
        return FALSE;
    CatalogueUpload upload = {.key = job->key,
                              .id = large->upload,
                              .size = job->meta.size,
                              .part_size = large->part_size,
                              .mtime_s = job->meta.mtime_s,
                              .mtime_ns = job->meta.mtime_ns,
                              .ctime_s = job->meta.ctime_s,
                              .ctime_ns = job->meta.ctime_ns,
                              .ino = job->meta.ino,
                              .started = g_get_real_time() / G_USEC_PER_SEC};
    return catalogue_put_upload(run->catalogue, &upload, error);
}

/* Not before something has to be sent: a file that only has a new time needs no upload. */
static gboolean ensure_begun(Large *large, GError **error)
{
    g_mutex_lock(&large->lock);
    gboolean good = large->upload != NULL || begin(large, error);
    g_mutex_unlock(&large->lock);
    return good;
}

/* A part's ETag is its MD5 where the store is as most are; else nothing can be said, and it is sent again. */
static gboolean is_md5_of(const char *etag, const guint8 *data, gsize length)
{
    guint8 want[HASH_MD5_BYTES];
    guint8 have[HASH_BYTES];
    if (strlen(etag) != 2 * sizeof want || !digest_parse_hex(etag, want, sizeof want))
        return FALSE;
    g_autoptr(Hash) md5 = hash_new_md5(NULL);
    if (md5 == NULL)
        return FALSE;
    hash_update(md5, data, length);
    hash_finish(md5, have);
    return memcmp(want, have, sizeof want) == 0;
}

/* The same bytes lie at the same place of the object that is there. */
static gboolean is_unchanged(const Large *large, guint index)
{
    const CatalogueRow *old = large->old;
    guint64 offset = (guint64)index * large->part_size;
    return old != NULL && index < old->parts_count &&
           MIN(large->part_size, old->size - offset) == part_length(large, index) &&
           memcmp(old->parts + (gsize)index * HASH_BYTES, large->parts[index].hash, HASH_BYTES) == 0;
}

static void note_source(Large *large, int errnum)
{
    g_mutex_lock(&large->lock);
    if (errnum == 0)
        large->shorter = TRUE;
    else
        large->errnum = errnum;
    g_mutex_unlock(&large->lock);
    atomic_store(&large->stopped, true);
}

static gboolean send_body(Large *large, guint index, const StoreBody *body, GError **error)
{
    if (!ensure_begun(large, error) || !store_part(large->run->store, large->job->key, large->upload, index + 1, body,
                                                   &large->parts[index].etag, error))
        return FALSE;
    large->parts[index].state = PART_DONE;
    atomic_fetch_add(&large->sent, body->length);
    s3run_progress(large->run, 0, body->length, large->job->path);
    workers_note(large->run->workers, body->length);
    return TRUE;
}

/* What one part needs, once its bytes are hashed. data is NULL if they are too many for a buffer. */
static gboolean handle_part(Large *large, guint index, const guint8 *data, GError **error)
{
    Part *part = &large->parts[index];
    guint64 length = part_length(large, index);
    if (part->found != NULL && data != NULL && is_md5_of(part->found, data, (gsize)length)) {
        part->etag = g_steal_pointer(&part->found);
        part->state = PART_DONE;
        s3run_progress(large->run, 0, length, large->job->path);
        return TRUE;
    }
    if (is_unchanged(large, index)) {
        part->state = PART_SAME;
        return TRUE;
    }
    SourceRange range = {.fd = large->fd, .offset = (guint64)index * large->part_size, .length = length};
    StoreBody body = {.data = data, .length = length, .sha256 = part->hash};
    if (data == NULL)
        body = source_body(&range, part->hash);
    return send_body(large, index, &body, error);
}

static void read_part(Large *large, guint index)
{
    Part *part = &large->parts[index];
    guint64 length = part_length(large, index);
    guint64 offset = (guint64)index * large->part_size;
    gboolean whole = length <= BUFFERS_LARGE_BYTES;
    guint8 *buffer = whole ? buffers_take(large->run->buffers, (gsize)length) : NULL;
    g_autoptr(GError) local = NULL;
    int errnum = 0;
    gboolean good = whole ? source_read(large->fd, buffer, (gsize)length, offset, &errnum)
                          : source_hash(large->fd, offset, length, part->hash, &errnum);
    if (good && whole)
        digest_sha256(buffer, (gsize)length, part->hash);
    if (!good)
        note_source(large, errnum);
    else if (!handle_part(large, index, buffer, &local))
        stop_with(large, g_steal_pointer(&local));
    buffers_give(large->run->buffers, buffer, (gsize)length);
}

/* Sends a part whose copy was refused. It has to be what it was when it was hashed. */
static gboolean send_again(Large *large, guint index, GError **error)
{
    Part *part = &large->parts[index];
    guint64 length = part_length(large, index);
    guint64 offset = (guint64)index * large->part_size;
    guint8 hash[HASH_BYTES];
    int errnum = 0;
    if (!source_hash(large->fd, offset, length, hash, &errnum)) {
        note_source(large, errnum);
        return TRUE;
    }
    if (memcmp(hash, part->hash, HASH_BYTES) != 0) {
        g_mutex_lock(&large->lock);
        large->rewritten = TRUE;
        g_mutex_unlock(&large->lock);
        atomic_store(&large->stopped, true);
        return TRUE;
    }
    SourceRange range = {.fd = large->fd, .offset = offset, .length = length};
    StoreBody body = source_body(&range, part->hash);
    return send_body(large, index, &body, error);
}

static void copy_part(Large *large, guint index)
{
    S3Job *job = large->job;
    StoreSource source = {.key = job->key, .if_match = job->have_etag, .size = job->have_size};
    g_autoptr(GError) local = NULL;
    guint64 length = part_length(large, index);
    if (!ensure_begun(large, &local)) {
        stop_with(large, g_steal_pointer(&local));
    } else if (store_copy_part(large->run->store, job->key, large->upload, index + 1, &source,
                               (guint64)index * large->part_size, length, &large->parts[index].etag, &local)) {
        large->parts[index].state = PART_DONE;
        atomic_fetch_add(&large->saved, length);
        s3run_progress(large->run, 0, length, job->path);
        workers_note(large->run->workers, 0);
    } else if (error_is(local, BACKAPP_ERROR_CONFLICT) || error_is(local, BACKAPP_ERROR_NOT_FOUND) ||
               error_is(local, BACKAPP_ERROR_INVALID)) {
        g_clear_error(&local);
        if (!send_again(large, index, &local))
            stop_with(large, g_steal_pointer(&local));
    } else {
        stop_with(large, g_steal_pointer(&local));
    }
}

static void next_step(Large *large);

static void run_part(S3Work *work)
{
    PartTask *task = (PartTask *)work;
    Large *large = task->large;
    guint index = task->index;
    g_free(task);
    if (!atomic_load(&large->stopped) && s3run_goes_on(large->run)) {
        if (large->parts[index].state == PART_SAME)
            copy_part(large, index);
        else
            read_part(large, index);
    }
    if (atomic_fetch_sub(&large->left, 1) == 1)
        next_step(large);
}

/* Queues all parts in this state. FALSE if there are none. */
static gboolean queue_parts(Large *large, PartState state)
{
    guint count = 0;
    for (guint i = 0; i < large->count; i++)
        count += large->parts[i].state == state ? 1 : 0;
    atomic_store(&large->left, count);
    /* The last one queued may end the whole: nothing of `large` is looked at then. */
    guint parts = large->count;
    for (guint i = 0; i < parts && count > 0; i++) {
        if (large->parts[i].state != state)
            continue;
        PartTask *task = g_new0(PartTask, 1);
        *task = (PartTask){.work = {run_part}, .large = large, .index = i};
        Workers *workers = large->run->workers;
        count--;
        workers_push_first(workers, task);
        if (count == 0)
            return TRUE;
    }
    return FALSE;
}

/* The source is not what it was when its parts were read: once more from the start, with what it is now. */
static void start_over(Large *large, const FileMeta *now)
{
    g_autoptr(GError) local = NULL;
    if (!drop_upload(large, &local)) {
        end(large, g_steal_pointer(&local));
        return;
    }
    S3Job *job = g_steal_pointer(&large->job);
    int fd = fd_steal(&large->fd);
    job->meta = *now;
    large_free(large);
    upload_open(job, fd, TRUE);
}

/* Gives up on a file that cannot be read. */
static void give_up(Large *large)
{
    g_autoptr(GError) local = NULL;
    int errnum = large->errnum;
    if (drop_upload(large, &local))
        (void)source_lost(large->job, errnum, &local);
    end(large, g_steal_pointer(&local));
}

static gboolean record(Large *large, const StoreResult *result, GError **error)
{
    g_autofree guint8 *hashes = g_malloc((gsize)large->count * HASH_BYTES);
    guint8 hash[HASH_BYTES];
    for (guint i = 0; i < large->count; i++)
        memcpy(hashes + (gsize)i * HASH_BYTES, large->parts[i].hash, HASH_BYTES);
    if (large->count == 1)
        memcpy(hash, hashes, HASH_BYTES);
    else
        digest_sha256(hashes, (gsize)large->count * HASH_BYTES, hash);
    S3Outcome outcome = {.result = result,
                         .object_size = large->size,
                         .part_size = large->part_size,
                         .hash = hash,
                         .parts = hashes,
                         .parts_count = large->count};
    return s3job_record(large->job, &outcome, error) &&
           (large->upload == NULL || catalogue_remove_upload(large->run->catalogue, large->upload, error));
}

/* All parts are there: makes them the object. */
static gboolean complete(Large *large, GError **error)
{
    S3Job *job = large->job;
    char mtime[MTIME_TEXT_BYTES];
    StorePut how = s3job_put(job, mtime);
    g_autofree StorePart *parts = g_new0(StorePart, large->count);
    for (guint i = 0; i < large->count; i++)
        parts[i] = (StorePart){.number = i + 1, .etag = large->parts[i].etag, .size = part_length(large, i)};
    g_auto(StoreResult) result = {0};
    if (!store_complete(large->run->store, job->key, large->upload, parts, large->count, &how, &result, error) ||
        !record(large, &result, error))
        return FALSE;
    upload_count(job, atomic_load(&large->sent), atomic_load(&large->saved));
    return TRUE;
}

/* Nothing differs but time or class. *done is FALSE if the store does not copy it. */
static gboolean touch(Large *large, gboolean *done, GError **error)
{
    *done = FALSE;
    if (large->old == NULL || large->upload != NULL || large->old->size != large->size)
        return TRUE;
    for (guint i = 0; i < large->count; i++) {
        if (large->parts[i].state != PART_SAME)
            return TRUE;
    }
    if (!copy_touch(large->job, large->old, done, error))
        return FALSE;
    if (*done)
        s3run_progress(large->run, 0, large->size, large->job->path);
    return TRUE;
}

/* What an earlier attempt had sent, or the object that parts were copied from, is not what it was taken for (or the upload
 * is gone): then it is sent once more from the start. Everything else ends it. */
static void failed(Large *large, GError *error)
{
    gboolean stale = error_is(error, BACKAPP_ERROR_CONFLICT) || error_is(error, BACKAPP_ERROR_NOT_FOUND) ||
                     error_is(error, BACKAPP_ERROR_CORRUPT);
    if (!stale || large->again || !s3run_goes_on(large->run)) {
        end(large, error);
        return;
    }
    g_error_free(error);
    FileMeta now = large->job->meta;
    (void)source_changed(large->job, large->fd, &now);
    start_over(large, &now);
}

/* No worker is busy with it: what comes next? */
static void next_step(Large *large)
{
    g_autoptr(GError) local = NULL;
    FileMeta now = large->job->meta;
    gboolean done = FALSE;
    if (large->error != NULL) {
        failed(large, g_steal_pointer(&large->error));
        return;
    }
    if (!s3run_goes_on(large->run)) {
        large_free(large);
        return;
    }
    gboolean changed = source_changed(large->job, large->fd, &now);
    if ((changed || large->shorter || large->rewritten) && !large->again) {
        start_over(large, &now);
        return;
    }
    if (large->errnum != 0 || large->shorter || large->rewritten) {
        give_up(large);
        return;
    }
    if (!touch(large, &done, &local)) {
        end(large, g_steal_pointer(&local));
        return;
    }
    if (!done && queue_parts(large, PART_SAME))
        return;
    /* That the old object cannot be kept says nothing about the upload, which stays for the next run. */
    if (!done && !s3job_to_trash(large->job, &local)) {
        end(large, g_steal_pointer(&local));
        return;
    }
    if (!done && !complete(large, &local)) {
        failed(large, g_steal_pointer(&local));
        return;
    }
    if (changed)
        s3run_warn_changed(large->run, large->job->path, CHANGED_TWICE);
    end(large, NULL);
}

/* A store without multipart uploads: one put, read twice. */
static gboolean put_whole(Large *large, GError **error)
{
    S3Job *job = large->job;
    guint8 hash[HASH_BYTES];
    char mtime[MTIME_TEXT_BYTES];
    int errnum = 0;
    if (!source_hash(large->fd, 0, large->size, hash, &errnum))
        return source_lost(job, errnum, error);
    StorePut how = s3job_put(job, mtime);
    SourceRange range = {.fd = large->fd, .length = large->size};
    StoreBody body = source_body(&range, hash);
    g_auto(StoreResult) result = {0};
    S3Outcome outcome = {
        .result = &result, .object_size = large->size, .part_size = MAX(large->part_size, large->size), .hash = hash};
    if (!s3job_to_trash(job, error) || !store_put(large->run->store, job->key, &body, &how, &result, error) ||
        !s3job_record(job, &outcome, error))
        return FALSE;
    upload_count(job, large->size, 0);
    s3run_progress(large->run, 0, large->size, job->path);
    return TRUE;
}

/* The parts that an earlier attempt has sent, if the file is still the same. */
static gboolean find_upload(Large *large, GError **error)
{
    S3Run *run = large->run;
    const FileMeta *meta = &large->job->meta;
    CatalogueUpload upload = {0};
    int found = catalogue_find_upload(run->catalogue, large->job->key, &upload, error);
    if (found <= 0)
        return found == 0;
    gboolean same = upload.size == meta->size && upload.mtime_s == meta->mtime_s && upload.mtime_ns == meta->mtime_ns &&
                    upload.ctime_s == meta->ctime_s && upload.ctime_ns == meta->ctime_ns && upload.ino == meta->ino &&
                    upload.part_size == large->part_size;
    large->upload = g_strdup(upload.id);
    catalogue_upload_clear(&upload);
    g_autoptr(GError) local = NULL;
    g_autoptr(GArray) parts = same ? store_list_parts(run->store, large->job->key, large->upload, &local) : NULL;
    if (parts == NULL && local != NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND) &&
        !error_is(local, BACKAPP_ERROR_DENIED) && !error_is(local, BACKAPP_ERROR_INVALID)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (parts == NULL)
        return drop_upload(large, error);
    for (guint i = 0; i < parts->len; i++) {
        const StorePart *part = &g_array_index(parts, StorePart, i);
        if (part->number >= 1 && part->number <= large->count && part->size == part_length(large, part->number - 1) &&
            part->etag != NULL && large->parts[part->number - 1].found == NULL)
            large->parts[part->number - 1].found = g_strdup(part->etag);
    }
    return TRUE;
}

/* The object that is there, if its parts may be copied. */
static gboolean find_old(Large *large, GError **error)
{
    S3Job *job = large->job;
    const Store *store = large->run->store;
    if (!job->replaces || job->have_etag == NULL || !store_can(store, STORE_RANGE_COPY) ||
        store_class_is_cold(job->have_class))
        return TRUE;
    g_autoptr(CatalogueRow) row = NULL;
    int found = catalogue_find(large->run->catalogue, job->key, &row, error);
    if (found <= 0)
        return found == 0;
    if (row->parts == NULL || g_strcmp0(row->etag, job->have_etag) != 0 || row->object_size != row->size ||
        row->part_size < store->min_part || row->part_size > store->max_part ||
        (large->size + row->part_size - 1) / row->part_size > store->max_parts)
        return TRUE;
    large->part_size = row->part_size;
    large->old = g_steal_pointer(&row);
    return TRUE;
}

void multipart_start(S3Job *job, int fd, gboolean again)
{
    Large *large = g_new0(Large, 1);
    g_autoptr(GError) local = NULL;
    large->job = job;
    large->run = job->run;
    large->fd = fd;
    large->again = again;
    large->size = job->meta.size;
    large->part_size = store_part_size(job->run->store, large->size);
    g_mutex_init(&large->lock);
    if (!store_can(job->run->store, STORE_MULTIPART)) {
        (void)put_whole(large, &local);
        end(large, g_steal_pointer(&local));
        return;
    }
    gboolean good = find_old(large, &local);
    large->count = (guint)((large->size + large->part_size - 1) / large->part_size);
    large->parts = g_new0(Part, large->count);
    if (!good || !find_upload(large, &local)) {
        end(large, g_steal_pointer(&local));
        return;
    }
    (void)queue_parts(large, PART_TODO);
}
