/*
 * A sequence of records in an unlinked temporary file: appended once, then read from the start any number of times.
 * Buffered both ways. One thread writes; readers are independent of each other.
 */
#pragma once

#include <glib.h>

typedef struct Spool Spool;
typedef struct SpoolReader SpoolReader;

/* An empty spool in the directory temp_fd (O_TMPFILE, or a file that is unlinked at once), or in $TMPDIR if it is -1.
 */
Spool *spool_new(int temp_fd, GError **error);

/* Appends one record of at most 16 MiB. NO_SPACE and I/O errors may come late: spool_finish reports them at the latest.
 */
gboolean spool_put(Spool *spool, const void *data, gsize length, GError **error);

/* Flushes; needed before reading. */
gboolean spool_finish(Spool *spool, GError **error);

/* Bytes in it. */
guint64 spool_size(const Spool *spool);

/* A reader from the start. The spool must outlive it. */
SpoolReader *spool_reader_new(Spool *spool);

/* The next record, valid until the next call: 1; 0 at the end; -1 on error. */
int spool_reader_next(SpoolReader *reader, const guint8 **data, gsize *length, GError **error);

void spool_reader_free(SpoolReader *reader);
void spool_free(Spool *spool);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Spool, spool_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SpoolReader, spool_reader_free)
