/*
 * Brings the bucket to what the plan says: uploads, copies and checks by the workers, then the deletions.
 */
#pragma once

#include "engine/s3sync/run.h"

/* All of the plan but its deletions. TRUE also if single files could not be stored (the run is partial then). */
gboolean transfer_run(S3Run *run, S3Plan *plan, GError **error);

/* The plan's deletions. versioned: the bucket keeps what is deleted. */
gboolean transfer_delete(S3Run *run, S3Plan *plan, gboolean versioned, GError **error);

/* The key that the file at `path` has. The caller frees. */
char *transfer_key(const S3Run *run, const char *path);
