#include "job/resources.h"

#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From linux/ioprio.h, which Debian 12 has but older headers lack. */
#define IOPRIO_PROCESS     1
#define IOPRIO_CLASS_SHIFT 13

/* Eight MiB a thread, glibc's default, would be most of a small memory limit. */
#define THREAD_STACK ((gsize)1024 * 1024)

gboolean resources_set_nice(int nice, GError **error)
{
    /* Linux keeps the value by thread. */
    g_autoptr(GDir) tasks = g_dir_open("/proc/self/task", 0, NULL);
    const char *task = tasks ? g_dir_read_name(tasks) : NULL;
    int problem = 0;
    if (!task && setpriority(PRIO_PROCESS, 0, nice) < 0)
        problem = errno;
    for (; task; task = g_dir_read_name(tasks))
        if (setpriority(PRIO_PROCESS, (id_t)strtoul(task, NULL, 10), nice) < 0 && errno != ESRCH)
            problem = errno;
    if (problem == 0)
        return TRUE;
    return error_set_errno(error, problem == EACCES ? EPERM : problem, "cannot set the nice value to %d", nice);
}

static void apply_nice(int nice, GPtrArray *notes)
{
    /* The parent may run at a nice value of its own, which only root could lower. */
    if (nice <= getpriority(PRIO_PROCESS, 0))
        return;
    g_autoptr(GError) error = NULL;
    if (!resources_set_nice(nice, &error))
        g_ptr_array_add(notes, g_strdup(error->message));
}

static void apply_ionice(const JobLimits *limits, GPtrArray *notes)
{
    if (limits->ionice_class == 0)
        return;
    int value = (limits->ionice_class << IOPRIO_CLASS_SHIFT) | limits->ionice_level;
    if (syscall(SYS_ioprio_set, IOPRIO_PROCESS, 0, value) < 0)
        g_ptr_array_add(notes, g_strdup_printf("cannot set the I/O priority: %s", g_strerror(errno)));
}

static char *read_small(const char *path)
{
    char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) ? text : NULL;
}

static gboolean write_small(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return FALSE;
    gboolean fine = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    return close(fd) == 0 && fine;
}

/* Where the worker was given a cgroup of its own that it may write to, that is the better limit: it counts everything
 * and holds for child programs together. A cgroup shared with others is left alone. */
static gboolean limit_cgroup(guint64 memory)
{
    g_autofree char *groups = read_small("/proc/self/cgroup");
    const char *at = groups ? strstr(groups, "0::/") : NULL;
    if (!at || (at != groups && at[-1] != '\n'))
        return FALSE;
    g_autofree char *group = g_strndup(at + 4, strcspn(at + 4, "\n"));
    if (*group == '\0')
        return FALSE; /* the root is everybody's */
    g_autofree char *members_path = g_strdup_printf("/sys/fs/cgroup/%s/cgroup.procs", group);
    g_autofree char *members = read_small(members_path);
    g_autofree char *only_me = g_strdup_printf("%d\n", (int)getpid());
    if (!members || strcmp(members, only_me) != 0)
        return FALSE;
    g_autofree char *limit_path = g_strdup_printf("/sys/fs/cgroup/%s/memory.max", group);
    g_autofree char *text = g_strdup_printf("%" G_GUINT64_FORMAT, memory);
    return write_small(limit_path, text);
}

static void apply_memory(guint64 memory, GPtrArray *notes)
{
    if (memory == 0 || limit_cgroup(memory))
        return;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) == 0) {
        (void)pthread_attr_setstacksize(&attributes, THREAD_STACK);
        (void)pthread_setattr_default_np(&attributes);
        pthread_attr_destroy(&attributes);
    }
    struct rlimit limit;
    if (getrlimit(RLIMIT_DATA, &limit) == 0) {
        limit.rlim_max = limit.rlim_max == RLIM_INFINITY ? memory : MIN(limit.rlim_max, memory);
        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_DATA, &limit) == 0)
            return;
    }
    g_ptr_array_add(notes, g_strdup_printf("cannot limit the memory: %s", g_strerror(errno)));
}

void resources_apply(const JobLimits *limits, GPtrArray *notes)
{
    apply_nice(limits->nice, notes);
    apply_ionice(limits, notes);
    apply_memory(limits->memory, notes);
}
