#include <string.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/mtime.h"
#include "engine/s3sync/source.h"
#include "engine/s3sync/upload.h"

#define PIECE_BYTES   BUFFERS_SMALL_BYTES
#define CHANGED_TWICE "it changed while it was read, twice; the copy may mix old and new content"

/* An encrypted upload: content goes in, whole parts of what comes out are sent. Its parts follow each other. */
typedef struct {
    S3Job *job;
    S3Run *run;
    guint64 total, part_size; /* of the encrypted object */
    guint8 *buffer;           /* of part_size */
    gsize used;
    char *upload; /* NULL: it fits in one put */
    GArray *parts;
    Hash *hash;         /* of the content's part at hand */
    guint64 hash_size;  /* content bytes of a part */
    guint64 hashed;     /* of the part at hand */
    GByteArray *hashes; /* of the content's parts */
    StoreResult result;
} Sealed;

static void clear_part(gpointer data)
{
    StorePart *part = data;
    g_free(part->etag);
}

static gboolean send_part(Sealed *sealed, GError **error)
{
    guint8 sha256[HASH_BYTES];
    digest_sha256(sealed->buffer, sealed->used, sha256);
    StoreBody body = {.data = sealed->buffer, .length = sealed->used, .sha256 = sha256};
    StorePart part = {.number = sealed->parts->len + 1, .size = sealed->used};
    if (!store_part(sealed->run->store, sealed->job->key, sealed->upload, part.number, &body, &part.etag, error))
        return FALSE;
    g_array_append_val(sealed->parts, part);
    workers_note(sealed->run->workers, sealed->used);
    s3run_progress(sealed->run, 0, sealed->used, sealed->job->path);
    sealed->used = 0;
    return TRUE;
}

static gboolean take_sealed(const guint8 *data, gsize length, gpointer user, GError **error)
{
    Sealed *sealed = user;
    while (length > 0) {
        gsize room = (gsize)sealed->part_size - sealed->used;
        if (room == 0) {
            if (sealed->upload == NULL)
                return error_set(error, BACKAPP_ERROR_INTERNAL, "an encrypted file is longer than it should be");
            if (!send_part(sealed, error))
                return FALSE;
            continue;
        }
        gsize part = MIN(room, length);
        memcpy(sealed->buffer + sealed->used, data, part);
        sealed->used += part;
        data += part;
        length -= part;
    }
    return TRUE;
}

static void end_hash(Sealed *sealed)
{
    guint8 hash[HASH_BYTES];
    hash_finish(sealed->hash, hash);
    g_byte_array_append(sealed->hashes, hash, HASH_BYTES);
    sealed->hashed = 0;
}

static void hash_content(Sealed *sealed, const guint8 *data, gsize length)
{
    while (length > 0) {
        if (sealed->hashed == sealed->hash_size)
            end_hash(sealed);
        gsize part = (gsize)MIN(length, sealed->hash_size - sealed->hashed);
        hash_update(sealed->hash, data, part);
        sealed->hashed += part;
        data += part;
        length -= part;
    }
}

typedef enum { SEAL_GOOD, SEAL_SHORT, SEAL_UNREADABLE, SEAL_FAILED } SealResult;

/* Encrypts and sends all parts that are full. */
static SealResult seal_content(Sealed *sealed, int fd, int *errnum, GError **error)
{
    g_autoptr(TinkEncryptor) encryptor = tink_encryptor_new(sealed->run->content_key);
    g_autofree guint8 *piece = g_malloc(PIECE_BYTES);
    if (!tink_encryptor_begin(encryptor, S3CONTENT_ASSOCIATED, strlen(S3CONTENT_ASSOCIATED), error))
        return SEAL_FAILED;
    guint64 size = sealed->job->meta.size;
    for (guint64 offset = 0; offset < size;) {
        gsize part = (gsize)MIN(PIECE_BYTES, size - offset);
        if (!s3run_goes_on(sealed->run)) {
            error_set(error, BACKAPP_ERROR_CANCELLED, "cancelled");
            return SEAL_FAILED;
        }
        if (!source_read(fd, piece, part, offset, errnum))
            return *errnum == 0 ? SEAL_SHORT : SEAL_UNREADABLE;
        hash_content(sealed, piece, part);
        if (!tink_encryptor_update(encryptor, piece, part, take_sealed, sealed, error))
            return SEAL_FAILED;
        offset += part;
    }
    end_hash(sealed);
    return tink_encryptor_finish(encryptor, take_sealed, sealed, error) ? SEAL_GOOD : SEAL_FAILED;
}

