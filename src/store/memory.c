#include "store/memory_store.h"

#include "base/human.h"
#include "crypto/digest.h"

#include <string.h>

#define MAX_BYTES ((guint64)1 << 31) /* GByteArray counts in guint */
#define MAX_PARTS 10000

typedef struct {
    StoreList base;
    MemoryStore *store;
    char *prefix, *after; /* after: the last key that was taken in */
    gboolean versions, begun;
    GPtrArray *pending; /* of StoreObject: what is left of the key at hand */
    guint next;
} MemoryList;

static int compare_keys(gconstpointer a, gconstpointer b, gpointer unused)
{
    return strcmp(a, b);
}

static Version *version_ref(Version *version)
{
    atomic_fetch_add(&version->references, 1);
    return version;
}

static void version_unref(gpointer data)
{
    Version *version = data;
    if (atomic_fetch_sub(&version->references, 1) > 1)
        return;
    if (version->bytes)
        g_bytes_unref(version->bytes);
    g_free(version->id);
    g_free(version->etag);
    g_free(version->storage_class);
    g_free(version->mtime);
    g_free(version->lock_mode);
    g_free(version);
}

gboolean memory_admit(MemoryStore *self, StoreRequest kind, gboolean *lost, GError **error)
{
    store_tally_request(&self->tally, kind);
    g_mutex_lock(&self->lock);
    gboolean fails = self->failures[kind].count > 0;
    BackappError code = self->failures[kind].code;
    *lost = fails && self->failures[kind].lost_answer;
    if (fails)
        self->failures[kind].count--;
    g_mutex_unlock(&self->lock);
    if (!fails || *lost)
        return TRUE;
    return error_set(error, code, "a test wants this %s to fail", store_request_name(kind));
}

gboolean memory_answer(gboolean lost, gboolean good, GError **error)
{
    return good && lost ? error_set(error, BACKAPP_ERROR_TRANSIENT, "a test wants this answer to be lost") : good;
}

void store_memory_fail_next(Store *store, StoreRequest kind, BackappError code, guint count, gboolean lost_answer)
{
    MemoryStore *self = (MemoryStore *)store;
    g_mutex_lock(&self->lock);
    self->failures[kind].code = code;
    self->failures[kind].count = count;
    self->failures[kind].lost_answer = lost_answer;
    g_mutex_unlock(&self->lock);
}

char *memory_etag(const void *data, gsize length)
{
    guint8 sum[HASH_BYTES];
    g_autoptr(Hash) hash = hash_new_md5(NULL);
    if (!hash)
        hash = hash_new();
    hash_update(hash, data, length);
    hash_finish(hash, sum);
    return digest_hex(sum, HASH_MD5_BYTES);
}

Version *memory_version_new(GBytes *bytes, char *etag, const StorePut *how)
{
    Version *version = g_new0(Version, 1);
    atomic_init(&version->references, 1);
    version->bytes = bytes;
    version->etag = etag;
    version->modified = g_get_real_time() / G_USEC_PER_SEC;
    version->storage_class = g_strdup(how && how->storage_class ? how->storage_class : "STANDARD");
    version->mtime = g_strdup(how ? how->mtime : NULL);
    version->lock_mode = g_strdup(how ? how->lock_mode : NULL);
    version->lock_until = how ? how->lock_until : 0;
    return version;
}

static GPtrArray *versions_of(MemoryStore *self, const char *key)
{
    return g_tree_lookup(self->objects, key);
}

static Version *latest_of(GPtrArray *versions)
{
    return versions ? g_ptr_array_index(versions, versions->len - 1) : NULL;
}

/* The version that is meant, not a delete marker; NULL if there is none. */
static Version *find(MemoryStore *self, const char *key, const char *id)
{
    GPtrArray *versions = versions_of(self, key);
    Version *found = id ? NULL : latest_of(versions);
    for (guint i = 0; id && versions && i < versions->len; i++) {
        Version *one = g_ptr_array_index(versions, i);
        if (g_strcmp0(one->id ? one->id : "null", id) == 0)
            found = one;
    }
    return found && found->bytes ? found : NULL;
}

/* Puts a version on top of a key's; the lock is held. Takes it. */
static void push(MemoryStore *self, const char *key, Version *version)
{
    GPtrArray *versions = versions_of(self, key);
    if (!versions) {
        versions = g_ptr_array_new_with_free_func(version_unref);
        g_tree_insert(self->objects, g_strdup(key), versions);
    }
    if (self->versioning)
        version->id = g_strdup_printf("v%08" G_GINT64_MODIFIER "x", ++self->ids);
    for (guint i = versions->len; !self->versioning && i-- > 0;)
        if (!((Version *)g_ptr_array_index(versions, i))->id)
            g_ptr_array_remove_index(versions, i);
    g_ptr_array_add(versions, version);
}

