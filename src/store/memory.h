/*
 * What tests may do to a store in memory: let requests fail, and lose answers. Any thread.
 */
#pragma once

#include "base/error.h"
#include "store/drivers.h"

/* The next `count` requests of this kind fail with the code. With lost_answer they are done nevertheless: the caller
 * only does not learn of it. A get that fails so gives half of its bytes first. `store` is what store_memory_new made. */
void store_memory_fail_next(Store *store, StoreRequest kind, BackappError code, guint count, gboolean lost_answer);
