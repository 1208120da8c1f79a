#include "engine/mirror/rsync_process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "fs/dir.h"

#define LINE_MAX_BYTES   65536
#define READ_SIZE        65536
#define POLL_MS          100 /* how soon a cancel is noticed: nothing wakes the poll */
#define GRACE_MS         5000
#define READS_AT_THE_END 256 /* more than a pipe can hold: what still writes then is not ours to wait for */

typedef struct {
    AutoFd fd;
    GString *line;
    gboolean is_error;
} Stream;

typedef struct {
    pid_t pid;
    AutoFd pidfd;
    Stream streams[2];
    RsyncLineFunc on_line;
    gpointer data;
    gint64 kill_at; /* monotonic us; 0: not cancelled */
    gboolean killed;
} Process;

static void process_clear(Process *process)
{
    for (guint i = 0; i < G_N_ELEMENTS(process->streams); i++) {
        fd_clear(&process->streams[i].fd);
        if (process->streams[i].line)
            g_string_free(process->streams[i].line, TRUE);
    }
    fd_clear(&process->pidfd);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Process, process_clear)

/* In the child: only what may be called between fork and exec. Returns if it failed, with errno. */
static void become(char *const *argv, char *const *envp, int out_fd, int err_fd, pid_t parent)
{
    struct sigaction normal = {.sa_handler = SIG_DFL};
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        (void)sigaction(number, &normal, NULL); /* some cannot be set: those are at their default */
    if (pthread_sigmask(SIG_SETMASK, &none, NULL) != 0 || setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        return;
    if (getppid() != parent) {
        errno = ECANCELED;
        return;
    }
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(out_fd, STDOUT_FILENO) < 0 ||
        dup2(err_fd, STDERR_FILENO) < 0)
        return;
    (void)umask(022);
    (void)syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
    (void)execve(argv[0], argv, envp);
}

