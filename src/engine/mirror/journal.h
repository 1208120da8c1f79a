/*
 * The redo journal: everything that turns the old state of a destination into the new one once all new data lies in
 * the stage. A file .backapp/journal, written beside as journal.new, fsynced and renamed: the rename is the commit
 * point. Each record has a checksum, the file a trailer with the number of records; without a valid trailer it is
 * discarded. Format: docs/formats/mirror.md. One thread writes or reads.
 */
#pragma once

#include "fs/attrs.h"
#include "fs/meta.h"

typedef enum {
    JOURNAL_PLACE = 1, /* stage/<path> is renamed to <path>, which is displaced if it is there */
    JOURNAL_PATCH,     /* stage/<path> is a patch file (patch.h) applied to the existing file <path> */
    JOURNAL_REMOVE,    /* <path> is displaced */
    JOURNAL_META,      /* metadata and attributes of the existing non-directory <path> */
    JOURNAL_DIR, /* final metadata and attributes of the directory <path> ("" = the root), applied last, children before
                    parents */
} JournalOp;

typedef struct {
    JournalOp op;
    const char *path;
    guint64 staged_ino;  /* PLACE, PATCH: inode of what lies in the stage */
    guint64 have_ino;    /* inode that is displaced, patched or given metadata; 0: nothing there */
    guint32 have_mode;   /* its type; 0 if nothing */
    FileMeta meta;       /* META, DIR, PATCH: mode, uid, gid, mtime are what counts */
    gboolean with_attrs; /* attrs are to be applied too */
    const Attrs *attrs;  /* borrowed */
} JournalRecord;

typedef struct {
    const char *run_id;     /* names old/<run_id> */
    const char *versions;   /* name of the folder under versions/ that takes what is displaced; "" = not kept */
    gboolean stable_inodes; /* inode numbers may be checked */
    AttrsFilter filter;     /* which attributes the records speak of */
    gboolean sidecar;       /* sidecar.new becomes the sidecar */
} JournalHeader;

typedef struct JournalWriter JournalWriter;
JournalWriter *journal_writer_new(int state_fd, const JournalHeader *header, GError **error);
gboolean journal_put(JournalWriter *writer, const JournalRecord *record, GError **error);
/* Number of records so far. */
guint64 journal_count(const JournalWriter *writer);
/* Trailer, fsync, rename, fsync of .backapp: after TRUE the run is committed. */
gboolean journal_commit(JournalWriter *writer, GError **error);
/* Frees; what was not committed is removed. NULL is a no-op. */
void journal_writer_free(JournalWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JournalWriter, journal_writer_free)

typedef struct Journal Journal;
/* Opens and checks the whole journal (every checksum, the trailer). NOT_FOUND if there is none, CORRUPT if it is
 * damaged or has no trailer. */
Journal *journal_open(int state_fd, GError **error);
const JournalHeader *journal_header(const Journal *journal);
/* Starts over from the first record. */
gboolean journal_rewind(Journal *journal, GError **error);
/* Next record, valid until the next call: 1; 0 at the end; -1 error. */
int journal_next(Journal *journal, JournalRecord *record, GError **error);
void journal_free(Journal *journal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Journal, journal_free)
