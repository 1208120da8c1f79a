#include "job/control.h"

#include "base/error.h"
#include "base/log.h"
#include "job/message.h"
#include "job/resources.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <unistd.h>

struct Control {
    ControlOptions options;
    GThread *thread;
    atomic_bool stop;
};

static void change_limits(const ControlOptions *options, const Message *message)
{
    if (message->bandwidth != MESSAGE_NOT_GIVEN)
        rate_set(options->rate, message->bandwidth);
    g_autoptr(GError) error = NULL;
    if (message->nice != MESSAGE_NOT_GIVEN && !resources_set_nice((int)message->nice, &error))
        sink_note(options->sink, error->message);
}

static void obey(const ControlOptions *options, const Message *message)
{
    switch (message->type) {
    case MESSAGE_CANCEL:
        cancel_set(options->cancel);
        return;
    case MESSAGE_PAUSE:
        sink_pause(options->sink, TRUE);
        return;
    case MESSAGE_RESUME:
        sink_pause(options->sink, FALSE);
        return;
    case MESSAGE_LIMITS:
        change_limits(options, message);
        return;
    case MESSAGE_CREDENTIALS:
    case MESSAGE_PRESIGNED:
        sink_note(options->sink, "this kind of job has no use for credentials: the message is ignored");
        return;
    }
}

static void handle_lines(const ControlOptions *options)
{
    const char *line;
    gsize length;
    LineResult result;
    while ((result = line_reader_next(options->reader, &line, &length)) != LINE_NONE) {
        if (result == LINE_READY && length == 0)
            continue;
        g_autoptr(GError) error = NULL;
        Message message;
        if (result == LINE_TOO_LONG)
            (void)error_set(&error, BACKAPP_ERROR_INVALID, "message: longer than %" G_GSIZE_FORMAT " bytes",
                            options->reader->max);
        else if (message_parse(line, length, &message, &error))
            obey(options, &message);
        if (error) {
            g_autofree char *note = g_strdup_printf("%s: it is ignored", error->message);
            sink_note(options->sink, note);
        }
    }
}

static void drain_wake(int wake_fd)
{
    guint64 count;
    if (read(wake_fd, &count, sizeof count) < 0) {
        /* Nothing there: a wake-up too many. */
    }
}

/* The parent is gone: nobody is there to kill a worker that does not stop by itself. */
static void outlive_engine(Control *control)
{
    const ControlOptions *options = &control->options;
    cancel_set(options->cancel);
    gint64 end = g_get_monotonic_time() + CONTROL_GRACE_MS * G_TIME_SPAN_MILLISECOND;
    while (!atomic_load(&control->stop)) {
        gint64 left = end - g_get_monotonic_time();
        if (left <= 0) {
            log_error("the parent is gone and the run did not stop within %d s: ending it", CONTROL_GRACE_MS / 1000);
            _exit(130);
        }
        struct pollfd wake = {.fd = options->wake_fd, .events = POLLIN};
        if (poll(&wake, 1, (int)(left / G_TIME_SPAN_MILLISECOND) + 1) > 0)
            drain_wake(options->wake_fd);
    }
}

static gpointer run_control(gpointer data)
{
    Control *control = data;
    const ControlOptions *options = &control->options;
    while (!atomic_load(&control->stop)) {
        handle_lines(options);
        if (options->reader->end) {
            outlive_engine(control);
            return NULL;
        }
        struct pollfd polled[] = {
            {.fd = options->in_fd, .events = POLLIN},
            {.fd = options->wake_fd, .events = POLLIN},
        };
        if (poll(polled, G_N_ELEMENTS(polled), -1) < 0)
            continue; /* EINTR: the signal's wake-up is there next time */
        if (polled[1].revents)
            drain_wake(options->wake_fd);
        if (polled[0].revents && line_reader_fill(options->reader, options->in_fd) < 0 && errno != EAGAIN)
            options->reader->end = TRUE; /* as good as gone */
    }
    return NULL;
}

Control *control_start(const ControlOptions *options, GError **error)
{
    g_autofree Control *control = g_new0(Control, 1);
    control->options = *options;
    g_autoptr(GError) problem = NULL;
    control->thread = g_thread_try_new("control", run_control, control, &problem);
    if (!control->thread)
        return error_set(error, BACKAPP_ERROR_TRANSIENT, "cannot start a thread: %s", problem->message), NULL;
    return g_steal_pointer(&control);
}

void control_stop(Control *control)
{
    static const guint64 one = 1;
    if (!control)
        return;
    atomic_store(&control->stop, TRUE);
    if (write(control->options.wake_fd, &one, sizeof one) < 0) {
        /* Full: it is awake already. */
    }
    g_thread_join(control->thread);
    g_free(control);
}
