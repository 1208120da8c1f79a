/*
 * What the tests of the file-system layer share: cmocka, a fresh directory for each test, and code that runs in a child
 * process of its own (as another user, in its own mount namespace, without a system call). One thread.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "fs/dir.h"
#include "fs/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534

typedef struct {
    char *path;
    int fd;
} Scratch;

/* Makes the directory; cmocka's setup. */
static inline int scratch_setup(void **state)
{
    Scratch *scratch = g_new0(Scratch, 1);
    scratch->path = g_strdup_printf("%s/backapp-test-XXXXXX", g_get_tmp_dir());
    if (!g_mkdtemp(scratch->path)) {
        g_free(scratch->path);
        g_free(scratch);
        return -1;
    }
    scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = scratch;
    return scratch->fd >= 0 ? 0 : -1;
}

/* Removes it; cmocka's teardown. */
static inline int scratch_teardown(void **state)
{
    Scratch *scratch = *state;
    gboolean good = remove_tree(AT_FDCWD, scratch->path, FALSE, NULL, NULL);
    (void)close(scratch->fd);
    g_free(scratch->path);
    g_free(scratch);
    return good ? 0 : -1;
}

#define SCRATCH_TEST(test) cmocka_unit_test_setup_teardown(test, scratch_setup, scratch_teardown)

/* Writes a file with these bytes. */
static inline void put_file(int dir_fd, const char *name, const void *data, size_t length)
{
    AutoFd fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, length), length);
}

/* The number of names in a directory. */
static inline guint count_names(int dir_fd)
{
    g_auto(DirNames) names;
    assert_true(dir_names_read(dir_fd, &names, NULL, NULL));
    return dir_names_count(&names);
}

/* In a child's function: leaves it with the line's number if the condition does not hold. */
#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            (void)fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);                    \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* What a child's function returns if it cannot do its test here. */
#define CHILD_SKIPS 77

/* Runs `func` in a child for at most 30 seconds and returns its result, or -1 if a signal ended it. */
static inline int run_child(int (*func)(Scratch *scratch), Scratch *scratch)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        (void)alarm(30);
        _exit(func(scratch));
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The same in a test: fails or skips it as the child says. */
#define RUN_CHILD(func, scratch)                                                                                       \
    do {                                                                                                               \
        int child_result = run_child(func, scratch);                                                                   \
        if (child_result == CHILD_SKIPS)                                                                               \
            skip();                                                                                                    \
        assert_int_equal(child_result, 0);                                                                             \
    } while (0)

/* In a child: becomes nobody if it is root. */
static inline gboolean become_nobody(void)
{
    if (geteuid() != 0)
        return TRUE;
    return setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0 && setresuid(NOBODY, NOBODY, NOBODY) == 0;
}

/* In a child: mounts a small tmpfs on `name` in the scratch directory ("" is the directory itself), seen by nobody
 * else, and opens the directory again, for a descriptor from before would not see it. FALSE (with the reason printed)
 * if that is not allowed here. */
static inline gboolean mount_private_tmpfs(Scratch *scratch, const char *name, const char *options)
{
    g_autofree char *path = g_strconcat(scratch->path, "/", name, NULL);
    if (unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount("tmpfs", path, "tmpfs", 0, options) == 0) {
        fd_clear(&scratch->fd);
        scratch->fd = open(scratch->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return scratch->fd >= 0;
    }
    (void)fprintf(stderr, "skipped: cannot mount a tmpfs here: %s\n", g_strerror(errno));
    return FALSE;
}

/* In a child: lets one system call fail with ENOSYS from now on. FALSE (with the reason printed) if it cannot. */
static inline gboolean forbid_call(long number)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (guint32)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = G_N_ELEMENTS(code), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0)
        return TRUE;
    (void)fprintf(stderr, "skipped: cannot filter system calls here: %s\n", g_strerror(errno));
    return FALSE;
}
