/*
 * The options of `backapp archive`: rows and what they change in a job's spec, beside those of job_options.h. No input or
 * output. One thread.
 */
#pragma once

#include "cli/job_options.h"

enum { OPT_TYPE = 2000, OPT_LEVEL, OPT_ZSTD, OPT_NO_COMPRESS, OPT_VOLUME_SIZE, OPT_FULL_EVERY, OPT_FULL };

/* clang-format off */
#define ROW_TYPE {"type", 0, "TYPE", "create: full, incremental (default: what changed since the last point), or differential (since the last full one).", OPT_TYPE}
#define ROW_LEVEL {"level", 0, "N", "create: how hard to compress: gzip 1 to 9 (default 6), zstd 1 to 19 (default 3).", OPT_LEVEL}
#define ROW_ZSTD {"zstd", 0, NULL, "create: compress with zstd instead of gzip.", OPT_ZSTD}
#define ROW_NO_COMPRESS {"no-compress", 0, NULL, "create: do not compress.", OPT_NO_COMPRESS}
#define ROW_ARCHIVE_ENCRYPT {"encrypt", 0, NULL, "create: encrypt before anything leaves this machine, with the key that a passphrase opens, or BACKUP_ENCRYPTION_KEY.", OPT_ENCRYPT}
#define ROW_VOLUME_SIZE {"volume-size", 0, "SIZE", "create: begin a new volume when one has this size (default 4G, at least 8M).", OPT_VOLUME_SIZE}
#define ROW_FULL_EVERY {"full-every", 0, "DAYS", "create: make a full archive when the last is older (default 30; 0: not because of its age).", OPT_FULL_EVERY}
#define ROW_ARCHIVE_VERIFY {"verify", 0, NULL, "create: afterwards compare what is in the store with what was recorded.", OPT_VERIFY}
#define ROW_ARCHIVE_STATE_DIR {"state-dir", 0, "DIR", "create: where an interrupted run leaves what the next goes on with (default: $XDG_STATE_HOME/backapp/archives).", OPT_STATE_DIR}
#define ROW_ARCHIVE_FORCE {"force", 0, NULL, "reindex: even if there is an index.", OPT_FORCE}
#define ROW_FULL {"full", 0, NULL, "Of a store read every byte and compare the hash of every file; without it what is there is compared with what was recorded.", OPT_FULL}
#define ROW_VERIFY_AT {"at", 0, "WHEN", "Of archives prove this point: latest (default), a date (2026-11-20), a time (2026-11-20T02:00:00Z), or its name.", OPT_AT}
/* Those that only create takes. */
#define ROWS_ARCHIVE_CREATE ROW_TYPE, ROW_LEVEL, ROW_ZSTD, ROW_NO_COMPRESS, ROW_ARCHIVE_ENCRYPT, ROW_VOLUME_SIZE, ROW_FULL_EVERY, ROWS_SELECTION, ROW_CHECKSUM, ROW_DRY_RUN, ROW_ARCHIVE_VERIFY, ROW_NO_ACLS, ROW_NO_XATTRS, ROW_STORAGE_CLASS, ROW_SSE, ROW_SSE_KMS_KEY, ROW_ARCHIVE_STATE_DIR, ROW_JOBS
/* clang-format on */

/* Applies all uses to the spec, those of job_options.h too. FALSE with INVALID, which names the option. */
gboolean archive_options_apply(JobSpec *spec, const OptionArgs *args, GError **error);
