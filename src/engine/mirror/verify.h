/*
 * Proof that a mirror is what was read: SHA-256 of every regular file, kept in DEST/.backapp/hashes
 * (docs/formats/mirror.md).
 *
 * A record holds path, size, mtime, inode and hash. It counts only while size, mtime (and inode where the file system
 * keeps them stable) of the file in the mirror are the recorded ones; otherwise the file is "not yet proven".
 */
#pragma once

#include "base/cancel.h"
#include "base/rate.h"
#include "base/run_sink.h"
#include "engine/mirror/destination.h"

typedef struct {
    guint64 files, bytes; /* regular files of the mirror that were read */
    guint64 proven;       /* equal to their record */
    guint64 recorded;     /* read, equal to their source, now recorded */
    guint64 unproven;     /* no valid record, and no source that could prove them */
    guint64 damaged;      /* differ from their record or source, or cannot be read; each is a warning "damaged" */
    guint64 missing;      /* recorded but gone from the mirror; each is a warning */
    double duration;      /* seconds */
} VerifyStats;

/* Reads every regular file of the mirror at `destination`, several at a time (jobs threads, 0: by processors), compares
 * it with its record; what has no valid record is compared with its source if that is unchanged (size, mtime as in the
 * mirror) and then recorded. sources: NULL-terminated, as the mirror run had them, or NULL: those remembered in
 * .backapp/state.json, if they can be read. The new record is written atomically; records of damaged files are kept as
 * they were, so that they stay damaged. Takes the destination's lock. TRUE if the whole was read, also
 * when damage was found (stats tell). Errors: NOT_FOUND (no such mirror), LOCKED, CANCELLED, ... */
gboolean mirror_verify(const char *destination, const char *const *sources, guint jobs, Rate *rate,
                       const CancelFlag *cancel, RunSink *sink, VerifyStats *stats, GError **error);

/* The same in a destination that is open and locked. */
gboolean mirror_verify_destination(Destination *dest, const char *const *sources, guint jobs, Rate *rate,
                                   const CancelFlag *cancel, RunSink *sink, VerifyStats *stats, GError **error);
