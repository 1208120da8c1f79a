#include "base/error.h"
#include "store/drivers.h"
#include "store/guard.h"

typedef struct {
    GMutex lock;
    guint limit, failures; /* in a row */
    gint64 pause_us, until;
    gboolean trying; /* the pause is over, and one request finds out */
    char *last;      /* what the last failure said */
} Breaker;

static gboolean before(gpointer data, GError **error)
{
    Breaker *breaker = data;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&breaker->lock);
    if (breaker->failures < breaker->limit)
        return TRUE;
    if (g_get_monotonic_time() >= breaker->until && !breaker->trying) {
        breaker->trying = TRUE;
        return TRUE;
    }
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "nothing is sent for a while after %u failures in a row: %s",
                     breaker->failures, breaker->last);
}

static void after(gpointer data, const GError *failure)
{
    Breaker *breaker = data;
    g_autoptr(GMutexLocker) locker G_GNUC_UNUSED = g_mutex_locker_new(&breaker->lock);
    breaker->trying = FALSE;
    /* That somebody stopped says nothing of the store. */
    if (error_is(failure, BACKAPP_ERROR_CANCELLED))
        return;
    if (!error_is(failure, BACKAPP_ERROR_TRANSIENT)) {
        breaker->failures = 0;
        return;
    }
    if (breaker->failures < G_MAXUINT)
        breaker->failures++;
    breaker->until = g_get_monotonic_time() + breaker->pause_us;
    g_free(breaker->last);
    breaker->last = g_strdup(failure->message);
}

static void breaker_free(gpointer data)
{
    Breaker *breaker = data;
    g_mutex_clear(&breaker->lock);
    g_free(breaker->last);
    g_free(breaker);
}

static const GuardOps breaker_ops = {.name = "breaker", .before = before, .after = after, .free = breaker_free};

Store *store_breaker_new(Store *inner, guint failures, guint64 pause_ms)
{
    Breaker *breaker = g_new0(Breaker, 1);
    g_mutex_init(&breaker->lock);
    breaker->limit = MAX(failures, 1);
    breaker->pause_us = (gint64)MIN(pause_ms, (guint64)G_MAXINT32) * 1000;
    return guard_new(inner, &breaker_ops, breaker);
}
