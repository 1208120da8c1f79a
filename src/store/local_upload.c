#include "base/error.h"
#include "crypto/digest.h"
#include "fs/atomic.h"
#include "fs/remove.h"
#include "store/local_slots.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * An upload is a directory uploads/ID with a file "upload" (its key and facts), mostly a file of slots, and, for each
 * part, one file named NUMBER-ETAG@LENGTH (its bytes lie in its slot) or NUMBER-ETAG (which has them itself). A part that
 * is sent again has two for a moment.
 */

#define VERSION  "backapp-upload 1"
#define INFO     LOCAL_UPLOAD_INFO
#define INFO_MAX (16 * 1024)
#define ID_BYTES 16

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

/* Where a part is written: its slot, or a file of its own. */
typedef struct {
    guint number;
    LocalSlots slots;
    LocalTemp temp;
    int fd; /* of one of both */
    guint64 at;
} Place;

static void place_clear(Place *place)
{
    local_slots_clear(&place->slots);
    local_temp_clear(&place->temp);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

static gboolean open_place(LocalStore *self, const Upload *upload, guint number, guint64 length, Place *place,
                           GError **error)
{
    place->number = number;
    place->temp.fd = -1;
    if (!local_slots_take(self, upload->fd, number, length, &place->slots, error))
        return FALSE;
    if (place->slots.fd < 0 && !local_temp_open(self, &place->temp, error))
        return FALSE;
    place->fd = place->slots.fd >= 0 ? place->slots.fd : place->temp.fd;
    place->at = place->slots.fd >= 0 ? place->slots.offset : 0;
    return TRUE;
}

/* Removes files of a part that another one has taken the place of. */
static void drop_others(int upload_fd, guint number, const char *kept)
{
    g_auto(DirNames) names = {0};
    if (!dir_names_read(upload_fd, &names, NULL, NULL))
        return;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        LocalPart other;
        const char *name = dir_names_get(&names, i);
        if (local_part_parse(name, &other) && other.number == number && strcmp(name, kept) != 0)
            (void)unlinkat(upload_fd, name, 0);
    }
}

