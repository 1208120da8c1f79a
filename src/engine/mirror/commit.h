/*
 * Replaying a committed journal: displacing what is replaced or deleted, moving in what is staged, metadata, sync, and
 * cleaning up. Idempotent: interrupted anywhere, the next replay completes it. Needs the destination's lock.
 */
#pragma once

#include "base/cancel.h"
#include "engine/mirror/destination.h"

/* Replays .backapp/journal if there is one (*replayed), in the phases of docs/formats/mirror.md, removes it, then
 * empties stage/ and old/. A journal without a valid trailer (or journal.new) is thrown away: the old state stands. Not
 * cancellable (it is short, and the run is committed); cleaning up is. On an error the journal stays and the message says
 * that the next run or --recover completes it. */
gboolean commit_replay(Destination *dest, RunSink *sink, const CancelFlag *cancel, gboolean *replayed, GError **error);

/* Removes kept versions older than `days` (0: any age) beyond the newest `count` (0: no number): a version stays while
 * either rule keeps it; if both are 0 nothing is removed. Folder names are times; what is not a time is left alone. */
gboolean versions_prune(Destination *dest, guint days, guint count, gint64 now_s, const CancelFlag *cancel,
                        GError **error);

/* The folder name for displaced entries of a run that starts at now_s: "2026-11-21T131500Z", with "-2" ... if it
 * exists. The caller frees. */
char *versions_name(Destination *dest, gint64 now_s);
