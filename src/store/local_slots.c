#include "store/local_slots.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DATA       "data-"
#define NUMBER_MAX 99999
#define OFFSET_MAX ((guint64)1 << 43) /* smaller than what any file system takes */

/* --- names --- */

/* The size of the slots that a name of a file of slots says; 0 if it is none. */
static guint64 parse_data(const char *name)
{
    guint64 size = 0;
    return g_str_has_prefix(name, DATA) &&
                   g_ascii_string_to_unsigned(name + strlen(DATA), 10, 1, G_MAXINT64, &size, NULL)
               ? size
               : 0;
}

gboolean local_part_parse(const char *name, LocalPart *part)
{
    char *end = NULL;
    guint64 value = g_ascii_isdigit(name[0]) ? g_ascii_strtoull(name, &end, 10) : 0;
    if (value < 1 || value > NUMBER_MAX || *end != '-')
        return FALSE;
    const char *etag = end + 1, *at = strchr(etag, '@');
    gsize length = at ? (gsize)(at - etag) : strlen(etag);
    *part = (LocalPart){.number = (guint)value, .placed = at != NULL};
    if (length >= sizeof part->etag ||
        (at && !g_ascii_string_to_unsigned(at + 1, 10, 1, G_MAXINT64, &part->size, NULL)))
        return FALSE;
    memcpy(part->etag, etag, length);
    return TRUE;
}

/* Looks for the file of slots, and for a part with this number, among the names of an upload. */
static gboolean look(int upload_fd, guint number, guint64 *slot, gboolean *taken, GError **error)
{
    g_auto(DirNames) names = {0};
    *slot = 0;
    *taken = FALSE;
    if (!dir_names_read(upload_fd, &names, NULL, error))
        return FALSE;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        LocalPart part;
        const char *name = dir_names_get(&names, i);
        *slot = MAX(*slot, parse_data(name));
        *taken = *taken || (local_part_parse(name, &part) && part.number == number);
    }
    return TRUE;
}

/* --- the file of slots --- */

void local_slots_clear(LocalSlots *slots)
{
    fd_clear(&slots->fd);
}

static void open_named(LocalSlots *slots, guint64 size, int flags)
{
    slots->size = size;
    (void)snprintf(slots->name, sizeof slots->name, DATA "%" G_GUINT64_FORMAT, size);
    slots->fd = openat(slots->upload_fd, slots->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, LOCAL_FILE_MODE);
}

/* Locks a range of the file (length 0: all that can ever be in it) for this descriptor. It is free again when that is
 * closed, however that comes about. */
static gboolean lock_range(const LocalSlots *slots, guint64 offset, guint64 length)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)offset, .l_len = (off_t)length};
    return fcntl(slots->fd, F_OFD_SETLK, &range) == 0;
}

gboolean local_slots_open(int upload_fd, LocalSlots *slots, GError **error)
{
    guint64 size = 0;
    gboolean taken = FALSE;
    *slots = (LocalSlots){.upload_fd = upload_fd, .fd = -1};
    if (!look(upload_fd, 0, &size, &taken, error))
        return FALSE;
    if (size > 0)
        open_named(slots, size, 0);
    return TRUE;
}

/* Opens the file of slots for a part of this length, and makes it for the first one. fd -1: there is none to use. */
static gboolean open_for(LocalStore *self, int upload_fd, guint64 length, LocalSlots *slots, GError **error)
{
    *slots = (LocalSlots){.upload_fd = upload_fd, .fd = -1};
    open_named(slots, length, 0);
    if (slots->fd >= 0)
        return TRUE;
    local_lock(self);
    gboolean good = local_slots_open(upload_fd, slots, error);
    if (good && slots->fd < 0)
        open_named(slots, length, O_CREAT | O_EXCL);
    local_unlock(self);
    return good;
}

gboolean local_slots_take(LocalStore *self, int upload_fd, guint number, guint64 length, LocalSlots *slots,
                          GError **error)
{
    guint64 size = 0;
    gboolean taken = FALSE;
    if (length == 0 || length > OFFSET_MAX / NUMBER_MAX || number < 1 || number > NUMBER_MAX) {
        *slots = (LocalSlots){.upload_fd = upload_fd, .fd = -1};
        return TRUE;
    }
    if (!open_for(self, upload_fd, length, slots, error))
        return FALSE;
    if (slots->fd < 0)
        return TRUE;
    slots->offset = (number - 1) * slots->size;
    /* Only what is looked at under the lock counts: the file may have become the object, the slot a part. */
    gboolean free =
        length <= slots->size && slots->offset <= OFFSET_MAX && lock_range(slots, slots->offset, slots->size);
    if (free && !look(upload_fd, number, &size, &taken, error)) {
        local_slots_clear(slots);
        return FALSE;
    }
    if (!free || taken || size != slots->size)
        local_slots_clear(slots);
    return TRUE;
}

gboolean local_slots_commit(LocalStore *self, LocalSlots *slots, guint number, guint64 length, const char *etag,
                            GError **error)
{
    char name[LOCAL_PART_NAME];
    (void)snprintf(name, sizeof name, "%05u-%s@%" G_GUINT64_FORMAT, number, etag, length);
    if (fdatasync(slots->fd) != 0)
        return error_set_errno(error, errno, "cannot make a part in %s durable", self->directory);
    g_auto(AutoFd) made =
        openat(slots->upload_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, LOCAL_FILE_MODE);
    /* A directory that was removed meanwhile takes no new names. */
    if (made < 0 && errno == ENOENT)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "the upload is gone");
    if (made < 0)
        return error_set_errno(error, errno, "cannot store a part in %s", self->directory);
    return dir_sync(slots->upload_fd, self->directory, error);
}

gboolean local_slots_take_all(LocalSlots *slots, guint64 size)
{
    struct stat st, named;
    return slots->fd >= 0 && lock_range(slots, 0, 0) && fstat(slots->fd, &st) == 0 && (guint64)st.st_size == size &&
           fstatat(slots->upload_fd, slots->name, &named, AT_SYMLINK_NOFOLLOW) == 0 && named.st_ino == st.st_ino;
}
