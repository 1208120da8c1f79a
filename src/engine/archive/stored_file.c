#include "engine/archive/stored_file.h"

#include <string.h>

#include "base/error.h"
#include "engine/archive/tar_format.h"

#define PIECES_MAX (TAR_EXTENTS_MAX + 1)
/* A line of the map: a decimal number of 64 bits and its end, with some room. */
#define LINE_MAX_BYTES 24
/* So much is asked for while it is not known how long the map is. */
#define MAP_STEP (64u * 1024)

static const guint8 ZEROS[256 * 1024];

struct StoredFile {
    Hash *hash;
    guint64 size;
    MembersWriteAt write;
    gpointer user_data;
    guint64 at; /* of the file: what is hashed */

    gboolean in_map;
    GByteArray *map;
    guint64 lines, lines_expected; /* of the map; expected 0: the first line is not whole */
    guint line_length;

    GArray *extents; /* of TarExtent; what is data */
    guint extent;    /* which one is going on */
    guint64 in_extent;
    guint64 stored; /* bytes of data that are still to come */
};

StoredFile *stored_file_new(void)
{
    StoredFile *file = g_new0(StoredFile, 1);
    file->hash = hash_new();
    file->map = g_byte_array_new();
    file->extents = g_array_new(FALSE, FALSE, sizeof(TarExtent));
    return file;
}

void stored_file_begin(StoredFile *file, guint64 size, gboolean sparse, MembersWriteAt write, gpointer user_data)
{
    hash_reset(file->hash);
    file->size = size;
    file->write = write;
    file->user_data = user_data;
    file->at = file->lines = file->lines_expected = file->in_extent = 0;
    file->line_length = file->extent = 0;
    file->in_map = sparse;
    g_byte_array_set_size(file->map, 0);
    g_array_set_size(file->extents, 0);
    file->stored = sparse ? 0 : size;
    if (!sparse) {
        TarExtent all = {.offset = 0, .length = size};
        g_array_append_val(file->extents, all);
    }
}

guint64 stored_file_wanted(const StoredFile *file)
{
    return file->in_map ? MAP_STEP : file->stored;
}

static gboolean bad_map(GError **error)
{
    return error_set(error, BACKAPP_ERROR_CORRUPT, "the map of its holes is damaged");
}

/* Counts the lines of a piece of the map: *taken up to the end of the last line. FALSE if it is none. */
static gboolean count_lines(StoredFile *file, const guint8 *data, gsize length, gsize *taken)
{
    gsize i = 0;
    while (i < length && (file->lines_expected == 0 || file->lines < file->lines_expected)) {
        guint8 c = data[i++];
        if (c != '\n' && (!g_ascii_isdigit(c) || ++file->line_length > LINE_MAX_BYTES))
            return FALSE;
        if (c != '\n')
            continue;
        file->line_length = 0;
        if (file->lines++ > 0)
            continue;
        g_byte_array_append(file->map, data, (guint)i);
        guint64 pieces = g_ascii_strtoull((const char *)file->map->data, NULL, 10);
        g_byte_array_set_size(file->map, file->map->len - (guint)i);
        if (pieces > PIECES_MAX)
            return FALSE;
        file->lines_expected = 1 + 2 * pieces;
    }
    *taken = i;
    return TRUE;
}

static gboolean end_map(StoredFile *file, GError **error)
{
    gsize used = 0;
    int got = tar_read_map(file->map->data, file->map->len, file->size, file->extents, &used, error);
    if (got < 0)
        return FALSE;
    if (got == 0 || used != file->map->len)
        return bad_map(error);
    for (guint i = 0; i < file->extents->len; i++)
        file->stored += g_array_index(file->extents, TarExtent, i).length;
    /* They are hashed as zeros; somebody else's archive shall not keep us at that for ever. */
    if (file->size - file->stored > TAR_HOLES_MAX)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its holes are larger than any that are archived");
    g_byte_array_set_size(file->map, 0);
    file->in_map = FALSE;
    return TRUE;
}

/* Takes what belongs to the map, which ends with a whole block. */
static gboolean feed_map(StoredFile *file, const guint8 *data, gsize length, gsize *used, GError **error)
{
    gsize taken = 0;
    if (!count_lines(file, data, length, &taken))
        return bad_map(error);
    g_byte_array_append(file->map, data, (guint)taken);
    if (file->lines_expected > 0 && file->lines == file->lines_expected) {
        gsize padding = MIN(tar_padding(file->map->len), length - taken);
        g_byte_array_append(file->map, data + taken, (guint)padding);
        taken += padding;
        if (tar_padding(file->map->len) == 0 && !end_map(file, error))
            return FALSE;
    }
    *used = taken;
    return TRUE;
}

static void hash_zeros(StoredFile *file, guint64 to)
{
    while (file->at < to) {
        gsize step = (gsize)MIN(to - file->at, sizeof ZEROS);
        hash_update(file->hash, ZEROS, step);
        file->at += step;
    }
}

gboolean stored_file_feed(StoredFile *file, const guint8 *data, gsize length, gsize *used, GError **error)
{
    gsize at = 0;
    *used = 0;
    while (file->in_map && at < length) {
        gsize taken = 0;
        if (!feed_map(file, data + at, length - at, &taken, error))
            return FALSE;
        at += taken;
    }
    while (at < length && file->stored > 0) {
        const TarExtent *extent = &g_array_index(file->extents, TarExtent, file->extent);
        if (file->in_extent == extent->length) {
            file->extent++;
            file->in_extent = 0;
            continue;
        }
        gsize step = (gsize)MIN(extent->length - file->in_extent, length - at);
        hash_zeros(file, extent->offset);
        if (file->write != NULL && !file->write(file->user_data, file->at, data + at, step, error))
            return FALSE;
        hash_update(file->hash, data + at, step);
        file->at += step;
        file->in_extent += step;
        file->stored -= step;
        at += step;
    }
    *used = at;
    return TRUE;
}

void stored_file_finish(StoredFile *file, guint8 hash[HASH_BYTES])
{
    hash_zeros(file, file->size);
    hash_finish(file->hash, hash);
}

void stored_file_free(StoredFile *file)
{
    if (file == NULL)
        return;
    hash_free(file->hash);
    g_byte_array_unref(file->map);
    g_array_unref(file->extents);
    g_free(file);
}
