#include "engine/s3sync/workers.h"

#include <pthread.h>
#include <signal.h>

#include "base/error.h"

#define START       16
#define QUEUE       128
#define WINDOW_US   250000
#define OBJECT_COST (64 * 1024) /* bytes that take as long as what a request costs besides its bytes */
#define GROWTH      1.05
#define FORGET      0.98

struct Workers {
    WorkersFunc func;
    gpointer user_data;
    Store *store;

    pthread_mutex_t lock; /* for all that follows */
    pthread_cond_t work, room, idle;
    gpointer items[QUEUE]; /* a ring */
    guint first, waiting;
    GQueue urgent;
    guint running, sleeping;
    gboolean ending, adapts;

    WorkersControl control;
    gint64 window_start; /* monotonic */
    guint64 window_work, window_items;
    guint64 slow_downs;

    pthread_t threads[WORKERS_MAX];
    guint started;
};

void workers_control(WorkersControl *control, double rate, gboolean slow_down)
{
    if (slow_down) {
        control->limit = MAX(control->limit / 2, 1);
        /* What was reached before is not to be had now. */
        control->best = rate;
        return;
    }
    if (rate > control->best * GROWTH) {
        control->limit = MIN(control->limit + MAX(control->limit / 4, 1), control->max);
        control->best = rate;
    } else {
        control->best *= FORGET; /* the line may have become better since: try again after a while */
    }
}

static gboolean may_take(const Workers *workers)
{
    return workers->running < workers->control.limit && (workers->waiting > 0 || workers->urgent.length > 0);
}

static gpointer take(Workers *workers)
{
    gpointer item = g_queue_pop_head(&workers->urgent);
    if (item != NULL)
        return item;
    item = workers->items[workers->first];
    workers->first = (workers->first + 1) % QUEUE;
    workers->waiting--;
    pthread_cond_signal(&workers->room);
    return item;
}

static void *run_thread(void *data)
{
    Workers *workers = data;
    (void)pthread_setname_np(pthread_self(), "s3-sync"); /* only for people */
    pthread_mutex_lock(&workers->lock);
    for (;;) {
        while (!may_take(workers) && !workers->ending) {
            workers->sleeping++;
            pthread_cond_wait(&workers->work, &workers->lock);
            workers->sleeping--;
        }
        if (!may_take(workers)) {
            if (workers->waiting == 0 && workers->urgent.length == 0)
                break;
            pthread_cond_wait(&workers->work, &workers->lock);
            continue;
        }
        gpointer item = take(workers);
        workers->running++;
        pthread_mutex_unlock(&workers->lock);
        workers->func(item, workers->user_data);
        pthread_mutex_lock(&workers->lock);
        workers->running--;
        if (workers->running == 0 && workers->waiting == 0 && workers->urgent.length == 0)
            pthread_cond_broadcast(&workers->idle);
        if (workers->ending)
            pthread_cond_broadcast(&workers->work);
    }
    pthread_mutex_unlock(&workers->lock);
    return NULL;
}

/* One more thread, with all signals blocked: they are for the thread that waits for them. Under the lock. */
static int start_thread(Workers *workers)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    int failed = pthread_sigmask(SIG_BLOCK, &all, &before);
    if (failed != 0)
        return failed;
    failed = pthread_create(&workers->threads[workers->started], NULL, run_thread, workers);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed == 0)
        workers->started++;
    return failed;
}

/* There is something to do: wakes a thread that sleeps, or starts one. One that cannot be started is done without. */
static void call_thread(Workers *workers)
{
    if (workers->sleeping > 0)
        pthread_cond_signal(&workers->work);
    else if (workers->started < workers->control.limit && !workers->ending)
        (void)start_thread(workers);
}

Workers *workers_new(guint fixed, Store *store, WorkersFunc func, gpointer user_data, GError **error)
{
    Workers *workers = g_new0(Workers, 1);
    workers->func = func;
    workers->user_data = user_data;
    workers->store = store;
    workers->adapts = fixed == 0;
    workers->control = (WorkersControl){.limit = fixed > 0 ? MIN(fixed, WORKERS_MAX) : START, .max = WORKERS_MAX};
    workers->window_start = g_get_monotonic_time();
    g_queue_init(&workers->urgent);
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->work, NULL);
    pthread_cond_init(&workers->room, NULL);
    pthread_cond_init(&workers->idle, NULL);
    StoreCounts counts = {0};
    store_counts(store, &counts);
    workers->slow_downs = counts.slow_downs;
    pthread_mutex_lock(&workers->lock);
    int failed = start_thread(workers);
    pthread_mutex_unlock(&workers->lock);
    if (failed != 0) {
        error_set_errno(error, failed, "cannot start a thread for uploads");
        workers_free(workers);
        return NULL;
    }
    return workers;
}

void workers_push(Workers *workers, gpointer item)
{
    pthread_mutex_lock(&workers->lock);
    while (workers->waiting == QUEUE)
        pthread_cond_wait(&workers->room, &workers->lock);
    workers->items[(workers->first + workers->waiting) % QUEUE] = item;
    workers->waiting++;
    call_thread(workers);
    pthread_mutex_unlock(&workers->lock);
}

void workers_push_first(Workers *workers, gpointer item)
{
    pthread_mutex_lock(&workers->lock);
    g_queue_push_tail(&workers->urgent, item);
    call_thread(workers);
    pthread_mutex_unlock(&workers->lock);
}

void workers_note(Workers *workers, guint64 bytes)
{
    if (!workers->adapts)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->window_work += bytes + OBJECT_COST;
    workers->window_items++;
    gint64 now = g_get_monotonic_time();
    gint64 passed = now - workers->window_start;
    if (passed >= WINDOW_US && workers->window_items >= workers->control.limit) {
        StoreCounts counts = {0};
        store_counts(workers->store, &counts);
        guint before = workers->control.limit;
        workers_control(&workers->control, (double)workers->window_work / (double)passed,
                        counts.slow_downs > workers->slow_downs);
        workers->slow_downs = counts.slow_downs;
        workers->window_start = now;
        workers->window_work = workers->window_items = 0;
        if (workers->control.limit > before)
            pthread_cond_broadcast(&workers->work);
    }
    pthread_mutex_unlock(&workers->lock);
}

void workers_wait(Workers *workers)
{
    pthread_mutex_lock(&workers->lock);
    while (workers->running > 0 || workers->waiting > 0 || workers->urgent.length > 0)
        pthread_cond_wait(&workers->idle, &workers->lock);
    pthread_mutex_unlock(&workers->lock);
}

void workers_free(Workers *workers)
{
    if (workers == NULL)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->ending = TRUE;
    pthread_cond_broadcast(&workers->work);
    pthread_mutex_unlock(&workers->lock);
    for (guint i = 0; i < workers->started; i++)
        pthread_join(workers->threads[i], NULL);
    pthread_cond_destroy(&workers->idle);
    pthread_cond_destroy(&workers->room);
    pthread_cond_destroy(&workers->work);
    pthread_mutex_destroy(&workers->lock);
    g_queue_clear(&workers->urgent);
    g_free(workers);
}
