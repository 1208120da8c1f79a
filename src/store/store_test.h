/*
 * Trying out a store before it is trusted: is it reached, what works, which permission is missing and what is not as it
 * should be for backups. It writes a few small objects below .backapp/ and deletes them again. The calling thread.
 */
#pragma once

#include "store/store.h"

typedef enum {
    STORE_TEST_OK,
    STORE_TEST_MISSING, /* it cannot be used without */
    STORE_TEST_WARNING, /* works, but look at it */
    STORE_TEST_UNKNOWN, /* could not be found out */
} StoreTestState;

/* What one check found. */
typedef struct {
    const char *check; /* "reach", "list", "write", ...; static */
    StoreTestState state;
    char *message;
} StoreTestItem;

/* "ok", "missing", "warn", "unknown"; static. */
const char *store_test_state_name(StoreTestState state);

/* Tries all that can be tried, in an order in which a later check needs the earlier ones; what fails is an item, not an
 * error. NULL with CANCELLED only. Items (StoreTestItem *) are freed with the array. */
GPtrArray *store_test_run(Store *store, GError **error);

/* TRUE if nothing is missing. */
gboolean store_test_is_usable(const GPtrArray *items);
