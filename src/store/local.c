#include "base/error.h"
#include "base/human.h"
#include "crypto/digest.h"
#include "fs/io.h"
#include "store/drivers.h"
#include "store/local_store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define MAX_PARTS  10000
#define COPY_BYTES ((gsize)1 << 30) /* of one copy_file_range */

gboolean local_failed(const LocalStore *self, int errnum, const char *what, const char *key, GError **error)
{
    g_autofree char *shown = human_name(key, -1);
    return error_set_errno(error, errnum, "cannot %s %s in %s", what, shown, self->directory);
}

gboolean local_write_body(LocalStore *self, int fd, guint64 at, const char *key, const StoreBody *body, char **etag,
                          GError **error)
{
    g_autoptr(Hash) hash = hash_new();
    g_autofree guint8 *buffer = body->read ? g_malloc(STORE_PIECE_BYTES) : NULL;
    gsize length = 0;
    for (guint64 offset = 0; offset < body->length; offset += length) {
        const guint8 *data = NULL;
        if (!store_body_piece(body, offset, buffer, &data, &length, error))
            return FALSE;
        hash_update(hash, data, length);
        if (!io_write_at(fd, data, length, at + offset))
            return local_failed(self, errno, "write", key, error);
    }
    guint8 sum[HASH_BYTES];
    hash_finish(hash, sum);
    if (!store_body_check(body, sum, key, error))
        return FALSE;
    atomic_fetch_add_explicit(&self->tally.sent, body->length, memory_order_relaxed);
    *etag = digest_hex(sum, sizeof sum);
    return TRUE;
}

static gboolean local_put(Store *store, const char *key, const StoreBody *body, const StorePut *how,
                          StoreResult *result, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_PUT);
    g_auto(LocalTemp) temp = {.fd = -1};
    g_auto(LocalFacts) facts = {0};
    local_facts_set(&facts, how);
    if (!local_prepare(self, error) || !local_temp_open(self, &temp, error) ||
        !local_write_body(self, temp.fd, 0, key, body, &facts.etag, error) ||
        !local_commit(self, key, &temp, &facts, how->if_absent, error))
        return FALSE;
    result->etag = g_steal_pointer(&facts.etag);
    return TRUE;
}

static StoreObject describe(const char *key, const struct stat *st, const LocalFacts *facts)
{
    return (StoreObject){.key = key,
                         .size = (guint64)st->st_size,
                         .modified = st->st_mtim.tv_sec,
                         .etag = facts->etag,
                         .storage_class = facts->storage_class,
                         .latest = TRUE,
                         .mtime = facts->mtime};
}

/* Gives a range of an open object to write. */
static gboolean send_range(LocalStore *self, int fd, const StoreRange *range, guint64 length, StoreWrite write,
                           gpointer user_data, GError **error)
{
    g_autofree guint8 *buffer = g_malloc(MIN(MAX(length, 1), STORE_PIECE_BYTES));
    for (guint64 done = 0; done < length;) {
        gsize piece = (gsize)MIN(length - done, STORE_PIECE_BYTES);
        gssize got = io_read_at(fd, buffer, piece, range->offset + done);
        if (got < 0)
            return local_failed(self, errno, "read", range->key, error);
        if ((gsize)got < piece)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "%s in %s became shorter while it was read", range->key,
                             self->directory);
        if (!write(user_data, buffer, piece, error))
            return FALSE;
        done += piece;
        atomic_fetch_add_explicit(&self->tally.received, piece, memory_order_relaxed);
    }
    return TRUE;
}

/* CONFLICT unless the ETag is the one that is wanted. */
static gboolean check_etag(const char *key, const LocalFacts *facts, const char *if_match, GError **error)
{
    if (!if_match || strcmp(facts->etag, if_match) == 0)
        return TRUE;
    g_autofree char *shown = human_name(key, -1);
    return error_set(error, BACKAPP_ERROR_CONFLICT, "%s has changed: its ETag is another", shown);
}

static gboolean local_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                          StoreObject **object, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_GET);
    struct stat st;
    g_auto(LocalFacts) facts = {0};
    g_auto(AutoFd) fd = local_open(self, range->key, &st, error);
    guint64 length = 0;
    if (fd < 0 || !local_facts_read(self, range->key, fd, &st, &facts, error) ||
        !check_etag(range->key, &facts, range->if_match, error) ||
        !store_range_cut(range, (guint64)st.st_size, &length, error))
        return FALSE;
    StoreObject described = describe(range->key, &st, &facts);
    if (object)
        *object = store_object_copy(&described);
    return send_range(self, fd, range, length, write, user_data, error);
}

static StoreObject *local_head(Store *store, const char *key, const char *version, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_HEAD);
    struct stat st;
    g_auto(LocalFacts) facts = {0};
    g_auto(AutoFd) fd = local_open(self, key, &st, error);
    if (fd < 0 || !local_facts_read(self, key, fd, &st, &facts, error))
        return NULL;
    StoreObject described = describe(key, &st, &facts);
    return store_object_copy(&described);
}

static gboolean local_delete(Store *store, const char *key, const char *version, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_DELETE);
    return local_prepare(self, error) && local_remove(self, key, error);
}

