#include "engine/restore/export_format.h"

#include "base/error.h"
#include "fs/io.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <sys/stat.h>

#define PIECE_BYTES ((gsize)256 * 1024)
#define TIME_MAX    G_GINT64_CONSTANT(253402300799) /* the last second of the year 9999 */

typedef struct {
    ExportWriter writer;
    int fd;
    struct archive *archive;
    struct archive_entry *entry;
    guint8 *piece;
    locale_t utf8, bytes; /* the library looks at the locale to know whether a name is UTF-8; 0: there is none */
    GError *error;        /* what writing said */
    gboolean over;        /* nothing is written any more */
} ZipWriter;

static la_ssize_t write_out(struct archive *archive, void *user_data, const void *data, size_t length)
{
    ZipWriter *self = user_data;
    if (self->over || export_write(self->fd, data, length, self->error ? NULL : &self->error))
        return (la_ssize_t)length;
    archive_set_error(archive, EIO, "cannot write");
    return -1;
}

static gboolean failed(ZipWriter *self, GError **error)
{
    if (self->error) {
        g_propagate_error(error, g_steal_pointer(&self->error));
        return FALSE;
    }
    const char *why = archive_error_string(self->archive);
    return error_set(error, BACKAPP_ERROR_INTERNAL, "cannot write the zip: %s", why ? why : "unknown error");
}

static gboolean put_content(ZipWriter *self, const S3Entry *entry, int fd, GError **error)
{
    for (guint64 done = 0; done < entry->meta.size;) {
        gsize want = (gsize)MIN(entry->meta.size - done, PIECE_BYTES);
        gssize got = io_read_at(fd, self->piece, want, done);
        if (got < 0 || (gsize)got < want)
            return error_set_errno(error, got < 0 ? errno : EIO, "cannot read a temporary file");
        if (archive_write_data(self->archive, self->piece, want) != (la_ssize_t)want)
            return failed(self, error);
        done += want;
    }
    return archive_write_finish_entry(self->archive) == ARCHIVE_OK || failed(self, error);
}

static gboolean put_entry(ZipWriter *self, const S3Entry *entry, int fd, GError **error)
{
    archive_entry_clear(self->entry);
    archive_entry_copy_pathname(self->entry, entry->path);
    archive_entry_set_mode(self->entry, entry->meta.mode);
    /* libarchive crashes where a year does not fit an int; a zip knows those from 1980 to 2107. */
    gint64 mtime = CLAMP(entry->meta.mtime_s, -TIME_MAX, TIME_MAX);
    archive_entry_set_mtime(self->entry, mtime, (long)entry->meta.mtime_ns);
    archive_entry_set_uid(self->entry, entry->meta.uid);
    archive_entry_set_gid(self->entry, entry->meta.gid);
    archive_entry_set_size(self->entry, S_ISREG(entry->meta.mode) ? (la_int64_t)entry->meta.size : 0);
    if (S_ISLNK(entry->meta.mode))
        archive_entry_copy_symlink(self->entry, entry->target ? entry->target : "");
    int result = archive_write_header(self->archive, self->entry);
    /* A warning is about a name in no character set: it is there as it is. */
    if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
        return failed(self, error);
    return fd < 0 || put_content(self, entry, fd, error);
}

static gboolean zip_put(ExportWriter *writer, const S3Entry *entry, int fd, GError **error)
{
    ZipWriter *self = (ZipWriter *)writer;
    guint32 mode = entry->meta.mode;
    if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode))
        return error_set(error, BACKAPP_ERROR_INVALID, "a zip cannot hold a %s", meta_kind(mode));
    if (*entry->path == '\0')
        return TRUE;
    locale_t wanted = g_utf8_validate(entry->path, -1, NULL) ? self->utf8 : self->bytes;
    locale_t before = wanted ? uselocale(wanted) : (locale_t)0;
    gboolean fine = put_entry(self, entry, fd, error);
    if (before)
        (void)uselocale(before);
    return fine;
}

static gboolean zip_end(ExportWriter *writer, GError **error)
{
    ZipWriter *self = (ZipWriter *)writer;
    return archive_write_close(self->archive) == ARCHIVE_OK || failed(self, error);
}

static void zip_free(ExportWriter *writer)
{
    ZipWriter *self = (ZipWriter *)writer;
    /* It would write what it still has, after an error too; told to give up, it would leak. */
    self->over = TRUE;
    (void)archive_write_free(self->archive);
    archive_entry_free(self->entry);
    if (self->utf8)
        freelocale(self->utf8);
    if (self->bytes)
        freelocale(self->bytes);
    g_clear_error(&self->error);
    g_free(self->piece);
    g_free(self);
}

ExportWriter *export_zip_new(int fd, GError **error)
{
    ZipWriter *self = g_new0(ZipWriter, 1);
    self->writer = (ExportWriter){.put = zip_put, .end = zip_end, .free = zip_free};
    self->fd = fd;
    self->archive = archive_write_new();
    self->entry = archive_entry_new();
    self->piece = g_malloc(PIECE_BYTES);
    self->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    self->bytes = newlocale(LC_CTYPE_MASK, "C", (locale_t)0);
    locale_t before = self->utf8 ? uselocale(self->utf8) : (locale_t)0;
    gboolean fine = self->archive && self->entry && archive_write_set_format_zip(self->archive) == ARCHIVE_OK &&
                    archive_write_set_bytes_in_last_block(self->archive, 1) == ARCHIVE_OK &&
                    archive_write_open(self->archive, self, NULL, write_out, NULL) == ARCHIVE_OK;
    if (before)
        (void)uselocale(before);
    if (fine)
        return &self->writer;
    (void)failed(self, error);
    zip_free(&self->writer);
    return NULL;
}
