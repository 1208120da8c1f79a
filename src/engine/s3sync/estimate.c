#include "engine/s3sync/estimate.h"

#include <string.h>

#define DELETE_AT_ONCE 1000
#define BLOCK_ENTRIES  1024 /* of the metadata tree, on average */
#define COPY_MAX       (G_GUINT64_CONSTANT(5) << 30)
#define GB             1e9

/* What a run asks for itself. Not counted, since the plan does not tell them: the day's housekeeping, a new list of files
 * where metadata alone changed, the search for an earlier date, locks that somebody left, retries. The first run of all
 * has no root to read. */
#define RUN_GETS       3 /* the lock, the generation, the newest root */
#define RUN_LISTS      2 /* the roots, and the blocks or (at first) once more the roots */
#define CHANGE_GETS    2 /* the lock and the generation once more, when the lock is taken */
#define CHANGE_PUTS    3 /* the lock, the generation, the root; the blocks come on top */
#define FACTS_REQUESTS 5 /* store_facts: versions, encryption, locks, and who may read, by policy and list */

typedef struct {
    const EstimateHow *how;
    Estimate *out;
    guint64 deletes, entries, changes;
} Counting;

/* Requests for an object in parts: begin, parts, complete. */
static guint64 part_requests(const Counting *counting, guint64 size)
{
    guint64 part = store_part_size(counting->how->store, size);
    return 2 + (size + part - 1) / part;
}

static void count_copy(Counting *counting, guint64 size)
{
    gboolean whole = size <= COPY_MAX;
    counting->out->requests[STORE_REQUEST_COPY] += whole ? 1 : part_requests(counting, size) - 2;
    counting->out->requests[STORE_REQUEST_PUT] += whole ? 0 : 2;
}

/* What stands where something else shall stand. */
static void count_trash(Counting *counting, const S3PlanItem *item)
{
    if (!counting->how->trash || item->have_etag == NULL || !store_can(counting->how->store, STORE_COPY))
        return;
    count_copy(counting, item->have_size);
    counting->out->requests[STORE_REQUEST_HEAD] += 2; /* what is there, and whether its copy is whole */
    counting->out->bytes_stored += (gint64)item->have_size;
}

static void count_upload(Counting *counting, const S3PlanItem *item)
{
    guint64 size = item->entry.meta.size;
    gboolean in_parts = size > counting->how->put_max && store_can(counting->how->store, STORE_MULTIPART);
    counting->out->requests[STORE_REQUEST_PUT] += in_parts ? part_requests(counting, size) : 1;
    counting->out->bytes_sent += size;
    counting->out->bytes_stored += (gint64)size - (item->have_etag != NULL ? (gint64)item->have_size : 0);
    count_trash(counting, item);
}

static void count_item(Counting *counting, const S3PlanItem *item)
{
    Estimate *out = counting->out;
    counting->entries += item->op != S3PLAN_DELETE ? 1 : 0;
    counting->changes += item->op != S3PLAN_KEEP && item->op != S3PLAN_META ? 1 : 0;
    switch (item->op) {
    case S3PLAN_UPLOAD:
        if (s3plan_is_link_copy(item) && store_can(counting->how->store, STORE_COPY)) {
            count_copy(counting, item->entry.meta.size);
            count_trash(counting, item);
            out->bytes_stored += (gint64)item->entry.meta.size - (item->have_etag ? (gint64)item->have_size : 0);
        } else
            count_upload(counting, item);
        break;
    case S3PLAN_CHECK:
        out->requests[STORE_REQUEST_HEAD]++;
        break;
    case S3PLAN_TOUCH:
        count_copy(counting, item->have_size);
        break;
    case S3PLAN_COPY:
        count_copy(counting, item->entry.object_size);
        out->bytes_stored += (gint64)item->entry.object_size;
        break;
    case S3PLAN_DELETE:
        counting->deletes++;
        out->requests[STORE_REQUEST_HEAD]++; /* that it is still the one that was listed */
        out->bytes_stored -= (gint64)item->have_size;
        count_trash(counting, item);
        break;
    case S3PLAN_KEEP:
    case S3PLAN_META:
    default:
        break;
    }
}

double estimate_requests_cost(const guint64 requests[STORE_REQUEST_KINDS], const ProviderClass *prices)
{
    if (prices == NULL)
        return 0;
    /* Deleting is free of charge everywhere. */
    guint64 writes = requests[STORE_REQUEST_PUT] + requests[STORE_REQUEST_COPY] + requests[STORE_REQUEST_LIST];
    guint64 reads = requests[STORE_REQUEST_GET] + requests[STORE_REQUEST_HEAD] + requests[STORE_REQUEST_OTHER];
    return (double)writes / 1000 * prices->put_1000 + (double)reads / 1000 * prices->get_1000;
}

static void count_run(Counting *counting, const S3PlanCounts *counts)
{
    guint64 *requests = counting->out->requests;
    Store *store = counting->how->store;
    requests[STORE_REQUEST_LIST] += counts->listed + RUN_LISTS;
    requests[STORE_REQUEST_GET] += RUN_GETS;
    requests[STORE_REQUEST_DELETE] += (counting->deletes + DELETE_AT_ONCE - 1) / DELETE_AT_ONCE;
    if (counting->changes == 0)
        return;
    requests[STORE_REQUEST_PUT] += CHANGE_PUTS + MIN(counting->changes, counting->entries / BLOCK_ENTRIES + 1);
    requests[STORE_REQUEST_GET] += CHANGE_GETS;
    /* Without conditions a lock is read back to see whose it is. */
    if (!store_can(store, STORE_IF_MATCH))
        requests[STORE_REQUEST_GET]++;
    requests[STORE_REQUEST_DELETE]++; /* the lock */
    if (counts->changed + counts->deletes + counts->checks > 0 && store_can(store, STORE_VERSIONS))
        requests[STORE_REQUEST_OTHER] += FACTS_REQUESTS;
}

gboolean estimate_plan(S3Plan *plan, const EstimateHow *how, Estimate *estimate, GError **error)
{
    *estimate = (Estimate){0};
    Counting counting = {.how = how, .out = estimate};
    g_autoptr(S3PlanReader) reader = s3plan_reader_new(plan);
    S3PlanItem item;
    int got;
    while ((got = s3plan_reader_next(reader, &item, error)) > 0)
        count_item(&counting, &item);
    if (got < 0)
        return FALSE;
    count_run(&counting, s3plan_counts(plan));
    estimate->requests_cost = estimate_requests_cost(estimate->requests, how->prices);
    if (how->prices != NULL)
        estimate->month_cost = (double)estimate->bytes_stored / GB * how->prices->gb_month;
    return TRUE;
}
