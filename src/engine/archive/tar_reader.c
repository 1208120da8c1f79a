#include "engine/archive/tar_reader.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/error.h"
#include "engine/archive/tar_format.h"
#include "engine/archive/tar_records.h"

/* The most bytes of one pax header: ours have no more than 1 MB of attributes, and texts. */
#define PAX_MAX (32u * 1024 * 1024)
/* No path of ours is longer; the kernel takes no longer names. */
#define PATH_BYTES_MAX (64u * 1024)
#define NAME_BYTES_MAX 255

/* Where the fields of a header lie (POSIX.1-1988). */
typedef struct {
    gsize at, length;
} Field;
static const Field NAME = {0, 100}, MODE = {100, 8}, USER_ID = {108, 8}, GROUP_ID = {116, 8}, SIZE = {124, 12},
                   MTIME = {136, 12}, SUM = {148, 8}, LINK = {157, 100}, USER = {265, 32}, GROUP = {297, 32},
                   MAJOR = {329, 8}, MINOR = {337, 8}, PREFIX = {345, 155};
#define TYPE_AT  156
#define MAGIC_AT 257

struct TarReader {
    TarInput input;
    gpointer user_data;
    const guint8 *data; /* what is left of the piece that came last */
    gsize length;
    guint64 at;   /* in the tar */
    guint64 left; /* of the content */
    guint64 skip; /* and its padding */
    gboolean cut;

    guint8 block[TAR_BLOCK];
    GByteArray *pax;
    TarRecords records;
    char *path, *link, *user, *group;
};

TarReader *tar_reader_new(TarInput input, gpointer user_data)
{
    TarReader *reader = g_new0(TarReader, 1);
    reader->input = input;
    reader->user_data = user_data;
    reader->pax = g_byte_array_new();
    return reader;
}

static void forget(TarReader *reader)
{
    tar_records_clear(&reader->records);
    g_clear_pointer(&reader->path, g_free);
    g_clear_pointer(&reader->link, g_free);
    g_clear_pointer(&reader->user, g_free);
    g_clear_pointer(&reader->group, g_free);
}

void tar_reader_free(TarReader *reader)
{
    if (reader == NULL)
        return;
    forget(reader);
    g_byte_array_unref(reader->pax);
    g_free(reader);
}

gboolean tar_reader_was_cut(const TarReader *reader)
{
    return reader->cut;
}

static gboolean damaged(const TarReader *reader, const char *what, GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "%s at byte %" G_GUINT64_FORMAT " of the tar", what, reader->at);
}

/* ---- bytes ---- */

/* Up to `most` bytes of what comes: FALSE at the end too. */
static gboolean take(TarReader *reader, guint64 most, const guint8 **data, gsize *length, GError **error)
{
    while (reader->length == 0) {
        int got = reader->input(reader->user_data, &reader->data, &reader->length, error);
        if (got == 0) {
            reader->cut = TRUE;
            return damaged(reader, "the archive ends", error);
        }
        if (got < 0)
            return FALSE;
    }
    *data = reader->data;
    *length = (gsize)MIN(most, reader->length);
    reader->data += *length;
    reader->length -= *length;
    reader->at += *length;
    return TRUE;
}

static gboolean read_into(TarReader *reader, guint8 *out, gsize length, GError **error)
{
    while (length > 0) {
        const guint8 *data = NULL;
        gsize got = 0;
        if (!take(reader, length, &data, &got, error))
            return FALSE;
        memcpy(out, data, got);
        out += got;
        length -= got;
    }
    return TRUE;
}

static gboolean pass_over(TarReader *reader, guint64 length, GError **error)
{
    while (length > 0) {
        const guint8 *data = NULL;
        gsize got = 0;
        if (!take(reader, length, &data, &got, error))
            return FALSE;
        length -= got;
    }
    return TRUE;
}

/* ---- headers ---- */

/* Octal digits, up to the field's end, a zero byte or a space. */
static gboolean read_octal(const guint8 *block, Field field, guint64 *value)
{
    *value = 0;
    for (gsize i = 0; i < field.length; i++) {
        guint8 c = block[field.at + i];
        if (c == '\0' || c == ' ')
            return TRUE;
        if (c < '0' || c > '7')
            return FALSE;
        *value = *value * 8 + (guint64)(c - '0');
    }
    return TRUE;
}

static char *read_text(const guint8 *block, Field field)
{
    return g_strndup((const char *)block + field.at, field.length);
}

static gboolean is_zero(const guint8 *block)
{
    for (gsize i = 0; i < TAR_BLOCK; i++)
        if (block[i] != 0)
            return FALSE;
    return TRUE;
}

