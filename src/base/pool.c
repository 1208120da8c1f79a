#include "base/pool.h"

#include "base/error.h"

#include <pthread.h>
#include <signal.h>

struct Pool {
    PoolFunc func;
    gpointer user_data;
    char name[16]; /* all that the kernel keeps */

    pthread_mutex_t lock; /* for all that follows down to `threads` */
    pthread_cond_t has_work, has_room, is_idle;
    gpointer *items; /* a ring */
    guint capacity, first, waiting;
    guint running;
    gboolean ending;

    pthread_t *threads;
    guint started;
};

static void *run_thread(void *data)
{
    Pool *pool = data;
    /* By the thread itself: to name another one takes a write below /proc, which a confined process may not do. */
    (void)pthread_setname_np(pthread_self(), pool->name);
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->waiting == 0 && !pool->ending)
            pthread_cond_wait(&pool->has_work, &pool->lock);
        if (pool->waiting == 0)
            break;
        gpointer item = pool->items[pool->first];
        pool->first = (pool->first + 1) % pool->capacity;
        pool->waiting--;
        pool->running++;
        pthread_cond_signal(&pool->has_room);
        pthread_mutex_unlock(&pool->lock);
        pool->func(item, pool->user_data);
        pthread_mutex_lock(&pool->lock);
        pool->running--;
        if (pool->running == 0 && pool->waiting == 0)
            pthread_cond_broadcast(&pool->is_idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Starts one thread, with all signals blocked: they are for the thread that waits for them, not for workers. */
static int start_thread(Pool *pool)
{
    sigset_t all, before;
    sigfillset(&all);
    int failed = pthread_sigmask(SIG_BLOCK, &all, &before);
    if (failed)
        return failed;
    pthread_t *thread = &pool->threads[pool->started];
    failed = pthread_create(thread, NULL, run_thread, pool);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return failed;
    pool->started++;
    return 0;
}

Pool *pool_new(const char *name, guint threads, guint capacity, PoolFunc func, gpointer user_data, GError **error)
{
    if (threads == 0 || capacity == 0) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "the pool %s needs at least one thread and room for one item", name);
        return NULL;
    }
    g_autoptr(Pool) pool = g_new0(Pool, 1);
    pool->func = func;
    pool->user_data = user_data;
    pool->capacity = capacity;
    g_strlcpy(pool->name, name, sizeof pool->name);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->has_work, NULL);
    pthread_cond_init(&pool->has_room, NULL);
    pthread_cond_init(&pool->is_idle, NULL);
    pool->items = g_try_new0(gpointer, capacity);
    pool->threads = g_try_new0(pthread_t, threads);
    if (!pool->items || !pool->threads) {
        error_set(error, BACKAPP_ERROR_INTERNAL, "no memory for a pool of %u threads and %u items", threads, capacity);
        return NULL;
    }
    for (guint i = 0; i < threads; i++) {
        int failed = start_thread(pool);
        if (failed) {
            error_set(error, BACKAPP_ERROR_INTERNAL, "cannot start thread %u of %u of %s: %s; use fewer jobs", i + 1,
                      threads, name, g_strerror(failed));
            return NULL;
        }
    }
    return g_steal_pointer(&pool);
}

void pool_push(Pool *pool, gpointer item)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->waiting == pool->capacity)
        pthread_cond_wait(&pool->has_room, &pool->lock);
    guint64 slot = ((guint64)pool->first + pool->waiting) % pool->capacity;
    pool->items[slot] = item;
    pool->waiting++;
    pthread_cond_signal(&pool->has_work);
    pthread_mutex_unlock(&pool->lock);
}

void pool_wait(Pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    while (pool->waiting > 0 || pool->running > 0)
        pthread_cond_wait(&pool->is_idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void pool_free(Pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->ending = TRUE;
    pthread_cond_broadcast(&pool->has_work);
    pthread_mutex_unlock(&pool->lock);
    for (guint i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->is_idle);
    pthread_cond_destroy(&pool->has_room);
    pthread_cond_destroy(&pool->has_work);
    pthread_mutex_destroy(&pool->lock);
    g_free(pool->threads);
    g_free(pool->items);
    g_free(pool);
}
