/*
 * Proving that a point can be restored, and making a lost index anew.
 */
#pragma once

#include "base/run_sink.h"
#include "engine/archive/point.h"

typedef struct {
    guint64 points, files, bytes; /* proven; files and their bytes only if every byte was read */
    guint64 damaged, missing;     /* each was a warning: files, or objects where no single file can be named */
    guint64 unproven;             /* files of which no hash is known */
    char *point;                  /* owned */
    double duration;
} ArchiveVerifyStats;
void archive_verify_stats_clear(ArchiveVerifyStats *stats);

/* Quick: every index of the point's chain is read and proven, every volume is there with its size and checksum as far as
 * the store tells them. full: every byte of every volume of the chain is read, and the hash of every file that the point
 * has. at as chain_choose; threads 0: by processors. Warnings "damaged" and "missing" name files, or (path NULL) objects.
 * CORRUPT at the end if something was wrong. */
gboolean archive_verify(const ArchivePlace *place, const char *at, gboolean full, guint threads,
                        const CancelFlag *cancel, RunSink *sink, ArchiveVerifyStats *stats, GError **error);

/* Reads the volumes of an archive whose index is lost and writes it anew: what the tar says of each entry, and hashes of
 * the contents. What only the index had (the parent, deletions, that a file changed) is gone: a full archive becomes a
 * point again; of another type its own entries can be restored, as of a full one that is partial, with a warning. What was
 * made on a full one takes it as its parent again, on others not: the index is another. Entries that a path makes dangerous,
 * and what is cut off at the end, are left out with a warning, and the point is partial. INVALID if there is an index and
 * not force. */
gboolean archive_reindex(const ArchivePlace *place, const char *base, gboolean force, const CancelFlag *cancel,
                         RunSink *sink, ArchivePoint **point, GError **error);
