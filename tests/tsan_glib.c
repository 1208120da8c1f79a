/*
 * GLib's locks for ThreadSanitizer builds only.
 *
 * GLib's mutexes, conditions and once-blocks are futexes inside libglib-2.0.so, which is not instrumented: the
 * sanitizer sees no order between a thread that unlocks and the next that locks and reports races that do not exist.
 * This file defines the same functions on top of pthreads, which the sanitizer knows; the linker takes them before the
 * library's. Calls inside libglib itself are bound there and stay as they are, so GAsyncQueue and GThreadPool, which
 * lock inside the library, are not covered: base/pool is what we use.
 *
 * Meson links this into every program when b_sanitize contains "thread" and into none otherwise. All functions may be
 * called from any thread. Locks of static storage are made at first use and never freed.
 */
#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

/* A broken lock makes every later report worthless: stop where it happens. */
static void must(int result)
{
    if (result != 0)
        abort();
}

static pthread_mutex_t *mutex_make(int type)
{
    pthread_mutex_t *mutex = calloc(1, sizeof(pthread_mutex_t));
    pthread_mutexattr_t attr;

    must(mutex == NULL);
    must(pthread_mutexattr_init(&attr));
    must(pthread_mutexattr_settype(&attr, type));
    must(pthread_mutex_init(mutex, &attr));
    must(pthread_mutexattr_destroy(&attr));
    return mutex;
}

static void mutex_unmake(gpointer made)
{
    pthread_mutex_t *mutex = made;

    if (mutex == NULL)
        return;
    must(pthread_mutex_destroy(mutex));
    free(mutex);
}

