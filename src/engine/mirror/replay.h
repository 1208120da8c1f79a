/*
 * The single steps of a replay, each idempotent: what was done by an earlier attempt is recognised and left alone.
 * One thread, which holds the destination's lock.
 */
#pragma once

#include "engine/mirror/destination.h"
#include "engine/mirror/journal.h"
#include "engine/mirror/replay_move.h"

typedef enum { REPLAY_OLD, REPLAY_VERSIONS, REPLAY_FOUND, REPLAY_ASIDE } ReplayAside;

/* A replay under way. */
typedef struct {
    Destination *dest;
    RunSink *sink;
    const JournalHeader *header;
    MetaParts parts; /* which metadata the destination can hold */
    ReplayTree place, stage;
    ReplayTree aside[REPLAY_ASIDE]; /* old/<run>, versions/<name>, found/<run>; made when first needed */
    int stage_fd, aside_fds[REPLAY_ASIDE];
} Replay;

/* Sets up; FALSE if the stage cannot be opened. Clear it in every case. */
gboolean replay_init(Replay *replay, Destination *dest, RunSink *sink, const JournalHeader *header, GError **error);
void replay_clear(Replay *replay);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Replay, replay_clear)

/* Phase 1: u+rwx on the directory of a DIR record. */
gboolean replay_open_up(Replay *replay, const JournalRecord *record, GError **error);
/* Phase 2: displaces what a REMOVE record names. */
gboolean replay_remove(Replay *replay, const JournalRecord *record, GError **error);
/* Phase 3: moves in what is staged (displacing what is there), and applies patches. */
gboolean replay_place(Replay *replay, const JournalRecord *record, GError **error);
gboolean replay_patch(Replay *replay, const JournalRecord *record, GError **error);
/* Phase 4: metadata of a META or DIR record. */
gboolean replay_meta(Replay *replay, const JournalRecord *record, GError **error);
