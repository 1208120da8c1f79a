#include "cmocka_all.h"

#include "base/error.h"
#include "base/rate.h"

#include <pthread.h>
#include <stdatomic.h>

/* Sleeps can only be too long, never too short, so lower bounds of elapsed time hold on any machine. */
static gint64 elapsed_ms(gint64 start)
{
    return (g_get_monotonic_time() - start) / 1000;
}

typedef struct {
    Rate *rate;
    guint64 bytes;
    guint pieces;
    CancelFlag cancel;
    atomic_bool finished;
    gboolean worked;
    GError *error;
} Taker;

static void *take(void *data)
{
    Taker *taker = data;
    taker->worked = TRUE;
    for (guint i = 0; i < taker->pieces && taker->worked; i++)
        taker->worked = rate_take(taker->rate, taker->bytes, &taker->cancel, &taker->error);
    atomic_store(&taker->finished, TRUE);
    return NULL;
}

static void test_no_limit_returns_at_once(void **state)
{
    g_autoptr(Rate) rate = rate_new(0);
    assert_true(rate_take(rate, G_MAXUINT64, NULL, NULL));
    assert_true(rate_take(NULL, G_MAXUINT64, NULL, NULL));
    rate_free(NULL);
}

static void test_a_burst_of_the_bucket_passes(void **state)
{
    /* At one byte a second anything beyond the bucket would take for ever. */
    g_autoptr(Rate) rate = rate_new(1);
    assert_true(rate_take(rate, 65536, NULL, NULL));
    g_autoptr(Rate) fast = rate_new(400000000);
    assert_true(rate_take(fast, 100000000, NULL, NULL));
    assert_true(rate_take(rate, 0, NULL, NULL));
}

static void test_average_holds(void **state)
{
    g_autoptr(Rate) rate = rate_new(1000000);
    gint64 start = g_get_monotonic_time();
    for (int i = 0; i < 45; i++)
        assert_true(rate_take(rate, 10000, NULL, NULL));
    /* 450,000 less the 250,000 of the bucket */
    assert_true(elapsed_ms(start) >= 199);
}

static void test_demand_above_the_bucket_is_met(void **state)
{
    g_autoptr(Rate) rate = rate_new(10000000);
    gint64 start = g_get_monotonic_time();
    assert_true(rate_take(rate, 4000000, NULL, NULL));
    assert_true(elapsed_ms(start) >= 149);
}

static void test_threads_share_one_limit(void **state)
{
    g_autoptr(Rate) rate = rate_new(4000000);
    Taker takers[4];
    pthread_t threads[4];
    gint64 start = g_get_monotonic_time();
    for (int i = 0; i < 4; i++) {
        takers[i] = (Taker){.rate = rate, .bytes = 10000, .pieces = 40};
        assert_int_equal(pthread_create(&threads[i], NULL, take, &takers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(takers[i].worked);
    }
    /* 1,600,000 less the 1,000,000 of the bucket, at 4,000,000 a second */
    assert_true(elapsed_ms(start) >= 149);
}

static void wait_a_little_for(const Taker *taker)
{
    for (int i = 0; i < 30 && !atomic_load(&taker->finished); i++)
        g_usleep(1000);
}

static void change_limit_while_waiting(guint64 to)
{
    g_autoptr(Rate) rate = rate_new(1);
    Taker taker = {.rate = rate, .bytes = 1000000, .pieces = 1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, take, &taker), 0);
    wait_a_little_for(&taker);
    assert_false(atomic_load(&taker.finished));
    rate_set(rate, to); /* at the old limit the join would last eleven days */
    pthread_join(thread, NULL);
    assert_true(taker.worked);
}

static void test_lifting_the_limit_wakes_a_waiter(void **state)
{
    change_limit_while_waiting(0);
}

static void test_raising_the_limit_wakes_a_waiter(void **state)
{
    change_limit_while_waiting(1000000000);
}

static void test_lowering_the_limit_empties_the_bucket_to_its_new_size(void **state)
{
    g_autoptr(Rate) rate = rate_new(400000000);
    rate_set(rate, 1000000);
    gint64 start = g_get_monotonic_time();
    assert_true(rate_take(rate, 350000, NULL, NULL));
    assert_true(elapsed_ms(start) >= 99);
}

static void test_idle_time_fills_no_more_than_the_bucket(void **state)
{
    g_autoptr(Rate) rate = rate_new(10000000);
    g_usleep(350000);
    gint64 start = g_get_monotonic_time();
    assert_true(rate_take(rate, 3500000, NULL, NULL));
    /* 1,000,000 more than the bucket holds */
    assert_true(elapsed_ms(start) >= 99);
}

static void test_cancel_ends_the_wait(void **state)
{
    g_autoptr(Rate) rate = rate_new(1);
    Taker taker = {.rate = rate, .bytes = 1000000, .pieces = 1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, take, &taker), 0);
    wait_a_little_for(&taker);
    cancel_set(&taker.cancel);
    pthread_join(thread, NULL);
    assert_false(taker.worked);
    assert_true(error_is(taker.error, BACKAPP_ERROR_CANCELLED));
    g_clear_error(&taker.error);
}

static void test_huge_numbers_do_not_overflow(void **state)
{
    g_autoptr(Rate) rate = rate_new(G_MAXUINT64);
    assert_true(rate_take(rate, G_MAXUINT64 / 8, NULL, NULL));
    g_usleep(2000);
    assert_true(rate_take(rate, 1000000, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_limit_returns_at_once),
        cmocka_unit_test(test_a_burst_of_the_bucket_passes),
        cmocka_unit_test(test_average_holds),
        cmocka_unit_test(test_demand_above_the_bucket_is_met),
        cmocka_unit_test(test_threads_share_one_limit),
        cmocka_unit_test(test_lifting_the_limit_wakes_a_waiter),
        cmocka_unit_test(test_raising_the_limit_wakes_a_waiter),
        cmocka_unit_test(test_lowering_the_limit_empties_the_bucket_to_its_new_size),
        cmocka_unit_test(test_idle_time_fills_no_more_than_the_bucket),
        cmocka_unit_test(test_cancel_ends_the_wait),
        cmocka_unit_test(test_huge_numbers_do_not_overflow),
    };
    return cmocka_run_group_tests_name("unit/base/rate", tests, NULL, NULL);
}
