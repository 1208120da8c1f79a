#include "base/rate.h"

#include <pthread.h>
#include <time.h>

#define NS_PER_SECOND G_GINT64_CONSTANT(1000000000)
/* A cancel flag cannot wake a sleeper, so none sleeps longer than half of what the header promises. */
#define LONGEST_SLEEP_NS  (50 * G_GINT64_CONSTANT(1000000))
#define SHORTEST_SLEEP_NS G_GINT64_CONSTANT(1000000)
#define SMALLEST_BUCKET   (64.0 * 1024.0)

struct Rate {
    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t changed;
    guint64 per_second; /* 0: no limit */
    double tokens;
    gint64 filled_at; /* monotonic ns */
};

static gint64 now_ns(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (gint64)now.tv_sec * NS_PER_SECOND + (gint64)now.tv_nsec;
}

static double bucket_size(guint64 per_second)
{
    return MAX((double)per_second / 4, SMALLEST_BUCKET);
}

/* Adds what has accrued since the last time. */
static void fill(Rate *rate)
{
    gint64 now = now_ns();
    double accrued = (double)(now - rate->filled_at) / (double)NS_PER_SECOND * (double)rate->per_second;
    rate->tokens = MIN(rate->tokens + accrued, bucket_size(rate->per_second));
    rate->filled_at = now;
}

Rate *rate_new(guint64 bytes_per_second)
{
    Rate *rate = g_new0(Rate, 1);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&rate->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&rate->lock, NULL);
    rate->per_second = bytes_per_second;
    rate->tokens = bucket_size(bytes_per_second);
    rate->filled_at = now_ns();
    return rate;
}

void rate_set(Rate *rate, guint64 bytes_per_second)
{
    pthread_mutex_lock(&rate->lock);
    /* At the old rate up to now; the next fill cuts what the new bucket cannot hold. */
    fill(rate);
    rate->per_second = bytes_per_second;
    pthread_cond_broadcast(&rate->changed);
    pthread_mutex_unlock(&rate->lock);
}

/* Sleeps about as long as `missing` tokens need, or until the limit changes. Called with the lock held. */
static void sleep_for(Rate *rate, guint64 missing)
{
    double seconds = (double)missing / (double)rate->per_second;
    double longest = (double)LONGEST_SLEEP_NS / (double)NS_PER_SECOND;
    gint64 length = (gint64)(MIN(seconds, longest) * (double)NS_PER_SECOND);
    gint64 until = now_ns() + MAX(length, SHORTEST_SLEEP_NS);
    struct timespec deadline = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};
    (void)pthread_cond_timedwait(&rate->changed, &rate->lock, &deadline);
}

gboolean rate_take(Rate *rate, guint64 bytes, const CancelFlag *cancel, GError **error)
{
    if (!rate)
        return TRUE;
    gboolean fine = TRUE;
    pthread_mutex_lock(&rate->lock);
    /* Taken in pieces as they come, so a demand larger than the bucket is met too. */
    while (rate->per_second > 0) {
        fill(rate);
        guint64 piece = MIN(bytes, (guint64)rate->tokens);
        rate->tokens -= (double)piece;
        bytes -= piece;
        if (bytes == 0)
            break;
        fine = cancel_check(cancel, error);
        if (!fine)
            break;
        sleep_for(rate, bytes);
    }
    pthread_mutex_unlock(&rate->lock);
    return fine;
}

guint64 rate_get(Rate *rate)
{
    pthread_mutex_lock(&rate->lock);
    guint64 per_second = rate->per_second;
    pthread_mutex_unlock(&rate->lock);
    return per_second;
}

void rate_free(Rate *rate)
{
    if (!rate)
        return;
    pthread_cond_destroy(&rate->changed);
    pthread_mutex_destroy(&rate->lock);
    g_free(rate);
}
