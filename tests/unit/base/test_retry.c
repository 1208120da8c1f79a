#include "cmocka_all.h"

#include "base/error.h"
#include "base/retry.h"

#include <string.h>

typedef struct {
    guint calls, failures;
    BackappError code;
    CancelFlag *cancel_in_call;
} Script;

/* Fails as often as the script says, then succeeds. */
static gboolean follow_script(gpointer data, GError **error)
{
    Script *script = data;
    if (script->cancel_in_call)
        cancel_set(script->cancel_in_call);
    if (script->calls++ >= script->failures)
        return TRUE;
    return error_set(error, script->code, "failure %u", script->calls);
}

static const RetryPolicy quick = {.attempts = 4, .first_delay_ms = 1, .max_delay_ms = 2};

static void test_success_is_not_repeated(void **state)
{
    Script script = {.failures = 0};
    assert_true(retry_run(&quick, follow_script, &script, NULL, NULL));
    assert_int_equal(script.calls, 1);
}

static void test_transient_failures_are_tried_again(void **state)
{
    Script script = {.failures = 3, .code = BACKAPP_ERROR_TRANSIENT};
    g_autoptr(GError) error = NULL;
    assert_true(retry_run(&quick, follow_script, &script, NULL, &error));
    assert_int_equal(script.calls, 4);
    assert_null(error);
}

static void test_attempts_are_used_up(void **state)
{
    Script script = {.failures = 100, .code = BACKAPP_ERROR_TRANSIENT};
    g_autoptr(GError) error = NULL;
    assert_false(retry_run(&quick, follow_script, &script, NULL, &error));
    assert_int_equal(script.calls, 4);
    assert_true(error_is(error, BACKAPP_ERROR_TRANSIENT));
    assert_string_equal(error->message, "after 4 attempts: failure 4");
}

static void test_other_errors_are_final(void **state)
{
    Script script = {.failures = 100, .code = BACKAPP_ERROR_DENIED};
    g_autoptr(GError) error = NULL;
    assert_false(retry_run(&quick, follow_script, &script, NULL, &error));
    assert_int_equal(script.calls, 1);
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    assert_string_equal(error->message, "failure 1");
}

static void test_no_attempts_means_one(void **state)
{
    RetryPolicy policy = {.attempts = 0};
    Script script = {.failures = 100, .code = BACKAPP_ERROR_TRANSIENT};
    assert_false(retry_run(&policy, follow_script, &script, NULL, NULL));
    assert_int_equal(script.calls, 1);
}

static void test_cancel_ends_the_wait(void **state)
{
    CancelFlag cancel = {0};
    RetryPolicy policy = {.attempts = 100, .first_delay_ms = G_MAXUINT64, .max_delay_ms = G_MAXUINT64};
    Script script = {.failures = 100, .code = BACKAPP_ERROR_TRANSIENT, .cancel_in_call = &cancel};
    g_autoptr(GError) error = NULL;
    assert_false(retry_run(&policy, follow_script, &script, &cancel, &error)); /* else it would last for ever */
    assert_int_equal(script.calls, 1);
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

static void test_delay_stays_below_its_bound_and_spreads(void **state)
{
    RetryPolicy policy = {.attempts = 9, .first_delay_ms = 100, .max_delay_ms = 1000};
    static const guint64 bounds[] = {100, 200, 400, 800, 1000, 1000};
    for (guint attempt = 0; attempt < G_N_ELEMENTS(bounds); attempt++) {
        guint64 lowest = G_MAXUINT64, highest = 0;
        for (int i = 0; i < 2000; i++) {
            guint64 delay = retry_delay_ms(&policy, attempt);
            assert_true(delay <= bounds[attempt]);
            lowest = MIN(lowest, delay);
            highest = MAX(highest, delay);
        }
        /* Full jitter: 2,000 picks that all miss an outer fifth have a chance of 1 in 10^190. */
        assert_true(lowest < bounds[attempt] / 5);
        assert_true(highest > bounds[attempt] / 5 * 4);
    }
}

static void test_delay_does_not_overflow(void **state)
{
    RetryPolicy none = {.attempts = 9, .first_delay_ms = 0, .max_delay_ms = 1000};
    assert_true(retry_delay_ms(&none, 1000000) == 0);
    RetryPolicy below = {.attempts = 9, .first_delay_ms = 5000, .max_delay_ms = 10};
    assert_true(retry_delay_ms(&below, 0) <= 10);
    RetryPolicy odd = {.attempts = 9, .first_delay_ms = 3, .max_delay_ms = 7};
    guint64 highest = 0;
    for (int i = 0; i < 1000; i++) {
        guint64 delay = retry_delay_ms(&odd, G_MAXUINT);
        highest = MAX(highest, delay);
    }
    assert_true(highest == 7);
    RetryPolicy huge = {.attempts = 9, .first_delay_ms = 1, .max_delay_ms = G_MAXUINT64};
    gboolean large = FALSE;
    for (int i = 0; i < 100; i++)
        large = large || retry_delay_ms(&huge, 200) > G_MAXUINT64 / 4;
    assert_true(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_success_is_not_repeated),
        cmocka_unit_test(test_transient_failures_are_tried_again),
        cmocka_unit_test(test_attempts_are_used_up),
        cmocka_unit_test(test_other_errors_are_final),
        cmocka_unit_test(test_no_attempts_means_one),
        cmocka_unit_test(test_cancel_ends_the_wait),
        cmocka_unit_test(test_delay_stays_below_its_bound_and_spreads),
        cmocka_unit_test(test_delay_does_not_overflow),
    };
    return cmocka_run_group_tests_name("unit/base/retry", tests, NULL, NULL);
}
