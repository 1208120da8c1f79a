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

/* What one engine run talks to; several destinations at once have one each. */
typedef struct {
    RunSink run_sink; /* first: a RunSink of ours is a Part */
    Sink *sink;
    int destination;    /* -1: the run has one only */
    gint64 sent_at;     /* when its last progress line went out; 0: never */
    RunProgress latest; /* without the name */
    gboolean held_back; /* latest was not sent */
    guint64 measured_bytes;
    gint64 measured_at;
    double rate;
} Part;

struct Sink {
    Part whole;
    Part *parts; /* parts_count of them; NULL: only the whole */
    guint parts_count;
    int fd;
    gboolean items;
    CancelFlag *cancel;
    GMutex lock; /* for all that follows, the parts, and for writing */
    GCond resumed;
    gboolean paused;
    gboolean committing;
    gint64 sent_at[PROGRESS_PER_SECOND]; /* when the last progress lines went out, oldest first; 0: never */
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

static void measure(Part *part, gint64 now)
{
    double seconds = (double)(now - part->measured_at) / G_USEC_PER_SEC;
    guint64 bytes = part->latest.bytes_done;
    if (seconds <= 0 || bytes < part->measured_bytes)
        return;
    double current = (double)(bytes - part->measured_bytes) / seconds;
    part->rate = part->rate > 0 ? part->rate + (current - part->rate) * RATE_SHARE : current;
    part->measured_bytes = bytes;
    part->measured_at = now;
}

/* With the lock held: writes the latest numbers if the last second has room for them. */
static void send_progress(Part *part, const char *current_file, gint64 now)
{
    Sink *sink = part->sink;
    if (sink->sent_at[0] != 0 && now - sink->sent_at[0] < G_TIME_SPAN_SECOND)
        return;
    memmove(sink->sent_at, sink->sent_at + 1, sizeof sink->sent_at - sizeof sink->sent_at[0]);
    sink->sent_at[PROGRESS_PER_SECOND - 1] = now;
    part->sent_at = now;
    part->held_back = FALSE;
    measure(part, now);
    const RunProgress *latest = &part->latest;
    g_autoptr(Event) event = event_new(EVENT_PROGRESS);
    event->destination = part->destination;
    event->files_done = latest->files_done;
    event->files_total = latest->files_total;
    event->bytes_done = latest->bytes_done;
    event->bytes_total = latest->bytes_total;
    event->path = g_strdup(current_file);
    event->rate = part->rate;
    double share = 0;
    if (latest->bytes_total > 0)
        share = (double)latest->bytes_done / (double)latest->bytes_total;
    else if (latest->files_total > 0)
        share = (double)latest->files_done / (double)latest->files_total;
    event->percentage = MIN(share, 1) * 100;
    if (latest->bytes_total >= latest->bytes_done && latest->bytes_total > 0 && part->rate >= 1)
        event->eta = (double)(latest->bytes_total - latest->bytes_done) / part->rate;
    (void)send_locked(sink, event);
}

/* With the lock held: how far everything came, as the last word on it. */
static void send_held_back(Sink *sink)
{
    gint64 now = g_get_monotonic_time();
    if (sink->whole.held_back)
        send_progress(&sink->whole, NULL, now);
    for (guint i = 0; i < sink->parts_count; i++)
        if (sink->parts[i].held_back)
            send_progress(&sink->parts[i], NULL, now);
}

gboolean sink_send(Sink *sink, const Event *event)
{
    g_mutex_lock(&sink->lock);
    if (event->type == EVENT_SUMMARY)
        send_held_back(sink);
    gboolean sent = send_locked(sink, event);
    g_mutex_unlock(&sink->lock);
    return sent;
}

static void on_progress(RunSink *run_sink, const RunProgress *progress)
{
    Part *part = (Part *)run_sink;
    Sink *sink = part->sink;
    g_mutex_lock(&sink->lock);
    gint64 now = g_get_monotonic_time();
    part->latest = *progress;
    part->latest.current_file = NULL;
    part->held_back = TRUE;
    /* Destinations share the lines there may be. */
    if (part->sent_at == 0 || now - part->sent_at >= PROGRESS_GAP * MAX(sink->parts_count, 1))
        send_progress(part, progress->current_file, now);
    wait_while_paused(sink);
    g_mutex_unlock(&sink->lock);
}

static void on_stage(RunSink *run_sink, const char *name)
{
    Part *part = (Part *)run_sink;
    Sink *sink = part->sink;
    g_autoptr(Event) event = event_new(EVENT_STAGE);
    event->name = g_strdup(name);
    event->destination = part->destination;
    g_mutex_lock(&sink->lock);
    gint64 now = g_get_monotonic_time();
    if (part->held_back)
        send_progress(part, NULL, now);
    wait_while_paused(sink);
    sink->committing = strcmp(name, "commit") == 0 || strcmp(name, "recover") == 0;
    part->latest = (RunProgress){0};
    part->held_back = FALSE;
    part->measured_bytes = 0;
    part->measured_at = g_get_monotonic_time();
    part->rate = 0;
    (void)send_locked(sink, event);
    g_mutex_unlock(&sink->lock);
}

static void on_warning(RunSink *run_sink, const char *code, const char *path, const char *message)
{
    const Part *part = (const Part *)run_sink;
    g_autoptr(Event) event = event_new(EVENT_WARNING);
    event->code = g_strdup(code);
    event->path = g_strdup(path);
    event->message = g_strdup(message ? message : "");
    event->destination = part->destination;
    (void)sink_send(part->sink, event);
}

static void on_item(RunSink *run_sink, const RunItem *item)
{
    const Part *part = (const Part *)run_sink;
    Sink *sink = part->sink;
    g_autoptr(Event) event = event_new(EVENT_ITEM);
    event->action = g_strdup(item->action);
    event->kind = g_strdup(item->kind);
    event->path = g_strdup(item->path);
    event->bytes_done = item->bytes;
    event->files_done = item->files;
    event->destination = part->destination;
    g_mutex_lock(&sink->lock);
    (void)send_locked(sink, event);
    wait_while_paused(sink);
    g_mutex_unlock(&sink->lock);
}

static void init_part(Part *part, Sink *sink, int destination)
{
    part->run_sink = (RunSink){on_stage, on_progress, on_warning, sink->items ? on_item : NULL};
    part->sink = sink;
    part->destination = destination;
    part->measured_at = g_get_monotonic_time();
}

Sink *sink_new(int fd, gboolean items, CancelFlag *cancel)
{
    Sink *sink = g_new0(Sink, 1);
    sink->fd = fd;
    sink->items = items;
    sink->cancel = cancel;
    g_mutex_init(&sink->lock);
    g_cond_init(&sink->resumed);
    init_part(&sink->whole, sink, -1);
    return sink;
}

RunSink *sink_run_sink(Sink *sink)
{
    return &sink->whole.run_sink;
}

void sink_split(Sink *sink, guint destinations)
{
    g_return_if_fail(!sink->parts);
    sink->parts = g_new0(Part, destinations);
    sink->parts_count = destinations;
    for (guint i = 0; i < destinations; i++)
        init_part(&sink->parts[i], sink, (int)i);
}

RunSink *sink_part(Sink *sink, guint destination)
{
    return &sink->parts[destination].run_sink;
}

void sink_note(Sink *sink, const char *message)
{
    on_warning(&sink->whole.run_sink, "note", NULL, message);
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
    g_free(sink->parts);
    g_cond_clear(&sink->resumed);
    g_mutex_clear(&sink->lock);
    g_free(sink);
}
