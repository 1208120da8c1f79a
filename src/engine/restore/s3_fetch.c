#include "engine/restore/s3_source.h"

#include "base/error.h"
#include "crypto/tink.h"
#include "engine/restore/cold.h"
#include "engine/restore/content.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/mtime.h"
#include "engine/source/names.h"

#include <string.h>

#define TRASH_PREFIX ".trash/"
/* Keys longer than the first cannot be; longer than the second they may be if the store has a long prefix. */
#define KEY_BYTES_MAX 1024
#define SHORT_BYTES   256

/* A transfer on its way into a file. */
typedef struct {
    ContentOutput output;
    TinkDecryptor *decryptor; /* NULL: not encrypted */
} Transfer;

static void transfer_clear(Transfer *transfer)
{
    content_output_clear(&transfer->output);
    tink_decryptor_free(transfer->decryptor);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Transfer, transfer_clear)

static gboolean take_content(const guint8 *data, gsize length, gpointer user_data, GError **error)
{
    return content_take(user_data, data, length, error);
}

static gboolean take_stored(gpointer user_data, const void *data, gsize length, GError **error)
{
    Transfer *transfer = user_data;
    if (!transfer->decryptor)
        return content_take(&transfer->output, data, length, error);
    return tink_decryptor_update(transfer->decryptor, data, length, take_content, &transfer->output, error);
}

static gboolean finish_transfer(Transfer *transfer, GError **error)
{
    return (!transfer->decryptor ||
            tink_decryptor_finish(transfer->decryptor, take_content, &transfer->output, error)) &&
           content_end_output(&transfer->output, error);
}

