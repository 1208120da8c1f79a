#include "cmocka_all.h"

#include "base/cancel.h"
#include "base/error.h"

#include <pthread.h>
#include <signal.h>

static CancelFlag signal_flag;

static void on_signal(int number)
{
    cancel_set(&signal_flag);
}

static void test_flag_is_clear_until_set(void **state)
{
    CancelFlag flag = {0};
    g_autoptr(GError) error = NULL;
    assert_false(cancel_is_set(&flag));
    assert_true(cancel_check(&flag, &error));
    assert_null(error);
    cancel_set(&flag);
    assert_true(cancel_is_set(&flag));
    assert_false(cancel_check(&flag, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    assert_string_equal(error->message, "cancelled");
    assert_false(cancel_check(&flag, NULL));
}

static void test_no_flag_never_cancels(void **state)
{
    assert_false(cancel_is_set(NULL));
    assert_true(cancel_check(NULL, NULL));
}

static void test_set_in_a_signal_handler(void **state)
{
    struct sigaction action = {.sa_handler = on_signal}, before;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
    assert_true(cancel_is_set(&signal_flag));
}

typedef struct {
    CancelFlag flag;
    int payload; /* written before the flag: the sanitizer complains unless the flag orders the two */
} Shared;

static void *set_from_thread(void *data)
{
    Shared *shared = data;
    shared->payload = 42;
    cancel_set(&shared->flag);
    return NULL;
}

static void test_set_from_another_thread(void **state)
{
    Shared shared = {0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, set_from_thread, &shared), 0);
    while (!cancel_is_set(&shared.flag))
        g_thread_yield();
    assert_int_equal(shared.payload, 42);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flag_is_clear_until_set),
        cmocka_unit_test(test_no_flag_never_cancels),
        cmocka_unit_test(test_set_in_a_signal_handler),
        cmocka_unit_test(test_set_from_another_thread),
    };
    return cmocka_run_group_tests_name("unit/base/cancel", tests, NULL, NULL);
}
