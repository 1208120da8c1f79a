#include "engine/restore/mirror_sidecar.h"

#include "base/error.h"
#include "engine/restore/source.h"
#include "fs/dir.h"
#include "fs/io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#define OWN            ".backapp"
#define NAME           "sidecar"
#define MAGIC          "BASIDE01"
#define MAGIC_BYTES    8
#define HEADER_BYTES   28
#define FRAME_BYTES    12
#define BLOCK_MAX      ((gsize)32 * 1024 * 1024)
#define PATH_BYTES_MAX ((gsize)8 * 1024 * 1024)
#define BODY_MAX       (PATH_BYTES_MAX + 1024 * 1024)
#define NAME_BYTES     255u
#define NAMES_MAX      100000u
#define NS_PER_SECOND  1000000000u
/* Of an id of a group, in the list of names. */
#define GROUP_BIT (G_GINT64_CONSTANT(1) << 32)

enum { UNSURE = 1, WITH_TARGET = 2, WITH_LINK = 4, WITH_ATTRS = 8, BITS_ALL = 15 };

typedef struct {
    int fd;
    guint64 offset, count;
    GHashTable *names; /* gint64: id, GROUP_BIT for groups -> name */
    GByteArray *block;
    GString *key, *target, *link;
    MirrorSidecarFunc func;
    gpointer user_data;
} Reader;

static void reader_clear(Reader *reader)
{
    fd_clear(&reader->fd);
    g_clear_pointer(&reader->names, g_hash_table_unref);
    g_clear_pointer(&reader->block, g_byte_array_unref);
    g_string_free(reader->key, TRUE);
    g_string_free(reader->target, TRUE);
    g_string_free(reader->link, TRUE);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Reader, reader_clear)

static gboolean damaged(GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "the mirror's " OWN "/" NAME " is damaged");
}

static gboolean read_bytes(Reader *reader, guint8 *data, gsize length, GError **error)
{
    gssize got = io_read_at(reader->fd, data, length, reader->offset);
    if (got < 0)
        return error_set_errno(error, errno, "cannot read the mirror's " OWN "/" NAME);
    reader->offset += (guint64)got;
    return (gsize)got == length || damaged(error);
}

static gboolean read_names(Reader *reader, BytesReader *in)
{
    guint64 count = bytes_get_varint(in);
    for (guint64 i = 0; i < count && !in->bad; i++) {
        gint64 number = (gint64)bytes_get_varint(in);
        gsize length = 0;
        const guint8 *name = bytes_get_blob(in, NAME_BYTES, &length);
        if (!name || length == 0 || memchr(name, 0, length) || number < 0 || number >= 2 * GROUP_BIT ||
            g_hash_table_size(reader->names) >= NAMES_MAX)
            return FALSE;
        g_hash_table_replace(reader->names, g_memdup2(&number, sizeof number), g_strndup((const char *)name, length));
    }
    return !in->bad;
}

static const char *get_text(BytesReader *in, GString *text)
{
    gsize length = 0;
    const guint8 *bytes = bytes_get_blob(in, PATH_BYTES_MAX, &length);
    if (!bytes || length == 0 || memchr(bytes, 0, length)) {
        in->bad = TRUE;
        return NULL;
    }
    g_string_truncate(text, 0);
    return g_string_append_len(text, (const char *)bytes, (gssize)length)->str;
}

static const char *name_of(const Reader *reader, gint64 number)
{
    return g_hash_table_lookup(reader->names, &number);
}

/* The fields of a body; FALSE if they are not what a body is made of. */
static gboolean read_body(Reader *reader, BytesReader *in, S3Entry *record, gboolean *unsure)
{
    FileMeta *meta = &record->meta;
    guint64 bits = bytes_get_varint(in), mode = bytes_get_varint(in), uid = bytes_get_varint(in),
            gid = bytes_get_varint(in);
    meta->mtime_s = bytes_get_signed(in);
    guint64 ns = bytes_get_varint(in);
    if (bits > BITS_ALL || mode > 0177777 || uid > G_MAXUINT32 || gid > G_MAXUINT32 || ns >= NS_PER_SECOND ||
        ((bits & WITH_TARGET) != 0) != S_ISLNK(mode))
        return FALSE;
    meta->mode = (guint32)mode;
    meta->uid = (guint32)uid;
    meta->gid = (guint32)gid;
    meta->mtime_ns = (guint32)ns;
    meta->nlink = 1;
    if (S_ISREG(mode))
        meta->size = bytes_get_varint(in);
    if (S_ISCHR(mode) || S_ISBLK(mode))
        meta->rdev = bytes_get_varint(in);
    if ((bits & WITH_TARGET) != 0)
        record->target = get_text(in, reader->target);
    if ((bits & WITH_LINK) != 0)
        record->link = get_text(in, reader->link);
    if ((bits & WITH_ATTRS) != 0 && !in->bad) {
        record->attrs = in->at;
        record->attrs_length = (gsize)(in->end - in->at);
    }
    *unsure = (bits & UNSURE) != 0;
    record->user = name_of(reader, (gint64)uid);
    record->group = name_of(reader, (gint64)gid | GROUP_BIT);
    return !in->bad && ((bits & WITH_ATTRS) != 0 || bytes_reader_done(in)) && (!record->link || !S_ISDIR(mode));
}