static gboolean check_block(const TarReader *reader, GError **error)
{
    guint64 want = 0, sum = 0;
    for (gsize i = 0; i < TAR_BLOCK; i++)
        sum += i >= SUM.at && i < SUM.at + SUM.length ? ' ' : reader->block[i];
    if (!read_octal(reader->block, SUM, &want) || want != sum || memcmp(reader->block + MAGIC_AT, "ustar", 5) != 0)
        return damaged(reader, "a damaged header", error);
    return TRUE;
}

static gboolean read_pax(TarReader *reader, GError **error)
{
    guint64 size = 0;
    if (!read_octal(reader->block, SIZE, &size) || size > PAX_MAX)
        return damaged(reader, "a pax header of an absurd size", error);
    g_byte_array_set_size(reader->pax, (guint)size);
    return read_into(reader, reader->pax->data, (gsize)size, error) && pass_over(reader, tar_padding(size), error) &&
           tar_records_read(reader->pax->data, (gsize)size, &reader->records, error);
}

/* GNU's header of a long name that is not ASCII: the name with a zero byte at its end. */
static gboolean read_long_name(TarReader *reader, char **name, GError **error)
{
    guint64 size = 0;
    if (*name != NULL || !read_octal(reader->block, SIZE, &size) || size == 0 || size > PATH_BYTES_MAX + 1)
        return damaged(reader, "a long name of an absurd size", error);
    g_autofree char *text = g_malloc((gsize)size);
    if (!read_into(reader, (guint8 *)text, (gsize)size, error) || !pass_over(reader, tar_padding(size), error))
        return FALSE;
    if (memchr(text, 0, (gsize)size) != text + size - 1)
        return damaged(reader, "a long name that does not end where it should", error);
    *name = g_steal_pointer(&text);
    return TRUE;
}

/* Reads up to the block that says what the entry is: 1; 0 at the tar's end; -1. */
static int read_headers(TarReader *reader, GError **error)
{
    gboolean has_pax = FALSE;
    for (;;) {
        if (!read_into(reader, reader->block, TAR_BLOCK, error))
            return -1;
        if (is_zero(reader->block) && !has_pax && reader->records.path == NULL && reader->records.link == NULL)
            return 0;
        if (!check_block(reader, error))
            return -1;
        guint8 type = reader->block[TYPE_AT];
        if (!has_pax && (type == 'L' || type == 'K')) {
            if (!read_long_name(reader, type == 'L' ? &reader->records.path : &reader->records.link, error))
                return -1;
            continue;
        }
        if (type != 'x')
            return 1;
        if (has_pax)
            return damaged(reader, "a second pax header", error) ? 0 : -1;
        has_pax = TRUE;
        if (!read_pax(reader, error))
            return -1;
    }
}

/* ---- what they say ---- */

/* Why a path may not be used; NULL: it may. */
static const char *refusal(const char *path)
{
    gsize length = strlen(path);
    if (path[0] == '/')
        return "its path is absolute";
    if (length > PATH_BYTES_MAX)
        return "its path is too long";
    const char *segment = path;
    for (;;) {
        const char *slash = strchr(segment, '/');
        gsize n = slash != NULL ? (gsize)(slash - segment) : strlen(segment);
        if (n == 0)
            return "its path has an empty name in it";
        if (n == 1 && segment[0] == '.')
            return "its path has the name . in it";
        if (n == 2 && segment[0] == '.' && segment[1] == '.')
            return "its path has the name .. in it";
        if (n > NAME_BYTES_MAX)
            return "its path has a name of more than 255 bytes";
        if (slash == NULL)
            return NULL;
        segment = slash + 1;
    }
}

static void find_path(TarReader *reader)
{
    TarRecords *records = &reader->records;
    if (records->is_sparse && records->sparse_name != NULL) {
        reader->path = g_steal_pointer(&records->sparse_name);
    } else if (records->path != NULL) {
        reader->path = g_steal_pointer(&records->path);
    } else {
        g_autofree char *prefix = read_text(reader->block, PREFIX);
        g_autofree char *name = read_text(reader->block, NAME);
        reader->path = prefix[0] != '\0' ? g_strconcat(prefix, "/", name, NULL) : g_strdup(name);
    }
    reader->link = records->link != NULL ? g_steal_pointer(&records->link) : read_text(reader->block, LINK);
}

/* The path as an entry has it: the root is "", a directory has no slash at its end. */
static const char *clean_path(TarReader *reader, gboolean directory)
{
    gsize length = strlen(reader->path);
    if (directory && (strcmp(reader->path, "./") == 0 || strcmp(reader->path, ".") == 0)) {
        reader->path[0] = '\0';
        return NULL;
    }
    if (directory && length > 1 && reader->path[length - 1] == '/')
        reader->path[length - 1] = '\0';
    return refusal(reader->path);
}

