/*
 * Writes a point, or parts of it, as one stream: a tar as archives are made of, or a zip. Contents are fetched by several
 * threads ahead of their turn into unnamed files in $TMPDIR and proven before the first byte of them is written; what
 * cannot be fetched is left out with a warning. One thread calls.
 */
#pragma once

#include "engine/restore/restore.h"

typedef enum { RESTORE_TAR, RESTORE_ZIP } RestoreFormat;

typedef struct {
    RestoreSourceOptions source; /* its cancel and sink are set by restore_export */
    const char *const *paths;    /* NULL-terminated; NULL or empty: all */
    RestoreFormat format;
    int fd;              /* where it goes: anything that can be written */
    gboolean attributes; /* extended attributes and ACLs, which only a tar holds */
    guint concurrency;   /* 0: 16 */
    const CancelFlag *cancel;
    RunSink *sink;
} RestoreExportOptions;

/* stats: files_restored, bytes_restored, files_skipped (what the format cannot hold), damaged, missing, cold, point, partial,
 * duration. FALSE leaves a stream that is no whole tar or zip. */
gboolean restore_export(const RestoreExportOptions *options, RestoreStats *stats, GError **error);
