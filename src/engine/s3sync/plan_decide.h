/*
 * What becomes of one file: compared with the object that the bucket has under its key, with what the catalogue says of
 * that object, and with the catalogue of the date before. One thread.
 */
#pragma once

#include "engine/s3sync/plan.h"

typedef struct PlanDecider PlanDecider;

/* input outlives it. NULL with INVALID for a wrong pattern in a class rule. */
PlanDecider *plan_decider_new(const S3PlanInput *input, int root_fd, GError **error);

/* Fills in *item for a regular file (entry->key is its object's key), with what points into entry, object, row and base,
 * each of which may be NULL but entry. base is a row for the same key in the date before. FALSE only if it was cancelled:
 * a file that cannot be read is to be uploaded, and that will say why. */
gboolean plan_decide(PlanDecider *decider, const S3Entry *entry, const StoreObject *object, const CatalogueRow *row,
                     const CatalogueRow *base, S3PlanItem *item, GError **error);

/* Objects that are sent anew because they lie in a class from which nothing can be copied. */
guint64 plan_decider_cold(const PlanDecider *decider);

void plan_decider_free(PlanDecider *decider);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PlanDecider, plan_decider_free)
