#include "job/child.h"

#include "base/error.h"
#include "job/line_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* What may wait to be sent to a worker that does not read. */
#define OUTGOING_MAX (4 * JOB_LINE_MAX)
/* Time to exit after the done event, at least; µs. */
#define LAST_WORD_GRACE (5 * G_USEC_PER_SEC)

struct JobChild {
    atomic_int pid; /* 0 once reaped */
    int pidfd;      /* never names another process, unlike a pid */
    int in_fd;   /* ours of the worker's stdin; a socket, so that a dead worker is EPIPE and not SIGPIPE; -1 closed */
    int out_fd;  /* ours of the worker's stdout; -1 at its end */
    int wake_fd; /* eventfd: job_child_cancel wakes job_child_next */
    atomic_bool cancel_asked;
    gboolean stopping; /* cancel_asked was seen, or the protocol was broken: SIGKILL comes at kill_at */
    gboolean killed;   /* SIGKILL was sent */
    gint64 kill_at;    /* monotonic µs */
    gint64 grace;      /* µs */
    GByteArray *outgoing;
    LineReader reader;
    Event *done;  /* what the worker said last, given out after it has ended */
    char *broken; /* how it broke the protocol; NULL if it did not */
    int wait_status;
    gboolean finished; /* EVENT_DONE was given out */
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* pipes and sockets only: nothing of ours can be lost */
    *fd = -1;
}

/* Async-signal-safe. */
static void send_signal(const JobChild *child, int signal_number)
{
    (void)syscall(SYS_pidfd_send_signal, child->pidfd, signal_number, NULL, 0);
}

static gboolean spawn_prepared(JobChild *child, const char *program, int in_fd, int out_fd,
                               posix_spawn_file_actions_t *actions, posix_spawnattr_t *attributes, GError **error)
{
    char *arguments[] = {(char *)"backapp", (char *)"worker", NULL};
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    pid_t pid = 0;
    int problem = posix_spawn_file_actions_adddup2(actions, in_fd, STDIN_FILENO);
    if (problem == 0)
        problem = posix_spawn_file_actions_adddup2(actions, out_fd, STDOUT_FILENO);
    /* Descriptors of libraries and of our own parent may lack O_CLOEXEC. */
    if (problem == 0)
        problem = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
    if (problem == 0)
        problem = posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (problem == 0)
        problem = posix_spawnattr_setsigmask(attributes, &none);
    if (problem == 0)
        problem = posix_spawnattr_setsigdefault(attributes, &all);
    if (problem == 0)
        problem = posix_spawn(&pid, program, actions, attributes, arguments, environ);
    if (problem != 0)
        return error_set_errno(error, problem, "cannot start the worker %s", program);
    atomic_store(&child->pid, pid);
    return TRUE;
}

static gboolean spawn(JobChild *child, const char *program, int in_fd, int out_fd, GError **error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return error_set_errno(error, ENOMEM, "cannot start the worker");
    gboolean fine = FALSE;
    if (posix_spawnattr_init(&attributes) == 0) {
        fine = spawn_prepared(child, program, in_fd, out_fd, &actions, &attributes, error);
        posix_spawnattr_destroy(&attributes);
    } else {
        (void)error_set_errno(error, ENOMEM, "cannot start the worker");
    }
    posix_spawn_file_actions_destroy(&actions);
    return fine;
}

/* A descriptor above the standard ones: the worker's end is moved onto 0 or 1 and must not be there already, because a
 * dup2 onto itself would keep its O_CLOEXEC. */
static gboolean lift_fd(int *fd, GError **error)
{
    if (*fd > STDERR_FILENO)
        return TRUE;
    int lifted = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (lifted < 0)
        return error_set_errno(error, errno, "cannot start the worker");
    close_fd(fd);
    *fd = lifted;
    return TRUE;
}

