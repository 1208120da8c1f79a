/*
 * Retry with exponential backoff and full jitter, for errors whose code is TRANSIENT. The waiting is cancellable.
 */
#pragma once

#include "base/cancel.h"

typedef struct {
    guint attempts;         /* how often to try in all; at least 1 */
    guint64 first_delay_ms; /* upper bound of the first wait; doubles each time */
    guint64 max_delay_ms;   /* upper bound of any wait */
} RetryPolicy;

/* One attempt. Returns FALSE and sets the error if it failed. */
typedef gboolean (*RetryFunc)(gpointer user_data, GError **error);

/* Milliseconds to wait after failed attempt number `attempt` (0 is the first): uniform in [0, min(max, first *
 * 2^attempt)]. */
guint64 retry_delay_ms(const RetryPolicy *policy, guint attempt);

/* Calls func until it succeeds, fails with another code than TRANSIENT, or attempts are used up (the last error is
 * returned, prefixed with the number of attempts). FALSE with CANCELLED if cancel is set while waiting. */
gboolean retry_run(const RetryPolicy *policy, RetryFunc func, gpointer user_data, const CancelFlag *cancel,
                   GError **error);
