/*
 * The archive engine: sources as tar archives in a store, full or with what changed since an earlier point, compressed in
 * members by several threads, encrypted if a key is given; beside each lies its index, which is written last and makes
 * it a point that can be restored. docs/formats/archive.md describes every byte. One run at a time for a place; strings
 * and stores in options stay the caller's.
 */
#pragma once

#include "base/rate.h"
#include "base/run_sink.h"
#include "engine/archive/point.h"
#include "fs/pattern.h"
#include "store/provider.h"

#define ARCHIVE_VOLUME_DEFAULT (G_GUINT64_CONSTANT(4) << 30)
#define ARCHIVE_VOLUME_MIN     (G_GUINT64_CONSTANT(8) << 20)
#define ARCHIVE_LEVEL_DEFAULT  6
#define ARCHIVE_FULL_EVERY     30 /* days */

typedef struct {
    const char *const *sources; /* directories, NULL-terminated; several get a folder each (engine/source/folders.h) */
    ArchivePlace place;
    ArchiveType type;
    ArchiveCodec codec;
    int level;                   /* gzip 1 to 9, zstd 1 to 19 */
    guint64 volume_size;         /* of what is stored, bytes; a volume ends with the member that reaches it */
    guint full_every_days;       /* an incremental or differential one becomes full when the last full one is older */
    gint64 time;                 /* the run's due time, seconds since 1970; 0: now */
    const char *state_dir;       /* what a run leaves to be resumed; NULL: nothing */
    const char *storage_class;   /* of volumes, and of indexes unless it is cold; NULL: the store's default */
    const PatternList *patterns; /* may be NULL */
    gboolean one_file_system, exclude_caches;
    const char *exclude_if_present;
    guint64 exclude_larger_than;
    gboolean acls, xattrs;
    gboolean checksum; /* a file with equal size and times is read and compared by its hash all the same */
    gboolean verify;   /* afterwards, as archive_verify without reading everything */
    gboolean dry_run;
    guint threads;               /* that compress; 0: by processors */
    const ProviderClass *prices; /* may be NULL */
    Rate *rate;                  /* of reading the sources; may be NULL */
    const CancelFlag *cancel;    /* may be NULL */
    RunSink *sink;               /* never NULL */
} ArchiveOptions;

typedef struct {
    guint64 files_total, directories, bytes_total; /* of the sources */
    guint64 files_archived, bytes_archived;        /* put into this archive */
    guint64 created, changed, deleted, files_unchanged;
    guint64 archive_bytes; /* stored: volumes and index */
    guint64 tar_bytes;
    guint64 vanished, unreadable, changed_during_read, files_skipped;
    guint64 resumed_bytes; /* of volumes that an earlier run had finished */
    guint volumes;
    ArchiveType type; /* what it became */
    char *point;      /* base name of the new point; owned; NULL if there is none */
    char *parent;     /* base name; owned; NULL for a full one */
    StoreCounts counts;
    double cost, duration;
    gboolean partial;
} ArchiveStats;

/* gzip, level 6, incremental, volumes of 4 GiB, full every 30 days, acls and xattrs. */
void archive_options_default(ArchiveOptions *options);

/* Makes a point. FALSE with an error if none was made; what was there is as before. */
gboolean archive_create(const ArchiveOptions *options, ArchiveStats *stats, GError **error);
void archive_stats_clear(ArchiveStats *stats);
