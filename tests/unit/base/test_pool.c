#include "cmocka_all.h"

#include "base/error.h"
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

enum { ITEMS = 5000 };

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    gboolean open;
    guint inside, most_inside;
    atomic_uint done;
    guint8 seen[ITEMS + 1];
    gboolean signals_open;
} Work;

static void work_begin(Work *work)
{
    *work = (Work){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
}

static void mark_seen(gpointer item, gpointer data)
{
    Work *work = data;
    /* Each item has its own byte: two threads with the same item would be a race that the sanitizer sees. */
    work->seen[GPOINTER_TO_UINT(item)]++;
    atomic_fetch_add(&work->done, 1);
}

static void test_each_item_is_worked_on_once(void **state)
{
    static const guint shapes[][2] = {{1, 1}, {1, 100}, {4, 1}, {4, 3}, {8, 64}};
    static Work work;
    for (gsize shape = 0; shape < G_N_ELEMENTS(shapes); shape++) {
        work_begin(&work);
        g_autoptr(Pool) pool = pool_new("unit-pool", shapes[shape][0], shapes[shape][1], mark_seen, &work, NULL);
        assert_non_null(pool);
        for (guint i = 0; i <= ITEMS; i++) {
            pool_push(pool, GUINT_TO_POINTER(i)); /* item 0 is NULL and an item like any other */
            if (i % 1000 == 0) {
                pool_wait(pool);
                assert_int_equal(atomic_load(&work.done), i + 1);
            }
        }
        pool_wait(pool);
        for (guint i = 0; i <= ITEMS; i++)
            assert_int_equal(work.seen[i], 1);
    }
}

static void test_free_finishes_what_is_queued(void **state)
{
    static Work work;
    work_begin(&work);
    Pool *pool = pool_new("unit-pool", 2, 500, mark_seen, &work, NULL);
    for (guint i = 0; i < 500; i++)
        pool_push(pool, GUINT_TO_POINTER(i));
    pool_free(pool);
    assert_int_equal(atomic_load(&work.done), 500);
}

/* Holds each thread until the test opens the gate. */
static void wait_at_gate(gpointer item, gpointer data)
{
    Work *work = data;
    pthread_mutex_lock(&work->lock);
    work->inside++;
    work->most_inside = MAX(work->most_inside, work->inside);
    pthread_cond_broadcast(&work->changed);
    while (!work->open)
        pthread_cond_wait(&work->changed, &work->lock);
    work->inside--;
    pthread_mutex_unlock(&work->lock);
    atomic_fetch_add(&work->done, 1);
}

static void wait_until_inside(Work *work, guint threads)
{
    pthread_mutex_lock(&work->lock);
    while (work->inside < threads)
        pthread_cond_wait(&work->changed, &work->lock);
    pthread_mutex_unlock(&work->lock);
}

static void open_gate(Work *work)
{
    pthread_mutex_lock(&work->lock);
    work->open = TRUE;
    pthread_cond_broadcast(&work->changed);
    pthread_mutex_unlock(&work->lock);
}

static void test_threads_run_at_the_same_time_and_no_more(void **state)
{
    static Work work;
    work_begin(&work);
    g_autoptr(Pool) pool = pool_new("unit-pool", 3, 10, wait_at_gate, &work, NULL);
    for (guint i = 0; i < 8; i++)
        pool_push(pool, GUINT_TO_POINTER(i));
    wait_until_inside(&work, 3); /* would wait for ever if they ran one after the other */
    open_gate(&work);
    pool_wait(pool);
    assert_int_equal(work.most_inside, 3);
    assert_int_equal(atomic_load(&work.done), 8);
}

static void *open_gate_later(void *data)
{
    g_usleep(20000);
    open_gate(data);
    return NULL;
}

static void test_wait_is_for_what_runs_too(void **state)
{
    static Work work;
    work_begin(&work);
    g_autoptr(Pool) pool = pool_new("unit-pool", 2, 2, wait_at_gate, &work, NULL);
    pool_push(pool, NULL);
    pool_push(pool, NULL);
    wait_until_inside(&work, 2); /* so the queue is empty already */
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, open_gate_later, &work), 0);
    pool_wait(pool);
    assert_int_equal(atomic_load(&work.done), 2);
    pthread_join(thread, NULL);
}

