/*
 * The job spec: what a worker shall do, as one JSON object on a line (docs/formats/worker.md). Parsing is strict:
 * unknown keys, wrong types, values out of range, more than 1 MiB, nesting over 16 are INVALID and name the key. Names
 * that are not UTF-8 travel as {"b64":".."}. A JobSpec belongs to one thread at a time and owns its strings.
 */
#pragma once

#include <glib.h>

#include "job/spec_archive.h"
#include "job/spec_proof.h"
#include "job/spec_store.h"

#define JOB_SPEC_VERSION 1
#define JOB_LINE_MAX     (1024 * 1024)

/* "rsync-local", "recover", "verify", "rsync-to-s3", "s3-mirror", "restore", "direct-s3", "archive-verify",
 * "archive-reindex", "archive-retention", "drill" */
typedef enum {
    JOB_MIRROR,
    JOB_RECOVER,
    JOB_VERIFY,
    JOB_TWO_STAGE,
    JOB_S3_MIRROR,
    JOB_RESTORE,
    JOB_ARCHIVE,
    JOB_ARCHIVE_VERIFY,
    JOB_ARCHIVE_REINDEX,
    JOB_ARCHIVE_RETENTION,
    JOB_DRILL,
} JobType;

/* A directory, or (store.url) a store. */
typedef struct {
    char *path;        /* NULL for a store */
    char *expected_id; /* marker id; may be NULL */
    JobStore store;
} JobDestination;

typedef struct {
    int nice;          /* 0..19; 0 default */
    int ionice_class;  /* 0 none, 2 best effort, 3 idle */
    int ionice_level;  /* 0..7 */
    guint64 memory;    /* bytes; 0: no limit; at least 64 MiB */
    guint64 bandwidth; /* bytes per second; 0: no limit */
} JobLimits;

/* The options of a mirror; see engine/mirror/mirror.h for their meaning. Names in JSON are the seeds':
 * deleteExtraneous, excludePatterns, includePatterns, hardLinks, dryRun; ours: rules (shell order:
 * [{"include":true,"pattern":".."}]), acls, xattrs, checksum, maxDeletePercent, keepVersions {days,count}, inplace,
 * verify, engine, oneFileSystem, excludeCaches, excludeIfPresent, excludeLargerThan, force, confirm, jobs, items (emit
 * item events), rsync {ssh {user, port, identityFile, knownHosts}}, syncToS3 {...}, restore {...} (spec_store.h), archive {...}
 * (spec_archive.h), retention {...}, drill {...} (spec_proof.h). */
typedef struct {
    gboolean delete_extraneous, hard_links, acls, xattrs, checksum, one_file_system, exclude_caches, inplace, verify,
        force, dry_run, items, engine_rsync;
    GPtrArray *exclude_patterns, *include_patterns; /* of char *; config meaning; exclusive with rules */
    GArray *rules;                                  /* of JobRule; the shell's order and meaning */
    char *exclude_if_present, *confirm;
    guint64 exclude_larger_than;
    guint max_delete_percent, keep_versions_days, keep_versions_count, jobs;
    char *ssh_user, *ssh_identity_file, *ssh_known_hosts;
    guint ssh_port;
    JobS3Options s3;
    JobRestoreOptions restore;
    JobArchiveOptions archive;
    JobRetentionOptions retention;
    JobDrillOptions drill;
} JobOptions;

typedef struct {
    gboolean include;
    char *pattern;
} JobRule;

typedef struct {
    JobType type;
    char *run_id;
    GPtrArray *sources; /* of char *, bytes */
    GArray
        *destinations; /* of JobDestination: a directory; for rsync-to-s3 a directory and a store; for s3-mirror stores;
                         for direct-s3 one store */
    JobStore store;    /* what a restore, a drill, a verification or a reindexing reads, a retention changes; url NULL:
                          none */
    JobOptions options;
    JobLimits limits;
    char *rsync_password; /* secrets.rsyncPassword; may be NULL */
    char *encryption_key; /* secrets.encryptionKey, base64 of 32 bytes; may be NULL */
    char *passphrase;     /* secrets.passphrase, which opens a key of the store (store/keyring.h); may be NULL */
} JobSpec;

/* An empty spec of this type with the defaults of every option. */
JobSpec *job_spec_new(JobType type);

/* Parses and validates one line. NULL with INVALID. */
JobSpec *job_spec_parse(const char *line, gsize length, GError **error);

/* Checks what parsing alone cannot (a source is given, exactly one destination, ...). */
gboolean job_spec_validate(const JobSpec *spec, GError **error);

/* The spec as one line of JSON, newline included, secrets too: only ever written to the worker's pipe. The caller
 * frees. */
char *job_spec_print(const JobSpec *spec);

/* TRUE if it holds a secret. */
gboolean job_spec_has_secrets(const JobSpec *spec);

/* The type's name on the wire; static. */
const char *job_type_name(JobType type);

void job_spec_free(JobSpec *spec);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(JobSpec, job_spec_free)
