#include "job/sink.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Regular progress leaves one of the four lines a second for the last one of a stage. */
#define PROGRESS_GAP        (334 * G_TIME_SPAN_MILLISECOND)
#define PROGRESS_PER_SECOND 4
/* How soon a pause notices the cancel flag, which cannot wake anybody. */
#define PAUSE_LOOK (100 * G_TIME_SPAN_MILLISECOND)
/* The share of the newest measurement in the smoothed rate. */
#define RATE_SHARE 0.3

struct Sink {
    RunSink run_sink; /* first: a RunSink of ours is a Sink */
    int fd;
    CancelFlag *cancel;
    GMutex lock; /* for all that follows, and for writing */
    GCond resumed;
    gboolean paused;
    gboolean committing;
    gint64 sent_at[PROGRESS_PER_SECOND]; /* when the last progress lines went out, oldest first; 0: never */
    RunProgress latest;                  /* without the name */
    gboolean held_back;                  /* latest was not sent */
    guint64 measured_bytes;
    gint64 measured_at;
    double rate;
};

/* With the lock held. */
static gboolean write_line(Sink *sink, const char *line)
{
    gsize left = strlen(line);
    while (left > 0) {
        ssize_t written = write(sink->fd, line, left);
        if (written >= 0) {
            line += written;
            left -= (gsize)written;
        } else if (errno == EAGAIN) {
            struct pollfd room = {.fd = sink->fd, .events = POLLOUT};
            (void)poll(&room, 1, -1);
        } else if (errno != EINTR) {
            /* The parent is gone, or its disk is full: what is done now nobody would learn of. */
            cancel_set(sink->cancel);
            return FALSE;
        }
    }
    return TRUE;
}

static gboolean send_locked(Sink *sink, const Event *event)
{
    g_autofree char *line = event_print(event);
    return write_line(sink, line);
}

/* With the lock held. */
static void wait_while_paused(Sink *sink)
{
    while (sink->paused && !sink->committing && !cancel_is_set(sink->cancel))
        (void)g_cond_wait_until(&sink->resumed, &sink->lock, g_get_monotonic_time() + PAUSE_LOOK);
}

static void measure(Sink *sink, gint64 now)
{
    double seconds = (double)(now - sink->measured_at) / G_USEC_PER_SEC;
    guint64 bytes = sink->latest.bytes_done;
    if (seconds <= 0 || bytes < sink->measured_bytes)
        return;
    double current = (double)(bytes - sink->measured_bytes) / seconds;
    sink->rate = sink->rate > 0 ? sink->rate + (current - sink->rate) * RATE_SHARE : current;
    sink->measured_bytes = bytes;
    sink->measured_at = now;
}

/* With the lock held: writes the latest numbers if the last second has room for them. */
static void send_progress(Sink *sink, const char *current_file, gint64 now)
{
    if (sink->sent_at[0] != 0 && now - sink->sent_at[0] < G_TIME_SPAN_SECOND)
        return;
    memmove(sink->sent_at, sink->sent_at + 1, sizeof sink->sent_at - sizeof sink->sent_at[0]);
    sink->sent_at[PROGRESS_PER_SECOND - 1] = now;
    sink->held_back = FALSE;
    measure(sink, now);
    const RunProgress *latest = &sink->latest;
    g_autoptr(Event) event = event_new(EVENT_PROGRESS);
    event->files_done = latest->files_done;
    event->files_total = latest->files_total;
    event->bytes_done = latest->bytes_done;
    event->bytes_total = latest->bytes_total;
    event->path = g_strdup(current_file);
    event->rate = sink->rate;
    double part = 0;
    if (latest->bytes_total > 0)
        part = (double)latest->bytes_done / (double)latest->bytes_total;
    else if (latest->files_total > 0)
        part = (double)latest->files_done / (double)latest->files_total;
    event->percentage = MIN(part, 1) * 100;
    if (latest->bytes_total >= latest->bytes_done && latest->bytes_total > 0 && sink->rate >= 1)
        event->eta = (double)(latest->bytes_total - latest->bytes_done) / sink->rate;
    (void)send_locked(sink, event);
}