static gboolean start_with(JobChild *child, const char *program, int sockets[2], int pipes[2], GError **error)
{
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0 || pipe2(pipes, O_CLOEXEC) < 0)
        return error_set_errno(error, errno, "cannot start the worker");
    if (!lift_fd(&sockets[1], error) || !lift_fd(&pipes[1], error))
        return FALSE;
    child->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (child->wake_fd < 0 || fcntl(pipes[0], F_SETFL, O_NONBLOCK) < 0)
        return error_set_errno(error, errno, "cannot start the worker");
    if (!spawn(child, program, sockets[1], pipes[1], error))
        return FALSE;
    child->pidfd = (int)syscall(SYS_pidfd_open, atomic_load(&child->pid), 0);
    if (child->pidfd >= 0)
        return TRUE;
    int problem = errno;
    (void)kill(atomic_load(&child->pid), SIGKILL);
    (void)waitpid(atomic_load(&child->pid), NULL, 0);
    atomic_store(&child->pid, 0);
    return error_set_errno(error, problem, "cannot start the worker: this kernel is older than Linux 5.3");
}

/* Sends what the worker's socket takes without waiting. A worker that is gone shows elsewhere. */
static void flush_outgoing(JobChild *child)
{
    while (child->in_fd >= 0 && child->outgoing->len > 0) {
        ssize_t sent = send(child->in_fd, child->outgoing->data, child->outgoing->len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN)
            close_fd(&child->in_fd);
        if (sent < 0)
            return;
        /* The spec's secrets do not stay behind in the buffer. */
        guint rest = child->outgoing->len - (guint)sent;
        memmove(child->outgoing->data, child->outgoing->data + sent, rest);
        explicit_bzero(child->outgoing->data + rest, (size_t)sent);
        g_byte_array_set_size(child->outgoing, rest);
    }
}

static void queue_line(JobChild *child, const char *line)
{
    g_byte_array_append(child->outgoing, (const guint8 *)line, (guint)strlen(line));
    if (!g_str_has_suffix(line, "\n"))
        g_byte_array_append(child->outgoing, (const guint8 *)"\n", 1);
    flush_outgoing(child);
}

static gboolean queue_spec(JobChild *child, const JobSpec *spec, GError **error)
{
    g_autofree char *line = job_spec_print(spec);
    gsize length = strlen(line);
    gboolean fits = length <= JOB_LINE_MAX;
    if (fits) {
        /* At its full size at once: growing would leave copies of the secrets behind. */
        g_byte_array_set_size(child->outgoing, (guint)length);
        g_byte_array_set_size(child->outgoing, 0);
        queue_line(child, line);
    }
    explicit_bzero(line, length);
    return fits || error_set(error, BACKAPP_ERROR_INVALID, "the job spec is longer than %d bytes: use fewer patterns",
                             JOB_LINE_MAX);
}

JobChild *job_child_start(const char *program, const JobSpec *spec, guint grace_ms, GError **error)
{
    if (!job_spec_validate(spec, error))
        return NULL;
    g_autoptr(JobChild) child = g_new0(JobChild, 1);
    child->pidfd = child->in_fd = child->out_fd = child->wake_fd = -1;
    child->grace = (gint64)grace_ms * 1000;
    child->outgoing = g_byte_array_new();
    line_reader_init(&child->reader, JOB_LINE_MAX, FALSE);
    int sockets[2] = {-1, -1}, pipes[2] = {-1, -1};
    gboolean fine = start_with(child, program ? program : "/proc/self/exe", sockets, pipes, error);
    child->in_fd = sockets[0];
    child->out_fd = pipes[0];
    close_fd(&sockets[1]);
    close_fd(&pipes[1]);
    if (!fine || !queue_spec(child, spec, error))
        return NULL;
    return g_steal_pointer(&child);
}

void job_child_cancel(JobChild *child)
{
    static const guint64 one = 1;
    int saved = errno;
    atomic_store(&child->cancel_asked, TRUE);
    send_signal(child, SIGTERM);
    if (write(child->wake_fd, &one, sizeof one) < 0) {
        /* Full: it is awake already. */
    }
    errno = saved;
}

gboolean job_child_send(JobChild *child, const char *line, GError **error)
{
    if (child->in_fd < 0 || atomic_load(&child->pid) == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "the worker has ended");
    if (strlen(line) > JOB_LINE_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "a message to the worker is longer than %d bytes", JOB_LINE_MAX);
    if (child->outgoing->len + strlen(line) > OUTGOING_MAX)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "the worker does not read its messages");
    queue_line(child, line);
    return TRUE;
}

int job_child_pid(const JobChild *child)
{
    return atomic_load(&child->pid);
}