static gboolean fetch_object(S3Source *self, const S3Entry *entry, const StoreRange *range, RestoreFetch *fetch,
                             GError **error)
{
    g_auto(Transfer) transfer = {0};
    if (!content_begin_output(&transfer.output, entry, fetch, FALSE, self->options.cancel, error))
        return FALSE;
    if (self->content_key) {
        transfer.decryptor = tink_decryptor_new(self->content_key);
        if (!tink_decryptor_begin(transfer.decryptor, S3CONTENT_ASSOCIATED, strlen(S3CONTENT_ASSOCIATED), error))
            return FALSE;
    }
    return store_get(self->store, range, take_stored, &transfer, NULL, error) && finish_transfer(&transfer, error);
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

static gboolean load_times(S3Source *self, GError **error)
{
    g_mutex_lock(&self->lock);
    if (!self->times)
        self->times = list_times(self->store, error);
    gboolean fine = self->times != NULL;
    g_mutex_unlock(&self->lock);
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

/* The version whose id nobody told when it was written, as after copies in some stores: by its ETag. NULL: there is none, or
 * versions may not be listed. */
static char *find_version(S3Source *self, const S3Entry *entry)
{
    if (entry->version || !entry->etag || !*entry->etag || !store_can(self->store, STORE_VERSIONS))
        return NULL;
    g_autoptr(StoreList) list = store_list(self->store, entry->key, NULL, TRUE, NULL);
    const StoreObject *object;
    /* The key itself sorts before all that begin with it. */
    while (list && store_list_next(list, &object, NULL) > 0 && strcmp(object->key, entry->key) == 0)
        if (!object->delete_marker && object->version && object->size == entry->object_size &&
            g_strcmp0(object->etag, entry->etag) == 0)
            return g_strdup(object->version);
    return NULL;
}

static gboolean fetch_version(S3Source *self, const S3Entry *entry, const char *version, RestoreFetch *fetch,
                              GError **error)
{
    g_autoptr(StoreObject) object = store_head(self->store, entry->key, version, error);
    if (!object)
        return FALSE;
    fetch->cold = cold_is(object);
    if (fetch->cold)
        return cold_report(self->store, entry->key, version, object, FALSE, &self->options, error);
    const StoreRange range = {.key = entry->key, .version = version, .length = G_MAXUINT64};
    return fetch_object(self, entry, &range, fetch, error);
}

/* Fetches the content from another key than its own, or from what is under its own key now: 1 if it is there, 0 if it is
 * not, -1 on error. */
static int try_key(S3Source *self, const S3Entry *entry, const char *key, RestoreFetch *fetch, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) object = store_head(self->store, key, NULL, &local);
    if (!object && error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return 0;
    if (object && !is_candidate(object, entry))
        return 0;
    fetch->cold = object && cold_is(object);
    if (fetch->cold) {
        (void)cold_report(self->store, key, NULL, object, FALSE, &self->options, error);
        return -1;
    }
    const StoreRange range = {.key = key, .length = G_MAXUINT64};
    if (object && fetch_object(self, entry, &range, fetch, &local))
        return 1;
    /* Not the content of the entry, or a key that this store cannot have. */
    if (error_is(local, BACKAPP_ERROR_CORRUPT) || error_is(local, BACKAPP_ERROR_INVALID))
        return 0;
    g_propagate_error(error, g_steal_pointer(&local));
    return -1;
}

/* Looks in the trash of the runs since the point was made, the oldest first. As try_key. */
static int try_trash(S3Source *self, const S3Entry *entry, RestoreFetch *fetch, GError **error)
{
    if (!load_times(self, error))
        return -1;
    g_autoptr(GDateTime) made = g_date_time_new_from_unix_utc(self->source.point.time);
    g_autofree char *since = made ? g_date_time_format(made, "%Y-%m-%dT%H%M%SZ") : g_strdup("");
    int got = 0;
    for (guint i = 0; i < self->times->len && got == 0; i++) {
        const char *time = g_ptr_array_index(self->times, i);
        if (strcmp(time, since) < 0)
            continue;
        g_autofree char *key = g_strconcat(TRASH_PREFIX, time, "/", entry->key, NULL);
        got = strlen(key) <= KEY_BYTES_MAX ? try_key(self, entry, key, fetch, error) : 0;
        if (got != 0 || strlen(key) < SHORT_BYTES)
            continue;
        /* With the folder of the trash before it, and the store's own prefix, it may have become too long. */
        g_autofree char *shortened = names_long_key(entry->key);
        g_autofree char *other = g_strconcat(TRASH_PREFIX, time, "/", shortened, NULL);
        got = try_key(self, entry, other, fetch, error);
    }
    return got;
}

/* The object is not (or not any more) under its key as the point knows it, or cannot be read: finds out why, and where else
 * it is. */
static gboolean fetch_elsewhere(S3Source *self, const S3Entry *entry, RestoreFetch *fetch, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autoptr(StoreObject) now = store_head(self->store, entry->key, entry->version, &local);
    if (!now && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (now && cold_is(now) && (!entry->etag || g_strcmp0(now->etag, entry->etag) == 0)) {
        fetch->cold = TRUE;
        return cold_report(self->store, entry->key, entry->version, now, FALSE, &self->options, error);
    }
    g_autofree char *version = find_version(self, entry);
    if (version)
        return fetch_version(self, entry, version, fetch, error);
    int got = now ? try_key(self, entry, entry->key, fetch, error) : 0;
    if (got == 0)
        got = try_trash(self, entry, fetch, error);
    if (got != 0)
        return got > 0;
    return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                     now ? "the object was replaced since, and the version of this point is neither kept by the bucket "
                           "nor in the trash"
                         : "the object is gone: it is neither under its key nor in the trash");
}

gboolean s3_source_content(S3Source *self, const S3Entry *entry, RestoreFetch *fetch, GError **error)
{
    fetch->cold = FALSE;
    if (!entry->key)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "the backup has no object for it");
    g_autoptr(GError) local = NULL;
    const StoreRange range = {
        .key = entry->key, .version = entry->version, .if_match = entry->etag, .length = G_MAXUINT64};
    if (fetch_object(self, entry, &range, fetch, &local))
        return TRUE;
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND) || error_is(local, BACKAPP_ERROR_CONFLICT))
        return fetch_elsewhere(self, entry, fetch, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}
