/*
 * Walks a source in the order of its keys: siblings sorted by the bytes of their keys, a directory's with a slash
 * appended; a directory comes before what is in it. Parallel underneath (fs/walk). Memory: what fs/walk says, and the
 * names of one directory (scan_names.h; spilled to sorted runs above 200,000); about 80 bytes and the path for each
 * hard-linked inode of which further names are still to come.
 */
#pragma once

#include "base/cancel.h"
#include "base/run_sink.h"
#include "engine/source/entry.h"
#include "engine/source/names.h"
#include "fs/pattern.h"

typedef struct {
    int root_fd;
    const S3Names *names;
    const PatternList *patterns; /* may be NULL */
    gboolean one_file_system, exclude_caches;
    const char *exclude_if_present;
    guint64 exclude_larger_than; /* 0: no limit */
    gboolean is_mirror; /* the source is a mirror of ours: what it keeps for itself is left out without a word */
    gboolean metadata;  /* read attributes, ACLs too (for the metadata tree) */
    gboolean no_xattrs, no_acls; /* but not these */
    guint threads;               /* 0: by processors */
    const char *temp_dir;        /* for what does not fit in memory; NULL: $TMPDIR */
    const CancelFlag *cancel;
    RunSink *sink; /* progress; warnings: "unreadable", "vanished", "skipped", "metadata" */
} ScanOptions;

typedef struct {
    guint64 files, directories, bytes; /* what was handed on; files: all that are no directories */
    guint64 unreadable, vanished, skipped;
    gboolean partial; /* something of the source could not be read */
    /* Of char *, in the order of the scan: keys that may not be deleted though they were not handed on, as they could
     * not be looked at or are left out for another reason than a pattern; one with a slash at its end stands for all
     * below it. At most 100,000, then all_unread. Grows during the scan: what concerns a key is in it before anything
     * that sorts behind that key is handed on. Freed by scan_stats_clear. */
    GPtrArray *unread;
    gboolean all_unread;
} ScanStats;

/* Calls found for each entry, in order, in the caller's thread. FALSE with the first error. */
gboolean scan_run(const ScanOptions *options,
                  gboolean (*found)(const S3Entry *entry, gpointer user_data, GError **error), gpointer user_data,
                  ScanStats *stats, GError **error);
void scan_stats_clear(ScanStats *stats);