/* From now on the worker has the grace time to end. */
static void begin_stop(JobChild *child)
{
    if (child->stopping)
        return;
    child->stopping = TRUE;
    child->kill_at = g_get_monotonic_time() + child->grace;
    send_signal(child, SIGTERM);
    queue_line(child, "{\"type\":\"cancel\"}\n");
}

static void break_protocol(JobChild *child, const char *how)
{
    if (!child->broken)
        child->broken = g_strdup(how);
    begin_stop(child);
}

/* The next event among the bytes that are there. A done event is kept until the worker has ended; what comes after it,
 * or after a broken line, is dropped. */
static Event *next_buffered(JobChild *child)
{
    const char *line;
    gsize length;
    LineResult result;
    while ((result = line_reader_next(&child->reader, &line, &length)) != LINE_NONE) {
        if (child->broken || child->done)
            continue;
        if (result == LINE_TOO_LONG) {
            break_protocol(child, "it sent a line of more than 1 MiB");
            continue;
        }
        g_autoptr(GError) problem = NULL;
        Event *event = event_parse(line, length, &problem);
        if (!event) {
            g_autofree char *how = g_strdup_printf("it sent a line that is no event (%s)", problem->message);
            break_protocol(child, how);
        } else if (event->type == EVENT_DONE) {
            child->done = event;
            /* It has said its last word: what remains is to exit. */
            if (!child->stopping)
                child->kill_at = g_get_monotonic_time() + MAX(child->grace, LAST_WORD_GRACE);
        } else {
            return event;
        }
    }
    return NULL;
}

static Event *done_failed(BackappError code, JobStatus status, char *message)
{
    Event *event = event_new(EVENT_DONE);
    event->status = status;
    event->error_code = g_strdup(error_code_name(code));
    event->error_message = message;
    return event;
}

/* How the process ended, in words. */
static char *describe_end(int wait_status)
{
    if (!WIFSIGNALED(wait_status))
        return g_strdup_printf("exited with code %d", WEXITSTATUS(wait_status));
    int number = WTERMSIG(wait_status);
    const char *name = sigabbrev_np(number);
    return g_strdup_printf("was ended by signal %d (SIG%s%s)", number, name ? name : "?",
                           WCOREDUMP(wait_status) ? ", core dumped" : "");
}

/* The one done event of a run whose process has ended. */
static Event *make_done(JobChild *child)
{
    child->finished = TRUE;
    g_autofree char *end = describe_end(child->wait_status);
    gboolean cancelled = atomic_load(&child->cancel_asked);
    if (child->broken)
        return done_failed(
            BACKAPP_ERROR_INTERNAL, JOB_FAILED,
            g_strdup_printf("the worker broke its protocol: %s; it was stopped and %s", child->broken, end));
    int wait_status = child->wait_status;
    gboolean by_us = WIFSIGNALED(wait_status) && (child->killed || (cancelled && WTERMSIG(wait_status) == SIGTERM));
    /* Ended by us after its last word: the work was over (a cancel may cross the end of a run, and of the worker's
     * signal handlers). Ended by another's hand or by a bug: not to be trusted. */
    gboolean ended_by_us = child->killed || by_us;
    if (child->done && (ended_by_us || (WIFEXITED(wait_status) &&
                                        WEXITSTATUS(wait_status) == job_status_exit_code(child->done->status))))
        return g_steal_pointer(&child->done);
    if (child->done)
        return done_failed(
            BACKAPP_ERROR_INTERNAL, JOB_FAILED,
            g_strdup_printf("the worker reported \"%s\", but then it %s", job_status_name(child->done->status), end));
    gboolean by_itself = WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == job_status_exit_code(JOB_CANCELLED);
    if (cancelled && (by_us || by_itself))
        return done_failed(BACKAPP_ERROR_CANCELLED, JOB_CANCELLED,
                           child->killed ? g_strdup("cancelled; the worker did not end in time and was killed")
                                         : g_strdup("cancelled"));
    return done_failed(BACKAPP_ERROR_INTERNAL, JOB_FAILED, g_strdup_printf("the worker %s before it was done", end));
}

static void reap(JobChild *child, int options)
{
    int pid = atomic_load(&child->pid);
    if (pid == 0)
        return;
    int status = 0;
    pid_t got;
    do
        got = waitpid(pid, &status, options);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        return;
    /* Somebody else took its status (SIGCHLD ignored): that it ended is all that is known. */
    child->wait_status = got == pid ? status : 0;
    atomic_store(&child->pid, 0);
}

