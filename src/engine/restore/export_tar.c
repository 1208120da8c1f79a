#include "engine/restore/export_format.h"

#include "base/error.h"
#include "engine/archive/tar_format.h"
#include "fs/io.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE_BYTES ((gsize)256 * 1024)
/* More pieces than that are not worth a map. */
#define EXTENTS_MAX 100000u

typedef struct {
    ExportWriter writer;
    int fd;
    GByteArray *headers;
    GArray *extents; /* of TarExtent */
    guint8 *piece;
} TarWriter;

gboolean export_write(int fd, const void *data, gsize length, GError **error)
{
    const guint8 *bytes = data;
    while (length > 0) {
        ssize_t written = write(fd, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return error_set_errno(error, errno, "cannot write the output");
        bytes += written;
        length -= (gsize)written;
    }
    return TRUE;
}

/* The pieces of a file with holes; FALSE if it is better written whole. */
static gboolean find_extents(TarWriter *self, int fd, guint64 size)
{
    struct stat st;
    g_array_set_size(self->extents, 0);
    if (size == 0 || fstat(fd, &st) < 0 || (guint64)st.st_blocks * 512 >= size)
        return FALSE;
    for (guint64 at = 0; at < size;) {
        off_t data = lseek(fd, (off_t)at, SEEK_DATA);
        if (data < 0 && errno == ENXIO)
            break;
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        if (hole < 0 || self->extents->len >= EXTENTS_MAX)
            return FALSE;
        TarExtent extent = {(guint64)data, MIN((guint64)hole, size) - (guint64)data};
        g_array_append_val(self->extents, extent);
        at = (guint64)hole;
    }
    const TarExtent *first = &g_array_index(self->extents, TarExtent, 0);
    return self->extents->len != 1 || first->offset > 0 || first->length < size;
}

static gboolean copy_piece(TarWriter *self, int fd, const TarExtent *extent, GError **error)
{
    for (guint64 done = 0; done < extent->length;) {
        gsize want = (gsize)MIN(extent->length - done, PIECE_BYTES);
        gssize got = io_read_at(fd, self->piece, want, extent->offset + done);
        if (got < 0 || (gsize)got < want)
            return error_set_errno(error, got < 0 ? errno : EIO, "cannot read a temporary file");
        if (!export_write(self->fd, self->piece, want, error))
            return FALSE;
        done += want;
    }
    return TRUE;
}

static gboolean put_zeros(TarWriter *self, gsize length, GError **error)
{
    memset(self->piece, 0, length);
    return export_write(self->fd, self->piece, length, error);
}

static gboolean put_content(TarWriter *self, const S3Entry *entry, int fd, gboolean sparse, GError **error)
{
    const TarExtent whole = {0, entry->meta.size};
    if (!sparse && !copy_piece(self, fd, &whole, error))
        return FALSE;
    for (guint i = 0; sparse && i < self->extents->len; i++)
        if (!copy_piece(self, fd, &g_array_index(self->extents, TarExtent, i), error))
            return FALSE;
    const TarExtent *extents = sparse ? (const TarExtent *)(const void *)self->extents->data : NULL;
    guint64 size = tar_content_size(entry, extents, self->extents->len);
    return put_zeros(self, tar_padding(size), error);
}

static gboolean tar_put(ExportWriter *writer, const S3Entry *entry, int fd, GError **error)
{
    TarWriter *self = (TarWriter *)writer;
    /* A file full of holes has no piece, but its map has its end. */
    static const TarExtent none = {0, 0};
    gboolean sparse = fd >= 0 && find_extents(self, fd, entry->meta.size);
    if (sparse && self->extents->len == 0)
        g_array_append_val(self->extents, none);
    const TarExtent *extents = sparse ? (const TarExtent *)(const void *)self->extents->data : NULL;
    g_byte_array_set_size(self->headers, 0);
    if (!tar_put_header(entry, extents, self->extents->len, self->headers, error))
        return FALSE;
    if (sparse)
        tar_put_map(entry, extents, self->extents->len, self->headers);
    return export_write(self->fd, self->headers->data, self->headers->len, error) &&
           (fd < 0 || put_content(self, entry, fd, sparse, error));
}

static gboolean tar_end(ExportWriter *writer, GError **error)
{
    return put_zeros((TarWriter *)writer, TAR_END_BYTES, error);
}

static void tar_free(ExportWriter *writer)
{
    TarWriter *self = (TarWriter *)writer;
    g_byte_array_unref(self->headers);
    g_array_unref(self->extents);
    g_free(self->piece);
    g_free(self);
}

ExportWriter *export_tar_new(int fd)
{
    TarWriter *self = g_new0(TarWriter, 1);
    self->writer = (ExportWriter){.has_links = TRUE, .put = tar_put, .end = tar_end, .free = tar_free};
    self->fd = fd;
    self->headers = g_byte_array_new();
    self->extents = g_array_new(FALSE, TRUE, sizeof(TarExtent));
    self->piece = g_malloc(PIECE_BYTES);
    return &self->writer;
}