static gboolean is_locked(const Version *version)
{
    return version->lock_mode && version->lock_until > g_get_real_time() / G_USEC_PER_SEC;
}

static gboolean refuse(const char *key, const char *why, GError **error)
{
    g_autofree char *shown = human_name(key, -1);
    return error_set(error, BACKAPP_ERROR_CONFLICT, "%s %s", shown, why);
}

gboolean memory_commit(MemoryStore *self, const char *key, Version *version, const StorePut *how, StoreResult *result,
                       GError **error)
{
    g_mutex_lock(&self->lock);
    Version *there = latest_of(versions_of(self, key));
    gboolean exists = there && there->bytes;
    gboolean locked = exists && !there->id && !self->versioning && is_locked(there);
    gboolean good = !locked && !(how->if_absent && exists);
    if (good) {
        push(self, key, version);
        result->etag = g_strdup(version->etag);
        result->version = g_strdup(version->id);
    }
    g_mutex_unlock(&self->lock);
    if (!good)
        version_unref(version);
    return good || refuse(key, locked ? "is locked" : "is there already", error);
}

GBytes *memory_take_in(MemoryStore *self, const StoreBody *body, const char *key, GError **error)
{
    guint8 *data = body->length > 0 ? g_try_malloc(body->length) : g_malloc(1);
    g_autoptr(GBytes) bytes = g_bytes_new_take(data, data ? body->length : 0);
    if (!data) {
        error_set(error, BACKAPP_ERROR_NO_SPACE, "there is no memory for %" G_GUINT64_FORMAT " bytes", body->length);
        return NULL;
    }
    g_autofree guint8 *buffer = g_malloc(STORE_PIECE_BYTES);
    gsize length = 0;
    for (guint64 offset = 0; offset < body->length; offset += length) {
        const guint8 *piece = NULL;
        if (!store_body_piece(body, offset, buffer, &piece, &length, error))
            return NULL;
        memcpy(data + offset, piece, length);
    }
    guint8 sum[HASH_BYTES];
    if (body->sha256)
        digest_sha256(data, body->length, sum);
    if (body->sha256 && !store_body_check(body, sum, key, error))
        return NULL;
    atomic_fetch_add(&self->tally.sent, body->length);
    return g_steal_pointer(&bytes);
}

static gboolean memory_put(Store *store, const char *key, const StoreBody *body, const StorePut *how,
                           StoreResult *result, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_PUT, &lost, error))
        return FALSE;
    GBytes *bytes = memory_take_in(self, body, key, error);
    if (!bytes)
        return FALSE;
    char *etag = memory_etag(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    return memory_answer(lost, memory_commit(self, key, memory_version_new(bytes, etag, how), how, result, error),
                         error);
}

/* The facts of a version; strings are borrowed. */
static StoreObject describe(const char *key, const Version *version, gboolean latest)
{
    return (StoreObject){.key = key,
                         .size = version->bytes ? g_bytes_get_size(version->bytes) : 0,
                         .modified = version->modified,
                         .etag = version->etag ? version->etag : "",
                         .version = version->id,
                         .storage_class = version->storage_class,
                         .latest = latest,
                         .delete_marker = !version->bytes,
                         .mtime = version->mtime};
}

/* The version, held, and a copy of its facts (unless object is NULL). */
static Version *look_up(MemoryStore *self, const char *key, const char *id, StoreObject **object, GError **error)
{
    g_mutex_lock(&self->lock);
    Version *version = find(self, key, id);
    if (version)
        (void)version_ref(version);
    StoreObject facts = {0};
    if (version)
        facts = describe(key, version, version == latest_of(versions_of(self, key)));
    g_mutex_unlock(&self->lock);
    if (!version)
        store_no_object(key, error);
    else if (object)
        *object = store_object_copy(&facts);
    return version;
}

static gboolean check_etag(const char *key, const Version *version, const char *if_match, GError **error)
{
    return !if_match || strcmp(version->etag, if_match) == 0 || refuse(key, "has changed", error);
}

static gboolean memory_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                           StoreObject **object, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_GET, &lost, error))
        return FALSE;
    Version *version = look_up(self, range->key, range->version, object, error);
    if (!version)
        return FALSE;
    gsize size = 0;
    const guint8 *data = g_bytes_get_data(version->bytes, &size);
    guint64 length = 0;
    gboolean good =
        check_etag(range->key, version, range->if_match, error) && store_range_cut(range, size, &length, error);
    length = lost ? length / 2 : length;
    if (good && length > 0)
        good = write(user_data, data + range->offset, length, error);
    atomic_fetch_add(&self->tally.received, good ? length : 0);
    version_unref(version);
    return memory_answer(lost, good, error);
}

