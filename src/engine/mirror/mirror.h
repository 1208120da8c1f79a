/*
 * The mirror engine (`rsync-local`): makes a directory equal to its sources, transactionally: plan, check, stage,
 * commit (journal and replay), verify. See docs/formats/mirror.md for what lies under DEST/.backapp.
 *
 * One run at a time for a destination (a lock), many runs in a process for different ones. The functions block; they
 * start threads of their own and end them. Options and strings stay the caller's and must not change during the call.
 */
#pragma once

#include "base/cancel.h"
#include "base/rate.h"
#include "base/run_sink.h"
#include "fs/pattern.h"

typedef enum { MIRROR_ENGINE_NATIVE, MIRROR_ENGINE_RSYNC } MirrorEngine;

/* For a destination on another host, through the rsync program. All may be NULL / 0. */
typedef struct {
    const char *user, *identity_file, *known_hosts;
    guint port;
} MirrorSsh;

typedef void (*MirrorThen)(gpointer user_data);

typedef struct {
    const char *const *sources; /* NULL-terminated, absolute or relative to the working directory; at least one */
    const char *destination;    /* a directory; with the rsync engine also host:path or rsync://... */
    const char *expected_id;    /* marker id this destination must have; NULL: not known yet */

    const PatternList *patterns; /* may be NULL */
    gboolean delete_extraneous;
    gboolean hard_links, acls, xattrs; /* on by default, see mirror_options_default */
    gboolean checksum;                 /* compare content, not size and time */
    gboolean one_file_system;
    gboolean exclude_caches;        /* directories with a valid CACHEDIR.TAG */
    const char *exclude_if_present; /* directories that hold this name; may be NULL */
    guint64 exclude_larger_than;    /* bytes; 0: no limit */
    gboolean inplace;               /* large files: rewrite only the blocks that differ */
    gboolean verify;                /* afterwards read and compare, record hashes */
    guint max_delete_percent;       /* 0..100; default 50 */
    guint keep_versions_days;       /* 0 with count 0: versions are not kept */
    guint keep_versions_count;
    gboolean force;      /* confirm every safety check */
    const char *confirm; /* plan hash (hex) that the user agreed to; may be NULL */
    gboolean dry_run;
    guint jobs; /* threads; 0: by the number of processors */

    MirrorEngine engine;
    MirrorSsh ssh;
    const char *rsync_password; /* for a daemon; travels only through the environment of the rsync child; may be NULL */

    /* Called when the mirror is complete (in a dry run: planned), while its lock is still held: a second stage that must
     * not see a mix of two runs. NULL: nothing. */
    MirrorThen then;
    gpointer then_data;

    Rate *rate;               /* may be NULL */
    const CancelFlag *cancel; /* may be NULL */
    RunSink *sink;            /* never NULL */
} MirrorOptions;

/* What a run did (or, for a dry run, would do). */
typedef struct {
    guint64 files_total,
        bytes_total; /* of the sources, what is excluded left out; files = all that are not directories */
    guint64 files_transferred, bytes_transferred;
    guint64 created, changed, deleted, unchanged; /* entries, directories among them */
    guint64 metadata_changed;                     /* of changed: only metadata */
    guint64 files_skipped, vanished, unreadable, changed_during_read;
    guint64 verified, unproven, damaged; /* with verify */
    double duration;                     /* seconds */
    char *local_path;                    /* absolute destination; owned */
    char *destination_id;                /* marker id; NULL with the rsync engine; owned */
    char *plan_hash;                     /* hex; owned */
    gboolean partial;                    /* some source files could not be read as they were: exit 3 */
    gboolean refused;                    /* a safety check stopped it: exit 4; the error says which */
    gboolean recovered;                  /* an interrupted run was completed first */
} MirrorStats;

/* Everything at its default: hard_links, acls, xattrs on, max_delete_percent 50, native engine. */
void mirror_options_default(MirrorOptions *options);

/* Runs one mirror. FALSE with an error if it failed, was refused (stats->refused) or cancelled; stats are filled as far
 * as known in every case and are cleared by mirror_stats_clear. The destination is then as before, or (after the commit
 * point) is completed by the next run or mirror_recover. */
gboolean mirror_run(const MirrorOptions *options, MirrorStats *stats, GError **error);

/* Completes a committed run that was interrupted, and throws an uncommitted one's journal away. *did_something tells
 * which. NOT_FOUND if `destination` is not a mirror. LOCKED if a run is at work there. */
gboolean mirror_recover(const char *destination, gboolean force, gboolean *refused, RunSink *sink,
                        const CancelFlag *cancel, gboolean *did_something, GError **error);

/* Only options->then, with the lock of options->destination held and after completing a committed run that was
 * interrupted: for a second stage that is run alone. Of the options destination, expected_id, force, dry_run (then nothing
 * is locked or completed), sink and cancel count. Errors as mirror_recover; *refused: a safety check stopped it. */
gboolean mirror_hold(const MirrorOptions *options, gboolean *refused, GError **error);

/* Frees the strings inside. */
void mirror_stats_clear(MirrorStats *stats);
