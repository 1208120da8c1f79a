#include "base/error.h"
#include "crypto/digest.h"
#include "fs/atomic.h"
#include "fs/remove.h"
#include "store/local_store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * An upload is a directory uploads/ID with a file "upload" (its key and facts) and, for each part, one file named
 * NUMBER-ETAG. A part that is sent again has two for a moment.
 */

#define VERSION    "backapp-upload 1"
#define INFO       "upload"
#define INFO_MAX   (16 * 1024)
#define ID_BYTES   16
#define PART_NAME  80
#define NUMBER_MAX 99999

/* What the file "upload" says. */
typedef struct {
    int fd; /* the upload's directory */
    char *key;
    gint64 started;
    LocalFacts facts;
} Upload;

static void upload_clear(Upload *upload)
{
    fd_clear(&upload->fd);
    g_clear_pointer(&upload->key, g_free);
    local_facts_clear(&upload->facts);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Upload, upload_clear)

static gboolean is_id(const char *id)
{
    guint8 bytes[ID_BYTES];
    return digest_parse_hex(id, bytes, sizeof bytes);
}

/* Opens the directory of uploads to read; -1 if nothing was ever written. */
static int open_uploads(LocalStore *self)
{
    return local_open_hidden(self, "uploads");
}

/* Reads what an upload is for. FALSE without an error if it is gone. */
static gboolean read_upload(LocalStore *self, int uploads_fd, const char *id, Upload *upload, GError **error)
{
    upload->fd = openat(uploads_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    g_autofree char *text = NULL;
    g_autoptr(GError) local = NULL;
    if (upload->fd < 0)
        return errno != ENOENT && local_failed(self, errno, "open the upload", id, error);
    if (!atomic_read(upload->fd, INFO, INFO_MAX, &text, NULL, &local)) {
        if (!error_is(local, BACKAPP_ERROR_NOT_FOUND))
            g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    /* The key's own line is last, for a key may hold a newline. */
    char *key = strstr(text, "\nkey=");
    struct stat st;
    if (!key || fstat(upload->fd, &st) != 0)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the upload %s in %s is damaged: abort it", id, self->directory);
    *key = '\0';
    upload->key = g_strdup(key + strlen("\nkey="));
    if (!local_facts_decode(text, VERSION, &upload->facts))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "the upload %s in %s is damaged: abort it", id, self->directory);
    /* ETags are none's yet: the field carries the start. */
    upload->started = upload->facts.etag ? g_ascii_strtoll(upload->facts.etag, NULL, 10) : 0;
    g_clear_pointer(&upload->facts.etag, g_free);
    return TRUE;
}

/* Opens the upload `id` of a key. */
static gboolean open_upload(LocalStore *self, const char *key, const char *id, Upload *upload, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) uploads = open_uploads(self);
    if (uploads >= 0 && is_id(id) && read_upload(self, uploads, id, upload, &local) && g_strcmp0(upload->key, key) == 0)
        return TRUE;
    if (!local)
        return store_no_upload(key, id, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

/* Writes what an upload is for into its new directory. FALSE leaves none. */
static gboolean write_upload(LocalStore *self, const char *id, const char *key, const char *text, GError **error)
{
    if (mkdirat(self->uploads_fd, id, LOCAL_DIR_MODE) != 0)
        return local_failed(self, errno, "begin an upload of", key, error);
    g_auto(AutoFd) fd = openat(self->uploads_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    gboolean good = fd >= 0 ? atomic_write(fd, INFO, text, strlen(text), LOCAL_FILE_MODE, error) &&
                                  dir_sync(self->uploads_fd, self->directory, error)
                            : local_failed(self, errno, "begin an upload of", key, error);
    /* Without its description nobody would find it again to abort it. */
    if (!good)
        (void)remove_tree(self->uploads_fd, id, FALSE, NULL, NULL);
    return good;
}

char *local_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_PUT);
    if (!local_prepare(self, error))
        return NULL;
    guint32 random[ID_BYTES / sizeof(guint32)];
    for (guint i = 0; i < G_N_ELEMENTS(random); i++)
        random[i] = g_random_int();
    g_autofree char *id = digest_hex((const guint8 *)random, sizeof random);
    g_auto(LocalFacts) facts = {0};
    local_facts_set(&facts, how);
    facts.etag = g_strdup_printf("%" G_GINT64_FORMAT, g_get_real_time() / G_USEC_PER_SEC);
    g_autofree char *lines = local_facts_encode(&facts, VERSION);
    g_autofree char *text = g_strconcat(lines, "key=", key, NULL);
    return write_upload(self, id, key, text, error) ? g_steal_pointer(&id) : NULL;
}

/* The number and ETag that a part's file name says. */
static gboolean parse_part(const char *name, guint *number, const char **etag)
{
    char *end = NULL;
    guint64 value = g_ascii_isdigit(name[0]) ? g_ascii_strtoull(name, &end, 10) : 0;
    if (value < 1 || value > NUMBER_MAX || *end != '-')
        return FALSE;
    *number = (guint)value;
    *etag = end + 1;
    return TRUE;
}

/* Removes files of a part that another one has taken the place of. */
static void drop_others(int upload_fd, guint number, const char *kept)
{
    g_auto(DirNames) names = {0};
    if (!dir_names_read(upload_fd, &names, NULL, NULL))
        return;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        guint other = 0;
        const char *etag = NULL, *name = dir_names_get(&names, i);
        if (parse_part(name, &other, &etag) && other == number && strcmp(name, kept) != 0)
            (void)unlinkat(upload_fd, name, 0);
    }
}

