#include "engine/s3sync/verify.h"

#include <string.h>

#include "base/error.h"
#include "crypto/digest.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/content_hash.h"
#include "engine/s3sync/job.h"
#include "engine/s3sync/tree.h"

typedef struct {
    S3Work work;
    S3Run *run;
    char *path, *key, *etag;
    guint64 size, object_size, part_size;
    guint8 hash[HASH_BYTES];
} VerifyTask;

/* The content of one object on its way through the hashes. */
typedef struct {
    const VerifyTask *task;
    ContentHash hash; /* only if the task knows the parts' size */
    Hash *md5;        /* may be NULL */
    guint64 seen;
    TinkDecryptor *decryptor; /* NULL: not encrypted */
} Content;

static void content_clear(Content *content)
{
    content_hash_clear(&content->hash);
    hash_free(content->md5);
    tink_decryptor_free(content->decryptor);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Content, content_clear)

static void bad(S3Run *run, atomic_uint_fast64_t *count, const char *path, const char *key, const char *message)
{
    atomic_fetch_add(count, 1);
    run->sink->warning(run->sink, count == &run->missing ? "missing" : "damaged", path, message);
    g_mutex_lock(&run->lock);
    if (run->wrong->len < CATALOGUE_WRONG_MAX)
        g_ptr_array_add(run->wrong, g_strdup(key));
    g_mutex_unlock(&run->lock);
}

gboolean verify_mark(S3Run *run, GError **error)
{
    for (guint i = 0; i < run->wrong->len; i++)
        if (!catalogue_add_wrong(run->catalogue, g_ptr_array_index(run->wrong, i), error))
            return FALSE;
    return run->wrong->len == 0 || catalogue_flush(run->catalogue, error);
}

static void good(S3Run *run, guint64 size, const char *path)
{
    atomic_fetch_add(&run->verified, 1);
    s3run_progress(run, 1, size, path);
}

static void task_free(VerifyTask *task)
{
    g_free(task->path);
    g_free(task->key);
    g_free(task->etag);
    g_free(task);
}

static gboolean take_content(const guint8 *data, gsize length, gpointer user, GError **error)
{
    Content *content = user;
    content->seen += length;
    if (content->md5 != NULL)
        hash_update(content->md5, data, length);
    if (content->task->part_size > 0)
        content_hash_update(&content->hash, data, length);
    return TRUE;
}

static gboolean take_object(gpointer user, const void *data, gsize length, GError **error)
{
    Content *content = user;
    if (!cancel_check(content->task->run->cancel, error))
        return FALSE;
    if (content->decryptor != NULL)
        return tink_decryptor_update(content->decryptor, data, length, take_content, content, error);
    return take_content(data, length, content, error);
}

/* Whether what was read is what the tree says. */
static gboolean is_right(Content *content)
{
    const VerifyTask *task = content->task;
    guint8 hash[HASH_BYTES];
    guint8 want[HASH_MD5_BYTES];
    if (content->seen != task->size)
        return FALSE;
    if (task->part_size == 0) {
        /* Written by another program: an ETag that is an MD5 can still be compared with. */
        if (content->md5 == NULL || strlen(task->etag) != 2 * sizeof want ||
            !digest_parse_hex(task->etag, want, sizeof want))
            return TRUE;
        hash_finish(content->md5, hash);
        return memcmp(hash, want, sizeof want) == 0;
    }
    content_hash_end(&content->hash, hash);
    return memcmp(hash, task->hash, HASH_BYTES) == 0;
}

static gboolean read_object(const VerifyTask *task, gboolean *right, GError **error)
{
    S3Run *run = task->run;
    g_auto(Content) content = {.task = task};
    TinkDecryptor *decryptor = NULL;
    if (run->content_key != NULL)
        decryptor = content.decryptor = tink_decryptor_new(run->content_key);
    if (task->part_size > 0)
        content_hash_begin(&content.hash, task->size, task->part_size);
    else if (decryptor == NULL)
        content.md5 = hash_new_md5(NULL);
    StoreRange range = {.key = task->key, .if_match = task->etag, .length = G_MAXUINT64};
    if (decryptor != NULL &&
        !tink_decryptor_begin(decryptor, S3CONTENT_ASSOCIATED, strlen(S3CONTENT_ASSOCIATED), error))
        return FALSE;
    if (!store_get(run->store, &range, take_object, &content, NULL, error) ||
        (decryptor != NULL && !tink_decryptor_finish(decryptor, take_content, &content, error)))
        return FALSE;
    *right = is_right(&content);
    return TRUE;
}

