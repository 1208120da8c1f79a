/*
 * The parts of a job spec that are about object stores: where one is and how it is reached, what an s3-sync does with it,
 * what a restore takes from it (docs/formats/worker.md). Plain structures with their tables for json_line; spec.c puts them
 * into the spec. One thread at a time; strings are owned and may be NULL: not said.
 */
#pragma once

#include "job/json_line.h"

/* Longest path inside a store, bytes: the keys there may be longer than what the system takes as a path. */
#define JOB_PATH_MAX (64 * 1024)

/* A store, and in the spec's secrets the keys for it. */
typedef struct {
    char *url; /* "s3://BUCKET/PREFIX", "file:///DIR" or a directory; NULL: no store */
    char *endpoint, *region, *provider, *profile, *ca_file, *sse, *sse_kms_key, *role_arn, *external_id;
    gboolean insecure, path_style, virtual_style;
    char *access_key, *secret_key, *session_token; /* of the secrets */
} JobStore;

/* {"url":.., "endpoint":.., ...} */
extern const JsonField job_store_fields[];
/* {"accessKey":.., "secretKey":.., "sessionToken":..} */
extern const JsonField job_store_secret_fields[];
/* Frees the strings inside, wipes the secret ones. */
void job_store_clear(JobStore *store);
/* INVALID if it makes no sense; `where` names it. */
gboolean job_store_validate(const JobStore *store, const char *where, GError **error);

typedef struct {
    char *pattern, *storage_class;
} JobClassRule;

/* options.syncToS3; see engine/s3sync/s3sync.h for the meaning. */
typedef struct {
    char *storage_class, *s3_prefix, *time_zone, *config_name, *state_dir;
    GArray *class_rules; /* of JobClassRule */
    gboolean delete_from_s3, verify, read_back, relist, encrypt, only_s3;
    guint trash_days, relist_days, versions_keep_days, concurrency;
    guint64 time;
} JobS3Options;

extern const JsonField job_s3_fields[];
void job_s3_options_init(JobS3Options *options);
void job_s3_options_clear(JobS3Options *options);

/* The words of conflict, in the order of RestoreConflict, and of thaw_tier; NULL-terminated. */
extern const char *const job_conflict_words[5];
extern const char *const job_thaw_tiers[4];

/* options.restore; see engine/restore/restore.h. */
typedef struct {
    char *at, *conflict, *thaw_tier;
    GPtrArray *paths; /* of char *, bytes */
    guint thaw_days, concurrency;
} JobRestoreOptions;

extern const JsonField job_restore_fields[];
void job_restore_options_init(JobRestoreOptions *options);
void job_restore_options_clear(JobRestoreOptions *options);
gboolean job_restore_options_validate(const JobRestoreOptions *options, GError **error);
