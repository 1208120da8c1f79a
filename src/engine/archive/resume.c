#include "engine/archive/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "crypto/digest.h"
#include "fs/atomic.h"
#include "fs/dir.h"

#define STATE_FILE    "state"
#define MAGIC         "backapp archive state 1\n"
#define STATE_MAX     (256 * 1024 * 1024)
#define TEXT_MAX      (64 * 1024)
#define NAME_BYTES    16
#define ATOMIC_PREFIX ".backapp-tmp-"

void resume_clear(Resume *resume)
{
    g_clear_pointer(&resume->point, archive_point_free);
    g_clear_pointer(&resume->volumes, g_array_unref);
    g_clear_pointer(&resume->packed_lengths, g_array_unref);
}

int resume_folder(const char *state_dir, const ArchivePlace *place, GError **error)
{
    g_autofree char *where = g_strconcat(place->store->url, "\n", place->name, NULL);
    guint8 hash[HASH_BYTES];
    digest_sha256(where, strlen(where), hash);
    g_autofree char *name = digest_hex(hash, NAME_BYTES);
    g_autofree char *path = g_build_filename(state_dir, name, NULL);
    int fd = g_mkdir_with_parents(path, 0700) == 0 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0)
        error_set_errno(error, errno, "cannot make the folder for what an archive needs to be resumed, %s", path);
    return fd;
}

static void put_text(GByteArray *out, const char *text)
{
    bytes_put_varint(out, text != NULL ? 1 : 0);
    if (text != NULL)
        bytes_put_blob(out, text, strlen(text));
}

static char *get_text(BytesReader *in)
{
    return bytes_get_varint(in) != 0 ? bytes_get_string(in, TEXT_MAX) : NULL;
}

static void put_point(GByteArray *out, const ArchivePoint *point)
{
    put_text(out, point->base);
    bytes_put_varint(out, point->numbered ? 1 : 0);
    bytes_put_signed(out, point->level);
    bytes_put_signed(out, point->time);
    bytes_put_signed(out, point->scan_s);
    bytes_put_varint(out, point->scan_ns);
    put_text(out, point->parent);
    g_byte_array_append(out, point->parent_hash, HASH_BYTES);
    bytes_put_varint(out, point->sources->len);
    for (guint i = 0; i < point->sources->len; i++)
        put_text(out, g_ptr_array_index(point->sources, i));
}

static void get_hash(BytesReader *in, guint8 hash[HASH_BYTES])
{
    if (in->end - in->at < HASH_BYTES) {
        in->bad = TRUE;
        return;
    }
    memcpy(hash, in->at, HASH_BYTES);
    in->at += HASH_BYTES;
}

static ArchivePoint *get_point(BytesReader *in, const ArchivePlace *place)
{
    g_autoptr(ArchivePoint) point = g_new0(ArchivePoint, 1);
    point->base = get_text(in);
    point->place_name = g_strdup(place->name);
    point->numbered = bytes_get_varint(in) != 0;
    point->level = (int)bytes_get_signed(in);
    point->time = bytes_get_signed(in);
    point->scan_s = bytes_get_signed(in);
    point->scan_ns = (guint32)bytes_get_varint(in);
    point->parent = get_text(in);
    get_hash(in, point->parent_hash);
    point->sources = g_ptr_array_new_with_free_func(g_free);
    for (guint64 left = bytes_get_varint(in); left > 0 && !in->bad; left--) {
        char *source = get_text(in);
        in->bad |= source == NULL;
        if (source != NULL)
            g_ptr_array_add(point->sources, source);
    }
    in->bad |= point->base == NULL || !archive_name_parse(point->base, &point->name);
    return in->bad ? NULL : g_steal_pointer(&point);
}

static void put_volumes(GByteArray *out, const GArray *volumes)
{
    bytes_put_varint(out, volumes->len);
    for (guint i = 0; i < volumes->len; i++) {
        const ArchiveVolume *volume = &g_array_index(volumes, ArchiveVolume, i);
        bytes_put_varint(out, volume->size);
        bytes_put_varint(out, volume->packed_size);
        bytes_put_varint(out, volume->first_member);
        bytes_put_varint(out, volume->part_size);
        g_byte_array_append(out, volume->parts_hash, HASH_BYTES);
    }
}