static StoreObject *memory_head(Store *store, const char *key, const char *id, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_HEAD, &lost, error))
        return NULL;
    StoreObject *object = NULL;
    Version *version = look_up(self, key, id, &object, error);
    if (version)
        version_unref(version);
    if (!object || memory_answer(lost, TRUE, error))
        return object;
    store_object_free(object);
    return NULL;
}

/* Takes in what there is of the first key behind the last one. FALSE at the end. */
static gboolean take_key(MemoryList *list)
{
    MemoryStore *self = list->store;
    g_ptr_array_set_size(list->pending, 0);
    list->next = 0;
    g_mutex_lock(&self->lock);
    GTreeNode *node =
        list->begun ? g_tree_upper_bound(self->objects, list->after) : g_tree_lower_bound(self->objects, list->prefix);
    const char *key = node ? g_tree_node_key(node) : NULL;
    if (key && !g_str_has_prefix(key, list->prefix))
        key = NULL;
    GPtrArray *versions = key ? g_tree_node_value(node) : NULL;
    for (guint i = versions ? versions->len : 0; i-- > 0 && (list->versions || i == versions->len - 1);) {
        Version *version = g_ptr_array_index(versions, i);
        StoreObject object = describe(key, version, i == versions->len - 1);
        if (list->versions || version->bytes)
            g_ptr_array_add(list->pending, store_object_copy(&object));
    }
    if (key) {
        g_free(list->after);
        list->after = g_strdup(key);
        list->begun = TRUE;
    }
    g_mutex_unlock(&self->lock);
    return key != NULL;
}

static int list_next(StoreList *base, const StoreObject **object, GError **error)
{
    MemoryList *list = (MemoryList *)base;
    /* A failure that a test asked for may come at the start and behind every object. */
    gboolean lost = FALSE;
    g_mutex_lock(&list->store->lock);
    gboolean fails = list->store->failures[STORE_REQUEST_LIST].count > 0;
    g_mutex_unlock(&list->store->lock);
    if (fails && (!memory_admit(list->store, STORE_REQUEST_LIST, &lost, error) || !memory_answer(lost, TRUE, error)))
        return -1;
    while (list->next >= list->pending->len)
        if (!take_key(list))
            return 0;
    *object = g_ptr_array_index(list->pending, list->next++);
    return 1;
}

static void list_free(StoreList *base)
{
    MemoryList *list = (MemoryList *)base;
    g_ptr_array_unref(list->pending);
    g_free(list->prefix);
    g_free(list->after);
    g_free(list);
}

static StoreList *memory_list(Store *store, const char *prefix, const char *start_after, gboolean versions,
                              GError **error)
{
    MemoryList *list = g_new0(MemoryList, 1);
    list->base = (StoreList){.next = list_next, .free = list_free};
    list->store = (MemoryStore *)store;
    store_tally_request(&list->store->tally, STORE_REQUEST_LIST);
    list->prefix = g_strdup(prefix);
    list->after = g_strdup(start_after);
    list->begun = start_after && strcmp(start_after, prefix) >= 0;
    list->versions = versions;
    list->pending = g_ptr_array_new_with_free_func((GDestroyNotify)store_object_free);
    return &list->base;
}

/* Removes versions[i]; the key goes with its last one. */
static void remove_at(MemoryStore *self, const char *key, GPtrArray *versions, guint i)
{
    g_ptr_array_remove_index(versions, i);
    if (versions->len == 0)
        g_tree_remove(self->objects, key);
}

/* Deletes one version for good. FALSE if it is locked. */
static gboolean delete_version(MemoryStore *self, const char *key, const char *id)
{
    GPtrArray *versions = versions_of(self, key);
    for (guint i = versions ? versions->len : 0; i-- > 0;) {
        Version *version = g_ptr_array_index(versions, i);
        if (g_strcmp0(version->id ? version->id : "null", id) != 0)
            continue;
        if (is_locked(version))
            return FALSE;
        remove_at(self, key, versions, i);
        return TRUE;
    }
    return TRUE;
}

/* Deletes a key: a marker where versions are or were kept, else for good. FALSE if it is locked. */
static gboolean delete_key(MemoryStore *self, const char *key)
{
    GPtrArray *versions = versions_of(self, key);
    if (self->versioning) {
        push(self, key, memory_version_new(NULL, NULL, NULL));
        return TRUE;
    }
    if (!versions)
        return TRUE;
    Version *version = latest_of(versions);
    if (!version->id && version->bytes && is_locked(version))
        return FALSE;
    if (versions->len == 1 && !version->id)
        remove_at(self, key, versions, 0);
    else
        push(self, key, memory_version_new(NULL, NULL, NULL));
    return TRUE;
}

