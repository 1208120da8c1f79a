#include "job/worker.h"

#include "base/error.h"
#include "base/log.h"
#include "job/control.h"
#include "job/resources.h"
#include "job/worker_confine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* What the signal handler touches: set before it is installed, never changed while it is. */
static CancelFlag *signal_cancel;
static int signal_wake = -1;

typedef struct {
    const WorkerEngine *engine;
    int in_fd, out_fd, wake_fd;
    CancelFlag cancel;
    LineReader reader;
    struct sigaction old_term, old_int, old_hup, old_pipe;
} Worker;

Event *worker_done_failed(const GError *error)
{
    Event *done = event_new(EVENT_DONE);
    done->status = error_is(error, BACKAPP_ERROR_CANCELLED) ? JOB_CANCELLED : JOB_FAILED;
    BackappError code = error->domain == BACKAPP_ERROR ? (BackappError)error->code : BACKAPP_ERROR_INTERNAL;
    done->error_code = g_strdup(error_code_name(code));
    done->error_message = g_strdup(error->message);
    return done;
}

static void on_signal(int number)
{
    static const guint64 one = 1;
    int saved = errno;
    cancel_set(signal_cancel);
    if (write(signal_wake, &one, sizeof one) < 0) {
        /* Full: the control thread is awake already. */
    }
    errno = saved;
}

static void install_signals(Worker *worker)
{
    struct sigaction stop = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&stop.sa_mask);
    sigemptyset(&ignore.sa_mask);
    signal_cancel = &worker->cancel;
    signal_wake = worker->wake_fd;
    (void)sigaction(SIGTERM, &stop, NULL);
    (void)sigaction(SIGINT, &stop, NULL);
    /* A terminal that closes tells all its processes: whether that ends the run is the parent's to say (nohup). */
    (void)sigaction(SIGHUP, &ignore, &worker->old_hup);
    /* A parent that is gone shows as EPIPE. */
    (void)sigaction(SIGPIPE, &ignore, NULL);
}

/* It has said its last word: a cancel that comes now is too late, and must not make a crash of it. */
static void ignore_signals(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    (void)sigaction(SIGTERM, &ignore, NULL);
    (void)sigaction(SIGINT, &ignore, NULL);
}

/* A private copy of the descriptor that no program we start inherits. A standard one is then turned to what `instead`
 * opens or is, so that neither a library nor such a program can read messages or write between events. */
static int take_fd(int fd, int standard, int instead)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy >= 0 && fd == standard && instead >= 0)
        (void)dup2(instead, standard);
    return copy;
}

static gboolean open_worker(Worker *worker, int in_fd, int out_fd, GError **error)
{
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    worker->in_fd = take_fd(in_fd, STDIN_FILENO, null_fd);
    worker->out_fd = take_fd(out_fd, STDOUT_FILENO, STDERR_FILENO);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    gboolean fine = null_fd >= 0 && worker->in_fd >= 0 && worker->out_fd >= 0 && worker->wake_fd >= 0;
    if (!fine)
        (void)error_set_errno(error, errno, "cannot set the worker up");
    if (null_fd >= 0)
        (void)close(null_fd);
    return fine;
}

static void close_worker(Worker *worker)
{
    line_reader_clear(&worker->reader);
    const int fds[] = {worker->in_fd, worker->out_fd, worker->wake_fd};
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
        if (fds[i] >= 0)
            (void)close(fds[i]); /* pipes: what was written is written */
}

