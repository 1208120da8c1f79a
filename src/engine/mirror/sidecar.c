#include "engine/mirror/sidecar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "base/error.h"
#include "engine/mirror/hashes.h"
#include "engine/mirror/sidecar_names.h"
#include "fs/dir.h"

#define MAGIC         "BASIDE01"
#define MAGIC_LENGTH  8
#define HEADER_LENGTH 28 /* magic, abilities, granularity, sum */
#define FRAME_LENGTH  12
#define BLOCK_BYTES   (64 * 1024)
#define BLOCK_MAX     (32 * 1024 * 1024)
#define KEY_MAX       (8 * 1024 * 1024)
#define BODY_MAX      (SIDECAR_ATTRS_MAX + KEY_MAX + 64 * 1024)
#define TARGET_MAX    (64 * 1024)
#define NS_PER_SECOND 1000000000

enum { UNSURE = 1, WITH_TARGET = 2, WITH_LINK = 4, WITH_ATTRS = 8, BITS_ALL = 15 };

enum {
    CAN_SYMLINKS = 1,
    CAN_HARD_LINKS = 2,
    CAN_OWNERS = 4,
    CAN_MODES = 8,
    CAN_XATTRS = 16,
    CAN_ACLS = 32,
    CAN_FIFOS = 64,
    CAN_DEVICES = 128,
    CAN_CASE = 256,
    CAN_ANY_NAME = 512,
    CAN_STABLE_INODES = 1024,
};

struct SidecarReader {
    FILE *file;
    char *where; /* for messages */
    GByteArray *block;
    BytesReader in;
    GString *key, *previous, *path, *target, *link;
    const Attrs *attrs; /* of the record that was given last */
    SidecarNames *names;
    guint32 can;
    guint64 granularity_ns;
    guint64 count;
    gboolean ended;
};

struct SidecarWriter {
    const Destination *dest;
    const SidecarReader *old;
    FILE *file;
    GByteArray *names, *block; /* of the block in the making: owners that it is the first to need; records */
    guint new_names;
    GString *previous;
    SidecarNames *known;
    guint64 count;
    gboolean finished;
};

char *sidecar_key(const char *path, gboolean is_directory)
{
    return g_strconcat(path, is_directory && path[0] != '\0' ? "/" : "", NULL);
}

int sidecar_order(const char *key, const char *other)
{
    return hashes_order(key, other);
}

/* ---- bodies ---- */

void sidecar_encode(const SidecarRecord *record, const guint8 *attrs, gsize attrs_length, GByteArray *out)
{
    const FileMeta *meta = &record->meta;
    guint bits = (record->unsure ? UNSURE : 0U) | (record->target != NULL ? WITH_TARGET : 0U) |
                 (record->link != NULL ? WITH_LINK : 0U) | (attrs_length > 0 ? WITH_ATTRS : 0U);
    bytes_put_varint(out, bits);
    bytes_put_varint(out, meta->mode);
    bytes_put_varint(out, meta->uid);
    bytes_put_varint(out, meta->gid);
    bytes_put_signed(out, meta->mtime_s);
    bytes_put_varint(out, meta->mtime_ns);
    if (S_ISREG(meta->mode))
        bytes_put_varint(out, meta->size);
    if (S_ISCHR(meta->mode) || S_ISBLK(meta->mode))
        bytes_put_varint(out, meta->rdev);
    if (record->target != NULL)
        bytes_put_blob(out, record->target, strlen(record->target));
    if (record->link != NULL)
        bytes_put_blob(out, record->link, strlen(record->link));
    if (attrs_length > 0)
        g_byte_array_append(out, attrs, (guint)attrs_length);
}

/* The fields of a body that have no length of their own. */
static guint get_fixed(BytesReader *in, SidecarRecord *record)
{
    FileMeta *meta = &record->meta;
    guint64 bits = bytes_get_varint(in);
    guint64 mode = bytes_get_varint(in);
    guint64 uid = bytes_get_varint(in);
    guint64 gid = bytes_get_varint(in);
    *record = (SidecarRecord){.unsure = (bits & UNSURE) != 0, .attrs = attrs_empty()};
    meta->mode = (guint32)mode;
    meta->uid = (guint32)uid;
    meta->gid = (guint32)gid;
    meta->mtime_s = bytes_get_signed(in);
    guint64 nanoseconds = bytes_get_varint(in);
    meta->mtime_ns = (guint32)nanoseconds;
    if (S_ISREG(meta->mode))
        meta->size = bytes_get_varint(in);
    if (S_ISCHR(meta->mode) || S_ISBLK(meta->mode))
        meta->rdev = bytes_get_varint(in);
    if (bits > BITS_ALL || mode > 0177777 || uid > G_MAXUINT32 || gid > G_MAXUINT32 || nanoseconds >= NS_PER_SECOND ||
        ((bits & WITH_TARGET) != 0) != S_ISLNK(mode))
        in->bad = TRUE;
    return (guint)bits;
}