typedef struct {
    Pool *pool;
    atomic_uint pushed;
} Pusher;

static void *push_five(void *data)
{
    Pusher *pusher = data;
    for (guint i = 0; i < 5; i++) {
        pool_push(pusher->pool, GUINT_TO_POINTER(i));
        atomic_fetch_add(&pusher->pushed, 1);
    }
    return NULL;
}

static void test_push_waits_for_room(void **state)
{
    static Work work;
    work_begin(&work);
    g_autoptr(Pool) pool = pool_new("unit-pool", 1, 2, wait_at_gate, &work, NULL);
    Pusher pusher = {.pool = pool};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, push_five, &pusher), 0);
    wait_until_inside(&work, 1);
    /* One runs and two wait, so the fourth push must stand still however long we give it. */
    for (int i = 0; i < 50 && atomic_load(&pusher.pushed) <= 3; i++)
        g_usleep(1000);
    assert_true(atomic_load(&pusher.pushed) <= 3);
    open_gate(&work);
    pthread_join(thread, NULL);
    pool_wait(pool);
    assert_int_equal(atomic_load(&work.done), 5);
}

static void look_at_signals(gpointer item, gpointer data)
{
    Work *work = data;
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    if (!sigismember(&blocked, SIGTERM) || !sigismember(&blocked, SIGINT))
        work->signals_open = TRUE;
}

static void look_at_name(gpointer item, gpointer data)
{
    (void)pthread_getname_np(pthread_self(), data, 16);
}

static void test_threads_have_the_name(void **state)
{
    char name[16] = "";
    g_autoptr(Pool) pool = pool_new("a name longer than the kernel keeps", 1, 1, look_at_name, name, NULL);
    pool_push(pool, NULL);
    pool_wait(pool);
    assert_string_equal(name, "a name longer t");
}

static void test_signals_are_left_to_the_main_thread(void **state)
{
    static Work work;
    work_begin(&work);
    g_autoptr(Pool) pool = pool_new("unit-pool", 1, 1, look_at_signals, &work, NULL);
    pool_push(pool, NULL);
    pool_wait(pool);
    assert_false(work.signals_open);
    sigset_t blocked;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    assert_false(sigismember(&blocked, SIGTERM));
}

static void test_wrong_sizes_are_an_error(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_null(pool_new("unit-pool", 0, 1, mark_seen, NULL, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INTERNAL));
    assert_null(pool_new("unit-pool", 1, 0, mark_seen, NULL, NULL));
    pool_free(NULL);
}

static void test_idle_pool_can_be_waited_for_and_freed(void **state)
{
    g_autoptr(Pool) pool = pool_new("a name longer than the kernel keeps", 4, 4, mark_seen, NULL, NULL);
    assert_non_null(pool);
    pool_wait(pool);
    pool_wait(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_item_is_worked_on_once),
        cmocka_unit_test(test_wait_is_for_what_runs_too),
        cmocka_unit_test(test_free_finishes_what_is_queued),
        cmocka_unit_test(test_threads_run_at_the_same_time_and_no_more),
        cmocka_unit_test(test_push_waits_for_room),
        cmocka_unit_test(test_threads_have_the_name),
        cmocka_unit_test(test_signals_are_left_to_the_main_thread),
        cmocka_unit_test(test_wrong_sizes_are_an_error),
        cmocka_unit_test(test_idle_pool_can_be_waited_for_and_freed),
    };
    return cmocka_run_group_tests_name("unit/base/pool", tests, NULL, NULL);
}