/* Through this process: for file systems that cannot copy between these two files. */
static gboolean copy_by_hand(LocalStore *self, int from_fd, guint64 offset, guint64 length, int to_fd, guint64 *at,
                             const char *key, GError **error)
{
    g_autofree guint8 *buffer = g_malloc(STORE_PIECE_BYTES);
    while (length > 0) {
        gsize piece = (gsize)MIN(length, STORE_PIECE_BYTES);
        gssize got = io_read_at(from_fd, buffer, piece, offset);
        if (got < 0 || !io_write_at(to_fd, buffer, (gsize)got, *at))
            return local_failed(self, errno, "copy", key, error);
        if ((gsize)got < piece)
            return error_set(error, BACKAPP_ERROR_CORRUPT, "%s in %s became shorter while it was copied", key,
                             self->directory);
        offset += piece;
        *at += piece;
        length -= piece;
    }
    return TRUE;
}

gboolean local_copy_range(LocalStore *self, int from_fd, guint64 offset, guint64 length, int to_fd, guint64 *at,
                          const char *key, GError **error)
{
    while (length > 0) {
        off64_t from = (off64_t)offset, to = (off64_t)*at;
        ssize_t got = copy_file_range(from_fd, &from, to_fd, &to, MIN(length, COPY_BYTES), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && (errno == ENOSPC || errno == EDQUOT))
            return local_failed(self, errno, "copy", key, error);
        /* Old kernels say 0 where they cannot. */
        if (got <= 0)
            return copy_by_hand(self, from_fd, offset, length, to_fd, at, key, error);
        offset += (guint64)got;
        *at += (guint64)got;
        length -= (guint64)got;
    }
    return TRUE;
}

int local_open_source(LocalStore *self, const StoreSource *source, struct stat *st, LocalFacts *facts, GError **error)
{
    g_auto(AutoFd) fd = local_open(self, source->key, st, error);
    if (fd < 0 || !local_facts_read(self, source->key, fd, st, facts, error) ||
        !check_etag(source->key, facts, source->if_match, error))
        return -1;
    return fd_steal(&fd);
}

static gboolean local_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how,
                           StoreResult *result, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_COPY);
    struct stat st;
    g_auto(LocalTemp) temp = {.fd = -1};
    g_auto(LocalFacts) old = {0}, facts = {0};
    guint64 at = 0;
    local_facts_set(&facts, how);
    g_auto(AutoFd) fd = local_open_source(self, source, &st, &old, error);
    if (fd < 0 || !local_prepare(self, error) || !local_temp_open(self, &temp, error))
        return FALSE;
    /* The bytes are the same, and so is the ETag: it is their hash, or made up for want of one. */
    facts.etag = g_strdup(old.etag);
    if (!local_copy_range(self, fd, 0, (guint64)st.st_size, temp.fd, &at, source->key, error) ||
        !local_commit(self, key, &temp, &facts, how->if_absent, error))
        return FALSE;
    result->etag = g_steal_pointer(&facts.etag);
    return TRUE;
}

static gboolean local_facts(Store *store, StoreFacts *facts, GError **error)
{
    facts->versioning = facts->mfa_delete = facts->lock = facts->encryption = facts->public_access = 0;
    facts->versioning_suspended = 0;
    return TRUE;
}

static void local_counts(Store *store, StoreCounts *counts)
{
    store_tally_read(&((LocalStore *)store)->tally, counts);
}

static void local_free(Store *store)
{
    LocalStore *self = (LocalStore *)store;
    fd_clear(&self->root_fd);
    fd_clear(&self->hidden_fd);
    fd_clear(&self->temp_fd);
    fd_clear(&self->uploads_fd);
    fd_clear(&self->facts_fd);
    fd_clear(&self->lock_fd);
    g_mutex_clear(&self->prepare);
    g_mutex_clear(&self->lock);
    g_free(self->directory);
    g_free(self->base.url);
    g_free(self);
}

static const StoreOps local_ops = {
    .name = "local",
    .put = local_put,
    .get = local_get,
    .head = local_head,
    .list = local_list,
    .delete_one = local_delete,
    .copy = local_copy,
    .begin = local_begin,
    .part = local_part,
    .copy_part = local_copy_part,
    .complete = local_complete,
    .abort = local_abort,
    .list_uploads = local_list_uploads,
    .list_parts = local_list_parts,
    .facts = local_facts,
    .counts = local_counts,
    .free = local_free,
};

Store *store_local_new(const char *directory, GError **error)
{
    g_autofree char *path = g_canonicalize_filename(directory, NULL);
    g_autofree char *shown = human_name(path, -1);
    if (mkdir(path, LOCAL_DIR_MODE) != 0 && errno != EEXIST) {
        error_set_errno(error, errno, "cannot make the directory %s", shown);
        return NULL;
    }
    g_auto(AutoFd) root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        error_set_errno(error, errno, "cannot open the directory %s", shown);
        return NULL;
    }
    LocalStore *self = g_new0(LocalStore, 1);
    self->base = (Store){.ops = &local_ops,
                         .can = STORE_COPY | STORE_RANGE_COPY | STORE_MULTIPART | STORE_CLASSES | STORE_METADATA |
                                STORE_IF_MATCH | STORE_ETAG_SHA256,
                         .url = g_strconcat("file://", shown, NULL),
                         .min_part = 1,
                         .max_part = G_MAXINT64,
                         .max_object = G_MAXINT64,
                         .max_put = G_MAXINT64,
                         .max_parts = MAX_PARTS};
    self->directory = g_steal_pointer(&shown);
    self->root_fd = fd_steal(&root);
    self->hidden_fd = self->temp_fd = self->uploads_fd = self->facts_fd = self->lock_fd = -1;
    g_mutex_init(&self->prepare);
    g_mutex_init(&self->lock);
    return &self->base;
}
