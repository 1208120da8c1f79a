/*
 * The s3-sync engine: makes a prefix of a bucket (any store) equal to a directory. Plan (scan, catalogue and list
 * merged), check, run (uploads and copies, then deletions), commit (the metadata tree's root), verify. See
 * docs/formats/s3-mirror.md for what lies in the bucket.
 *
 * One run at a time for a destination (the catalogue's lock here, a lock object in the store against other machines).
 * Runs for different destinations may go on in several threads. Options and strings stay the caller's.
 */
#pragma once

#include "base/run_sink.h"
#include "fs/pattern.h"
#include "store/provider.h"
#include "store/store.h"

/* A storage class for what a pattern matches. */
typedef struct {
    const char *pattern, *storage_class;
} S3syncClassRule;

typedef struct {
    const char *source;                 /* a directory */
    gboolean is_mirror;                 /* the source is a mirror of ours: its own files are left out without a word */
    Store *store;                       /* the whole bucket or directory; the caller's */
    const char *prefix;                 /* of the destination, before dates are filled in; may be NULL */
    const char *s3_prefix;              /* the config's template; may be NULL */
    gint64 time;                        /* the run's due time, seconds since 1970; 0: now */
    const char *timezone, *config_name; /* may be NULL */
    const char *state_dir;              /* where catalogues lie */

    const PatternList *patterns; /* may be NULL */
    gboolean one_file_system, exclude_caches;
    const char *exclude_if_present;
    guint64 exclude_larger_than;

    gboolean delete_extraneous;
    guint trash_days;                   /* 30 by default; 0: deleted at once */
    const char *storage_class;          /* NULL: the store's default */
    const S3syncClassRule *class_rules; /* first match wins */
    guint class_rules_count;
    gboolean checksum;        /* compare contents, not size and time */
    gboolean verify;          /* afterwards compare list and catalogue */
    gboolean read_back;       /* with verify: read every object */
    gboolean relist;          /* list whatever relist_days says */
    guint relist_days;        /* 0: list in each run */
    guint versions_keep_days; /* retention of noncurrent versions; 0: not touched */
    const guint8 *master_key; /* 32 bytes: encrypt contents and names on this side; NULL: do not */
    guint concurrency;        /* requests at once; 0: adapts */

    guint max_delete_percent;
    gboolean force;
    const char *confirm; /* plan hash */
    gboolean dry_run;

    const ProviderClass *prices; /* of the class that objects get, for the estimate; may be NULL */

    const CancelFlag *cancel; /* may be NULL */
    RunSink *sink;            /* never NULL */
} S3syncOptions;

typedef struct {
    guint64 files_total, bytes_total;
    guint64 files_uploaded, bytes_uploaded, files_copied, files_deleted, files_unchanged;
    guint64 created, changed;
    guint64 bytes_saved; /* not sent because unchanged parts or files were copied inside the store */
    guint64 files_skipped, vanished, unreadable, changed_during_read;
    guint64 verified, damaged, missing; /* with verify */
    StoreCounts counts;                 /* requests by kind */
    double cost;                        /* estimate of this run's requests; for a dry run of the plan; in the provider's
                                           currency, 0 without prices */
    double duration;                    /* seconds */
    gint64 last_listed;                 /* seconds since 1970 */
    char *s3_path;                      /* URL with the prefix that was written; owned */
    char *plan_hash;                    /* owned */
    gboolean partial, refused;
} S3syncStats;

/* delete off, trash 30 days, max_delete_percent 50. */
void s3sync_options_default(S3syncOptions *options);

/* Runs. FALSE with an error if it failed, was refused (stats->refused) or cancelled; stats are filled as far as known.
 * The objects that were there are then as before or already replaced by whole new ones, and the last root is as it
 * was. */
gboolean s3sync_run(const S3syncOptions *options, S3syncStats *stats, GError **error);

/* Compares what the newest root names with the store: by list, or (read_back) by reading every object. Damaged and
 * missing ones are warnings and counted. Of dated prefixes that of options->time; 0: the last one that was completed
 * here. */
gboolean s3sync_verify(const S3syncOptions *options, S3syncStats *stats, GError **error);

void s3sync_stats_clear(S3syncStats *stats);
