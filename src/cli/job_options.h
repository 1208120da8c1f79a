/*
 * The options of commands that run a job: a row for each, of which every command makes its table, and how one use of a row
 * changes the job's spec. No input or output. One thread.
 */
#pragma once

#include "cli/command.h"
#include "job/spec.h"

enum {
    OPT_DELETE = OPTION_FIRST,
    OPT_EXCLUDE,
    OPT_INCLUDE,
    OPT_CHECKSUM,
    OPT_DRY_RUN,
    OPT_KEEP_VERSIONS,
    OPT_INPLACE,
    OPT_VERIFY,
    OPT_NO_ACLS,
    OPT_NO_XATTRS,
    OPT_NO_HARD_LINKS,
    OPT_ONE_FILE_SYSTEM,
    OPT_EXCLUDE_CACHES,
    OPT_EXCLUDE_IF_PRESENT,
    OPT_EXCLUDE_LARGER_THAN,
    OPT_MAX_DELETE,
    OPT_FORCE,
    OPT_CONFIRM,
    OPT_BWLIMIT,
    OPT_NICE,
    OPT_IONICE,
    OPT_ENGINE,
    OPT_JOBS,
    OPT_VERBOSE,
    OPT_RECOVER,
    OPT_JSON,
    OPT_ONLY_S3,
    OPT_TRASH,
    OPT_STORAGE_CLASS,
    OPT_CLASS_FOR,
    OPT_S3_PREFIX,
    OPT_RELIST,
    OPT_RELIST_DAYS,
    OPT_VERSIONS_KEEP,
    OPT_READ_BACK,
    OPT_ENCRYPT,
    OPT_CONCURRENCY,
    OPT_ENDPOINT,
    OPT_REGION,
    OPT_PROVIDER,
    OPT_PROFILE,
    OPT_CA_FILE,
    OPT_PATH_STYLE,
    OPT_SSE,
    OPT_SSE_KMS_KEY,
    OPT_STATE_DIR,
    OPT_AT,
    OPT_TO,
    OPT_CONFLICT,
    OPT_THAW,
    OPT_THAW_TIER,
    OPT_LIST,
    OPT_PASSPHRASE_FILE,
    OPT_NAME,
};

