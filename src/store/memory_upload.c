#include "store/memory_store.h"

#include <string.h>

typedef struct {
    char *key, *id;
    gint64 started;
    StorePut how; /* its strings are owned */
    GTree *parts; /* number -> Part */
} Upload;

typedef struct {
    guint number;
    char *etag;
    GBytes *bytes;
} Part;

static void part_free(gpointer data)
{
    Part *part = data;
    g_free(part->etag);
    g_bytes_unref(part->bytes);
    g_free(part);
}

static void upload_free(gpointer data)
{
    Upload *upload = data;
    g_free(upload->key);
    g_free(upload->id);
    g_free((char *)upload->how.storage_class);
    g_free((char *)upload->how.mtime);
    g_free((char *)upload->how.lock_mode);
    g_tree_unref(upload->parts);
    g_free(upload);
}

GPtrArray *memory_uploads_new(void)
{
    return g_ptr_array_new_with_free_func(upload_free);
}

static int compare_numbers(gconstpointer a, gconstpointer b, gpointer unused)
{
    guint x = GPOINTER_TO_UINT(a), y = GPOINTER_TO_UINT(b);
    return x < y ? -1 : x > y;
}

char *memory_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_PUT, &lost, error))
        return NULL;
    Upload *upload = g_new0(Upload, 1);
    upload->key = g_strdup(key);
    upload->started = g_get_real_time() / G_USEC_PER_SEC;
    upload->how.storage_class = g_strdup(how->storage_class);
    upload->how.mtime = g_strdup(how->mtime);
    upload->how.lock_mode = g_strdup(how->lock_mode);
    upload->how.lock_until = how->lock_until;
    upload->parts = g_tree_new_full(compare_numbers, NULL, NULL, part_free);
    g_mutex_lock(&self->lock);
    upload->id = g_strdup_printf("upload-%" G_GUINT64_FORMAT, ++self->ids);
    char *id = g_strdup(upload->id);
    g_ptr_array_add(self->uploads, upload);
    g_mutex_unlock(&self->lock);
    if (!memory_answer(lost, TRUE, error))
        g_clear_pointer(&id, g_free);
    return id;
}

static Upload *find_upload(MemoryStore *self, const char *key, const char *id)
{
    for (guint i = 0; i < self->uploads->len; i++) {
        Upload *upload = g_ptr_array_index(self->uploads, i);
        if (strcmp(upload->id, id) == 0 && strcmp(upload->key, key) == 0)
            return upload;
    }
    return NULL;
}

/* Takes `bytes`. */
static gboolean add_part(MemoryStore *self, const char *key, const char *id, guint number, GBytes *bytes, char **etag,
                         GError **error)
{
    Part *part = g_new0(Part, 1);
    part->number = number;
    part->bytes = bytes;
    part->etag = memory_etag(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    g_autofree char *copy = g_strdup(part->etag);
    g_mutex_lock(&self->lock);
    Upload *upload = find_upload(self, key, id);
    if (upload)
        g_tree_replace(upload->parts, GUINT_TO_POINTER(number), part);
    g_mutex_unlock(&self->lock);
    if (!upload) {
        part_free(part);
        return store_no_upload(key, id, error);
    }
    *etag = g_steal_pointer(&copy);
    return TRUE;
}

gboolean memory_part(Store *store, const char *key, const char *id, guint number, const StoreBody *body, char **etag,
                     GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_PUT, &lost, error))
        return FALSE;
    GBytes *bytes = memory_take_in(self, body, key, error);
    g_autofree char *made = NULL;
    if (!bytes || !memory_answer(lost, add_part(self, key, id, number, bytes, &made, error), error))
        return FALSE;
    *etag = g_steal_pointer(&made);
    return TRUE;
}

