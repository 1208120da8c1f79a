#include "engine/archive/tar_format.h"

#include "base/error.h"
#include "base/human.h"
#include "engine/archive/tar_attrs.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* One block of POSIX.1-1988: numbers in octal digits, texts that end with a zero byte or with their field. */
typedef struct {
    char name[100];
    char mode[8];
    char uid[8];
    char gid[8];
    char size[12];
    char mtime[12];
    char sum[8];
    char type;
    char link[100];
    char magic[6];
    char version[2];
    char user[32];
    char group[32];
    char major[8];
    char minor[8];
    char prefix[155];
    char unused[12];
} Block;
G_STATIC_ASSERT(sizeof(Block) == TAR_BLOCK);

/* Digits of the fields of 8 and of 12 bytes. */
#define OCTAL_7  07777777
#define OCTAL_11 G_GUINT64_CONSTANT(077777777777)

/* The longest line of a map: a number and its end. */
#define MAP_DIGITS 20

typedef struct {
    const S3Entry *entry;
    Block block;
    GByteArray *pax; /* records of the pax header before the block */
    GByteArray *out;
} Header;

/* What does not fit becomes the largest number, never 0: that would be root's. The right one stands in the pax header. */
static void put_octal(char *field, gsize size, guint64 value)
{
    guint64 most = (G_GUINT64_CONSTANT(1) << (3 * (size - 1))) - 1;
    value = MIN(value, most);
    for (gsize i = size - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
}

static void put_block(const Block *block, GByteArray *out)
{
    Block summed = *block;
    memcpy(summed.magic, "ustar", 6);
    memcpy(summed.version, "00", 2);
    memset(summed.sum, ' ', sizeof summed.sum);
    guint sum = 0;
    for (gsize i = 0; i < sizeof summed; i++)
        sum += ((const guint8 *)&summed)[i];
    /* Six digits, a zero byte and the space. */
    put_octal(summed.sum, 7, sum);
    summed.sum[6] = '\0';
    g_byte_array_append(out, (const guint8 *)&summed, sizeof summed);
}

static void put_zeros(GByteArray *out, guint length)
{
    static const guint8 ZEROS[TAR_BLOCK];
    g_byte_array_append(out, ZEROS, length);
}

static void put_pax_number(Header *header, const char *key, guint64 value)
{
    char text[24];
    gsize length = (gsize)g_snprintf(text, sizeof text, "%" G_GUINT64_FORMAT, value);
    tar_put_record(header->pax, key, text, length);
}

static void put_number(Header *header, char *field, gsize size, const char *key, guint64 value)
{
    put_octal(field, size, value);
    if (value > (size == sizeof header->block.uid ? OCTAL_7 : OCTAL_11))
        put_pax_number(header, key, value);
}

static void put_own_block(char type, const char *name, guint64 size, gint64 mtime, GByteArray *out)
{
    Block block = {.type = type};
    memcpy(block.name, name, MIN(strlen(name), sizeof block.name));
    put_octal(block.mode, sizeof block.mode, 0644);
    put_octal(block.uid, sizeof block.uid, 0);
    put_octal(block.gid, sizeof block.gid, 0);
    put_octal(block.size, sizeof block.size, size);
    put_octal(block.mtime, sizeof block.mtime, (guint64)MAX(mtime, 0));
    put_octal(block.major, sizeof block.major, 0);
    put_octal(block.minor, sizeof block.minor, 0);
    put_block(&block, out);
}

/*
 * A name that is too long for its field. A pax header says that it is UTF-8, and readers convert it to their locale;
 * libarchive also composes its accents, so it would be another name. Only ASCII is safe from that; other bytes go in
 * GNU's older way ('L' for the path, 'K' for a link), which all readers take as it is.
 */
static void put_long(Header *header, char type, const char *key, const char *text)
{
    gsize length = strlen(text);
    if (g_str_is_ascii(text)) {
        tar_put_record(header->pax, key, text, length);
        return;
    }
    put_own_block(type, "././@LongLink", length + 1, 0, header->out);
    g_byte_array_append(header->out, (const guint8 *)text, (guint)length + 1);
    put_zeros(header->out, tar_padding(length + 1));
}

/* A user's or group's name. One that is long and odd is left out: its number counts. */
static void put_person(Header *header, char field[32], const char *key, const char *text)
{
    gsize length = text != NULL ? strlen(text) : 0;
    if (length < 32)
        memcpy(field, text != NULL ? text : "", length);
    else if (g_str_is_ascii(text))
        tar_put_record(header->pax, key, text, length);
}

/* The name, cut at a slash if it is too long for one field. FALSE if it does not fit; then as much as does. */
static gboolean put_name(Block *block, const char *name)
{
    gsize length = strlen(name);
    if (length > sizeof block->name) {
        gsize first = length - sizeof block->name - 1;
        const char *slash = first < sizeof block->prefix + 1 ? strchr(name + first, '/') : NULL;
        if (slash != NULL && slash > name && slash[1] != '\0' && (gsize)(slash - name) <= sizeof block->prefix) {
            memcpy(block->prefix, name, (gsize)(slash - name));
            memcpy(block->name, slash + 1, strlen(slash + 1));
            return TRUE;
        }
    }
    memcpy(block->name, name, MIN(length, sizeof block->name));
    return length <= sizeof block->name;
}

static char *name_in_tar(const S3Entry *entry)
{
    if (entry->path[0] == '\0')
        return g_strdup("./");
    return g_strconcat(entry->path, S_ISDIR(entry->meta.mode) && entry->link == NULL ? "/" : "", NULL);
}

static void put_path(Header *header, const char *name)
{
    if (!put_name(&header->block, name))
        put_long(header, 'L', "path", name);
}

/*
 * As GNU tar does: a reader that knows nothing of sparse files puts the map and the pieces beside, not in its place. The
 * real name is then a pax record, so this is for ASCII alone.
 */
static void put_sparse_path(Header *header, const char *name)
{
    tar_put_record(header->pax, "GNU.sparse.major", "1", 1);
    tar_put_record(header->pax, "GNU.sparse.minor", "0", 1);
    if (g_str_is_ascii(name)) {
        g_autofree char *dir = g_path_get_dirname(name);
        g_autofree char *base = g_path_get_basename(name);
        g_autofree char *beside = g_strconcat(dir, "/GNUSparseFile.0/", base, NULL);
        (void)put_name(&header->block, beside);
        tar_put_record(header->pax, "GNU.sparse.name", name, strlen(name));
    } else {
        put_path(header, name);
    }
    put_pax_number(header, "GNU.sparse.realsize", header->entry->meta.size);
}

static void put_mtime(Header *header)
{
    gint64 s = header->entry->meta.mtime_s;
    guint32 ns = header->entry->meta.mtime_ns;
    put_octal(header->block.mtime, sizeof header->block.mtime, (guint64)MAX(s, 0));
    if (ns == 0 && s >= 0 && (guint64)s <= OCTAL_11)
        return;
    /* A decimal fraction: half a second before 1970 is -0.5, in a stat -1 and 500,000,000 ns. */
    gboolean negative = s < 0;
    guint64 whole = negative ? -(guint64)s - (ns > 0 ? 1 : 0) : (guint64)s;
    guint32 rest = negative && ns > 0 ? 1000000000 - ns : ns;
    char text[48];
    int length = g_snprintf(text, sizeof text, "%s%" G_GUINT64_FORMAT, negative ? "-" : "", whole);
    if (rest > 0)
        length += g_snprintf(text + length, sizeof text - (gsize)length, ".%09u", rest);
    tar_put_record(header->pax, "mtime", text, (gsize)length);
}

/* The type's letter; 0 for a socket and what no one knows. */
static char type_of(const S3Entry *entry)
{
    if (S_ISSOCK(entry->meta.mode))
        return 0;
    if (entry->link != NULL)
        return '1';
    switch (entry->meta.mode & S_IFMT) {
    case S_IFREG:
        return '0';
    case S_IFLNK:
        return '2';
    case S_IFCHR:
        return '3';
    case S_IFBLK:
        return '4';
    case S_IFDIR:
        return '5';
    case S_IFIFO:
        return '6';
    default:
        return 0;
    }
}

static void put_owner(Header *header)
{
    const S3Entry *entry = header->entry;
    Block *block = &header->block;
    put_octal(block->mode, sizeof block->mode, entry->meta.mode & 07777);
    put_number(header, block->uid, sizeof block->uid, "uid", entry->meta.uid);
    put_number(header, block->gid, sizeof block->gid, "gid", entry->meta.gid);
    put_person(header, block->user, "uname", entry->user);
    put_person(header, block->group, "gname", entry->group);
}

static void put_kind(Header *header)
{
    const S3Entry *entry = header->entry;
    Block *block = &header->block;
    const char *link = entry->link != NULL ? entry->link : entry->target;
    if ((block->type == '1' || block->type == '2') && link != NULL) {
        gsize length = strlen(link);
        memcpy(block->link, link, MIN(length, sizeof block->link));
        if (length > sizeof block->link)
            put_long(header, 'K', "linkpath", link);
    }
    gboolean device = block->type == '3' || block->type == '4';
    put_octal(block->major, sizeof block->major, device ? major(entry->meta.rdev) : 0);
    put_octal(block->minor, sizeof block->minor, device ? minor(entry->meta.rdev) : 0);
}

/* The pax records, as an own entry before that which they are about. */
static void put_pax(Header *header, const char *name)
{
    GByteArray *pax = header->pax;
    if (pax->len == 0)
        return;
    g_autofree char *base = g_path_get_basename(name);
    g_autofree char *shown = g_strconcat("PaxHeaders/", base, NULL);
    put_own_block('x', shown, pax->len, header->entry->meta.mtime_s, header->out);
    g_byte_array_append(header->out, pax->data, pax->len);
    put_zeros(header->out, tar_padding(pax->len));
}

/* Whether a piece of no bytes has to stand at the end: readers make the file as long as the map reaches. */
static gboolean ends_with_hole(const S3Entry *entry, const TarExtent *extents, guint count)
{
    return count == 0 || extents[count - 1].offset + extents[count - 1].length < entry->meta.size;
}

void tar_put_map(const S3Entry *entry, const TarExtent *extents, guint count, GByteArray *out)
{
    char line[2 * MAP_DIGITS + 8];
    gboolean hole = ends_with_hole(entry, extents, count);
    guint before = out->len;
    int length = g_snprintf(line, sizeof line, "%u\n", count + (hole ? 1 : 0));
    g_byte_array_append(out, (const guint8 *)line, (guint)length);
    for (guint i = 0; i < count; i++) {
        length = g_snprintf(line, sizeof line, "%" G_GUINT64_FORMAT "\n%" G_GUINT64_FORMAT "\n", extents[i].offset,
                            extents[i].length);
        g_byte_array_append(out, (const guint8 *)line, (guint)length);
    }
    if (hole) {
        length = g_snprintf(line, sizeof line, "%" G_GUINT64_FORMAT "\n0\n", entry->meta.size);
        g_byte_array_append(out, (const guint8 *)line, (guint)length);
    }
    put_zeros(out, tar_padding(out->len - before));
}

/* Of a number and the line's end. */
static guint line_length(guint64 value)
{
    guint length = 2;
    while ((value /= 10) > 0)
        length++;
    return length;
}

/* What tar_put_map appends. */
static guint64 map_length(const S3Entry *entry, const TarExtent *extents, guint count)
{
    gboolean hole = ends_with_hole(entry, extents, count);
    guint64 length = line_length(count + (hole ? 1 : 0));
    for (guint i = 0; i < count; i++)
        length += line_length(extents[i].offset) + line_length(extents[i].length);
    length += hole ? line_length(entry->meta.size) + line_length(0) : 0;
    return length + tar_padding(length);
}

guint64 tar_content_size(const S3Entry *entry, const TarExtent *extents, guint count)
{
    if (!S_ISREG(entry->meta.mode) || entry->link != NULL)
        return 0;
    if (extents == NULL)
        return entry->meta.size;
    guint64 sum = 0;
    for (guint i = 0; i < count; i++)
        sum += extents[i].length;
    return sum;
}

guint tar_padding(guint64 size)
{
    return (guint)(-size % TAR_BLOCK);
}

static gboolean check_entry(const S3Entry *entry, char type, const TarExtent *extents, guint count, GError **error)
{
    if (type != 0 && (extents == NULL || count <= TAR_EXTENTS_MAX))
        return TRUE;
    g_autofree char *shown = human_name(entry->path, -1);
    if (type == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "%s is a %s, which a tar cannot hold", shown,
                         meta_kind(entry->meta.mode));
    return error_set(error, BACKAPP_ERROR_INVALID, "%s has more than %u pieces between its holes: store it whole",
                     shown, TAR_EXTENTS_MAX);
}

gboolean tar_put_header(const S3Entry *entry, const TarExtent *extents, guint count, GByteArray *out, GError **error)
{
    g_autoptr(GByteArray) pax = g_byte_array_new();
    Header header = {.entry = entry, .block.type = type_of(entry), .pax = pax, .out = out};
    Block *block = &header.block;
    if (!check_entry(entry, block->type, extents, count, error))
        return FALSE;
    if (block->type != '0')
        extents = NULL;
    guint before = out->len;
    guint64 size = tar_content_size(entry, extents, count);
    if (extents != NULL)
        size += map_length(entry, extents, count);
    g_autofree char *name = name_in_tar(entry);
    put_owner(&header);
    put_mtime(&header);
    put_kind(&header);
    /* Before what is said of holes: readers take the real size from there. */
    put_number(&header, block->size, sizeof block->size, "size", size);
    if (extents != NULL)
        put_sparse_path(&header, name);
    else
        put_path(&header, name);
    /* A further name's attributes stand with the first one. */
    if (entry->link == NULL && !tar_put_attrs(entry, pax, error)) {
        g_byte_array_set_size(out, before);
        return FALSE;
    }
    put_pax(&header, name);
    put_block(block, out);
    return TRUE;
}

/* A reader's place in a map. */
typedef struct {
    const guint8 *at, *end;
} MapReader;

/* 1; 0 if data ends before the number does; -1 if it is none. */
static int read_number(MapReader *in, guint64 *value)
{
    const guint8 *start = in->at;
    *value = 0;
    for (; in->at < in->end; in->at++) {
        guint8 byte = *in->at;
        if (byte == '\n')
            return in->at++ > start ? 1 : -1;
        guint digit = (guint)(byte - '0');
        if (byte < '0' || digit > 9 || *value > (G_MAXUINT64 - digit) / 10 || in->at - start >= MAP_DIGITS)
            return -1;
        *value = *value * 10 + digit;
    }
    return 0;
}

/* Reads one piece, which lies behind `from`. */
static int read_extent(MapReader *in, guint64 from, guint64 size, TarExtent *extent)
{
    int got = read_number(in, &extent->offset);
    if (got == 1)
        got = read_number(in, &extent->length);
    if (got == 1 && (extent->offset < from || extent->offset > size || extent->length > size - extent->offset))
        return -1;
    return got;
}

static int read_extents(MapReader *in, guint64 size, GArray *extents)
{
    guint64 count, from = 0;
    int got = read_number(in, &count);
    /* Each piece but the last one has a byte. */
    if (got == 1 && count > 0 && (count - 1 > TAR_EXTENTS_MAX || count - 1 > size))
        return -1;
    for (guint64 i = 0; i < count && got == 1; i++) {
        TarExtent extent;
        got = read_extent(in, from, size, &extent);
        if (got == 1 && extent.length > 0)
            g_array_append_val(extents, extent);
        if (got == 1)
            from = extent.offset + extent.length;
    }
    return got;
}

int tar_read_map(const guint8 *data, gsize length, guint64 size, GArray *extents, gsize *used, GError **error)
{
    guint before = extents->len;
    *used = 0;
    if (length == 0)
        return 0;
    MapReader in = {.at = data, .end = data + length};
    int got = read_extents(&in, size, extents);
    gsize bytes = (gsize)(in.at - data);
    bytes += tar_padding(bytes);
    if (got == 1 && bytes > length)
        got = 0;
    if (got == 1)
        *used = bytes;
    else
        g_array_set_size(extents, before);
    if (got < 0)
        error_set(error, BACKAPP_ERROR_CORRUPT, "damaged map of a sparse file's pieces");
    return got;
}
