#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "job/confine.h"
#include "job/resources.h"
#include "job/worker_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED TRUE
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED TRUE
#endif
#endif
#ifndef SANITIZED
#define SANITIZED FALSE
#endif

typedef struct {
    char *root, *source, *dest, *other, *temp;
} Fixture;

static char *child_path(const char *folder, const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void write_file(const char *folder, const char *name)
{
    g_autofree char *path = child_path(folder, name);
    assert_true(g_file_set_contents(path, "content", -1, NULL));
}

static int set_up(void **state)
{
    Fixture *fixture = g_new0(Fixture, 1);
    const char *base = getenv("TMPDIR");
    fixture->root = g_build_filename(base ? base : "/tmp", "confine-XXXXXX", NULL);
    assert_non_null(g_mkdtemp(fixture->root));
    char **folders[] = {&fixture->source, &fixture->dest, &fixture->other};
    static const char *const names[] = {"source", "dest", "other"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        *folders[i] = child_path(fixture->root, names[i]);
        assert_int_equal(mkdir(*folders[i], 0700), 0);
        write_file(*folders[i], "file");
    }
    fixture->temp = child_path(fixture->root, "temp");
    assert_int_equal(mkdir(fixture->temp, 0700), 0);
    *state = fixture;
    return 0;
}

static int remove_entry(const char *path, const struct stat *facts, int type, struct FTW *where)
{
    return remove(path);
}

static int tear_down(void **state)
{
    Fixture *fixture = *state;
    assert_int_equal(nftw(fixture->root, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    g_free(fixture->source);
    g_free(fixture->dest);
    g_free(fixture->other);
    g_free(fixture->temp);
    g_free(fixture->root);
    g_free(fixture);
    return 0;
}

/* 0, or the errno of opening folder/name. */
static int try_open(const char *folder, const char *name, int flags)
{
    g_autofree char *path = child_path(folder, name);
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    close(fd);
    return 0;
}

static int try_rename(const char *folder, const char *from, const char *to)
{
    g_autofree char *old_path = child_path(folder, from);
    g_autofree char *new_path = child_path(folder, to);
    return rename(old_path, new_path) == 0 ? 0 : errno;
}

static int try_mkdir(const char *folder, const char *name)
{
    g_autofree char *path = child_path(folder, name);
    return mkdir(path, 0700) == 0 ? 0 : errno;
}

static int try_make(const char *folder, const char *name, mode_t kind)
{
    g_autofree char *path = child_path(folder, name);
    return mknod(path, kind | 0600, 0) == 0 ? 0 : errno;
}

/* In a child process: exits with the number of the line whose expectation failed. */
#define EXPECT(expression)                                                                                             \
    do                                                                                                                 \
        if (!(expression))                                                                                             \
            return __LINE__;                                                                                           \
    while (0)

/* Runs the function in a process of its own, which ends confined. */
static void in_child(int (*function)(const Fixture *), const Fixture *fixture)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        /* A worker may write to its temporary directory: it must not hold everything else. */
        setenv("TMPDIR", fixture->temp, 1);
        /* A line number does not fit in an exit code. */
        int line = function(fixture);
        if (line != 0)
            fprintf(stderr, "%s: line %d: not so\n", __FILE__, line);
        _exit(line != 0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void need_landlock(void)
{
    if (confine_abi() >= 2)
        return;
    print_message("no Landlock of version 2 in this kernel\n");
    skip();
}

static int enter(Confine *confine)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *left_out = NULL;
    EXPECT(confine_enter(confine, &left_out, &error));
    EXPECT(!left_out && !error);
    return 0;
}

static JobSpec *make_spec(const Fixture *fixture, JobType type)
{
    JobSpec *spec = job_spec_new(type);
    if (type == JOB_MIRROR)
        g_ptr_array_add(spec->sources, g_strdup(fixture->source));
    JobDestination destination = {.path = g_strdup(fixture->dest)};
    g_array_append_val(spec->destinations, destination);
    return spec;
}

static int check_mirror(const Fixture *fixture)
{
    g_autoptr(JobSpec) spec = make_spec(fixture, JOB_MIRROR);
    g_autoptr(Confine) confine = worker_confine_rules(spec, FALSE);
    int early = open(fixture->other, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    EXPECT(enter(confine) == 0);
    /* The source: to be read, in no way to be written. */
    EXPECT(try_open(fixture->source, "file", O_RDONLY) == 0);
    EXPECT(try_open(fixture->source, ".", O_RDONLY | O_DIRECTORY) == 0);
    EXPECT(try_open(fixture->source, "file", O_WRONLY) == EACCES);
    EXPECT(try_open(fixture->source, "file", O_RDWR) == EACCES);
    EXPECT(try_open(fixture->source, "new", O_WRONLY | O_CREAT) == EACCES);
    EXPECT(try_mkdir(fixture->source, "new") == EACCES);
    EXPECT(try_rename(fixture->source, "file", "renamed") == EACCES);
    /* The destination: everything, across directories too. */
    EXPECT(try_open(fixture->dest, "new", O_RDWR | O_CREAT) == 0);
    EXPECT(try_open(fixture->dest, "new", O_RDWR | O_TRUNC) == 0);
    EXPECT(try_mkdir(fixture->dest, "folder") == 0);
    EXPECT(try_rename(fixture->dest, "file", "folder/file") == 0);
    EXPECT(try_make(fixture->dest, "fifo", S_IFIFO) == 0);
    EXPECT(try_make(fixture->dest, "socket", S_IFSOCK) == 0);
    /* Everything else: nothing. */
    EXPECT(try_open(fixture->other, "file", O_RDONLY) == EACCES);
    EXPECT(try_open(fixture->other, ".", O_RDONLY | O_DIRECTORY) == EACCES);
    EXPECT(try_open(fixture->other, "new", O_WRONLY | O_CREAT) == EACCES);
    EXPECT(try_open(fixture->root, "new", O_WRONLY | O_CREAT) == EACCES);
    EXPECT(try_open(fixture->dest, "../other/file", O_RDONLY) == EACCES);
    EXPECT(try_open("/root", ".", O_RDONLY | O_DIRECTORY) == EACCES);
    EXPECT(try_open("/etc", "new", O_WRONLY | O_CREAT) == EACCES);
    EXPECT(openat(early, "file", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
    /* What any program needs. */
    EXPECT(try_open("/etc", "passwd", O_RDONLY) == 0);
    EXPECT(try_open("/dev", "null", O_RDWR) == 0);
    EXPECT(try_open("/proc/self", "mountinfo", O_RDONLY) == 0);
    EXPECT(try_open("/proc/sys/kernel/random", "boot_id", O_RDONLY) == 0);
    EXPECT(try_open(g_get_tmp_dir(), ".", O_RDWR | O_TMPFILE) == 0);
    /* No program. */
    EXPECT(execl("/bin/true", "true", NULL) < 0 && errno == EACCES);
    return 0;
}

static void test_a_mirror_reaches_what_it_names_only(void **state)
{
    need_landlock();
    in_child(check_mirror, *state);
}

static int check_links(const Fixture *fixture)
{
    g_autofree char *file = child_path(fixture->source, "escape-file");
    g_autofree char *folder = child_path(fixture->dest, "escape-folder");
    EXPECT(symlink("../other/file", file) == 0);
    EXPECT(symlink(fixture->other, folder) == 0);
    g_autoptr(JobSpec) spec = make_spec(fixture, JOB_MIRROR);
    g_autoptr(Confine) confine = worker_confine_rules(spec, FALSE);
    EXPECT(enter(confine) == 0);
    EXPECT(try_open(fixture->source, "escape-file", O_RDONLY) == EACCES);
    EXPECT(try_open(fixture->dest, "escape-folder/new", O_WRONLY | O_CREAT) == EACCES);
    return 0;
}

static void test_a_symbolic_link_does_not_lead_out(void **state)
{
    need_landlock();
    in_child(check_links, *state);
}

static int check_dry_run(const Fixture *fixture)
{
    g_autoptr(JobSpec) spec = make_spec(fixture, JOB_MIRROR);
    spec->options.dry_run = TRUE;
    g_autoptr(Confine) confine = worker_confine_rules(spec, FALSE);
    EXPECT(enter(confine) == 0);
    EXPECT(try_open(fixture->dest, "file", O_RDONLY) == 0);
    EXPECT(try_open(fixture->dest, "new", O_WRONLY | O_CREAT) == EACCES);
    EXPECT(try_rename(fixture->dest, "file", "renamed") == EACCES);
    return 0;
}

static void test_a_dry_run_cannot_write(void **state)
{
    need_landlock();
    in_child(check_dry_run, *state);
}

static int check_new_destination(const Fixture *fixture)
{
    g_autoptr(JobSpec) spec = make_spec(fixture, JOB_MIRROR);
    JobDestination *destination = &g_array_index(spec->destinations, JobDestination, 0);
    g_free(destination->path);
    destination->path = g_strconcat(fixture->dest, "/made//", NULL);
    g_autoptr(Confine) confine = worker_confine_rules(spec, FALSE);
    EXPECT(enter(confine) == 0);
    EXPECT(try_mkdir(fixture->dest, "made") == 0);
    EXPECT(try_open(fixture->dest, "made/new", O_WRONLY | O_CREAT) == 0);
    EXPECT(try_open(fixture->other, "new", O_WRONLY | O_CREAT) == EACCES);
    return 0;
}

static void test_a_destination_to_be_made_can_be_made(void **state)
{
    need_landlock();
    in_child(check_new_destination, *state);
}

static int check_verify(const Fixture *fixture)
{
    g_autoptr(JobSpec) spec = make_spec(fixture, JOB_VERIFY);
    g_autoptr(Confine) confine = worker_confine_rules(spec, FALSE);
    EXPECT(enter(confine) == 0);
    EXPECT(try_open(fixture->other, "file", O_RDONLY) == 0);
    EXPECT(try_open(fixture->other, "file", O_WRONLY) == EACCES);
    EXPECT(try_open(fixture->dest, "new", O_WRONLY | O_CREAT) == 0);
    return 0;
}

static void test_a_verification_writes_to_its_mirror_only(void **state)
{
    need_landlock();
    in_child(check_verify, *state);
}

static int check_rsync(const Fixture *fixture)
{
    g_autoptr(JobSpec) spec = make_spec(fixture, JOB_MIRROR);
    spec->options.engine_rsync = TRUE;
    g_autoptr(Confine) confine = worker_confine_rules(spec, FALSE);
    EXPECT(enter(confine) == 0);
    EXPECT(try_open(fixture->other, "file", O_RDONLY) == EACCES);
    execlp("true", "true", NULL);
    return __LINE__;
}

static void test_the_rsync_engine_can_start_programs(void **state)
{
    need_landlock();
    in_child(check_rsync, *state);
}

static int check_remote(const Fixture *fixture)
{
    g_autoptr(JobSpec) spec = make_spec(fixture, JOB_MIRROR);
    g_autoptr(Confine) confine = worker_confine_rules(spec, TRUE);
    EXPECT(enter(confine) == 0);
    EXPECT(try_open(fixture->dest, "new", O_WRONLY | O_CREAT) == EACCES);
    execlp("true", "true", NULL);
    return __LINE__;
}

static void test_a_remote_destination_is_no_path(void **state)
{
    need_landlock();
    in_child(check_remote, *state);
}

static int check_resources(const Fixture *fixture)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    /* A sanitizer's shadow memory is more than any limit. */
    const JobLimits limits = {.nice = 7, .ionice_class = 3, .memory = SANITIZED ? 0 : G_GUINT64_CONSTANT(1) << 40};
    int before = getpriority(PRIO_PROCESS, 0); /* the tests themselves may run at a nice value */
    resources_apply(&limits, notes);
    EXPECT(notes->len == 0);
    EXPECT(getpriority(PRIO_PROCESS, 0) == MAX(before, 7));
    EXPECT(syscall(SYS_ioprio_get, 1, 0) >> 13 == 3);
    struct rlimit limit;
    EXPECT(getrlimit(RLIMIT_DATA, &limit) == 0 && (SANITIZED || limit.rlim_cur == limits.memory));
    g_autoptr(GError) error = NULL;
    EXPECT(resources_set_nice(11, &error));
    EXPECT(getpriority(PRIO_PROCESS, 0) == 11);
    return 0;
}

static void test_limits_take_hold(void **state)
{
    in_child(check_resources, *state);
}

static int check_memory(const Fixture *fixture)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    const JobLimits limits = {.memory = G_GUINT64_CONSTANT(64) << 20};
    resources_apply(&limits, notes);
    g_autofree char *small = g_try_malloc(1 << 20);
    EXPECT(small);
    g_autofree char *large = g_try_malloc((gsize)256 << 20);
    EXPECT(!large);
    return 0;
}

static void test_memory_is_limited(void **state)
{
    if (SANITIZED) {
        print_message("a sanitizer's shadow memory is more than any limit\n");
        skip();
    }
    in_child(check_memory, *state);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_a_mirror_reaches_what_it_names_only),
        WITH_FIXTURE(test_a_symbolic_link_does_not_lead_out),
        WITH_FIXTURE(test_a_dry_run_cannot_write),
        WITH_FIXTURE(test_a_destination_to_be_made_can_be_made),
        WITH_FIXTURE(test_a_verification_writes_to_its_mirror_only),
        WITH_FIXTURE(test_the_rsync_engine_can_start_programs),
        WITH_FIXTURE(test_a_remote_destination_is_no_path),
        WITH_FIXTURE(test_limits_take_hold),
        WITH_FIXTURE(test_memory_is_limited),
    };
    return cmocka_run_group_tests_name("job/confine", tests, NULL, NULL);
}