static void verify_task(S3Work *work)
{
    VerifyTask *task = (VerifyTask *)work;
    S3Run *run = task->run;
    g_autoptr(GError) local = NULL;
    gboolean right = FALSE;
    if (s3run_goes_on(run)) {
        gboolean read = read_object(task, &right, &local);
        workers_note(run->workers, task->object_size);
        if (read && right)
            good(run, task->size, task->path);
        else if (read || error_is(local, BACKAPP_ERROR_CORRUPT))
            bad(run, &run->damaged, task->path, task->key,
                read ? "its object has another content than was stored" : local->message);
        else if (error_is(local, BACKAPP_ERROR_CONFLICT))
            bad(run, &run->damaged, task->path, task->key,
                "its object was replaced, or has to be thawed before it can be read");
        else if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
            bad(run, &run->missing, task->path, task->key, "its object is gone");
        else
            s3run_fail(run, g_steal_pointer(&local));
    }
    task_free(task);
}

/* The list beside the tree: both in the order of keys. */
typedef struct {
    S3Run *run;
    gboolean read_back;
    StoreList *list;
    const StoreObject *object; /* the present one; NULL: the list is at its end */
} Merge;

static gboolean advance(Merge *merge, GError **error)
{
    int got = store_list_next(merge->list, &merge->object, error);
    if (got <= 0)
        merge->object = NULL;
    return got >= 0;
}

/* The entry's object as the store knows it; NULL if there is none. *own: the caller frees it. */
static gboolean find_object(Merge *merge, const S3Entry *entry, const StoreObject **object, StoreObject **own,
                            GError **error)
{
    *object = NULL;
    if (names_is_own_key(entry->key)) { /* a long name: elsewhere in the order */
        g_autoptr(GError) local = NULL;
        *own = store_head(merge->run->store, entry->key, NULL, &local);
        *object = *own;
        if (*own != NULL || error_is(local, BACKAPP_ERROR_NOT_FOUND))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    while (merge->object != NULL && strcmp(merge->object->key, entry->key) < 0) {
        if (!advance(merge, error))
            return FALSE;
    }
    if (merge->object != NULL && strcmp(merge->object->key, entry->key) == 0)
        *object = merge->object;
    return TRUE;
}

static void queue_read(S3Run *run, const S3Entry *entry)
{
    VerifyTask *task = g_new0(VerifyTask, 1);
    task->work.run = verify_task;
    task->run = run;
    task->path = g_strdup(entry->path);
    task->key = g_strdup(entry->key);
    task->etag = g_strdup(entry->etag);
    task->size = entry->meta.size;
    task->object_size = entry->object_size;
    task->part_size = entry->part_size;
    memcpy(task->hash, entry->hash, HASH_BYTES);
    workers_push(run->workers, &task->work);
}

static gboolean verify_entry(Merge *merge, const S3Entry *entry, GError **error)
{
    S3Run *run = merge->run;
    const StoreObject *object = NULL;
    g_autoptr(StoreObject) own = NULL;
    if (!find_object(merge, entry, &object, &own, error))
        return FALSE;
    if (object == NULL)
        bad(run, &run->missing, entry->path, entry->key, "its object is gone");
    else if (object->size != entry->object_size)
        bad(run, &run->damaged, entry->path, entry->key, "its object has another size than was stored");
    else if (g_strcmp0(object->etag, entry->etag) != 0)
        bad(run, &run->damaged, entry->path, entry->key, "its object is not the one that was stored");
    else if (merge->read_back)
        queue_read(run, entry);
    else
        good(run, entry->object_size, entry->path);
    return TRUE;
}

gboolean verify_objects(S3Run *run, gboolean read_back, GError **error)
{
    g_autoptr(GPtrArray) roots = tree_list_roots(run->store, error);
    if (roots == NULL)
        return FALSE;
    if (roots->len == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s has no restore point to be verified", run->store->url);
    const TreeRoot *newest = g_ptr_array_index(roots, 0);
    g_autoptr(TreeReader) reader = tree_reader_open(run->store, newest->key, run->content_key, error);
    g_autoptr(StoreList) list = reader != NULL ? store_list(run->store, "", NULL, FALSE, error) : NULL;
    if (list == NULL)
        return FALSE;
    const TreeRoot *root = tree_reader_root(reader);
    s3run_stage(run, "verify", root->files, root->bytes);
    Merge merge = {.run = run, .read_back = read_back, .list = list};
    S3Entry entry;
    int got = -1;
    gboolean fine = advance(&merge, error);
    while (fine && s3run_goes_on(run) && (got = tree_reader_next(reader, &entry, error)) > 0)
        fine = entry.key == NULL || verify_entry(&merge, &entry, error);
    workers_wait(run->workers);
    return fine && s3run_result(run, error) && got >= 0;
}
