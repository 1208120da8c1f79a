#include "engine/s3sync/upload.h"

#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/s3sync/copy.h"
#include "engine/s3sync/mtime.h"
#include "engine/s3sync/source.h"
#include "fs/dir.h"

#define CHANGED_TWICE "it changed while it was read, twice; the copy may mix old and new content"

void upload_count(S3Job *job, guint64 sent, guint64 saved)
{
    S3Run *run = job->run;
    atomic_fetch_add(&run->uploaded, 1);
    atomic_fetch_add(&run->uploaded_bytes, sent);
    atomic_fetch_add(&run->saved_bytes, saved);
}

/* An object with this very content is there: it only needs another time. */
static gboolean touch_instead(S3Job *job, const guint8 *hash, gboolean *done, GError **error)
{
    S3Run *run = job->run;
    *done = FALSE;
    if (!job->replaces || job->have_etag == NULL || job->have_size != job->meta.size || job->meta.size == 0)
        return TRUE;
    g_autoptr(CatalogueRow) row = NULL;
    int found = catalogue_find(run->catalogue, job->key, &row, error);
    if (found <= 0)
        return found == 0;
    if (row->part_size < row->size || row->size != job->meta.size || g_strcmp0(row->etag, job->have_etag) != 0 ||
        memcmp(row->hash, hash, HASH_BYTES) != 0)
        return TRUE;
    return copy_touch(job, row, done, error);
}

/* Sends what was read. */
static gboolean send(S3Job *job, const guint8 *data, gsize size, GError **error)
{
    S3Run *run = job->run;
    guint8 hash[HASH_BYTES];
    char mtime[MTIME_TEXT_BYTES];
    gboolean done = FALSE;
    digest_sha256(data, size, hash);
    if (!touch_instead(job, hash, &done, error))
        return FALSE;
    if (done)
        return TRUE;
    StorePut how = s3job_put(job, mtime);
    StoreBody body = {.data = data, .length = size, .sha256 = hash};
    g_auto(StoreResult) result = {0};
    if (!s3job_to_trash(job, error) || !store_put(run->store, job->key, &body, &how, &result, error))
        return FALSE;
    S3Outcome outcome = {.result = &result,
                         .object_size = size,
                         .part_size = MAX(store_part_size(run->store, size), size),
                         .hash = hash};
    if (!s3job_record(job, &outcome, error))
        return FALSE;
    upload_count(job, size, 0);
    workers_note(run->workers, size);
    return TRUE;
}

typedef enum { READ_GOOD, READ_AGAIN, READ_LOST, READ_FAILED } ReadResult;

/* Reads the whole file, which must not change meanwhile. AGAIN: job->meta is what it is now. */
static ReadResult read_whole(S3Job *job, int fd, guint8 *buffer, gboolean again, GError **error)
{
    int errnum = 0;
    FileMeta now = job->meta;
    gboolean read = source_read(fd, buffer, (gsize)job->meta.size, 0, &errnum);
    gboolean changed = errnum == 0 && source_changed(job, fd, &now);
    if ((changed || (!read && errnum == 0)) && !again) {
        job->meta = now;
        return READ_AGAIN;
    }
    if (!read)
        return source_lost(job, errnum, error) ? READ_LOST : READ_FAILED;
    if (changed)
        s3run_warn_changed(job->run, job->path, CHANGED_TWICE);
    return READ_GOOD;
}

/* TRUE if it goes in one request from one buffer. */
static gboolean fits_in_one(const S3Job *job)
{
    guint64 size = job->meta.size;
    return size <= BUFFERS_LARGE_BYTES && (size <= store_part_size(job->run->store, size));
}

/* A file that fits in one buffer. *again: it changed, and another attempt is to be made with what it is now. */
static gboolean upload_small(S3Job *job, int fd, gboolean *again, GError **error)
{
    gsize size = (gsize)job->meta.size;
    guint8 *buffer = buffers_take(job->run->buffers, size);
    ReadResult result = read_whole(job, fd, buffer, *again, error);
    *again = result == READ_AGAIN;
    gboolean good = result == READ_GOOD ? send(job, buffer, size, error) : result != READ_FAILED;
    buffers_give(job->run->buffers, buffer, size);
    return good;
}

/* bytes: of the content that were not reported yet. */
static void end_job(S3Job *job, guint64 bytes, GError *local)
{
    if (local != NULL)
        s3job_failed(job, local);
    else
        s3run_progress(job->run, 1, bytes, job->path);
    s3job_free(job);
}

void upload_open(S3Job *job, int fd, gboolean again)
{
    g_auto(AutoFd) file = fd;
    GError *local = NULL;
    if (job->run->content_key != NULL) {
        (void)upload_sealed(job, file, again, &local);
        end_job(job, 0, local);
        return;
    }
    for (gboolean more = TRUE; more; again = TRUE) {
        if (!fits_in_one(job)) {
            multipart_start(job, fd_steal(&file), again);
            return;
        }
        more = again;
        more = upload_small(job, file, &more, &local) && more;
    }
    end_job(job, job->meta.size, local);
}

void upload_file(S3Work *work)
{
    S3Job *job = (S3Job *)work;
    GError *local = NULL;
    if (!s3run_goes_on(job->run)) {
        s3job_free(job);
        return;
    }
    int fd = source_open(job, &local);
    if (fd >= 0)
        upload_open(job, fd, FALSE);
    else
        end_job(job, 0, local);
}