gboolean sidecar_peek(const guint8 *body, gsize length, SidecarRecord *record)
{
    BytesReader in = bytes_reader(body, length);
    get_fixed(&in, record);
    return !in.bad;
}

static const char *get_text(BytesReader *in, gsize max, GString *text)
{
    gsize length = 0;
    const guint8 *bytes = bytes_get_blob(in, max, &length);
    if (bytes == NULL || length == 0 || memchr(bytes, 0, length) != NULL) {
        in->bad = TRUE;
        return NULL;
    }
    g_string_truncate(text, 0);
    g_string_append_len(text, (const char *)bytes, (gssize)length);
    return text->str;
}

/* TRUE for what stays below the destination and outside of our own folder. */
static gboolean is_safe(const char *path)
{
    gboolean own = g_str_has_prefix(path, DESTINATION_STATE_DIR);
    for (const char *at = path; !own && *at != '\0';) {
        gsize length = strcspn(at, "/");
        if (length == 0 || (length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.'))
            return FALSE;
        at += length;
        at += *at == '/' ? 1 : 0;
    }
    return !own;
}

/* ---- reading ---- */

static gboolean damaged(const SidecarReader *reader, GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s is damaged", reader->where);
}

static int damaged_step(const SidecarReader *reader, GError **error)
{
    return damaged(reader, error) ? 0 : -1;
}

static gboolean read_header(SidecarReader *reader, GError **error)
{
    guint8 header[HEADER_LENGTH];
    if (fread(header, 1, sizeof header, reader->file) != sizeof header || memcmp(header, MAGIC, MAGIC_LENGTH) != 0)
        return damaged(reader, error);
    BytesReader in = bytes_reader(header + MAGIC_LENGTH, sizeof header - MAGIC_LENGTH);
    reader->can = bytes_get_u32(&in);
    reader->granularity_ns = bytes_get_u64(&in);
    return bytes_get_u64(&in) == XXH3_64bits(header, HEADER_LENGTH - sizeof(guint64)) || damaged(reader, error);
}

SidecarReader *sidecar_reader_open(const Destination *dest, const char *name, GError **error)
{
    g_auto(AutoFd) fd =
        dest->state_fd < 0 ? -1 : openat(dest->state_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && (dest->state_fd < 0 || errno == ENOENT))
        return NULL;
    FILE *file = fd >= 0 ? fdopen(fd, "rb") : NULL;
    if (file == NULL) {
        error_set_errno(error, errno, "cannot open %s/.backapp/%s", dest->path, name);
        return NULL;
    }
    fd_steal(&fd);
    g_autoptr(SidecarReader) reader = g_new0(SidecarReader, 1);
    reader->file = file;
    reader->where = g_strdup_printf("%s/.backapp/%s", dest->path, name);
    reader->block = g_byte_array_new();
    reader->key = g_string_new(NULL);
    reader->previous = g_string_new(NULL);
    reader->path = g_string_new(NULL);
    reader->target = g_string_new(NULL);
    reader->link = g_string_new(NULL);
    reader->names = sidecar_names_new();
    return read_header(reader, error) ? g_steal_pointer(&reader) : NULL;
}

void sidecar_reader_abilities(const SidecarReader *reader, FsAbilities *abilities)
{
    guint can = reader->can;
    abilities->symlinks = (can & CAN_SYMLINKS) != 0;
    abilities->hard_links = (can & CAN_HARD_LINKS) != 0;
    abilities->owners = (can & CAN_OWNERS) != 0;
    abilities->modes = (can & CAN_MODES) != 0;
    abilities->xattrs = (can & CAN_XATTRS) != 0;
    abilities->acls = (can & CAN_ACLS) != 0;
    abilities->fifos = (can & CAN_FIFOS) != 0;
    abilities->devices = (can & CAN_DEVICES) != 0;
    abilities->case_sensitive = (can & CAN_CASE) != 0;
    abilities->any_name = (can & CAN_ANY_NAME) != 0;
    abilities->stable_inodes = (can & CAN_STABLE_INODES) != 0;
    abilities->mtime_granularity_ns = reader->granularity_ns;
}

static guint32 abilities_bits(const FsAbilities *abilities)
{
    return (abilities->symlinks ? CAN_SYMLINKS : 0U) | (abilities->hard_links ? CAN_HARD_LINKS : 0U) |
           (abilities->owners ? CAN_OWNERS : 0U) | (abilities->modes ? CAN_MODES : 0U) |
           (abilities->xattrs ? CAN_XATTRS : 0U) | (abilities->acls ? CAN_ACLS : 0U) |
           (abilities->fifos ? CAN_FIFOS : 0U) | (abilities->devices ? CAN_DEVICES : 0U) |
           (abilities->case_sensitive ? CAN_CASE : 0U) | (abilities->any_name ? CAN_ANY_NAME : 0U) |
           (abilities->stable_inodes ? CAN_STABLE_INODES : 0U);
}

/* Reads the next block: 1, 0 for the trailer, -1. */
static int next_block(SidecarReader *reader, GError **error)
{
    guint8 head[FRAME_LENGTH];
    if (fread(head, 1, sizeof head, reader->file) != sizeof head)
        return damaged_step(reader, error);
    BytesReader in = bytes_reader(head, sizeof head);
    guint32 length = bytes_get_u32(&in);
    guint64 sum = bytes_get_u64(&in);
    if (length == 0) {
        reader->ended = TRUE;
        return sum == reader->count && fgetc(reader->file) == EOF ? 0 : damaged_step(reader, error);
    }
    if (length > BLOCK_MAX)
        return damaged_step(reader, error);
    g_byte_array_set_size(reader->block, length);
    if (fread(reader->block->data, 1, length, reader->file) != length ||
        XXH3_64bits(reader->block->data, length) != sum)
        return damaged_step(reader, error);
    reader->in = bytes_reader(reader->block->data, length);
    g_string_truncate(reader->key, 0);
    return sidecar_names_read(reader->names, &reader->in) ? 1 : damaged_step(reader, error);
}

int sidecar_reader_step(SidecarReader *reader, const char **key, const guint8 **body, gsize *length, GError **error)
{
    if (reader->ended)
        return 0;
    g_string_assign(reader->previous, reader->key->str);
    /* A block may hold nothing but names. */
    while (reader->in.at == reader->in.end) {
        int got = next_block(reader, error);
        if (got <= 0)
            return got;
    }
    BytesReader *in = &reader->in;
    guint64 prefix = bytes_get_varint(in);
    gsize rest_length = 0;
    const guint8 *rest = bytes_get_blob(in, KEY_MAX, &rest_length);
    if (rest == NULL || prefix > reader->key->len || memchr(rest, 0, rest_length) != NULL ||
        prefix + rest_length > KEY_MAX)
        return damaged_step(reader, error);
    g_string_truncate(reader->key, (gsize)prefix);
    g_string_append_len(reader->key, (const char *)rest, (gssize)rest_length);
    *body = bytes_get_blob(in, BODY_MAX, length);
    *key = reader->key->str;
    gboolean in_order = reader->count == 0 || sidecar_order(reader->previous->str, reader->key->str) < 0;
    if (*body == NULL || !in_order || !is_safe(reader->key->str))
        return damaged_step(reader, error);
    reader->count++;
    return 1;
}

/* A path of "" or with a slash at its end is a directory's, and no other one is. */
static gboolean fits_type(const GString *key, guint32 mode)
{
    gboolean named_so = key->len == 0 || key->str[key->len - 1] == '/';
    return named_so == S_ISDIR(mode);
}

int sidecar_reader_next(SidecarReader *reader, SidecarRecord *record, GError **error)
{
    const char *key = NULL;
    const guint8 *body = NULL;
    gsize length = 0;
    int got = sidecar_reader_step(reader, &key, &body, &length, error);
    if (got <= 0)
        return got;
    BytesReader in = bytes_reader(body, length);
    guint bits = get_fixed(&in, record);
    if ((bits & WITH_TARGET) != 0)
        record->target = get_text(&in, TARGET_MAX, reader->target);
    if ((bits & WITH_LINK) != 0)
        record->link = get_text(&in, KEY_MAX, reader->link);
    attrs_free(reader->attrs);
    reader->attrs = (bits & WITH_ATTRS) != 0 ? attrs_decode(&in, NULL) : NULL;
    gboolean good = bytes_reader_done(&in) && fits_type(reader->key, record->meta.mode) &&
                    ((bits & WITH_ATTRS) == 0 || reader->attrs != NULL) &&
                    (record->link == NULL || (is_safe(record->link) && !S_ISDIR(record->meta.mode)));
    if (!good)
        return damaged_step(reader, error);
    if (reader->attrs != NULL)
        record->attrs = reader->attrs;
    g_string_assign(reader->path, key);
    if (S_ISDIR(record->meta.mode) && reader->path->len > 0)
        g_string_truncate(reader->path, reader->path->len - 1);
    record->path = reader->path->str;
    record->user = sidecar_names_get(reader->names, FALSE, record->meta.uid);
    record->group = sidecar_names_get(reader->names, TRUE, record->meta.gid);
    return 1;
}

void sidecar_reader_free(SidecarReader *reader)
{
    if (reader == NULL)
        return;
    if (reader->file != NULL)
        (void)fclose(reader->file); /* only read */
    g_byte_array_unref(reader->block);
    g_string_free(reader->key, TRUE);
    g_string_free(reader->previous, TRUE);
    g_string_free(reader->path, TRUE);
    g_string_free(reader->target, TRUE);
    g_string_free(reader->link, TRUE);
    attrs_free(reader->attrs);
    sidecar_names_free(reader->names);
    g_free(reader->where);
    g_free(reader);
}

/* ---- writing ---- */

static gboolean write_failed(const SidecarWriter *writer, GError **error)
{
    return error_set_errno(error, errno, "cannot write %s/.backapp/" SIDECAR_NEW_NAME, writer->dest->path);
}

static gboolean write_header(SidecarWriter *writer, GError **error)
{
    g_autoptr(GByteArray) header = g_byte_array_new();
    g_byte_array_append(header, (const guint8 *)MAGIC, MAGIC_LENGTH);
    bytes_put_u32(header, abilities_bits(&writer->dest->abilities));
    bytes_put_u64(header, writer->dest->abilities.mtime_granularity_ns);
    bytes_put_u64(header, XXH3_64bits(header->data, header->len));
    return fwrite(header->data, 1, header->len, writer->file) == header->len || write_failed(writer, error);
}

SidecarWriter *sidecar_writer_open(const Destination *dest, const SidecarReader *old, GError **error)
{
    if (!sidecar_drop_new(dest, error))
        return NULL;
    g_autoptr(SidecarWriter) writer = g_new0(SidecarWriter, 1);
    writer->dest = dest;
    writer->old = old;
    writer->names = g_byte_array_new();
    writer->block = g_byte_array_new();
    writer->previous = g_string_new(NULL);
    writer->known = sidecar_names_new();
    g_auto(AutoFd) fd =
        openat(dest->state_fd, SIDECAR_NEW_NAME, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    writer->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
    if (writer->file == NULL) {
        write_failed(writer, error);
        return NULL;
    }
    fd_steal(&fd);
    return write_header(writer, error) ? g_steal_pointer(&writer) : NULL;
}

static gboolean write_frame(const SidecarWriter *writer, const GByteArray *payload, guint64 number, GError **error)
{
    g_autoptr(GByteArray) head = g_byte_array_new();
    bytes_put_u32(head, payload != NULL ? payload->len : 0);
    bytes_put_u64(head, number);
    gboolean good = fwrite(head->data, 1, head->len, writer->file) == head->len &&
                    (payload == NULL || fwrite(payload->data, 1, payload->len, writer->file) == payload->len);
    return good || write_failed(writer, error);
}

static gboolean flush_block(SidecarWriter *writer, GError **error)
{
    if (writer->block->len == 0)
        return TRUE;
    g_autoptr(GByteArray) payload = g_byte_array_sized_new(BLOCK_BYTES);
    bytes_put_varint(payload, writer->new_names);
    g_byte_array_append(payload, writer->names->data, writer->names->len);
    g_byte_array_append(payload, writer->block->data, writer->block->len);
    if (!write_frame(writer, payload, XXH3_64bits(payload->data, payload->len), error))
        return FALSE;
    g_byte_array_set_size(writer->names, 0);
    g_byte_array_set_size(writer->block, 0);
    g_string_truncate(writer->previous, 0);
    writer->new_names = 0;
    return TRUE;
}

static void note_owner(SidecarWriter *writer, gboolean group, guint32 id)
{
    const SidecarNames *old = writer->old != NULL ? writer->old->names : NULL;
    if (sidecar_names_learn(writer->known, old, group, id, writer->names))
        writer->new_names++;
}

gboolean sidecar_writer_put(SidecarWriter *writer, const char *key, const guint8 *body, gsize length, GError **error)
{
    GByteArray *block = writer->block;
    SidecarRecord record;
    if (length > BODY_MAX || !sidecar_peek(body, length, &record))
        return error_set(error, BACKAPP_ERROR_INTERNAL, "the sidecar's record of %s is no record", key);
    note_owner(writer, FALSE, record.meta.uid);
    note_owner(writer, TRUE, record.meta.gid);
    gsize prefix = 0;
    while (key[prefix] != '\0' && key[prefix] == writer->previous->str[prefix])
        prefix++;
    bytes_put_varint(block, prefix);
    bytes_put_blob(block, key + prefix, strlen(key + prefix));
    bytes_put_blob(block, body, length);
    g_string_assign(writer->previous, key);
    writer->count++;
    return block->len < BLOCK_BYTES || flush_block(writer, error);
}

gboolean sidecar_writer_finish(SidecarWriter *writer, GError **error)
{
    if (!flush_block(writer, error) || !write_frame(writer, NULL, writer->count, error))
        return FALSE;
    if (fflush(writer->file) != 0 || fsync(fileno(writer->file)) != 0)
        return write_failed(writer, error);
    if (fclose(g_steal_pointer(&writer->file)) != 0)
        return write_failed(writer, error);
    writer->finished = TRUE;
    return TRUE;
}

void sidecar_writer_free(SidecarWriter *writer)
{
    if (writer == NULL)
        return;
    if (writer->file != NULL) {
        (void)fclose(writer->file); /* not finished: it is thrown away */
        (void)unlinkat(writer->dest->state_fd, SIDECAR_NEW_NAME, 0);
    }
    g_byte_array_unref(writer->names);
    g_byte_array_unref(writer->block);
    g_string_free(writer->previous, TRUE);
    sidecar_names_free(writer->known);
    g_free(writer);
}

/* ---- around a commit ---- */

/* Copies sidecar.new, open in reader, to a new file of that name. */
static gboolean copy_marked(SidecarReader *reader, SidecarWriter *writer, GHashTable *paths, GError **error)
{
    g_autoptr(GByteArray) marked = g_byte_array_new();
    const char *key = NULL;
    const guint8 *body = NULL;
    gsize length = 0;
    int got = 0;
    gboolean good = TRUE;
    while (good && (got = sidecar_reader_step(reader, &key, &body, &length, error)) > 0) {
        if (g_hash_table_contains(paths, key) && length > 0) {
            g_byte_array_set_size(marked, 0);
            g_byte_array_append(marked, body, (guint)length);
            /* The bits are the first field, and fit in its first byte. */
            marked->data[0] |= UNSURE;
            body = marked->data;
        }
        good = sidecar_writer_put(writer, key, body, length, error);
    }
    return good && got == 0;
}

gboolean sidecar_mark_unsure(const Destination *dest, GHashTable *paths, GError **error)
{
    if (g_hash_table_size(paths) == 0)
        return TRUE;
    /* The reader keeps the old file though the writer takes its name. */
    g_autoptr(SidecarReader) reader = sidecar_reader_open(dest, SIDECAR_NEW_NAME, error);
    if (reader == NULL)
        return FALSE;
    g_autoptr(SidecarWriter) writer = sidecar_writer_open(dest, reader, error);
    return writer != NULL && copy_marked(reader, writer, paths, error) && sidecar_writer_finish(writer, error);
}

gboolean sidecar_replay(const Destination *dest, GError **error)
{
    return renameat(dest->state_fd, SIDECAR_NEW_NAME, dest->state_fd, SIDECAR_NAME) == 0 || errno == ENOENT ||
           error_set_errno(error, errno, "cannot replace %s/.backapp/" SIDECAR_NAME, dest->path);
}

gboolean sidecar_drop_new(const Destination *dest, GError **error)
{
    return unlinkat(dest->state_fd, SIDECAR_NEW_NAME, 0) == 0 || errno == ENOENT ||
           error_set_errno(error, errno, "cannot remove %s/.backapp/" SIDECAR_NEW_NAME, dest->path);
}
