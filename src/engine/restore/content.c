#include "engine/restore/content.h"

#include "base/error.h"
#include "crypto/tink.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/content_hash.h"
#include "engine/s3sync/mtime.h"
#include "engine/source/names.h"
#include "fs/io.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define TRASH_PREFIX ".trash/"
/* Keys longer than the first cannot be; longer than the second they may be if the store has a long prefix. */
#define KEY_BYTES_MAX 1024
#define SHORT_BYTES   256
/* Holes are found at this granularity. */
#define BLOCK      ((gsize)4096)
#define READ_BYTES ((gsize)256 * 1024)

struct RestoreTrash {
    GMutex lock;
    GPtrArray *times; /* of char *, ascending; NULL: not listed yet */
};

RestoreTrash *restore_trash_new(void)
{
    RestoreTrash *trash = g_new0(RestoreTrash, 1);
    g_mutex_init(&trash->lock);
    return trash;
}

void restore_trash_free(RestoreTrash *trash)
{
    if (!trash)
        return;
    g_clear_pointer(&trash->times, g_ptr_array_unref);
    g_mutex_clear(&trash->lock);
    g_free(trash);
}

static void hash_begin(ContentHash *hash, const S3Entry *entry)
{
    if (entry->part_size > 0)
        content_hash_begin(hash, entry->meta.size, entry->part_size);
}

/* TRUE if what was fed is the entry's content, or the entry does not know its hash. */
static gboolean hash_agrees(ContentHash *hash, const S3Entry *entry)
{
    guint8 digest[HASH_BYTES];
    if (entry->part_size == 0)
        return TRUE;
    content_hash_end(hash, digest);
    return memcmp(digest, entry->hash, HASH_BYTES) == 0;
}

/* A transfer on its way into a file. */
typedef struct {
    RestoreRun *run;
    const S3Entry *entry;
    int fd;
    guint64 offset;  /* of the content */
    guint64 written; /* where the last of it that is no hole ends */
    ContentHash hash;
    TinkDecryptor *decryptor; /* NULL: not encrypted */
} Transfer;

static void transfer_clear(Transfer *transfer)
{
    content_hash_clear(&transfer->hash);
    tink_decryptor_free(transfer->decryptor);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Transfer, transfer_clear)

static gboolean is_zero(const guint8 *data, gsize length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* Writes what is not zero; the rest becomes holes when the file gets its length. What arrives ends anywhere, so a piece of
 * a block is looked at like a whole one. */
static gboolean write_content(Transfer *transfer, const guint8 *data, gsize length, GError **error)
{
    while (length > 0) {
        gsize piece = MIN(length, BLOCK - (gsize)(transfer->offset % BLOCK));
        gboolean hole = is_zero(data, piece);
        /* As much as can be written, or left out, at once. */
        while (piece < length) {
            gsize next = MIN(length - piece, BLOCK);
            if (is_zero(data + piece, next) != hole)
                break;
            piece += next;
        }
        if (!hole && !io_write_at(transfer->fd, data, piece, transfer->offset))
            return error_set_errno(error, errno, "cannot write %s", transfer->entry->path);
        transfer->offset += piece;
        if (!hole)
            transfer->written = transfer->offset;
        data += piece;
        length -= piece;
    }
    return TRUE;
}

static gboolean take_content(const guint8 *data, gsize length, gpointer user_data, GError **error)
{
    Transfer *transfer = user_data;
    if (length > transfer->entry->meta.size - transfer->offset)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the object is longer than what was backed up");
    if (transfer->entry->part_size > 0)
        content_hash_update(&transfer->hash, data, length);
    if (!write_content(transfer, data, length, error))
        return FALSE;
    restore_progress(transfer->run, 0, length, transfer->entry->path);
    return cancel_check(transfer->run->options->cancel, error);
}

static gboolean take_stored(gpointer user_data, const void *data, gsize length, GError **error)
{
    Transfer *transfer = user_data;
    if (!transfer->decryptor)
        return take_content(data, length, transfer, error);
    return tink_decryptor_update(transfer->decryptor, data, length, take_content, transfer, error);
}

static gboolean finish_transfer(Transfer *transfer, GError **error)
{
    const S3Entry *entry = transfer->entry;
    if (transfer->decryptor && !tink_decryptor_finish(transfer->decryptor, take_content, transfer, error))
        return FALSE;
    if (transfer->offset != entry->meta.size)
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "the object has %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT " were backed up",
                         transfer->offset, entry->meta.size);
    if (!hash_agrees(&transfer->hash, entry))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the object's content is not what was backed up");
    if (ftruncate(transfer->fd, (off_t)entry->meta.size) < 0)
        return error_set_errno(error, errno, "cannot write %s", entry->path);
    /* Its size no longer tells whether its content reached the disk. */
    gboolean ends_in_hole = transfer->written > 0 && transfer->written < entry->meta.size;
    return !ends_in_hole || fdatasync(transfer->fd) == 0 ||
           error_set_errno(error, errno, "cannot write %s", entry->path);
}

