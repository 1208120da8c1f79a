#include "base/retry.h"

#include "base/error.h"

/* A cancel flag cannot wake a sleeper: it is looked at this often. */
enum { SLICE_MS = 50 };

guint64 retry_delay_ms(const RetryPolicy *policy, guint attempt)
{
    guint64 bound = policy->first_delay_ms;
    /* Doubling stops at the maximum, so it can never overflow. */
    for (guint i = 0; i < attempt && bound > 0 && bound < policy->max_delay_ms; i++)
        bound = bound > policy->max_delay_ms / 2 ? policy->max_delay_ms : bound * 2;
    bound = MIN(bound, policy->max_delay_ms);
    double pick = g_random_double() * ((double)bound + 1);
    /* The sum above is rounded for huge bounds. */
    return pick >= (double)bound ? bound : (guint64)pick;
}

static gboolean wait_ms(guint64 length_ms, const CancelFlag *cancel, GError **error)
{
    gint64 start = g_get_monotonic_time();
    for (;;) {
        if (!cancel_check(cancel, error))
            return FALSE;
        guint64 passed_ms = (guint64)(g_get_monotonic_time() - start) / 1000;
        if (passed_ms >= length_ms)
            return TRUE;
        g_usleep((gulong)MIN(length_ms - passed_ms, SLICE_MS) * 1000);
    }
}

gboolean retry_run(const RetryPolicy *policy, RetryFunc func, gpointer user_data, const CancelFlag *cancel,
                   GError **error)
{
    guint attempts = MAX(policy->attempts, 1);
    for (guint attempt = 0;; attempt++) {
        GError *failure = NULL;
        if (func(user_data, &failure))
            return TRUE;
        gboolean again = error_is(failure, BACKAPP_ERROR_TRANSIENT);
        if (!again || attempt + 1 >= attempts) {
            if (again)
                g_prefix_error(&failure, "after %u %s: ", attempts, attempts == 1 ? "attempt" : "attempts");
            g_propagate_error(error, failure);
            return FALSE;
        }
        g_clear_error(&failure);
        if (!wait_ms(retry_delay_ms(policy, attempt), cancel, error))
            return FALSE;
    }
}
