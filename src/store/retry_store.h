/*
 * The inside of the retry wrapper: retry.c has what is asked and answered at once, retry_stream.c what comes in pieces.
 */
#pragma once

#include "base/retry.h"
#include "store/common.h"
#include "store/drivers.h"

typedef struct {
    Store base;
    Store *inner;
    RetryPolicy policy;
    const CancelFlag *cancel;
    atomic_ullong retries;
} RetryStore;

static inline RetryStore *retry_of(Store *store)
{
    return (RetryStore *)(void *)store;
}

/* Says whether to try again after failed attempt number `attempt` (from 0), and waits before. Otherwise the failure
 * becomes the error, with the number of attempts. Takes it. */
gboolean retry_again(RetryStore *self, guint attempt, GError *failure, GError **error);

/* Functions of the table, as store.h has them. */
gboolean retry_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data, StoreObject **object,
                   GError **error);
StoreList *retry_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error);