gboolean sink_send(Sink *sink, const Event *event)
{
    g_mutex_lock(&sink->lock);
    /* How far it came, as the last word on it. */
    if (event->type == EVENT_SUMMARY && sink->held_back)
        send_progress(sink, NULL, g_get_monotonic_time());
    gboolean sent = send_locked(sink, event);
    g_mutex_unlock(&sink->lock);
    return sent;
}

static void on_progress(RunSink *run_sink, const RunProgress *progress)
{
    Sink *sink = (Sink *)run_sink;
    g_mutex_lock(&sink->lock);
    gint64 now = g_get_monotonic_time();
    sink->latest = *progress;
    sink->latest.current_file = NULL;
    sink->held_back = TRUE;
    gint64 last = sink->sent_at[PROGRESS_PER_SECOND - 1];
    if (last == 0 || now - last >= PROGRESS_GAP)
        send_progress(sink, progress->current_file, now);
    wait_while_paused(sink);
    g_mutex_unlock(&sink->lock);
}

static void on_stage(RunSink *run_sink, const char *name)
{
    Sink *sink = (Sink *)run_sink;
    g_autoptr(Event) event = event_new(EVENT_STAGE);
    event->name = g_strdup(name);
    g_mutex_lock(&sink->lock);
    gint64 now = g_get_monotonic_time();
    if (sink->held_back)
        send_progress(sink, NULL, now);
    wait_while_paused(sink);
    sink->committing = strcmp(name, "commit") == 0 || strcmp(name, "recover") == 0;
    sink->latest = (RunProgress){0};
    sink->held_back = FALSE;
    sink->measured_bytes = 0;
    sink->measured_at = g_get_monotonic_time();
    sink->rate = 0;
    (void)send_locked(sink, event);
    g_mutex_unlock(&sink->lock);
}

static void on_warning(RunSink *run_sink, const char *code, const char *path, const char *message)
{
    g_autoptr(Event) event = event_new(EVENT_WARNING);
    event->code = g_strdup(code);
    event->path = g_strdup(path);
    event->message = g_strdup(message ? message : "");
    (void)sink_send((Sink *)run_sink, event);
}

static void on_item(RunSink *run_sink, const RunItem *item)
{
    Sink *sink = (Sink *)run_sink;
    g_autoptr(Event) event = event_new(EVENT_ITEM);
    event->action = g_strdup(item->action);
    event->kind = g_strdup(item->kind);
    event->path = g_strdup(item->path);
    event->bytes_done = item->bytes;
    event->files_done = item->files;
    g_mutex_lock(&sink->lock);
    (void)send_locked(sink, event);
    wait_while_paused(sink);
    g_mutex_unlock(&sink->lock);
}

Sink *sink_new(int fd, gboolean items, CancelFlag *cancel)
{
    Sink *sink = g_new0(Sink, 1);
    sink->run_sink = (RunSink){on_stage, on_progress, on_warning, items ? on_item : NULL};
    sink->fd = fd;
    sink->cancel = cancel;
    sink->measured_at = g_get_monotonic_time();
    g_mutex_init(&sink->lock);
    g_cond_init(&sink->resumed);
    return sink;
}

RunSink *sink_run_sink(Sink *sink)
{
    return &sink->run_sink;
}

void sink_note(Sink *sink, const char *message)
{
    on_warning(&sink->run_sink, "note", NULL, message);
}

void sink_pause(Sink *sink, gboolean paused)
{
    g_mutex_lock(&sink->lock);
    sink->paused = paused;
    if (!paused)
        g_cond_broadcast(&sink->resumed);
    g_mutex_unlock(&sink->lock);
}

void sink_free(Sink *sink)
{
    if (!sink)
        return;
    g_cond_clear(&sink->resumed);
    g_mutex_clear(&sink->lock);
    g_free(sink);
}
