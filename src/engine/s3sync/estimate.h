/*
 * What carrying out a plan would take: requests by kind, bytes, and what both cost by a provider's price list. An
 * estimate: retries, and what the run finds out only while it works, are not in it. Pure but for reading the plan.
 */
#pragma once

#include "engine/s3sync/plan.h"
#include "store/provider.h"

/* How the run would go about it. */
typedef struct {
    Store *store;
    guint64 put_max;             /* files up to this size are sent with one request */
    gboolean trash;              /* what is replaced or deleted is first copied to the trash */
    const ProviderClass *prices; /* of the class that objects get; NULL: not known */
} EstimateHow;

typedef struct {
    guint64 requests[STORE_REQUEST_KINDS];
    guint64 bytes_sent;
    gint64 bytes_stored;  /* more (or less) than now */
    double requests_cost; /* in the provider's currency; 0 without prices */
    double month_cost;    /* of bytes_stored, for a month */
} Estimate;

gboolean estimate_plan(S3Plan *plan, const EstimateHow *how, Estimate *estimate, GError **error);

/* What requests that were made cost. prices NULL: 0. */
double estimate_requests_cost(const guint64 requests[STORE_REQUEST_KINDS], const ProviderClass *prices);