/* Makes a complete temporary file a part. */
static gboolean commit_part(LocalStore *self, const Upload *upload, const char *id, guint number, LocalTemp *temp,
                            const char *etag, GError **error)
{
    char name[PART_NAME];
    (void)snprintf(name, sizeof name, "%05u-%s", number, etag);
    if (fsync(temp->fd) != 0)
        return local_failed(self, errno, "make a part durable of", upload->key, error);
    /* A directory that was removed meanwhile takes no new names. */
    if (renameat(temp->directory_fd, temp->name, upload->fd, name) != 0)
        return errno == ENOENT ? store_no_upload(upload->key, id, error)
                               : local_failed(self, errno, "store a part of", upload->key, error);
    temp->name[0] = '\0';
    drop_others(upload->fd, number, name);
    return dir_sync(upload->fd, self->directory, error);
}

gboolean local_part(Store *store, const char *key, const char *id, guint number, const StoreBody *body, char **etag,
                    GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_PUT);
    g_auto(Upload) upload = {.fd = -1};
    g_auto(LocalTemp) temp = {.fd = -1};
    g_autofree char *made = NULL;
    if (!local_prepare(self, error) || !open_upload(self, key, id, &upload, error) ||
        !local_temp_open(self, &temp, error) || !local_write_body(self, temp.fd, key, body, &made, error) ||
        !commit_part(self, &upload, id, number, &temp, made, error))
        return FALSE;
    *etag = g_steal_pointer(&made);
    return TRUE;
}

gboolean local_copy_part(Store *store, const char *key, const char *id, guint number, const StoreSource *source,
                         guint64 offset, guint64 length, char **etag, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_COPY);
    struct stat st;
    g_auto(Upload) upload = {.fd = -1};
    g_auto(LocalTemp) temp = {.fd = -1};
    g_auto(LocalFacts) facts = {0};
    if (!local_prepare(self, error) || !open_upload(self, key, id, &upload, error))
        return FALSE;
    g_auto(AutoFd) fd = local_open_source(self, source, &st, &facts, error);
    if (fd < 0)
        return FALSE;
    if (offset > (guint64)st.st_size || length > (guint64)st.st_size - offset)
        return error_set(error, BACKAPP_ERROR_INVALID, "the part that is to be copied ends behind the object");
    guint64 at = 0;
    if (!local_temp_open(self, &temp, error) ||
        !local_copy_range(self, fd, offset, length, temp.fd, &at, source->key, error))
        return FALSE;
    /* Names the bytes without reading them. */
    g_autofree char *text = g_strdup_printf("%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, facts.etag, offset, length);
    g_autofree char *made = digest_sha256_hex(text, strlen(text));
    if (!commit_part(self, &upload, id, number, &temp, made, error))
        return FALSE;
    *etag = g_steal_pointer(&made);
    return TRUE;
}

static gboolean is_hex_sum(const char *etag)
{
    guint8 sum[HASH_BYTES];
    return digest_parse_hex(etag, sum, sizeof sum);
}

