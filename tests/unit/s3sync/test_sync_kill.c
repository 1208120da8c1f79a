/*
 * A run is killed at each request, before it and after it, and then made anew: what the bucket has is what the source
 * is.
 */
#include "sync_scene.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define MIB        ((gsize)1024 * 1024)
#define BOUNDARIES 400

static void make_source(Scene *scene)
{
    scene_file(scene, "a", 1000, 1, 1600000000);
    scene_file(scene, "d/b", 2000, 2, 1600000001);
    scene_file(scene, "large", 9 * MIB, 3, 1600000002);
}

static void change_source(Scene *scene)
{
    scene_file(scene, "a", 1000, 4, 1600000100);
    scene_remove(scene, "d/b");
    scene_file(scene, "d/c", 10, 5, 1600000101);
    scene_edit(scene, "large", 100, "other");
}

/* Runs in a child that is killed at boundary number `count`; TRUE if it was. */
static gboolean run_killed(Scene *scene, guint count)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        (void)alarm(30);
        scene_hook(scene, count, TRUE);
        _exit(scene_run(scene, NULL) ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return TRUE;
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    return FALSE;
}

/* Kills at boundaries first, first + step, ...; `second`: the second run, that changes and deletes, is killed. */
static void kill_at_each(guint first, guint step, gboolean second)
{
    guint killed = 0;
    for (guint at = first; at < BOUNDARIES; at += step) {
        Scene *scene = scene_new(TRUE);
        scene->options.delete_extraneous = TRUE;
        scene->options.concurrency = 2;
        scene->options.relist_days = 30; /* what a killed run leaves unsaid has to be noticed */
        make_source(scene);
        if (second) {
            scene_sync(scene);
            change_source(scene);
        }
        /* The store's own locks and descriptors are the child's as they are ours: nothing runs here meanwhile. */
        gboolean was = run_killed(scene, at);
        scene_sync(scene);
        assert_false(scene->stats.partial);
        scene_check(scene, "mirror/");
        scene_sync(scene);
        assert_int_equal(scene->stats.files_uploaded + scene->stats.files_copied, 0);
        scene_free(scene);
        killed += was ? 1 : 0;
        if (!was)
            break;
    }
    assert_true(killed >= 3);
}

static void test_first_run_killed(void **state)
{
    kill_at_each(2, 5, FALSE);
}

static void test_second_run_killed(void **state)
{
    kill_at_each(3, 7, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_run_killed),
                                       cmocka_unit_test(test_second_run_killed)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
