#include "engine/restore/content.h"

#include "base/error.h"
#include "fs/io.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Holes are found at this granularity. */
#define BLOCK      ((gsize)4096)
#define READ_BYTES ((gsize)256 * 1024)

/* TRUE if what was fed is the entry's content, or the entry does not know its hash. */
static gboolean hash_agrees(ContentHash *hash, const S3Entry *entry)
{
    guint8 digest[HASH_BYTES];
    if (entry->part_size == 0)
        return TRUE;
    content_hash_end(hash, digest);
    return memcmp(digest, entry->hash, HASH_BYTES) == 0;
}

void content_output_clear(ContentOutput *output)
{
    content_hash_clear(&output->hash);
}

gboolean content_begin_output(ContentOutput *output, const S3Entry *entry, RestoreFetch *fetch, gboolean proven,
                              const CancelFlag *cancel, GError **error)
{
    *output = (ContentOutput){.entry = entry, .fetch = fetch, .cancel = cancel, .proven = proven};
    /* What an attempt before this one may have left. */
    if (ftruncate(fetch->fd, 0) < 0)
        return error_set_errno(error, errno, "cannot write %s", entry->path);
    if (!proven && entry->part_size > 0)
        content_hash_begin(&output->hash, entry->meta.size, entry->part_size);
    return TRUE;
}

static gboolean is_zero(const guint8 *data, gsize length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* Writes what is not zero; the rest becomes holes when the file gets its length. What arrives ends anywhere, so a piece of
 * a block is looked at like a whole one. */
static gboolean write_content(ContentOutput *output, const guint8 *data, gsize length, GError **error)
{
    while (length > 0) {
        gsize piece = MIN(length, BLOCK - (gsize)(output->offset % BLOCK));
        gboolean hole = is_zero(data, piece);
        /* As much as can be written, or left out, at once. */
        while (piece < length) {
            gsize next = MIN(length - piece, BLOCK);
            if (is_zero(data + piece, next) != hole)
                break;
            piece += next;
        }
        if (!hole && !io_write_at(output->fetch->fd, data, piece, output->offset))
            return error_set_errno(error, errno, "cannot write %s", output->entry->path);
        output->offset += piece;
        if (!hole)
            output->written = output->offset;
        data += piece;
        length -= piece;
    }
    return TRUE;
}

gboolean content_take(ContentOutput *output, const guint8 *data, gsize length, GError **error)
{
    if (length > output->entry->meta.size - output->offset)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "it is longer than what was backed up");
    if (!output->proven && output->entry->part_size > 0)
        content_hash_update(&output->hash, data, length);
    if (!write_content(output, data, length, error))
        return FALSE;
    if (output->fetch->progress)
        output->fetch->progress(output->fetch->user_data, output->entry, length);
    return cancel_check(output->cancel, error);
}

gboolean content_take_at(ContentOutput *output, guint64 offset, const guint8 *data, gsize length, GError **error)
{
    if (offset < output->offset || offset > output->entry->meta.size)
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its pieces do not fit its size");
    output->offset = offset;
    return length == 0 || content_take(output, data, length, error);
}

gboolean content_end_output(ContentOutput *output, GError **error)
{
    const S3Entry *entry = output->entry;
    if (!output->proven && output->offset != entry->meta.size)
        return error_set(error, BACKAPP_ERROR_CORRUPT,
                         "it has %" G_GUINT64_FORMAT " bytes, %" G_GUINT64_FORMAT " were backed up", output->offset,
                         entry->meta.size);
    if (!output->proven && !hash_agrees(&output->hash, entry))
        return error_set(error, BACKAPP_ERROR_CORRUPT, "its content is not what was backed up");
    if (ftruncate(output->fetch->fd, (off_t)entry->meta.size) < 0)
        return error_set_errno(error, errno, "cannot write %s", entry->path);
    /* Its size no longer tells whether its content reached the disk. */
    gboolean ends_in_hole = output->written > 0 && output->written < entry->meta.size;
    return !ends_in_hole || fdatasync(output->fetch->fd) == 0 ||
           error_set_errno(error, errno, "cannot write %s", entry->path);
}

gboolean restore_content_matches(const S3Entry *entry, int fd, const CancelFlag *cancel, gboolean *equal,
                                 GError **error)
{
    g_auto(ContentHash) hash = {0};
    g_autofree guint8 *buffer = g_malloc(READ_BYTES);
    guint64 offset = 0;
    *equal = FALSE;
    if (entry->part_size == 0)
        return TRUE;
    content_hash_begin(&hash, entry->meta.size, entry->part_size);
    for (;;) {
        gssize got = io_read_at(fd, buffer, READ_BYTES, offset);
        if (got < 0)
            return error_set_errno(error, errno, "cannot read %s", entry->path);
        if (got == 0)
            break;
        content_hash_update(&hash, buffer, (gsize)got);
        offset += (guint64)got;
        if (!cancel_check(cancel, error))
            return FALSE;
    }
    *equal = offset == entry->meta.size && hash_agrees(&hash, entry);
    return TRUE;
}
