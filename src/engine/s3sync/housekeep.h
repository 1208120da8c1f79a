/*
 * What is done once a day after a run, under the destination's lock: the trash's and old roots' end, forgotten
 * multipart uploads, versions that were kept long enough. What the rights do not allow is noted and left.
 */
#pragma once

#include "engine/s3sync/run.h"

/* *due: a day has passed since the last time. Where that is not known: if the run has the lock (`locked`), so that one
 * that changes nothing needs none. */
gboolean housekeep_due(S3Run *run, gboolean locked, gboolean *due, GError **error);
gboolean housekeep_run(S3Run *run, GError **error);
