/*
 * The formats of exports. For export*.c; one thread.
 */
#pragma once

#include "engine/restore/export.h"

typedef struct ExportWriter ExportWriter;

struct ExportWriter {
    gboolean has_links; /* a further name can be a link to the first */
    /* Writes an entry; of a regular file that is no link fd holds the content, entry->meta.size bytes. INVALID: the format
     * cannot hold such a thing, and nothing was written. */
    gboolean (*put)(ExportWriter *writer, const S3Entry *entry, int fd, GError **error);
    /* Ends the stream. */
    gboolean (*end)(ExportWriter *writer, GError **error);
    void (*free)(ExportWriter *writer);
};

ExportWriter *export_tar_new(int fd);
ExportWriter *export_zip_new(int fd, GError **error);

/* Writes all of data. */
gboolean export_write(int fd, const void *data, gsize length, GError **error);