static gboolean fetch_object(RestoreRun *run, const S3Entry *entry, const StoreRange *range, int fd, GError **error)
{
    g_auto(Transfer) transfer = {.run = run, .entry = entry, .fd = fd};
    /* What an attempt before this one may have left. */
    if (ftruncate(fd, 0) < 0)
        return error_set_errno(error, errno, "cannot write %s", entry->path);
    hash_begin(&transfer.hash, entry);
    if (run->content_key) {
        transfer.decryptor = tink_decryptor_new(run->content_key);
        if (!tink_decryptor_begin(transfer.decryptor, S3CONTENT_ASSOCIATED, strlen(S3CONTENT_ASSOCIATED), error))
            return FALSE;
    }
    return store_get(run->store, range, take_stored, &transfer, NULL, error) && finish_transfer(&transfer, error);
}

/* The times at which something went to the trash: for each, one step of a list that jumps over what lies in it. */
static GPtrArray *list_times(Store *store, GError **error)
{
    g_autoptr(GPtrArray) times = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *after = NULL;
    for (;;) {
        g_autoptr(StoreList) list = store_list(store, TRASH_PREFIX, after, FALSE, error);
        const StoreObject *object;
        int more = list ? store_list_next(list, &object, error) : -1;
        if (more < 0)
            return NULL;
        if (more == 0)
            return g_steal_pointer(&times);
        const char *time = object->key + strlen(TRASH_PREFIX);
        const char *slash = strchr(time, '/');
        char *name = slash ? g_strndup(time, (gsize)(slash - time)) : g_strdup(time);
        g_ptr_array_add(times, name);
        g_free(after);
        /* The character behind the slash sorts after all that is below it. */
        after = g_strdup_printf(TRASH_PREFIX "%s%c", name, '/' + 1);
    }
}

static gboolean load_times(RestoreRun *run, GError **error)
{
    g_mutex_lock(&run->trash->lock);
    if (!run->trash->times)
        run->trash->times = list_times(run->store, error);
    gboolean fine = run->trash->times != NULL;
    g_mutex_unlock(&run->trash->lock);
    return fine;
}

/* Whether an object can be the content of an entry. With a hash what is fetched is proven; without one its ETag or its
 * time have to tell. (Where only the time of a file had changed, its object was changed in place, and has another one.) */
static gboolean is_candidate(const StoreObject *object, const S3Entry *entry)
{
    gint64 seconds = 0;
    guint32 ns = 0;
    if (object->size != entry->object_size)
        return FALSE;
    if (entry->part_size > 0 || (entry->etag && *entry->etag && g_strcmp0(object->etag, entry->etag) == 0))
        return TRUE;
    return mtime_parse(object->mtime, &seconds, &ns) && seconds == entry->meta.mtime_s && ns == entry->meta.mtime_ns;
}

static gboolean class_is_cold(const StoreObject *object)
{
    gboolean thawed = object->restore && strstr(object->restore, "ongoing-request=\"false\"");
    return store_class_is_cold(object->storage_class) && !thawed;
}

static gboolean report_cold(RestoreRun *run, const char *key, const char *version, const StoreObject *object,
                            GError **error)
{
    const RestoreOptions *options = run->options;
    if (options->thaw_days == 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "it is in cold storage (%s): ask for it with --thaw DAYS, which costs what the provider "
                         "charges for it, and restore again when it is ready (hours)",
                         object->storage_class);
    if (!store_thaw(run->store, key, version, options->thaw_days, options->thaw_tier ? options->thaw_tier : "Standard",
                    error))
        return FALSE;
    return error_set(error, BACKAPP_ERROR_CONFLICT,
                     "it is in cold storage (%s) and was asked for now: restore again when it is ready (hours)",
                     object->storage_class);
}

/* The version whose id nobody told when it was written, as after copies in some stores: by its ETag. NULL: there is none, or
 * versions may not be listed. */
static char *find_version(RestoreRun *run, const S3Entry *entry)
{
    if (entry->version || !entry->etag || !*entry->etag || !store_can(run->store, STORE_VERSIONS))
        return NULL;
    g_autoptr(StoreList) list = store_list(run->store, entry->key, NULL, TRUE, NULL);
    const StoreObject *object;
    /* The key itself sorts before all that begin with it. */
    while (list && store_list_next(list, &object, NULL) > 0 && strcmp(object->key, entry->key) == 0)
        if (!object->delete_marker && object->version && object->size == entry->object_size &&
            g_strcmp0(object->etag, entry->etag) == 0)
            return g_strdup(object->version);
    return NULL;
}

static gboolean fetch_version(RestoreRun *run, const S3Entry *entry, const char *version, int fd, gboolean *cold,
                              GError **error)
{
    g_autoptr(StoreObject) object = store_head(run->store, entry->key, version, error);
    if (!object)
        return FALSE;
    *cold = class_is_cold(object);
    if (*cold)
        return report_cold(run, entry->key, version, object, error);
    const StoreRange range = {.key = entry->key, .version = version, .length = G_MAXUINT64};
    return fetch_object(run, entry, &range, fd, error);
}