/* Reads the first line and parses it. */
static JobSpec *read_spec(Worker *worker, GError **error)
{
    const char *line;
    gsize length;
    for (;;) {
        if (!cancel_check(&worker->cancel, error))
            return NULL;
        switch (line_reader_next(&worker->reader, &line, &length)) {
        case LINE_READY:
            return job_spec_parse(line, length, error);
        case LINE_TOO_LONG:
            return error_set(error, BACKAPP_ERROR_INVALID, "job spec: longer than %d bytes", JOB_LINE_MAX), NULL;
        case LINE_NONE:
            break;
        }
        if (worker->reader.end)
            return error_set(error, BACKAPP_ERROR_INVALID, "job spec: none was given: a worker reads it on its input"),
                   NULL;
        struct pollfd polled[] = {{.fd = worker->in_fd, .events = POLLIN}, {.fd = worker->wake_fd, .events = POLLIN}};
        if (poll(polled, G_N_ELEMENTS(polled), -1) > 0 && polled[0].revents &&
            line_reader_fill(&worker->reader, worker->in_fd) < 0 && errno != EAGAIN)
            return error_set_errno(error, errno, "cannot read the job spec"), NULL;
    }
}

/* Limits, then confinement: after this the process can do no more than its job. No other thread runs yet. */
static gboolean restrict_worker(const Worker *worker, const JobSpec *spec, Sink *sink, GError **error)
{
    g_autoptr(GPtrArray) notes = g_ptr_array_new_with_free_func(g_free);
    resources_apply(&spec->limits, notes);
    if (job_spec_has_secrets(spec)) {
        struct rlimit none = {0};
        if (setrlimit(RLIMIT_CORE, &none) < 0)
            g_ptr_array_add(notes, g_strdup("cannot forbid a core dump, which would hold secrets"));
    }
    const JobDestination *first =
        spec->destinations->len > 0 ? &g_array_index(spec->destinations, JobDestination, 0) : NULL;
    gboolean remote = first && first->path && spec->type == JOB_MIRROR && worker->engine->is_remote(first->path);
    g_autoptr(Confine) rules = worker_confine_rules(spec, remote);
    char *left_out = NULL;
    gboolean fine = confine_enter(rules, &left_out, error);
    if (left_out)
        g_ptr_array_add(notes, left_out);
    for (guint i = 0; i < notes->len; i++)
        sink_note(sink, g_ptr_array_index(notes, i));
    return fine;
}

static Event *run_spec(Worker *worker, const JobSpec *spec, Sink *sink, GError **error)
{
    if (!restrict_worker(worker, spec, sink, error))
        return NULL;
    g_autoptr(Rate) rate = rate_new(spec->limits.bandwidth);
    const ControlOptions options = {.in_fd = worker->in_fd,
                                    .wake_fd = worker->wake_fd,
                                    .reader = &worker->reader,
                                    .cancel = &worker->cancel,
                                    .sink = sink,
                                    .rate = rate};
    g_autoptr(Control) control = control_start(&options, error);
    if (!control)
        return NULL;
    return worker->engine->run(spec, rate, &worker->cancel, sink);
}

static int run_worker(Worker *worker)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = read_spec(worker, &error);
    g_autoptr(Sink) sink = sink_new(worker->out_fd, spec && spec->options.items, &worker->cancel);
    g_autoptr(Event) done = spec ? run_spec(worker, spec, sink, &error) : NULL;
    if (!done)
        done = worker_done_failed(error);
    (void)sink_send(sink, done);
    return job_status_exit_code(done->status);
}

int worker_process(int in_fd, int out_fd, const WorkerEngine *engine)
{
    Worker worker = {.engine = engine, .in_fd = -1, .out_fd = -1, .wake_fd = -1};
    g_autoptr(GError) error = NULL;
    int code = job_status_exit_code(JOB_FAILED);
    /* It was started by way of /proc/self/exe and would be called "exe" in a list of processes. */
    (void)prctl(PR_SET_NAME, "backapp-worker");
    line_reader_init(&worker.reader, JOB_LINE_MAX, TRUE);
    if (open_worker(&worker, in_fd, out_fd, &error)) {
        install_signals(&worker);
        code = run_worker(&worker);
        ignore_signals();
    } else {
        log_error("%s", error->message);
    }
    close_worker(&worker);
    return code;
}