/* Kills when the grace time is over. Returns the milliseconds until then, -1 if nothing is due. */
static int check_deadline(JobChild *child)
{
    /* Without its output it can say nothing more: it has the time to exit. */
    if (child->kill_at == 0 && child->out_fd < 0)
        child->kill_at = g_get_monotonic_time() + MAX(child->grace, LAST_WORD_GRACE);
    if (child->kill_at == 0 || child->killed || atomic_load(&child->pid) == 0)
        return -1;
    gint64 left = child->kill_at - g_get_monotonic_time();
    if (left > 0)
        return (int)MIN(left / 1000 + 1, G_MAXINT);
    send_signal(child, SIGKILL);
    child->killed = TRUE;
    return -1;
}

/* Waits for something to happen, for wait_ms at most (-1: for ever), and takes what came. */
static void wait_once(JobChild *child, int wait_ms)
{
    struct pollfd polled[] = {
        {.fd = child->out_fd, .events = POLLIN},
        {.fd = atomic_load(&child->pid) != 0 ? child->pidfd : -1, .events = POLLIN},
        {.fd = child->wake_fd, .events = POLLIN},
        {.fd = child->outgoing->len > 0 ? child->in_fd : -1, .events = POLLOUT},
    };
    if (poll(polled, G_N_ELEMENTS(polled), wait_ms) <= 0)
        return;
    if (polled[2].revents) {
        guint64 count;
        if (read(child->wake_fd, &count, sizeof count) < 0) {
            /* Nothing there: a wake-up too many. */
        }
    }
    if (polled[3].revents)
        flush_outgoing(child);
    if (polled[1].revents)
        reap(child, WNOHANG);
    if (polled[0].revents) {
        int got = line_reader_fill(&child->reader, child->out_fd);
        if (got == 0 || (got < 0 && errno != EAGAIN))
            close_fd(&child->out_fd);
    }
}

/* After the worker's end: its last bytes. A grandchild that still holds the pipe open does not keep us. */
static void drain(JobChild *child)
{
    if (child->out_fd < 0)
        return;
    int got = line_reader_fill(&child->reader, child->out_fd);
    if (got > 0)
        return;
    close_fd(&child->out_fd);
}

static int shorter_wait(int a, int b)
{
    if (a < 0 || b < 0)
        return MAX(a, b);
    return MIN(a, b);
}

Event *job_child_next(JobChild *child, int max_wait_ms, gboolean *timed_out)
{
    gint64 give_up = g_get_monotonic_time() + (gint64)max_wait_ms * 1000;
    if (timed_out)
        *timed_out = FALSE;
    while (!child->finished) {
        if (atomic_load(&child->cancel_asked))
            begin_stop(child);
        Event *event = next_buffered(child);
        if (event)
            return event;
        int until_kill = check_deadline(child);
        if (atomic_load(&child->pid) == 0) {
            if (child->out_fd < 0)
                return make_done(child);
            drain(child);
            continue;
        }
        int left = -1;
        if (max_wait_ms >= 0) {
            gint64 rest = give_up - g_get_monotonic_time();
            left = rest > 0 ? (int)(rest / 1000 + 1) : 0;
        }
        wait_once(child, shorter_wait(left, until_kill));
        if (left == 0 && !(event = next_buffered(child)) && atomic_load(&child->pid) != 0) {
            if (timed_out)
                *timed_out = TRUE;
            return NULL;
        }
        if (event)
            return event;
    }
    return NULL;
}

void job_child_free(JobChild *child)
{
    if (!child)
        return;
    if (atomic_load(&child->pid) != 0) {
        send_signal(child, SIGKILL);
        reap(child, 0);
    }
    close_fd(&child->in_fd);
    close_fd(&child->out_fd);
    close_fd(&child->wake_fd);
    close_fd(&child->pidfd);
    if (child->outgoing->len > 0)
        explicit_bzero(child->outgoing->data, child->outgoing->len);
    g_byte_array_unref(child->outgoing);
    line_reader_clear(&child->reader);
    event_free(child->done);
    g_free(child->broken);
    g_free(child);
}
