/*
 * Deleting what the source no longer has, after all uploads: copied to the trash, looked at once more, deleted many at
 * a time.
 */
#pragma once

#include "engine/s3sync/job.h"

typedef struct Removal Removal;
Removal *removal_new(S3Run *run, gboolean versioned);
/* Queues one DELETE item for the workers. */
void removal_add(Removal *removal, const S3PlanItem *item);
/* Waits for the workers, and deletes the last ones. */
void removal_finish(Removal *removal);
void removal_free(Removal *removal);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Removal, removal_free)