static guint32 type_bits(guint8 type)
{
    switch (type) {
    case '0':
    case '\0':
    case '7':
    case '1':
        return S_IFREG;
    case '2':
        return S_IFLNK;
    case '3':
        return S_IFCHR;
    case '4':
        return S_IFBLK;
    case '5':
        return S_IFDIR;
    case '6':
        return S_IFIFO;
    default:
        return 0;
    }
}

static const char *take_names(TarReader *reader, TarEntry *entry)
{
    guint8 type = reader->block[TYPE_AT];
    find_path(reader);
    const char *why = clean_path(reader, type == '5');
    entry->entry.path = reader->path;
    if (reader->records.has_zero)
        return "its path has a zero byte in it";
    if (type == '1') {
        entry->entry.link = reader->link;
        if (why == NULL && refusal(reader->link) != NULL)
            why = "it is a hard link to a path that cannot be";
    }
    if (type == '2') {
        entry->entry.target = reader->link;
        entry->entry.meta.size = strlen(reader->link);
        if (reader->link[0] == '\0')
            why = "it is a symbolic link to nothing";
    }
    return why;
}

static void take_owner(TarReader *reader, TarEntry *entry)
{
    TarRecords *records = &reader->records;
    reader->user = records->user != NULL ? g_steal_pointer(&records->user) : read_text(reader->block, USER);
    reader->group = records->group != NULL ? g_steal_pointer(&records->group) : read_text(reader->block, GROUP);
    entry->entry.user = reader->user[0] != '\0' ? reader->user : NULL;
    entry->entry.group = reader->group[0] != '\0' ? reader->group : NULL;
    if (records->attrs != NULL) {
        entry->entry.attrs = records->attrs->data;
        entry->entry.attrs_length = records->attrs->len;
    }
}

static gboolean take_numbers(TarReader *reader, TarEntry *entry, GError **error)
{
    const TarRecords *records = &reader->records;
    const guint8 *block = reader->block;
    FileMeta *meta = &entry->entry.meta;
    guint64 mode, uid, gid, size, mtime, major_number, minor_number;
    if (!read_octal(block, MODE, &mode) || !read_octal(block, USER_ID, &uid) || !read_octal(block, GROUP_ID, &gid) ||
        !read_octal(block, SIZE, &size) || !read_octal(block, MTIME, &mtime) ||
        !read_octal(block, MAJOR, &major_number) || !read_octal(block, MINOR, &minor_number))
        return damaged(reader, "a header with a number that is none", error);
    uid = records->has_uid ? records->uid : uid;
    gid = records->has_gid ? records->gid : gid;
    size = records->has_size ? records->size : size;
    if (uid > G_MAXUINT32 || gid > G_MAXUINT32 || size > G_MAXINT64 || records->real_size > G_MAXINT64)
        return damaged(reader, "a header with an absurd number", error);
    meta->mode = type_bits(block[TYPE_AT]) | ((guint32)mode & 07777);
    meta->uid = (guint32)uid;
    meta->gid = (guint32)gid;
    meta->nlink = 1;
    meta->mtime_s = records->has_mtime ? records->mtime_s : (gint64)mtime;
    meta->mtime_ns = records->mtime_ns;
    if (S_ISCHR(meta->mode) || S_ISBLK(meta->mode))
        meta->rdev = makedev((guint)major_number, (guint)minor_number);
    entry->stored = size;
    if (S_ISREG(meta->mode) && block[TYPE_AT] != '1') {
        entry->sparse = records->is_sparse && records->has_real_size;
        meta->size = entry->sparse ? records->real_size : size;
    }
    return TRUE;
}

int tar_reader_next(TarReader *reader, TarEntry *entry, GError **error)
{
    *entry = (TarEntry){0};
    guint64 rest = reader->left + reader->skip;
    reader->left = reader->skip = 0;
    if (!pass_over(reader, rest, error))
        return -1;
    forget(reader);
    entry->offset = reader->at;
    int got = read_headers(reader, error);
    if (got <= 0)
        return got;
    if (!take_numbers(reader, entry, error))
        return -1;
    entry->refused = take_names(reader, entry);
    take_owner(reader, entry);
    if (type_bits(reader->block[TYPE_AT]) == 0)
        entry->refused = "it is of a kind that no archive of ours has";
    guint64 header_length = reader->at - entry->offset;
    entry->header_length = (guint32)header_length; /* PAX_MAX bounds it */
    reader->left = entry->stored;
    reader->skip = tar_padding(entry->stored);
    return 1;
}

int tar_reader_content(TarReader *reader, const guint8 **data, gsize *length, GError **error)
{
    if (reader->left == 0)
        return 0;
    if (!take(reader, reader->left, data, length, error))
        return -1;
    reader->left -= *length;
    return 1;
}