gboolean memory_copy_part(Store *store, const char *key, const char *id, guint number, const StoreSource *source,
                          guint64 offset, guint64 length, char **etag, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_COPY, &lost, error))
        return FALSE;
    GBytes *bytes = memory_read_source(self, source, offset, length, error);
    g_autofree char *made = NULL;
    if (!bytes || !memory_answer(lost, add_part(self, key, id, number, bytes, &made, error), error))
        return FALSE;
    *etag = g_steal_pointer(&made);
    return TRUE;
}

/* The object that the parts make, with an ETag as S3 makes it; NULL if a part is not there. */
static Version *join(const Upload *upload, const StorePart *parts, guint count)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    for (guint i = 0; i < count; i++) {
        const Part *part = g_tree_lookup(upload->parts, GUINT_TO_POINTER(parts[i].number));
        if (!part || strcmp(part->etag, parts[i].etag) != 0)
            return NULL;
        gsize length = 0;
        const guint8 *data = g_bytes_get_data(part->bytes, &length);
        g_byte_array_append(all, data, (guint)length);
    }
    char *etag = store_parts_etag(parts, count);
    return memory_version_new(g_byte_array_free_to_bytes(g_steal_pointer(&all)), etag, &upload->how);
}

gboolean memory_complete(Store *store, const char *key, const char *id, const StorePart *parts, guint count,
                         const StorePut *how, StoreResult *result, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_PUT, &lost, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    Upload *upload = find_upload(self, key, id);
    Version *version = upload ? join(upload, parts, count) : NULL;
    g_mutex_unlock(&self->lock);
    if (!upload)
        return store_no_upload(key, id, error);
    if (!version)
        return error_set(error, BACKAPP_ERROR_CONFLICT, "a part of the upload is missing or another one");
    if (!memory_commit(self, key, version, how, result, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    upload = find_upload(self, key, id);
    if (upload)
        g_ptr_array_remove(self->uploads, upload);
    g_mutex_unlock(&self->lock);
    return memory_answer(lost, TRUE, error);
}

gboolean memory_abort(Store *store, const char *key, const char *id, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_PUT, &lost, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    Upload *upload = find_upload(self, key, id);
    if (upload)
        g_ptr_array_remove(self->uploads, upload);
    g_mutex_unlock(&self->lock);
    return memory_answer(lost, TRUE, error);
}

GPtrArray *memory_list_uploads(Store *store, const char *prefix, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_LIST, &lost, error) || !memory_answer(lost, TRUE, error))
        return NULL;
    GPtrArray *uploads = store_uploads_new();
    g_mutex_lock(&self->lock);
    for (guint i = 0; i < self->uploads->len; i++) {
        const Upload *upload = g_ptr_array_index(self->uploads, i);
        if (!g_str_has_prefix(upload->key, prefix))
            continue;
        StoreUpload *copy = g_new0(StoreUpload, 1);
        *copy = (StoreUpload){g_strdup(upload->key), g_strdup(upload->id), upload->started};
        g_ptr_array_add(uploads, copy);
    }
    g_mutex_unlock(&self->lock);
    store_uploads_sort(uploads);
    return uploads;
}

static gboolean describe_part(gpointer key, gpointer value, gpointer user_data)
{
    const Part *part = value;
    GArray *parts = user_data;
    StorePart copy = {.number = part->number, .etag = g_strdup(part->etag), .size = g_bytes_get_size(part->bytes)};
    g_array_append_val(parts, copy);
    return FALSE;
}

GArray *memory_list_parts(Store *store, const char *key, const char *id, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_LIST, &lost, error) || !memory_answer(lost, TRUE, error))
        return NULL;
    g_autoptr(GArray) parts = store_parts_new();
    g_mutex_lock(&self->lock);
    Upload *upload = find_upload(self, key, id);
    if (upload)
        g_tree_foreach(upload->parts, describe_part, parts);
    g_mutex_unlock(&self->lock);
    if (upload)
        return g_steal_pointer(&parts);
    store_no_upload(key, id, error);
    return NULL;
}