/* Makes a complete temporary file a part. */
static gboolean commit_file(LocalStore *self, const Upload *upload, const char *id, guint number, LocalTemp *temp,
                            const char *etag, GError **error)
{
    char name[LOCAL_PART_NAME];
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

/* What was written becomes the part. */
static gboolean commit_part(LocalStore *self, const Upload *upload, const char *id, Place *place, guint64 length,
                            const char *etag, GError **error)
{
    if (place->slots.fd < 0)
        return commit_file(self, upload, id, place->number, &place->temp, etag, error);
    g_autoptr(GError) local = NULL;
    if (local_slots_commit(self, &place->slots, place->number, length, etag, &local))
        return TRUE;
    if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return store_no_upload(upload->key, id, error);
    g_propagate_error(error, g_steal_pointer(&local));
    return FALSE;
}

gboolean local_part(Store *store, const char *key, const char *id, guint number, const StoreBody *body, char **etag,
                    GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_PUT);
    g_auto(Upload) upload = {.fd = -1};
    g_auto(Place) place = {.slots.fd = -1, .temp.fd = -1};
    g_autofree char *made = NULL;
    if (!local_prepare(self, error) || !open_upload(self, key, id, &upload, error) ||
        !open_place(self, &upload, number, body->length, &place, error) ||
        !local_write_body(self, place.fd, place.at, key, body, &made, error) ||
        !commit_part(self, &upload, id, &place, body->length, made, error))
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
    g_auto(Place) place = {.slots.fd = -1, .temp.fd = -1};
    g_auto(LocalFacts) facts = {0};
    if (!local_prepare(self, error) || !open_upload(self, key, id, &upload, error))
        return FALSE;
    g_auto(AutoFd) fd = local_open_source(self, source, &st, &facts, error);
    if (fd < 0)
        return FALSE;
    if (offset > (guint64)st.st_size || length > (guint64)st.st_size - offset)
        return error_set(error, BACKAPP_ERROR_INVALID, "the part that is to be copied ends behind the object");
    if (!open_place(self, &upload, number, length, &place, error) ||
        !local_copy_range(self, fd, offset, length, place.fd, &place.at, source->key, error))
        return FALSE;
    /* Names the bytes without reading them. */
    g_autofree char *text = g_strdup_printf("%s %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, facts.etag, offset, length);
    g_autofree char *made = digest_sha256_hex(text, strlen(text));
    if (!commit_part(self, &upload, id, &place, length, made, error))
        return FALSE;
    *etag = g_steal_pointer(&made);
    return TRUE;
}

/* --- completing --- */

/* The file of a part as it is to be: of its own, or the one that says that it lies in its slot. *placed tells which. */
static gboolean find_part(const DirNames *names, const StorePart *wanted, LocalPart *found)
{
    /* Names are sorted: those of one number follow each other. */
    guint low = 0, high = dir_names_count(names);
    char first[16];
    (void)snprintf(first, sizeof first, "%05u-", wanted->number);
    while (low < high) {
        guint middle = low + (high - low) / 2;
        if (strcmp(dir_names_get(names, middle), first) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < dir_names_count(names) && g_str_has_prefix(dir_names_get(names, low), first); low++)
        if (local_part_parse(dir_names_get(names, low), found) && strcmp(found->etag, wanted->etag) == 0)
            return TRUE;
    return FALSE;
}

/* Finds all parts (of LocalPart). NULL with CONFLICT if one is not there. */
static GArray *find_parts(const Upload *upload, const StorePart *parts, guint count, GError **error)
{
    g_auto(DirNames) names = {0};
    if (!dir_names_read(upload->fd, &names, NULL, error))
        return NULL;
    g_autoptr(GArray) found = g_array_sized_new(FALSE, FALSE, sizeof(LocalPart), count);
    for (guint i = 0; i < count; i++) {
        LocalPart part;
        if (!find_part(&names, &parts[i], &part)) {
            error_set(error, BACKAPP_ERROR_CONFLICT, "part %u of the upload of %s is missing or another one",
                      parts[i].number, upload->key);
            return NULL;
        }
        g_array_append_val(found, part);
    }
    return g_steal_pointer(&found);
}

/* TRUE if the file of slots is the object as it is; nobody else writes to it then. */
static gboolean is_whole(LocalSlots *slots, const GArray *parts)
{
    guint64 size = 0;
    for (guint i = 0; i < parts->len; i++) {
        const LocalPart *part = &g_array_index(parts, LocalPart, i);
        if (!part->placed || part->number != i + 1 || (part->size != slots->size && i + 1 < parts->len))
            return FALSE;
        size += part->size;
    }
    return local_slots_take_all(slots, size);
}

/* Puts one part behind the others. */
static gboolean join_part(LocalStore *self, const Upload *upload, const LocalSlots *slots, const LocalPart *part,
                          int to_fd, guint64 *at, GError **error)
{
    if (part->placed && slots->fd >= 0)
        return local_copy_range(self, slots->fd, (part->number - 1) * slots->size, part->size, to_fd, at, upload->key,
                                error);
    char name[LOCAL_PART_NAME];
    struct stat st;
    (void)snprintf(name, sizeof name, "%05u-%s", part->number, part->etag);
    g_auto(AutoFd) fd = part->placed ? -1 : openat(upload->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_set(error, BACKAPP_ERROR_CONFLICT, "part %u of the upload of %s is missing", part->number,
                         upload->key);
    if (fstat(fd, &st) != 0)
        return local_failed(self, errno, "join the parts of", upload->key, error);
    return local_copy_range(self, fd, 0, (guint64)st.st_size, to_fd, at, upload->key, error);
}

/* Puts the parts behind each other. */
static gboolean join(LocalStore *self, const Upload *upload, const LocalSlots *slots, const GArray *parts, int to_fd,
                     GError **error)
{
    guint64 at = 0;
    for (guint i = 0; i < parts->len; i++)
        if (!join_part(self, upload, slots, &g_array_index(parts, LocalPart, i), to_fd, &at, error))
            return FALSE;
    return TRUE;
}

/* The file of slots becomes the object. If that fails it stays what it was. */
static gboolean commit_slots(LocalStore *self, const char *key, const Upload *upload, LocalSlots *slots,
                             gboolean if_absent, GError **error)
{
    LocalTemp file = {.directory_fd = upload->fd, .fd = slots->fd};
    (void)g_strlcpy(file.name, slots->name, sizeof file.name);
    return local_commit(self, key, &file, &upload->facts, if_absent, error);
}

static gboolean commit_parts(LocalStore *self, const char *key, const Upload *upload, const GArray *parts,
                             gboolean if_absent, GError **error)
{
    g_auto(LocalSlots) slots = {.fd = -1};
    if (!local_slots_open(upload->fd, &slots, error))
        return FALSE;
    if (is_whole(&slots, parts))
        return commit_slots(self, key, upload, &slots, if_absent, error);
    g_auto(LocalTemp) temp = {.fd = -1};
    return local_temp_open(self, &temp, error) && join(self, upload, &slots, parts, temp.fd, error) &&
           local_commit(self, key, &temp, &upload->facts, if_absent, error);
}

gboolean local_complete(Store *store, const char *key, const char *id, const StorePart *parts, guint count,
                        const StorePut *how, StoreResult *result, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_PUT);
    g_auto(Upload) upload = {.fd = -1};
    if (!local_prepare(self, error) || !open_upload(self, key, id, &upload, error))
        return FALSE;
    g_autoptr(GArray) found = find_parts(&upload, parts, count, error);
    if (!found)
        return FALSE;
    upload.facts.etag = store_parts_etag(parts, count);
    if (!commit_parts(self, key, &upload, found, how->if_absent, error))
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

/* The size of a part; FALSE if its bytes are not there. */
static gboolean measure(int upload_fd, const char *name, const LocalSlots *slots, LocalPart *part, struct stat *st)
{
    if (fstatat(upload_fd, name, st, AT_SYMLINK_NOFOLLOW) != 0)
        return FALSE;
    if (part->placed)
        return slots->fd >= 0;
    part->size = (guint64)st->st_size;
    return TRUE;
}

GArray *local_list_parts(Store *store, const char *key, const char *id, GError **error)
{
    LocalStore *self = (LocalStore *)store;
    store_tally_request(&self->tally, STORE_REQUEST_LIST);
    g_auto(Upload) upload = {.fd = -1};
    g_auto(LocalSlots) slots = {.fd = -1};
    g_auto(DirNames) names = {0};
    if (!open_upload(self, key, id, &upload, error) || !local_slots_open(upload.fd, &slots, error) ||
        !dir_names_read(upload.fd, &names, NULL, error))
        return NULL;
    g_autoptr(GArray) parts = store_parts_new();
    struct timespec newest = {0};
    for (guint i = 0; i < dir_names_count(&names); i++) {
        struct stat st;
        LocalPart found;
        const char *name = dir_names_get(&names, i);
        if (!local_part_parse(name, &found) || !measure(upload.fd, name, &slots, &found, &st))
            continue;
        StorePart *last = parts->len > 0 ? &g_array_index(parts, StorePart, parts->len - 1) : NULL;
        if (last && last->number == found.number) {
            gboolean later = st.st_mtim.tv_sec != newest.tv_sec ? st.st_mtim.tv_sec > newest.tv_sec
                                                                : st.st_mtim.tv_nsec > newest.tv_nsec;
            if (!later)
                continue;
            g_array_set_size(parts, parts->len - 1);
        }
        StorePart part = {.number = found.number, .etag = g_strdup(found.etag), .size = found.size};
        newest = st.st_mtim;
        g_array_append_val(parts, part);
    }
    return g_steal_pointer(&parts);
}
