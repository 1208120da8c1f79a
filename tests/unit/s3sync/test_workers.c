#include "../base/cmocka_all.h"
#include "engine/s3sync/workers.h"
#include "store/drivers.h"

#include <stdatomic.h>

#define ITEMS 5000

typedef struct {
    Workers *workers;
    atomic_uint done, extra, running, most;
} Count;

static void work(gpointer item, gpointer user_data)
{
    Count *count = user_data;
    guint now = atomic_fetch_add(&count->running, 1) + 1;
    guint most = atomic_load(&count->most);
    while (now > most && !atomic_compare_exchange_weak(&count->most, &most, now))
        continue;
    guint number = GPOINTER_TO_UINT(item);
    if (number > ITEMS) {
        atomic_fetch_add(&count->extra, 1);
    } else {
        atomic_fetch_add(&count->done, 1);
        if (number % 10 == 0)
            workers_push_first(count->workers, GUINT_TO_POINTER(ITEMS + number));
    }
    workers_note(count->workers, 1000);
    atomic_fetch_sub(&count->running, 1);
}

static void run(guint fixed, guint most)
{
    g_autoptr(Store) store = store_memory_new();
    Count count = {0};
    count.workers = workers_new(fixed, store, work, &count, NULL);
    assert_non_null(count.workers);
    for (guint i = 1; i <= ITEMS; i++)
        workers_push(count.workers, GUINT_TO_POINTER(i));
    workers_wait(count.workers);
    assert_int_equal(atomic_load(&count.done), ITEMS);
    assert_int_equal(atomic_load(&count.extra), ITEMS / 10);
    assert_true(atomic_load(&count.most) <= most);
    workers_push(count.workers, GUINT_TO_POINTER(1));
    workers_free(count.workers); /* waits for what is queued */
    assert_int_equal(atomic_load(&count.done), ITEMS + 1);
}

static void test_all_are_done(void **state)
{
    run(1, 1);
    run(3, 3);
    run(0, WORKERS_MAX);
}

static void test_grows_while_it_helps(void **state)
{
    WorkersControl control = {.limit = 16, .max = 64};
    for (guint i = 0; i < 20; i++)
        workers_control(&control, 100.0 * control.limit, FALSE);
    assert_int_equal(control.limit, 64);
}

static void test_stays_where_it_does_not(void **state)
{
    WorkersControl control = {.limit = 16, .max = 64};
    workers_control(&control, 1000, FALSE);
    guint after = control.limit;
    for (guint i = 0; i < 2; i++)
        workers_control(&control, 1000, FALSE);
    assert_int_equal(control.limit, after);
}

static void test_halves_when_asked(void **state)
{
    WorkersControl control = {.limit = 64, .max = 64, .best = 1000};
    workers_control(&control, 1000, TRUE);
    assert_int_equal(control.limit, 32);
    for (guint i = 0; i < 20; i++)
        workers_control(&control, 1, TRUE);
    assert_int_equal(control.limit, 1);
    workers_control(&control, 100, FALSE);
    assert_int_equal(control.limit, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_are_done), cmocka_unit_test(test_grows_while_it_helps),
                                       cmocka_unit_test(test_stays_where_it_does_not),
                                       cmocka_unit_test(test_halves_when_asked)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