/* The pthread mutex behind a slot that may be all zero, as a static GMutex is. */
static pthread_mutex_t *mutex_of(gpointer *slot, int type)
{
    pthread_mutex_t *mutex = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    gpointer none = NULL;

    if (mutex != NULL)
        return mutex;
    mutex = mutex_make(type);
    if (__atomic_compare_exchange_n(slot, &none, (gpointer)mutex, FALSE, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return mutex;
    mutex_unmake(mutex);
    return none;
}

static pthread_mutex_t *plain(GMutex *mutex)
{
    return mutex_of(&mutex->p, PTHREAD_MUTEX_NORMAL);
}

static pthread_mutex_t *recursive(GRecMutex *mutex)
{
    return mutex_of(&mutex->p, PTHREAD_MUTEX_RECURSIVE);
}

void g_mutex_init(GMutex *mutex)
{
    mutex->p = NULL;
}

void g_mutex_clear(GMutex *mutex)
{
    mutex_unmake(mutex->p);
    mutex->p = NULL;
}

void g_mutex_lock(GMutex *mutex)
{
    must(pthread_mutex_lock(plain(mutex)));
}

gboolean g_mutex_trylock(GMutex *mutex)
{
    return pthread_mutex_trylock(plain(mutex)) == 0;
}

void g_mutex_unlock(GMutex *mutex)
{
    must(pthread_mutex_unlock(plain(mutex)));
}

void g_rec_mutex_init(GRecMutex *mutex)
{
    mutex->p = NULL;
}

void g_rec_mutex_clear(GRecMutex *mutex)
{
    mutex_unmake(mutex->p);
    mutex->p = NULL;
}

void g_rec_mutex_lock(GRecMutex *mutex)
{
    must(pthread_mutex_lock(recursive(mutex)));
}

gboolean g_rec_mutex_trylock(GRecMutex *mutex)
{
    return pthread_mutex_trylock(recursive(mutex)) == 0;
}

void g_rec_mutex_unlock(GRecMutex *mutex)
{
    must(pthread_mutex_unlock(recursive(mutex)));
}

static void rw_lock_unmake(pthread_rwlock_t *lock)
{
    must(pthread_rwlock_destroy(lock));
    free(lock);
}

static pthread_rwlock_t *rw_lock_of(GRWLock *rw_lock)
{
    pthread_rwlock_t *lock = __atomic_load_n(&rw_lock->p, __ATOMIC_ACQUIRE);
    gpointer none = NULL;

    if (lock != NULL)
        return lock;
    lock = calloc(1, sizeof(pthread_rwlock_t));
    must(lock == NULL);
    must(pthread_rwlock_init(lock, NULL));
    if (__atomic_compare_exchange_n(&rw_lock->p, &none, (gpointer)lock, FALSE, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return lock;
    rw_lock_unmake(lock);
    return none;
}

void g_rw_lock_init(GRWLock *rw_lock)
{
    rw_lock->p = NULL;
}

void g_rw_lock_clear(GRWLock *rw_lock)
{
    if (rw_lock->p != NULL)
        rw_lock_unmake(rw_lock->p);
    rw_lock->p = NULL;
}

void g_rw_lock_writer_lock(GRWLock *rw_lock)
{
    must(pthread_rwlock_wrlock(rw_lock_of(rw_lock)));
}

gboolean g_rw_lock_writer_trylock(GRWLock *rw_lock)
{
    return pthread_rwlock_trywrlock(rw_lock_of(rw_lock)) == 0;
}

void g_rw_lock_writer_unlock(GRWLock *rw_lock)
{
    must(pthread_rwlock_unlock(rw_lock_of(rw_lock)));
}

void g_rw_lock_reader_lock(GRWLock *rw_lock)
{
    must(pthread_rwlock_rdlock(rw_lock_of(rw_lock)));
}

gboolean g_rw_lock_reader_trylock(GRWLock *rw_lock)
{
    return pthread_rwlock_tryrdlock(rw_lock_of(rw_lock)) == 0;
}

void g_rw_lock_reader_unlock(GRWLock *rw_lock)
{
    must(pthread_rwlock_unlock(rw_lock_of(rw_lock)));
}

static void cond_unmake(pthread_cond_t *cond)
{
    must(pthread_cond_destroy(cond));
    free(cond);
}

static pthread_cond_t *cond_make(void)
{
    pthread_cond_t *cond = calloc(1, sizeof(pthread_cond_t));
    pthread_condattr_t attr;

    must(cond == NULL);
    must(pthread_condattr_init(&attr));
    must(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC)); /* the clock of g_cond_wait_until's end time */
    must(pthread_cond_init(cond, &attr));
    must(pthread_condattr_destroy(&attr));
    return cond;
}

static pthread_cond_t *cond_of(GCond *slot)
{
    pthread_cond_t *cond = __atomic_load_n(&slot->p, __ATOMIC_ACQUIRE);
    gpointer none = NULL;

    if (cond != NULL)
        return cond;
    cond = cond_make();
    if (__atomic_compare_exchange_n(&slot->p, &none, (gpointer)cond, FALSE, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return cond;
    cond_unmake(cond);
    return none;
}

void g_cond_init(GCond *cond)
{
    cond->p = NULL;
}

void g_cond_clear(GCond *cond)
{
    if (cond->p != NULL)
        cond_unmake(cond->p);
    cond->p = NULL;
}

void g_cond_wait(GCond *cond, GMutex *mutex)
{
    must(pthread_cond_wait(cond_of(cond), plain(mutex)));
}

gboolean g_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end_time)
{
    struct timespec until = {.tv_sec = end_time / G_USEC_PER_SEC, .tv_nsec = (end_time % G_USEC_PER_SEC) * 1000};
    int result = 0;

    if (end_time < 0)
        until = (struct timespec){0};
    result = pthread_cond_timedwait(cond_of(cond), plain(mutex), &until);
    if (result == ETIMEDOUT)
        return FALSE;
    must(result);
    return TRUE;
}

void g_cond_signal(GCond *cond)
{
    must(pthread_cond_signal(cond_of(cond)));
}

void g_cond_broadcast(GCond *cond)
{
    must(pthread_cond_broadcast(cond_of(cond)));
}

/* One lock for all once-blocks, as in GLib. The pthread calls are direct so that nothing here needs a once-block. */
static pthread_mutex_t once_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t once_done = PTHREAD_COND_INITIALIZER;
static GSList *once_running;

gboolean(g_once_init_enter)(volatile void *location)
{
    gsize *value = (gsize *)location;
    gboolean enter = FALSE;

    must(pthread_mutex_lock(&once_lock));
    while (__atomic_load_n(value, __ATOMIC_ACQUIRE) == 0 && g_slist_find(once_running, value) != NULL)
        must(pthread_cond_wait(&once_done, &once_lock));
    if (__atomic_load_n(value, __ATOMIC_ACQUIRE) == 0) {
        once_running = g_slist_prepend(once_running, value);
        enter = TRUE;
    }
    must(pthread_mutex_unlock(&once_lock));
    return enter;
}

void(g_once_init_leave)(volatile void *location, gsize result)
{
    gsize *value = (gsize *)location;

    must(pthread_mutex_lock(&once_lock));
    __atomic_store_n(value, result, __ATOMIC_RELEASE);
    once_running = g_slist_remove(once_running, value);
    must(pthread_cond_broadcast(&once_done));
    must(pthread_mutex_unlock(&once_lock));
}

gpointer g_once_impl(GOnce *once, GThreadFunc func, gpointer arg)
{
    must(pthread_mutex_lock(&once_lock));
    while (once->status == G_ONCE_STATUS_PROGRESS)
        must(pthread_cond_wait(&once_done, &once_lock));
    if (once->status == G_ONCE_STATUS_NOTCALLED) {
        __atomic_store_n(&once->status, G_ONCE_STATUS_PROGRESS,
                         __ATOMIC_RELAXED); /* g_once reads it without the lock */
        must(pthread_mutex_unlock(&once_lock));
        gpointer value = func(arg);
        must(pthread_mutex_lock(&once_lock));
        once->retval = value;
        __atomic_store_n(&once->status, G_ONCE_STATUS_READY, __ATOMIC_RELEASE);
        must(pthread_cond_broadcast(&once_done));
    }
    must(pthread_mutex_unlock(&once_lock));
    return once->retval;
}

/* Reference counts: out of line in GLib, so what the last owner frees looks unordered with the others' last use. */
void(g_atomic_ref_count_init)(gatomicrefcount *count)
{
    __atomic_store_n(count, 1, __ATOMIC_RELEASE);
}

void(g_atomic_ref_count_inc)(gatomicrefcount *count)
{
    __atomic_fetch_add(count, 1, __ATOMIC_ACQ_REL);
}

gboolean(g_atomic_ref_count_dec)(gatomicrefcount *count)
{
    return __atomic_fetch_sub(count, 1, __ATOMIC_ACQ_REL) == 1;
}