static GArray *get_volumes(BytesReader *in)
{
    guint64 count = bytes_get_varint(in);
    GArray *volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    in->bad |= count > ARCHIVE_VOLUMES_MAX;
    for (; count > 0 && !in->bad; count--) {
        ArchiveVolume volume = {.size = bytes_get_varint(in)};
        volume.packed_size = bytes_get_varint(in);
        volume.first_member = bytes_get_varint(in);
        volume.part_size = bytes_get_varint(in);
        get_hash(in, volume.parts_hash);
        g_array_append_val(volumes, volume);
    }
    return volumes;
}

static GArray *get_lengths(BytesReader *in)
{
    GArray *lengths = g_array_new(FALSE, FALSE, sizeof(guint32));
    for (guint64 left = bytes_get_varint(in); left > 0 && !in->bad; left--) {
        guint32 length = (guint32)bytes_get_varint(in);
        g_array_append_val(lengths, length);
    }
    return lengths;
}

gboolean resume_save(int dir_fd, const Resume *resume, GError **error)
{
    g_autoptr(GByteArray) out = g_byte_array_new();
    g_byte_array_append(out, (const guint8 *)MAGIC, sizeof MAGIC - 1);
    put_point(out, resume->point);
    bytes_put_varint(out, resume->volume_size);
    g_byte_array_append(out, resume->how, HASH_BYTES);
    put_volumes(out, resume->volumes);
    bytes_put_varint(out, resume->packed_lengths->len);
    for (guint i = 0; i < resume->packed_lengths->len; i++)
        bytes_put_varint(out, g_array_index(resume->packed_lengths, guint32, i));
    bytes_put_varint(out, resume->tar_end);
    bytes_put_varint(out, resume->entries_length);
    guint8 hash[HASH_BYTES];
    digest_sha256(out->data, out->len, hash);
    g_byte_array_append(out, hash, HASH_BYTES);
    return atomic_write(dir_fd, STATE_FILE, out->data, out->len, 0600, error);
}

static gboolean decode(const char *data, gsize length, const ArchivePlace *place, Resume *resume)
{
    guint8 hash[HASH_BYTES];
    gsize magic = sizeof MAGIC - 1;
    if (length < magic + HASH_BYTES || memcmp(data, MAGIC, magic) != 0)
        return FALSE;
    digest_sha256(data, length - HASH_BYTES, hash);
    if (memcmp(hash, data + length - HASH_BYTES, HASH_BYTES) != 0)
        return FALSE;
    BytesReader in = bytes_reader(data + magic, length - magic - HASH_BYTES);
    resume->point = get_point(&in, place);
    resume->volume_size = bytes_get_varint(&in);
    get_hash(&in, resume->how);
    resume->volumes = get_volumes(&in);
    resume->packed_lengths = get_lengths(&in);
    resume->tar_end = bytes_get_varint(&in);
    resume->entries_length = bytes_get_varint(&in);
    return resume->point != NULL && bytes_reader_done(&in) &&
           resume->tar_end == (guint64)resume->packed_lengths->len * ARCHIVE_MEMBER_BYTES;
}

int resume_load(int dir_fd, const ArchivePlace *place, Resume *resume, GError **error)
{
    *resume = (Resume){0};
    g_autoptr(GError) local = NULL;
    g_autofree char *data = NULL;
    gsize length = 0;
    if (!atomic_read(dir_fd, STATE_FILE, STATE_MAX, &data, &length, &local)) {
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND) || error_is(local, BACKAPP_ERROR_CORRUPT))
            return 0;
        g_propagate_error(error, g_steal_pointer(&local));
        return -1;
    }
    if (decode(data, length, place, resume))
        return 1;
    resume_clear(resume);
    return 0;
}

/* What a kill left of a state that was being written. */
static gboolean sweep_one(const char *name, guint8 type, gpointer user_data, GError **error)
{
    (void)type, (void)error;
    if (g_str_has_prefix(name, ATOMIC_PREFIX))
        (void)unlinkat(GPOINTER_TO_INT(user_data), name, 0); /* else the next run does */
    return TRUE;
}

gboolean resume_forget(int dir_fd, GError **error)
{
    (void)dir_each(dir_fd, sweep_one, GINT_TO_POINTER(dir_fd), NULL, NULL);
    static const char *const names[] = {STATE_FILE, RESUME_ENTRIES};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        if (unlinkat(dir_fd, names[i], 0) != 0 && errno != ENOENT)
            return error_set_errno(error, errno, "cannot remove what an archive left to be resumed");
    }
    return TRUE;
}
