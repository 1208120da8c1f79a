/*
 * What a run has written into its tar, entry by entry, in a file: the index is made of it at the end, and, if the file
 * has a name, a run that was interrupted can go on. Entries are put in passes, each in the index's order; where two
 * passes have a path, the later one counts. One thread puts; runs_sync may be called from another one meanwhile.
 */
#pragma once

#include "engine/archive/index.h"

/* Beside IndexFlags, only here: nothing of this path belongs in the index. */
#define RUNS_DROPPED (1u << 16)

typedef struct Runs Runs;
typedef struct RunsReader RunsReader;

/* A new file `name` in dir_fd, replacing one that is there; name NULL: without a name, in $TMPDIR. */
Runs *runs_new(int dir_fd, const char *name, GError **error);
/* An entry that was begun and not ended. */
typedef struct {
    gboolean is_open;
    IndexEntry entry;     /* its strings belong to what follows */
    const guint8 *header; /* likewise; as runs_begin_entry got it */
    gsize header_length;
    GByteArray *bytes, *arena;
} RunsOpen;
void runs_open_clear(RunsOpen *open);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RunsOpen, runs_open_clear)

/* Goes on with a file of which the first `length` bytes count: what lies in the tar before tar_end. All else is forgotten,
 * and overwritten: before anything is put, the length that counts now (runs_sync) has to be noted. *open gets the entry
 * that tar_end lies in. CORRUPT if the file is shorter or damaged, or has too many passes already. */
Runs *runs_open(int dir_fd, const char *name, guint64 length, guint64 tar_end, RunsOpen *open, GError **error);

/* The next entries are another pass. */
gboolean runs_begin_pass(Runs *runs, GError **error);
/* Before the first byte of an entry's header goes to the stream. header: what comes before the content, if it cannot be
 * made again of the entry alone, as of a sparse file; else NULL. */
gboolean runs_begin_entry(Runs *runs, const IndexEntry *entry, const GByteArray *header, GError **error);
/* The entry is whole, its hash known, and the tar goes on at tar_end. Also for what has no place in the tar. */
gboolean runs_put(Runs *runs, const IndexEntry *entry, guint64 tar_end, GError **error);

/* Makes all that was put durable; *length: so many bytes. Any thread. */
gboolean runs_sync(Runs *runs, guint64 *length, GError **error);

/* All entries of all passes put so far, merged: 1, 0, -1. Entries are valid until the next call. */
RunsReader *runs_read(Runs *runs, GError **error);
int runs_reader_next(RunsReader *reader, IndexEntry *entry, GError **error);
void runs_reader_free(RunsReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RunsReader, runs_reader_free)

void runs_free(Runs *runs);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Runs, runs_free)
