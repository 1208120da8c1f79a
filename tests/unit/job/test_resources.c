/* The memory limit where the worker has a cgroup of its own, on a faked cgroup file system; and where it has not. */
#include "../fs/scratch.h"

#include "job/resources.h"

#include <sys/resource.h>

#define LIMIT      (G_GUINT64_CONSTANT(1) << 40) /* a sanitizer's shadow memory is more than any smaller one */
#define LIMIT_TEXT "1099511627776"
#define GROUPS     "/sys/fs/cgroup"

/* What a case has: the text of /proc/self/cgroup, who is in the group, and if its limit can be written. */
typedef struct {
    const char *membership, *others;
    gboolean with_limit;
} Group;

static Group group; /* for the child */

static gboolean put_text(const char *path, const char *text)
{
    return g_file_set_contents(path, text, -1, NULL);
}

/* A file system of groups, seen by this process alone. */
static int fake_groups(Scratch *scratch)
{
    g_autofree char *membership = g_strconcat(scratch->path, "/membership", NULL);
    g_autofree char *members = g_strdup_printf("%d\n%s", (int)getpid(), group.others);
    CHECK(put_text(membership, group.membership));
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", GROUPS, "tmpfs", 0, "size=1m") != 0 ||
        mount(membership, "/proc/self/cgroup", NULL, MS_BIND, NULL) != 0) {
        (void)fprintf(stderr, "skipped: cannot fake cgroups here: %s\n", g_strerror(errno));
        return CHILD_SKIPS;
    }
    CHECK(g_mkdir_with_parents(GROUPS "/above/own", 0755) == 0);
    CHECK(put_text(GROUPS "/above/own/cgroup.procs", members) && put_text(GROUPS "/cgroup.procs", members));
    CHECK(put_text(GROUPS "/memory.max", "max\n"));
    CHECK(!group.with_limit || put_text(GROUPS "/above/own/memory.max", "max\n"));
    return 0;
}

/* Applies a limit. *in_group: the group has it; *in_process: the process has. */
static int apply(gboolean *in_group, gboolean *in_process)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    const JobLimits limits = {.memory = LIMIT};
    g_autofree char *text = NULL;
    g_autofree char *above = NULL;
    struct rlimit data;
    resources_apply(&limits, notes);
    CHECK(notes->len == 0 && getrlimit(RLIMIT_DATA, &data) == 0);
    *in_group = g_file_get_contents(GROUPS "/above/own/memory.max", &text, NULL, NULL) && strcmp(text, LIMIT_TEXT) == 0;
    *in_process = data.rlim_cur == LIMIT;
    /* Everybody's group is never touched. */
    CHECK(g_file_get_contents(GROUPS "/memory.max", &above, NULL, NULL) && strcmp(above, "max\n") == 0);
    return 0;
}

static int in_own_group(Scratch *scratch)
{
    gboolean in_group = FALSE;
    gboolean in_process = TRUE;
    int result = fake_groups(scratch);
    if (result == 0)
        result = apply(&in_group, &in_process);
    if (result == 0)
        CHECK(in_group && !in_process);
    return result;
}

static int elsewhere(Scratch *scratch)
{
    gboolean in_group = TRUE;
    gboolean in_process = FALSE;
    int result = fake_groups(scratch);
    if (result == 0)
        result = apply(&in_group, &in_process);
    if (result == 0)
        CHECK(!in_group && in_process);
    return result;
}

static void test_a_group_of_its_own_gets_the_limit(void **state)
{
    group = (Group){"0::/above/own\n", "", TRUE};
    RUN_CHILD(in_own_group, *state);
    group = (Group){"12:cpu,cpuacct:/other\n0::/above/own\n", "", TRUE};
    RUN_CHILD(in_own_group, *state);
}

static void test_a_shared_group_is_left_alone(void **state)
{
    group = (Group){"0::/above/own\n", "1\n", TRUE};
    RUN_CHILD(elsewhere, *state);
}

static void test_the_root_group_is_left_alone(void **state)
{
    group = (Group){"0::/\n", "", TRUE};
    RUN_CHILD(elsewhere, *state);
}

static void test_without_such_a_group_the_process_is_limited(void **state)
{
    group = (Group){"0::/above/own\n", "", FALSE};
    RUN_CHILD(elsewhere, *state);
    group = (Group){"4:memory:/above/own\n10::/above/own\n", "", TRUE};
    RUN_CHILD(elsewhere, *state);
    group = (Group){"", "", TRUE};
    RUN_CHILD(elsewhere, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_a_group_of_its_own_gets_the_limit),
        SCRATCH_TEST(test_a_shared_group_is_left_alone),
        SCRATCH_TEST(test_the_root_group_is_left_alone),
        SCRATCH_TEST(test_without_such_a_group_the_process_is_limited),
    };
    return cmocka_run_group_tests_name("job/resources", tests, NULL, NULL);
}