/* clang-format off */
#define ROW_DELETE {"delete", 0, NULL, "Delete from the destination what the source no longer has.", OPT_DELETE}
#define ROW_EXCLUDE {"exclude", 0, "PATTERN", "Leave out what matches the rsync PATTERN; may be repeated, the first match decides.", OPT_EXCLUDE}
#define ROW_INCLUDE {"include", 0, "PATTERN", "Keep what matches the PATTERN although a later --exclude would leave it out.", OPT_INCLUDE}
#define ROW_CHECKSUM {"checksum", 0, NULL, "Compare the content of files, not only size and time.", OPT_CHECKSUM}
#define ROW_DRY_RUN {"dry-run", 0, NULL, "Print what would be done and change nothing.", OPT_DRY_RUN}
#define ROW_KEEP_VERSIONS {"keep-versions", 0, "DAYS[,COUNT]", "Keep what is replaced or deleted for DAYS days, and the newest COUNT versions however old.", OPT_KEEP_VERSIONS}
#define ROW_INPLACE {"inplace", 0, NULL, "Of large files rewrite only the blocks that differ.", OPT_INPLACE}
#define ROW_VERIFY {"verify", 0, NULL, "Afterwards read source and mirror, compare them, and record the hashes.", OPT_VERIFY}
#define ROW_VERIFY_STORE {"verify", 0, NULL, "Afterwards compare what is in the store with what was recorded.", OPT_VERIFY}
#define ROW_VERIFY_BOTH {"verify", 0, NULL, "Afterwards read source and mirror, record the hashes, and compare what is in the store with what was recorded.", OPT_VERIFY}
#define ROW_NO_ACLS {"no-acls", 0, NULL, "Do not keep access control lists.", OPT_NO_ACLS}
#define ROW_NO_XATTRS {"no-xattrs", 0, NULL, "Do not keep extended attributes.", OPT_NO_XATTRS}
#define ROW_NO_HARD_LINKS {"no-hard-links", 0, NULL, "Copy each name of a hard-linked file as a file of its own.", OPT_NO_HARD_LINKS}
#define ROW_ONE_FILE_SYSTEM {"one-file-system", 0, NULL, "Do not go into other file systems that are mounted in the source.", OPT_ONE_FILE_SYSTEM}
#define ROW_EXCLUDE_CACHES {"exclude-caches", 0, NULL, "Leave out directories that a CACHEDIR.TAG marks as a cache.", OPT_EXCLUDE_CACHES}
#define ROW_EXCLUDE_IF_PRESENT {"exclude-if-present", 0, "NAME", "Leave out directories that hold a file called NAME.", OPT_EXCLUDE_IF_PRESENT}
#define ROW_EXCLUDE_LARGER_THAN {"exclude-larger-than", 0, "SIZE", "Leave out files larger than SIZE (100M, 1.5G; units of 1024).", OPT_EXCLUDE_LARGER_THAN}
#define ROW_MAX_DELETE {"max-delete", 0, "PERCENT", "Refuse a run that would delete more than PERCENT of what is there (default 50), if that is 100 files or more.", OPT_MAX_DELETE}
#define ROW_FORCE {"force", 0, NULL, "Go on in spite of every safety check.", OPT_FORCE}
#define ROW_CONFIRM {"confirm", 0, "HASH", "Go on with exactly the plan that was refused with this HASH.", OPT_CONFIRM}
#define ROW_BWLIMIT {"bwlimit", 0, "KBPS", "Copy at most KBPS units of 1024 bytes a second (0: no limit).", OPT_BWLIMIT}
#define ROW_NICE {"nice", 0, "N", "Run with this CPU niceness, 0 to 19.", OPT_NICE}
#define ROW_IONICE {"ionice", 0, "CLASS", "Run with this I/O priority: idle or best-effort (its lowest level).", OPT_IONICE}
#define ROW_ENGINE {"engine", 0, "ENGINE", "native (default), or rsync: the rsync program, without transaction and versions.", OPT_ENGINE}
#define ROW_JOBS {"jobs", 0, "N", "Work with N threads (default: by the number of processors).", OPT_JOBS}
#define ROW_RECOVER {"recover", 0, NULL, "Only complete an interrupted run in DEST.", OPT_RECOVER}
#define ROW_JSON {"json", 0, NULL, "Print the run's events, one JSON object a line.", OPT_JSON}
#define ROW_VERBOSE {"verbose", 'v', NULL, "Show each item that is created, changed or deleted.", OPT_VERBOSE}
#define ROW_ONLY_S3 {"only-s3", 0, NULL, "Leave the mirror as it is and only copy it to the store.", OPT_ONLY_S3}
#define ROW_TRASH {"trash", 0, "DAYS", "Keep what is replaced or deleted in the store for DAYS days in .trash (default 30; 0: delete at once).", OPT_TRASH}
#define ROW_STORAGE_CLASS {"storage-class", 0, "CLASS", "Store objects in this class (STANDARD, STANDARD_IA, INTELLIGENT_TIERING, ONEZONE_IA, GLACIER_IR, GLACIER, DEEP_ARCHIVE).", OPT_STORAGE_CLASS}
#define ROW_CLASS_FOR {"class-for", 0, "PATTERN=CLASS", "Store what matches the rsync PATTERN in CLASS; may be repeated, the first match decides.", OPT_CLASS_FOR}
#define ROW_S3_PREFIX {"s3-prefix", 0, "TEMPLATE", "Behind the URL's prefix; YYYY-MM-DD, {date}, {time}, {config} and {host} are filled in. With a date each date is a full copy of its own.", OPT_S3_PREFIX}
#define ROW_RELIST {"relist", 0, NULL, "List the bucket in any case.", OPT_RELIST}
#define ROW_RELIST_DAYS {"relist-days", 0, "DAYS", "List the bucket only every DAYS days and trust the catalogue between (default 0: list in each run).", OPT_RELIST_DAYS}
#define ROW_VERSIONS_KEEP {"versions-keep", 0, "DAYS", "In a versioned bucket delete versions that were replaced more than DAYS days ago (default: never).", OPT_VERSIONS_KEEP}
#define ROW_READ_BACK {"read-back", 0, NULL, "Verify by reading every object and comparing its hash.", OPT_READ_BACK}
#define ROW_ENCRYPT {"encrypt", 0, NULL, "Encrypt contents and names before they leave this machine, with the key in BACKUP_ENCRYPTION_KEY.", OPT_ENCRYPT}
#define ROW_CONCURRENCY {"concurrency", 0, "N", "Keep N requests going at once (default: as many as help).", OPT_CONCURRENCY}
#define ROW_ENDPOINT {"endpoint", 0, "URL", "The S3 server, if it is not AWS (default: AWS_S3_ENDPOINT, or what the provider's is).", OPT_ENDPOINT}
#define ROW_REGION {"region", 0, "REGION", "The bucket's region (default: AWS_REGION, or what the server says).", OPT_REGION}
#define ROW_PROVIDER {"provider", 0, "NAME", "Whose S3 it is: aws, scaleway, ovhcloud, hetzner, exoscale, b2, wasabi, r2, or any (MinIO, Ceph; default: by the endpoint).", OPT_PROVIDER}
#define ROW_PROFILE {"profile", 0, "NAME", "Take keys from this profile of the shared AWS files.", OPT_PROFILE}
#define ROW_CA_FILE {"ca-file", 0, "FILE", "Trust the certificates in FILE (PEM) instead of the system's.", OPT_CA_FILE}
#define ROW_PATH_STYLE {"path-style", 0, NULL, "Address the bucket in the path, not in the host name.", OPT_PATH_STYLE}
#define ROW_SSE {"sse", 0, "KIND", "Ask the server to encrypt: AES256 or aws:kms.", OPT_SSE}
#define ROW_SSE_KMS_KEY {"sse-kms-key", 0, "ID", "The key for --sse aws:kms.", OPT_SSE_KMS_KEY}
#define ROW_STATE_DIR {"state-dir", 0, "DIR", "Where catalogues are kept (default: $XDG_STATE_HOME/backapp/s3).", OPT_STATE_DIR}
#define ROW_AT {"at", 0, "WHEN", "Restore this point: latest (default), a date (2026-11-20), a time (2026-11-20T02:00:00Z), or its name.", OPT_AT}
#define ROW_TO {"to", 0, "DIR", "Restore into DIR.", OPT_TO}
#define ROW_CONFLICT {"conflict", 0, "POLICY", "What to do with a file that is there and differs: overwrite (default), if-newer, skip or rename.", OPT_CONFLICT}
#define ROW_RESTORE_DELETE {"delete", 0, NULL, "Delete from the restored folders in DIR what the point does not have.", OPT_DELETE}
#define ROW_RESTORE_CONCURRENCY {"concurrency", 0, "N", "Fetch N files at once (default 16).", OPT_CONCURRENCY}
#define ROW_THAW {"thaw", 0, "DAYS", "Ask for cold objects (GLACIER, DEEP_ARCHIVE) to be made readable for DAYS days.", OPT_THAW}
#define ROW_THAW_TIER {"thaw-tier", 0, "TIER", "How fast: Standard (default), Bulk or Expedited.", OPT_THAW_TIER}
#define ROW_LIST {"list", 0, NULL, "Restore nothing, but list the points of STORE, the newest first.", OPT_LIST}
#define ROW_NAME {"name", 0, "NAME", "Of a store with archives: those of this NAME, if there are several (to create: default the host's name).", OPT_NAME}
#define ROW_PASSPHRASE_FILE {"passphrase-file", 0, "FILE", "The passphrase that opens a key of the store is FILE's first line (default: BACKUP_PASSPHRASE).", OPT_PASSPHRASE_FILE}
/* Rows that belong together. */
#define ROWS_SELECTION ROW_EXCLUDE, ROW_INCLUDE, ROW_ONE_FILE_SYSTEM, ROW_EXCLUDE_CACHES, ROW_EXCLUDE_IF_PRESENT, ROW_EXCLUDE_LARGER_THAN
#define ROWS_STORE ROW_ENDPOINT, ROW_REGION, ROW_PROVIDER, ROW_PROFILE, ROW_CA_FILE, ROW_PATH_STYLE
#define ROWS_S3_WRITE ROW_TRASH, ROW_STORAGE_CLASS, ROW_CLASS_FOR, ROW_S3_PREFIX, ROW_RELIST, ROW_RELIST_DAYS, ROW_VERSIONS_KEEP, ROW_READ_BACK, ROW_ENCRYPT, ROW_CONCURRENCY, ROW_SSE, ROW_SSE_KMS_KEY, ROW_STATE_DIR
#define ROWS_SAFETY ROW_MAX_DELETE, ROW_FORCE, ROW_CONFIRM
#define ROWS_LIMITS ROW_BWLIMIT, ROW_NICE, ROW_IONICE
/* clang-format on */

/* Applies all uses to the spec. Options of a store go to every store the spec has by now. FALSE with INVALID, which names
 * the option. */
gboolean job_options_apply(JobSpec *spec, const OptionArgs *args, GError **error);