static gboolean memory_delete(Store *store, const char *key, const char *id, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_DELETE, &lost, error))
        return FALSE;
    g_mutex_lock(&self->lock);
    gboolean good = id ? delete_version(self, key, id) : delete_key(self, key);
    g_mutex_unlock(&self->lock);
    return memory_answer(lost, good || refuse(key, "is locked", error), error);
}

GBytes *memory_read_source(MemoryStore *self, const StoreSource *source, guint64 offset, guint64 length, GError **error)
{
    Version *version = look_up(self, source->key, source->version, NULL, error);
    if (!version)
        return NULL;
    StoreRange range = {.key = source->key, .offset = offset, .length = length};
    guint64 cut = 0;
    GBytes *bytes = NULL;
    if (check_etag(source->key, version, source->if_match, error) &&
        store_range_cut(&range, g_bytes_get_size(version->bytes), &cut, error)) {
        if (cut == length || length == G_MAXUINT64)
            bytes = g_bytes_new_from_bytes(version->bytes, offset, cut);
        else
            error_set(error, BACKAPP_ERROR_INVALID, "the part that is to be copied ends behind the object");
    }
    version_unref(version);
    return bytes;
}

static gboolean memory_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how,
                            StoreResult *result, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    gboolean lost = FALSE;
    if (!memory_admit(self, STORE_REQUEST_COPY, &lost, error))
        return FALSE;
    GBytes *bytes = memory_read_source(self, source, 0, G_MAXUINT64, error);
    if (!bytes)
        return FALSE;
    char *etag = memory_etag(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    return memory_answer(lost, memory_commit(self, key, memory_version_new(bytes, etag, how), how, result, error),
                         error);
}

static gboolean memory_facts(Store *store, StoreFacts *facts, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_OTHER);
    g_mutex_lock(&self->lock);
    facts->versioning = self->versioning;
    facts->versioning_suspended = self->versioned && !self->versioning;
    g_mutex_unlock(&self->lock);
    facts->mfa_delete = facts->encryption = facts->public_access = 0;
    facts->lock = 1;
    return TRUE;
}

static gboolean memory_set_versioning(Store *store, gboolean on, GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_OTHER);
    g_mutex_lock(&self->lock);
    self->versioning = on;
    self->versioned = self->versioned || on;
    g_mutex_unlock(&self->lock);
    return TRUE;
}

static gboolean memory_set_lock(Store *store, const char *key, const char *id, const char *mode, gint64 until,
                                GError **error)
{
    MemoryStore *self = (MemoryStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_OTHER);
    g_mutex_lock(&self->lock);
    Version *version = find(self, key, id);
    if (version && !(is_locked(version) && version->lock_until >= until)) {
        g_free(version->lock_mode);
        version->lock_mode = g_strdup(mode);
        version->lock_until = until;
    }
    g_mutex_unlock(&self->lock);
    return version || store_no_object(key, error);
}

static void memory_counts(Store *store, StoreCounts *counts)
{
    store_tally_read(&((MemoryStore *)store)->tally, counts);
}

static void memory_free(Store *store)
{
    MemoryStore *self = (MemoryStore *)store;
    g_tree_unref(self->objects);
    g_ptr_array_unref(self->uploads);
    g_mutex_clear(&self->lock);
    g_free(self->base.url);
    g_free(self);
}

static const StoreOps memory_ops = {
    .name = "memory",
    .put = memory_put,
    .get = memory_get,
    .head = memory_head,
    .list = memory_list,
    .delete_one = memory_delete,
    .copy = memory_copy,
    .begin = memory_begin,
    .part = memory_part,
    .copy_part = memory_copy_part,
    .complete = memory_complete,
    .abort = memory_abort,
    .list_uploads = memory_list_uploads,
    .list_parts = memory_list_parts,
    .facts = memory_facts,
    .set_versioning = memory_set_versioning,
    .set_lock = memory_set_lock,
    .counts = memory_counts,
    .free = memory_free,
};

Store *store_memory_new(void)
{
    MemoryStore *self = g_new0(MemoryStore, 1);
    self->base = (Store){.ops = &memory_ops,
                         .can = STORE_COPY | STORE_RANGE_COPY | STORE_MULTIPART | STORE_VERSIONS | STORE_LOCK |
                                STORE_CLASSES | STORE_METADATA | STORE_IF_MATCH,
                         .url = g_strdup("memory:"),
                         .min_part = 1,
                         .max_part = MAX_BYTES,
                         .max_object = MAX_BYTES,
                         .max_put = MAX_BYTES,
                         .max_parts = MAX_PARTS};
    g_mutex_init(&self->lock);
    self->objects = g_tree_new_full(compare_keys, NULL, g_free, (GDestroyNotify)g_ptr_array_unref);
    self->uploads = memory_uploads_new();
    return &self->base;
}
