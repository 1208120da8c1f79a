/*
 * Proves that the newest restore point is there: each object that it names against the list, and, if asked, by reading
 * and hashing it.
 */
#pragma once

#include "engine/s3sync/run.h"

/* Counts into the run (verified, damaged, missing), names each bad one in a warning and in run->wrong. FALSE with an error only if it
 * could not be done; NOT_FOUND if there is no restore point. */
gboolean verify_objects(S3Run *run, gboolean read_back, GError **error);

/* Notes in the run's catalogue what was found wrong, so that the next sync stores it anew, whole. */
gboolean verify_mark(S3Run *run, GError **error);