/* Fetches the content from another key than its own, or from what is under its own key now: 1 if it is there, 0 if it is
 * not, -1 on error. */
static int try_key(RestoreRun *run, const S3Entry *entry, const char *key, int fd, gboolean *cold, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) object = store_head(run->store, key, NULL, &local);
    if (!object && error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return 0;
    if (object && !is_candidate(object, entry))
        return 0;
    *cold = object && class_is_cold(object);
    if (*cold) {
        (void)report_cold(run, key, NULL, object, error);
        return -1;
    }
    const StoreRange range = {.key = key, .length = G_MAXUINT64};
    if (object && fetch_object(run, entry, &range, fd, &local))
        return 1;
    /* Not the content of the entry, or a key that this store cannot have. */
    if (error_is(local, BACKAPP_ERROR_CORRUPT) || error_is(local, BACKAPP_ERROR_INVALID))
        return 0;
    g_propagate_error(error, g_steal_pointer(&local));
    return -1;
}

/* Looks in the trash of the runs since the point was made, the oldest first. As try_key. */
static int try_trash(RestoreRun *run, const S3Entry *entry, int fd, gboolean *cold, GError **error)
{
    if (!load_times(run, error))
        return -1;
    g_autoptr(GDateTime) made = g_date_time_new_from_unix_utc(run->point->time);
    g_autofree char *since = made ? g_date_time_format(made, "%Y-%m-%dT%H%M%SZ") : g_strdup("");
    int got = 0;
    for (guint i = 0; i < run->trash->times->len && got == 0; i++) {
        const char *time = g_ptr_array_index(run->trash->times, i);
        if (strcmp(time, since) < 0)
            continue;
        g_autofree char *key = g_strconcat(TRASH_PREFIX, time, "/", entry->key, NULL);
        got = strlen(key) <= KEY_BYTES_MAX ? try_key(run, entry, key, fd, cold, error) : 0;
        if (got != 0 || strlen(key) < SHORT_BYTES)
            continue;
        /* With the folder of the trash before it, and the store's own prefix, it may have become too long. */
        g_autofree char *shortened = names_long_key(entry->key);
        g_autofree char *other = g_strconcat(TRASH_PREFIX, time, "/", shortened, NULL);
        got = try_key(run, entry, other, fd, cold, error);
    }
    return got;
}

/* The object is not (or not any more) under its key as the point knows it, or cannot be read: finds out why, and where else
 * it is. */
static gboolean fetch_elsewhere(RestoreRun *run, const S3Entry *entry, int fd, gboolean *cold, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) now = store_head(run->store, entry->key, entry->version, &local);
    if (!now && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (now && class_is_cold(now) && (!entry->etag || g_strcmp0(now->etag, entry->etag) == 0)) {
        *cold = TRUE;
        return report_cold(run, entry->key, entry->version, now, error);
    }
    g_autofree char *version = find_version(run, entry);
    if (version)
        return fetch_version(run, entry, version, fd, cold, error);
    int got = now ? try_key(run, entry, entry->key, fd, cold, error) : 0;
    if (got == 0)
        got = try_trash(run, entry, fd, cold, error);
    if (got != 0)
        return got > 0;
    return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                     now ? "the object was replaced since, and the version of this point is neither kept by the bucket "
                           "nor in the trash"
                         : "the object is gone: it is neither under its key nor in the trash");
}

gboolean content_fetch(RestoreRun *run, const S3Entry *entry, int fd, gboolean *cold, GError **error)
{
    *cold = FALSE;
    if (!entry->key)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "the backup has no object for it");
    g_autoptr(GError) local = NULL;
    const StoreRange range = {
        .key = entry->key, .version = entry->version, .if_match = entry->etag, .length = G_MAXUINT64};
    if (fetch_object(run, entry, &range, fd, &local))
        return TRUE;
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND) || error_is(local, BACKAPP_ERROR_CONFLICT))
        return fetch_elsewhere(run, entry, fd, cold, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean content_matches(RestoreRun *run, const S3Entry *entry, int fd, gboolean *equal, GError **error)
{
    g_auto(ContentHash) hash = {0};
    g_autofree guint8 *buffer = g_malloc(READ_BYTES);
    guint64 offset = 0;
    *equal = FALSE;
    if (entry->part_size == 0)
        return TRUE;
    hash_begin(&hash, entry);
    for (;;) {
        gssize got = io_read_at(fd, buffer, READ_BYTES, offset);
        if (got < 0)
            return error_set_errno(error, errno, "cannot read %s", entry->path);
        if (got == 0)
            break;
        content_hash_update(&hash, buffer, (gsize)got);
        offset += (guint64)got;
        if (!cancel_check(run->options->cancel, error))
            return FALSE;
    }
    *equal = offset == entry->meta.size && hash_agrees(&hash, entry);
    return TRUE;
}
