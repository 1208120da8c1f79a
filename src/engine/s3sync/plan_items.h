/*
 * The plan's items on their way to and from its temporary file, their counts, and the hash of what would be done. One
 * thread writes; readers are independent of each other.
 */
#pragma once

#include "engine/s3sync/plan.h"
#include "fs/spool.h"

typedef struct PlanItems PlanItems;

/* A spool in temp_dir, which is as in ScanOptions. */
Spool *plan_spool_new(const char *temp_dir, GError **error);

/* temp_dir as in ScanOptions. */
PlanItems *plan_items_new(const char *temp_dir, GError **error);

/* Appends one. Its reason, if it has one, is one of plan_reason_*. */
gboolean plan_items_put(PlanItems *items, const S3PlanItem *item, GError **error);
gboolean plan_items_finish(PlanItems *items, GError **error);

/* The counts, to be added to by whoever writes (objects, listed). */
S3PlanCounts *plan_items_counts(PlanItems *items);
char *plan_items_hash(const PlanItems *items);
void plan_items_free(PlanItems *items);

S3PlanReader *plan_items_reader_new(PlanItems *items);

/* Why something is done. */
extern const char *const plan_reason_new;
extern const char *const plan_reason_size;
extern const char *const plan_reason_damaged;
extern const char *const plan_reason_time;
extern const char *const plan_reason_content;
extern const char *const plan_reason_etag;
extern const char *const plan_reason_lost;
extern const char *const plan_reason_class;