/* Waits for the child and takes its status. */
static int reap(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

/* A pipe whose ends are not standard descriptors, so that the child's dup2 cannot overwrite one with the other. */
static gboolean make_pipe(AutoFd *read_fd, AutoFd *write_fd, GError **error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set_errno(error, errno, "cannot make a pipe");
    g_auto(AutoFd) first = ends[0];
    g_auto(AutoFd) second = ends[1];
    *read_fd = fcntl(first, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    *write_fd = fcntl(second, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    return (*read_fd >= 0 && *write_fd >= 0) || error_set_errno(error, errno, "cannot make a pipe");
}

static gboolean start(Process *process, char *const *argv, char *const *envp, GError **error)
{
    g_auto(AutoFd) out_fd = -1;
    g_auto(AutoFd) err_fd = -1;
    g_auto(AutoFd) problem_read = -1;
    g_auto(AutoFd) problem_write = -1;
    if (!make_pipe(&process->streams[0].fd, &out_fd, error) || !make_pipe(&process->streams[1].fd, &err_fd, error) ||
        !make_pipe(&problem_read, &problem_write, error))
        return FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(process->streams); i++)
        if (fcntl(process->streams[i].fd, F_SETFL, O_NONBLOCK) < 0)
            return error_set_errno(error, errno, "cannot prepare to run %s", argv[0]);
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return error_set_errno(error, errno, "cannot start %s", argv[0]);
    if (pid == 0) {
        become(argv, envp, out_fd, err_fd, parent);
        int number = errno;
        _exit(write(problem_write, &number, sizeof number) == (ssize_t)sizeof number ? 127 : 126);
    }
    process->pid = pid;
    fd_clear(&problem_write);
    int number = 0;
    ssize_t got;
    do
        got = read(problem_read, &number, sizeof number);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (got == 0 && process->pidfd >= 0)
        return TRUE;
    int problem = got > 0 ? number : errno;
    (void)kill(pid, SIGKILL);
    (void)reap(pid);
    return error_set_errno(error, problem, "cannot start %s", argv[0]);
}

static void give_line(Process *process, Stream *stream)
{
    process->on_line(process->data, stream->line->str, stream->is_error);
    g_string_truncate(stream->line, 0);
}

static void take_bytes(Process *process, Stream *stream, const char *bytes, gsize length)
{
    while (length > 0) {
        gsize part = 0;
        while (part < length && bytes[part] != '\n' && bytes[part] != '\r' && bytes[part] != '\0')
            part++;
        gsize room = LINE_MAX_BYTES - stream->line->len;
        g_string_append_len(stream->line, bytes, (gssize)MIN(part, room));
        if (part == length)
            return;
        give_line(process, stream);
        bytes += part + 1;
        length -= part + 1;
    }
}

/* Reads what is there now. */
static void drain(Process *process, Stream *stream, guint reads)
{
    g_autofree char *buffer = g_malloc(READ_SIZE);
    for (guint i = 0; i < reads && stream->fd >= 0; i++) {
        ssize_t got = read(stream->fd, buffer, READ_SIZE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0)
            fd_clear(&stream->fd);
        else
            take_bytes(process, stream, buffer, (gsize)got);
    }
}

/* The group has the child's number, which stays taken while the child is not reaped. */
static void signal_group(const Process *process, int number)
{
    (void)kill(-process->pid, number);
}

static void see_to_cancel(Process *process, const CancelFlag *cancel)
{
    gint64 now = g_get_monotonic_time();
    if (process->kill_at == 0 && cancel_is_set(cancel)) {
        process->kill_at = now + GRACE_MS * 1000;
        signal_group(process, SIGTERM);
    } else if (process->kill_at > 0 && !process->killed && now >= process->kill_at) {
        process->killed = TRUE;
        signal_group(process, SIGKILL);
    }
}

/* Whether all that write to the pipes have ended. */
static gboolean streams_closed(const Process *process)
{
    return process->streams[0].fd < 0 && process->streams[1].fd < 0;
}

/* Until the child has ended; a grandchild that keeps the pipes open (a shared ssh connection) is not waited for. But
 * after a cancel rsync's other processes get the rest of the time to remove what they were writing. */
static gboolean watch(Process *process, const CancelFlag *cancel, GError **error)
{
    gboolean ended = FALSE;
    while (!ended || (process->kill_at > 0 && !process->killed && !streams_closed(process))) {
        struct pollfd polled[] = {{.fd = ended ? -1 : process->pidfd, .events = POLLIN},
                                  {.fd = process->streams[0].fd, .events = POLLIN},
                                  {.fd = process->streams[1].fd, .events = POLLIN}};
        see_to_cancel(process, cancel);
        if (poll(polled, G_N_ELEMENTS(polled), POLL_MS) < 0 && errno != EINTR)
            return error_set_errno(error, errno, "cannot watch the rsync program");
        ended = ended || (polled[0].revents & POLLIN) != 0;
        for (guint i = 0; i < G_N_ELEMENTS(process->streams); i++)
            drain(process, &process->streams[i], ended ? READS_AT_THE_END : 1);
    }
    for (guint i = 0; i < G_N_ELEMENTS(process->streams); i++)
        if (process->streams[i].line->len > 0)
            give_line(process, &process->streams[i]);
    return TRUE;
}

gboolean rsync_process_run(char *const *argv, char *const *envp, RsyncLineFunc on_line, gpointer data,
                           const CancelFlag *cancel, int *status, GError **error)
{
    *status = 0;
    g_auto(Process) process = {.pidfd = -1, .on_line = on_line, .data = data};
    process.streams[0] = (Stream){.fd = -1, .line = g_string_new(NULL)};
    process.streams[1] = (Stream){.fd = -1, .line = g_string_new(NULL), .is_error = TRUE};
    if (!start(&process, argv, envp, error))
        return FALSE;
    gboolean good = watch(&process, cancel, error);
    /* Its children end with it; after a cancel or a failure nothing may be left that still writes. */
    if (!good || process.kill_at > 0)
        signal_group(&process, SIGKILL);
    *status = reap(process.pid);
    return good;
}
