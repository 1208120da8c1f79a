#include "base/error.h"
#include "store/drivers.h"
#include "store/guard.h"

/* A cancel flag cannot wake a sleeper: it is looked at this often. */
#define SLICE_US 50000

typedef struct {
    GMutex lock;
    GCond freed;
    guint at_once, running; /* at_once 0: any number */
    guint64 interval_us;    /* between two requests; 0: none */
    gint64 next;            /* when the next may start, by the monotonic clock */
    const CancelFlag *cancel;
} Limit;

/* Waits for its turn in time. */
static gboolean wait_turn(Limit *limit, GError **error)
{
    if (limit->interval_us == 0)
        return cancel_check(limit->cancel, error);
    gint64 now = g_get_monotonic_time();
    g_mutex_lock(&limit->lock);
    gint64 turn = MAX(now, limit->next);
    limit->next = turn + (gint64)limit->interval_us;
    g_mutex_unlock(&limit->lock);
    return store_wait_us((guint64)(turn - now), limit->cancel, error);
}

static gboolean before(gpointer data, GError **error)
{
    Limit *limit = data;
    if (!wait_turn(limit, error))
        return FALSE;
    g_mutex_lock(&limit->lock);
    gboolean go_on = TRUE;
    while (go_on && limit->at_once > 0 && limit->running >= limit->at_once) {
        (void)g_cond_wait_until(&limit->freed, &limit->lock, g_get_monotonic_time() + SLICE_US);
        go_on = !cancel_is_set(limit->cancel);
    }
    if (go_on)
        limit->running++;
    g_mutex_unlock(&limit->lock);
    return go_on || cancel_check(limit->cancel, error);
}

static void after(gpointer data, const GError *failure)
{
    Limit *limit = data;
    g_mutex_lock(&limit->lock);
    limit->running--;
    g_cond_signal(&limit->freed);
    g_mutex_unlock(&limit->lock);
}

static void limit_free(gpointer data)
{
    Limit *limit = data;
    g_mutex_clear(&limit->lock);
    g_cond_clear(&limit->freed);
    g_free(limit);
}

static const GuardOps limit_ops = {.name = "limit", .before = before, .after = after, .free = limit_free};

Store *store_limit_new(Store *inner, guint at_once, guint per_second, const CancelFlag *cancel)
{
    Limit *limit = g_new0(Limit, 1);
    g_mutex_init(&limit->lock);
    g_cond_init(&limit->freed);
    limit->at_once = at_once;
    limit->interval_us = per_second > 0 ? G_USEC_PER_SEC / per_second : 0;
    limit->cancel = cancel;
    return guard_new(inner, &limit_ops, limit);
}
