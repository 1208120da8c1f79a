#include "../base/cmocka_all.h"

#include "job/engine_common.h"

/* A policy that nobody knows is not the one that overwrites, whoever wrote the spec. */
static void test_an_unknown_policy_restores_nothing(void **state)
{
    g_autoptr(JobSpec) spec = job_spec_new(JOB_RESTORE);
    JobDestination target = {.path = g_strdup("/nowhere/at/all")};
    g_array_append_val(spec->destinations, target);
    spec->store.url = g_strdup("memory:");
    spec->options.restore.conflict = g_strdup("ask");
    g_autoptr(Event) done = engine_run_restore(spec, NULL, NULL, NULL);
    assert_int_equal(done->type, EVENT_DONE);
    assert_int_equal(done->status, JOB_FAILED);
    assert_string_equal(done->error_code, "INVALID");
}

static void test_every_word_is_taken(void **state)
{
    for (guint i = 0; job_conflict_words[i]; i++) {
        for (guint j = 0; job_thaw_tiers[j]; j++) {
            JobRestoreOptions options = {.conflict = (char *)job_conflict_words[i],
                                         .thaw_tier = (char *)job_thaw_tiers[j]};
            assert_true(job_restore_options_validate(&options, NULL));
        }
    }
    JobRestoreOptions none = {0}, policy = {.conflict = (char *)"ask"}, tier = {.thaw_tier = (char *)"Slow"};
    assert_true(job_restore_options_validate(&none, NULL));
    assert_false(job_restore_options_validate(&policy, NULL));
    assert_false(job_restore_options_validate(&tier, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_unknown_policy_restores_nothing),
        cmocka_unit_test(test_every_word_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