/* Puts the parts behind each other. */
static gboolean join(LocalStore *self, const Upload *upload, const StorePart *parts, guint count, int to_fd,
                     GError **error)
{
    guint64 at = 0;
    for (guint i = 0; i < count; i++) {
        char name[PART_NAME];
        struct stat st;
        (void)snprintf(name, sizeof name, "%05u-%s", parts[i].number, parts[i].etag);
        g_auto(AutoFd) fd =
            is_hex_sum(parts[i].etag) ? openat(upload->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (fd < 0)
            return error_set(error, BACKAPP_ERROR_CONFLICT, "part %u of the upload of %s is missing or another one",
                             parts[i].number, upload->key);
        if (fstat(fd, &st) != 0)
            return local_failed(self, errno, "join the parts of", upload->key, error);
        if (!local_copy_range(self, fd, 0, (guint64)st.st_size, to_fd, &at, upload->key, error))
            return FALSE;
    }
    return TRUE;
}

gboolean local_complete(Store *store, const char *key, const char *id, const StorePart *parts, guint count,
                        const StorePut *how, StoreResult *result, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_PUT);
    g_auto(Upload) upload = {.fd = -1};
    g_auto(LocalTemp) temp = {.fd = -1};
    if (!local_prepare(self, error) || !open_upload(self, key, id, &upload, error) ||
        !local_temp_open(self, &temp, error) || !join(self, &upload, parts, count, temp.fd, error))
        return FALSE;
    upload.facts.etag = store_parts_etag(parts, count);
    if (!local_commit(self, key, &temp, &upload.facts, how->if_absent, error))
        return FALSE;
    result->etag = g_strdup(upload.facts.etag);
    /* The object is there; parts that stay only cost space until they are aborted. */
    (void)remove_tree(self->uploads_fd, id, FALSE, NULL, NULL);
    return TRUE;
}

gboolean local_abort(Store *store, const char *key, const char *id, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_PUT);
    g_auto(Upload) upload = {.fd = -1};
    g_autoptr(GError) local = NULL;
    if (!local_prepare(self, error))
        return FALSE;
    gboolean found = open_upload(self, key, id, &upload, &local);
    /* A damaged one has to be abortable. */
    if (!found && !(is_id(id) && error_is(local, BACKAPP_ERROR_CORRUPT)))
        return TRUE;
    return remove_tree(self->uploads_fd, id, FALSE, NULL, error) && dir_sync(self->uploads_fd, self->directory, error);
}

GPtrArray *local_list_uploads(Store *store, const char *prefix, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_LIST);
    g_autoptr(GPtrArray) uploads = store_uploads_new();
    g_auto(AutoFd) fd = open_uploads(self);
    g_auto(DirNames) names = {0};
    if (fd < 0)
        return g_steal_pointer(&uploads);
    if (!dir_names_read(fd, &names, NULL, error))
        return NULL;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        g_auto(Upload) upload = {.fd = -1};
        const char *id = dir_names_get(&names, i);
        if (!is_id(id) || !read_upload(self, fd, id, &upload, NULL) || !g_str_has_prefix(upload.key, prefix))
            continue;
        StoreUpload *listed = g_new0(StoreUpload, 1);
        *listed = (StoreUpload){g_steal_pointer(&upload.key), g_strdup(id), upload.started};
        g_ptr_array_add(uploads, listed);
    }
    store_uploads_sort(uploads);
    return g_steal_pointer(&uploads);
}

GArray *local_list_parts(Store *store, const char *key, const char *id, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_LIST);
    g_auto(Upload) upload = {.fd = -1};
    g_auto(DirNames) names = {0};
    if (!open_upload(self, key, id, &upload, error) || !dir_names_read(upload.fd, &names, NULL, error))
        return NULL;
    g_autoptr(GArray) parts = store_parts_new();
    struct timespec newest = {0};
    for (guint i = 0; i < dir_names_count(&names); i++) {
        struct stat st;
        guint number = 0;
        const char *etag = NULL, *name = dir_names_get(&names, i);
        if (!parse_part(name, &number, &etag) || fstatat(upload.fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        StorePart *last = parts->len > 0 ? &g_array_index(parts, StorePart, parts->len - 1) : NULL;
        if (last && last->number == number) {
            gboolean later = st.st_mtim.tv_sec != newest.tv_sec ? st.st_mtim.tv_sec > newest.tv_sec
                                                                : st.st_mtim.tv_nsec > newest.tv_nsec;
            if (!later)
                continue;
            g_array_set_size(parts, parts->len - 1);
        }
        StorePart part = {.number = number, .etag = g_strdup(etag), .size = (guint64)st.st_size};
        newest = st.st_mtim;
        g_array_append_val(parts, part);
    }
    return g_steal_pointer(&parts);
}
