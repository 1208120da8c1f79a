/*
 * What a bucket holds below a run's prefix, as the plan compares with it: one sorted stream without our own keys, which
 * are passed over by beginning the list anew behind them; and apart the objects of long keys, in a table. One thread.
 */
#pragma once

#include "engine/s3sync/catalogue.h"
#include "store/store.h"

typedef struct PlanList PlanList;

/* store is below the prefix and outlives the list. */
PlanList *plan_list_new(Store *store, GError **error);

/* The next object, valid until the next call: 1, 0 at the end, -1 on error: CORRUPT if the order does not hold. */
int plan_list_next(PlanList *list, const StoreObject **object, GError **error);

/* TRUE once keys below ".backapp/" were met: only then can there be long ones. */
gboolean plan_list_has_own(const PlanList *list);

void plan_list_free(PlanList *list);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PlanList, plan_list_free)

/* The objects of long keys, StoreObject by key (both freed with the table); about 350 bytes each. INVALID if there are
 * more than 1,000,000. */
GHashTable *plan_list_long(Store *store, GError **error);
