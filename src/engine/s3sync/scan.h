/*
 * Walks a source in the order of its keys: siblings sorted by the bytes of their keys, a directory's with a slash
 * appended; a directory comes before what is in it. Parallel underneath (fs/walk). Memory: what fs/walk says, and the
 * names of one directory (its bytes + 6 a name, spilled to sorted runs above 200,000).
 */
#pragma once

#include "base/cancel.h"
#include "base/run_sink.h"
#include "engine/s3sync/entry.h"
#include "engine/s3sync/names.h"
#include "fs/pattern.h"

typedef struct {
    int root_fd;
    const S3Names *names;
    const PatternList *patterns; /* may be NULL */
    gboolean one_file_system, exclude_caches;
    const char *exclude_if_present;
    guint64 exclude_larger_than; /* 0: no limit */
    gboolean metadata;           /* read attributes, ACLs too (for the metadata tree) */
    guint threads;               /* 0: by processors */
    const CancelFlag *cancel;
    RunSink *sink; /* warnings: "unreadable", "vanished", "skipped" */
} ScanOptions;

typedef struct {
    guint64 files, directories, bytes; /* what was handed on; files: all that are no directories */
    guint64 unreadable, vanished, skipped;
    gboolean partial;  /* something of the source could not be read */
    GPtrArray *unread; /* of char *: keys of directories that could not be read, each with a slash at its end: nothing
                          below them may be deleted; owned by the caller after the scan, at most 100,000, then partial
                          and all_unread */
    gboolean all_unread;
} ScanStats;

/* Calls found for each entry, in order, in the caller's thread. FALSE with the first error. */
gboolean scan_run(const ScanOptions *options,
                  gboolean (*found)(const S3Entry *entry, gpointer user_data, GError **error), gpointer user_data,
                  ScanStats *stats, GError **error);
void scan_stats_clear(ScanStats *stats);