static gboolean read_record(Reader *reader, BytesReader *in, GError **error)
{
    guint64 shared = bytes_get_varint(in);
    gsize rest_length = 0, body_length = 0;
    const guint8 *rest = bytes_get_blob(in, PATH_BYTES_MAX, &rest_length);
    const guint8 *body = bytes_get_blob(in, BODY_MAX, &body_length);
    if (in->bad || shared > reader->key->len || memchr(rest, 0, rest_length))
        return damaged(error);
    g_string_truncate(reader->key, (gsize)shared);
    g_string_append_len(reader->key, (const char *)rest, (gssize)rest_length);
    gboolean is_dir = reader->key->len == 0 || reader->key->str[reader->key->len - 1] == '/';
    g_autofree char *path = g_strndup(reader->key->str, reader->key->len - (is_dir && reader->key->len > 0 ? 1 : 0));
    S3Entry record = {.path = path};
    gboolean unsure = FALSE;
    BytesReader fields = bytes_reader(body, body_length);
    if (!read_body(reader, &fields, &record, &unsure) || S_ISDIR(record.meta.mode) != is_dir ||
        !restore_path_is_inside(path) || g_str_has_prefix(path, OWN) ||
        (record.link && !restore_path_is_inside(record.link)))
        return damaged(error);
    reader->count++;
    return reader->func(&record, unsure, reader->user_data, error);
}

/* The next block with all its records: 1, 0 at the end, -1. */
static int read_block(Reader *reader, GError **error)
{
    guint8 frame[FRAME_BYTES];
    if (!read_bytes(reader, frame, sizeof frame, error))
        return -1;
    BytesReader head = bytes_reader(frame, sizeof frame);
    guint32 length = bytes_get_u32(&head);
    guint64 sum = bytes_get_u64(&head);
    if (length == 0)
        return sum == reader->count || damaged(error) ? 0 : -1;
    if (length > BLOCK_MAX)
        return damaged(error), -1;
    g_byte_array_set_size(reader->block, length);
    if (!read_bytes(reader, reader->block->data, length, error))
        return -1;
    if (XXH3_64bits(reader->block->data, length) != sum)
        return damaged(error), -1;
    BytesReader in = bytes_reader(reader->block->data, length);
    g_string_truncate(reader->key, 0);
    if (!read_names(reader, &in))
        return damaged(error), -1;
    while (in.at < in.end)
        if (!read_record(reader, &in, error))
            return -1;
    return 1;
}

static gboolean read_header(Reader *reader, guint64 *granularity_ns, GError **error)
{
    guint8 header[HEADER_BYTES];
    if (!read_bytes(reader, header, sizeof header, error))
        return FALSE;
    BytesReader in = bytes_reader(header + MAGIC_BYTES, sizeof header - MAGIC_BYTES);
    (void)bytes_get_u32(&in);
    guint64 granularity = bytes_get_u64(&in);
    if (memcmp(header, MAGIC, MAGIC_BYTES) != 0 ||
        bytes_get_u64(&in) != XXH3_64bits(header, HEADER_BYTES - sizeof(guint64)))
        return damaged(error);
    *granularity_ns = MAX(granularity, 1);
    return TRUE;
}

gboolean mirror_sidecar_read(int root_fd, MirrorSidecarFunc func, gpointer user_data, guint64 *granularity_ns,
                             GError **error)
{
    *granularity_ns = 1;
    g_auto(AutoFd) own_fd = dir_open(root_fd, OWN, NULL);
    int fd = own_fd < 0 ? -1 : openat(own_fd, NAME, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return own_fd < 0 || errno == ENOENT || error_set_errno(error, errno, "cannot open the mirror's " OWN "/" NAME);
    g_auto(Reader) reader = {.fd = fd, .func = func, .user_data = user_data};
    reader.names = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    reader.block = g_byte_array_new();
    reader.key = g_string_new(NULL);
    reader.target = g_string_new(NULL);
    reader.link = g_string_new(NULL);
    int more = read_header(&reader, granularity_ns, error) ? 1 : -1;
    while (more > 0)
        more = read_block(&reader, error);
    return more == 0;
}