/* What is left becomes the object, or its last part. */
static gboolean end_object(Sealed *sealed, GError **error)
{
    S3Job *job = sealed->job;
    char mtime[MTIME_TEXT_BYTES];
    StorePut how = s3job_put(job, mtime);
    if (!s3job_to_trash(job, error))
        return FALSE;
    if (sealed->upload == NULL) {
        guint8 sha256[HASH_BYTES];
        digest_sha256(sealed->buffer, sealed->used, sha256);
        StoreBody body = {.data = sealed->buffer, .length = sealed->used, .sha256 = sha256};
        if (!store_put(sealed->run->store, job->key, &body, &how, &sealed->result, error))
            return FALSE;
        workers_note(sealed->run->workers, sealed->used);
        s3run_progress(sealed->run, 0, sealed->used, job->path);
    } else if ((sealed->used > 0 && !send_part(sealed, error)) ||
               !store_complete(sealed->run->store, job->key, sealed->upload, (const StorePart *)sealed->parts->data,
                               sealed->parts->len, &how, &sealed->result, error)) {
        return FALSE;
    }
    g_clear_pointer(&sealed->upload, g_free);
    guint8 hash[HASH_BYTES];
    guint count = sealed->hashes->len / HASH_BYTES;
    if (count == 1)
        memcpy(hash, sealed->hashes->data, HASH_BYTES);
    else
        digest_sha256(sealed->hashes->data, sealed->hashes->len, hash);
    S3Outcome outcome = {.result = &sealed->result,
                         .object_size = sealed->total,
                         .part_size = sealed->hash_size,
                         .hash = hash,
                         .parts = sealed->hashes->data,
                         .parts_count = count};
    if (!s3job_record(job, &outcome, error))
        return FALSE;
    upload_count(job, sealed->total, 0);
    return TRUE;
}

/* One attempt. *changed: the source is another now (job->meta is not yet brought up to date). */
static gboolean attempt(Sealed *sealed, int fd, gboolean last, FileMeta *now, gboolean *changed, GError **error)
{
    S3Job *job = sealed->job;
    int errnum = 0;
    SealResult result = seal_content(sealed, fd, &errnum, error);
    if (result == SEAL_FAILED)
        return FALSE;
    *changed = source_changed(job, fd, now) || result == SEAL_SHORT;
    if (*changed && !last)
        return TRUE;
    *changed = FALSE;
    if (result != SEAL_GOOD)
        return source_lost(job, errnum, error);
    gboolean mixed = source_changed(job, fd, now);
    if (!end_object(sealed, error))
        return FALSE;
    if (mixed)
        s3run_warn_changed(job->run, job->path, CHANGED_TWICE);
    return TRUE;
}

static gboolean prepare(Sealed *sealed, S3Job *job, GError **error)
{
    S3Run *run = job->run;
    *sealed = (Sealed){.job = job, .run = run};
    sealed->total = tink_cipher_size(job->meta.size);
    sealed->part_size = store_part_size(run->store, sealed->total);
    sealed->hash_size = store_part_size(run->store, job->meta.size);
    sealed->hash = hash_new();
    sealed->hashes = g_byte_array_new();
    sealed->parts = g_array_new(FALSE, FALSE, sizeof(StorePart));
    g_array_set_clear_func(sealed->parts, clear_part);
    if (sealed->total <= sealed->part_size)
        sealed->part_size = sealed->total;
    /* Parts are larger than the shared buffers only from 78 GiB on. */
    sealed->buffer = sealed->part_size <= BUFFERS_LARGE_BYTES ? buffers_take(run->buffers, (gsize)sealed->part_size)
                                                              : g_try_malloc((gsize)sealed->part_size);
    if (sealed->buffer == NULL)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "out of memory for a part of %" G_GUINT64_FORMAT " bytes",
                         sealed->part_size);
    if (sealed->total <= sealed->part_size)
        return TRUE;
    char mtime[MTIME_TEXT_BYTES];
    StorePut how = s3job_put(job, mtime);
    sealed->upload = store_begin(run->store, job->key, &how, error);
    return sealed->upload != NULL;
}

/* An upload that was begun and did not become an object helps nobody: its salt is never used again. */
static void clear(Sealed *sealed)
{
    S3Run *run = sealed->run;
    if (sealed->upload != NULL)
        (void)store_abort(run->store, sealed->job->key, sealed->upload, NULL); /* else after 7 days */
    if (sealed->part_size <= BUFFERS_LARGE_BYTES)
        buffers_give(run->buffers, sealed->buffer, (gsize)sealed->part_size);
    else
        g_free(sealed->buffer);
    g_free(sealed->upload);
    g_array_unref(sealed->parts);
    hash_free(sealed->hash);
    g_byte_array_unref(sealed->hashes);
    store_result_clear(&sealed->result);
}

gboolean upload_sealed(S3Job *job, int fd, gboolean again, GError **error)
{
    gboolean good = TRUE;
    gboolean changed = TRUE;
    for (; good && changed; again = TRUE) {
        Sealed sealed;
        FileMeta now = job->meta;
        changed = FALSE;
        good = prepare(&sealed, job, error) && attempt(&sealed, fd, again, &now, &changed, error);
        clear(&sealed);
        job->meta = changed ? now : job->meta;
    }
    return good;
}
