#include "base/cancel.h"

#include "base/error.h"

/* Only a lock-free atomic may be touched in a signal handler. */
G_STATIC_ASSERT(ATOMIC_BOOL_LOCK_FREE == 2);

void cancel_set(CancelFlag *flag)
{
    atomic_store(&flag->set, TRUE);
}

gboolean cancel_is_set(const CancelFlag *flag)
{
    return flag && atomic_load_explicit(&flag->set, memory_order_acquire);
}

gboolean cancel_check(const CancelFlag *flag, GError **error)
{
    if (!cancel_is_set(flag))
        return TRUE;
    return error_set(error, BACKAPP_ERROR_CANCELLED, "cancelled");
}
