#include "scene.h"

#include <string.h>

#include "base/error.h"
#include "engine/mirror/commit.h"

#define DAY 86400
#define NOW 1795266900 /* 2026-11-21T13:15:00Z */

static void make_version(Scene *scene, const char *name)
{
    g_autofree char *path = g_strdup_printf(".backapp/versions/%s/sub/file", name);
    scene_write(scene, path, name);
}

static gboolean has(Scene *scene, const char *name)
{
    g_autofree char *path = g_strdup_printf(".backapp/versions/%s", name);
    return scene_ino(scene, path) != 0;
}

/* Five runs: now, two of one second yesterday, ten and a hundred days ago. */
static const char *const runs[] = {"2026-11-21T131500Z", "2026-11-20T131500Z-10", "2026-11-20T131500Z-9",
                                   "2026-11-11T131500Z", "2026-08-13T131500Z"};

static Scene *five_runs(void)
{
    Scene *scene = scene_new();
    for (guint i = 0; i < G_N_ELEMENTS(runs); i++)
        make_version(scene, runs[i]);
    return scene;
}

/* Prunes and expects exactly the newest `left` of the five to stay. */
static void prune(guint days, guint count, guint left)
{
    g_autoptr(Scene) scene = five_runs();
    assert_true(versions_prune(&scene->dest, days, count, NOW, NULL, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(runs); i++) {
        if (has(scene, runs[i]) != (i < left))
            fail_msg("days %u, count %u: %s", days, count, runs[i]);
    }
}

static void test_a_version_is_named_after_its_time(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *first = versions_name(&scene->dest, NOW);
    assert_string_equal(first, "2026-11-21T131500Z");
    make_version(scene, first);
    g_autofree char *second = versions_name(&scene->dest, NOW);
    assert_string_equal(second, "2026-11-21T131500Z-2");
    make_version(scene, second);
    g_autofree char *third = versions_name(&scene->dest, NOW);
    assert_string_equal(third, "2026-11-21T131500Z-3");
    g_autofree char *other = versions_name(&scene->dest, NOW + 1);
    assert_string_equal(other, "2026-11-21T131501Z");
    g_autofree char *absurd = versions_name(&scene->dest, G_MAXINT64);
    assert_non_null(absurd);
}

static void test_no_rule_keeps_all(void **state)
{
    prune(0, 0, 5);
}

static void test_by_count(void **state)
{
    prune(0, 1, 1);
    prune(0, 2, 2);
    prune(0, 3, 3);
    prune(0, 5, 5);
    prune(0, G_MAXUINT, 5);
}

static void test_by_days(void **state)
{
    prune(1, 0, 3);
    prune(9, 0, 3);
    prune(10, 0, 4);
    prune(99, 0, 4);
    prune(100, 0, 5);
    prune(G_MAXUINT, 0, 5);
}

static void test_either_rule_keeps(void **state)
{
    prune(1, 4, 4);
    prune(10, 1, 4);
    prune(1, 1, 3);
}

static void test_what_is_no_time_is_left_alone(void **state)
{
    static const char *const others[] = {"keep me",
                                         "2026-11-21",
                                         "2026-13-21T131500Z",
                                         "2026-11-31T131500Z",
                                         "2026-11-21T251500Z",
                                         "2025-11-21T131500Z-0",
                                         "2025-11-21T131500Z-x",
                                         "2025-11-21T131500Z-",
                                         "2025-11-21T131500Z.bak",
                                         "2025-11-21T131500Z-99999999999999999999"};
    g_autoptr(Scene) scene = five_runs();
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        make_version(scene, others[i]);
    scene_write(scene, ".backapp/versions/2025-01-01T000000Z", "a file");
    assert_true(versions_prune(&scene->dest, 0, 1, NOW, NULL, NULL));
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        assert_true(has(scene, others[i]));
    assert_true(has(scene, "2025-01-01T000000Z"));
    assert_true(has(scene, runs[0]));
    assert_false(has(scene, runs[1]));
}

static void test_without_versions_there_is_nothing_to_do(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    assert_true(versions_prune(&scene->dest, 1, 1, NOW, NULL, NULL));
    assert_int_equal(scene_ino(scene, ".backapp/versions"), 0);
    assert_int_equal(scene_ino(scene, ".backapp/old"), 0);
}

static void test_a_version_half_removed_is_continued(void **state)
{
    g_autoptr(Scene) scene = five_runs();
    g_autofree char *path = g_strdup_printf(".backapp/old/version-%s/rest", runs[4]);
    scene_write(scene, path, "of an attempt that was killed");
    assert_true(versions_prune(&scene->dest, 0, 4, NOW, NULL, NULL));
    assert_false(has(scene, runs[4]));
    g_autofree char *left = scene_list(scene, ".backapp/old");
    assert_string_equal(left, "");
}

static void test_cancel(void **state)
{
    g_autoptr(Scene) scene = five_runs();
    g_autoptr(GError) error = NULL;
    CancelFlag cancel = {0};
    cancel_set(&cancel);
    assert_false(versions_prune(&scene->dest, 0, 1, NOW, &cancel, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_version_is_named_after_its_time),
        cmocka_unit_test(test_no_rule_keeps_all),
        cmocka_unit_test(test_by_count),
        cmocka_unit_test(test_by_days),
        cmocka_unit_test(test_either_rule_keeps),
        cmocka_unit_test(test_what_is_no_time_is_left_alone),
        cmocka_unit_test(test_without_versions_there_is_nothing_to_do),
        cmocka_unit_test(test_a_version_half_removed_is_continued),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests_name("unit/mirror/versions", tests, NULL, NULL);
}
