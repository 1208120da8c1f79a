/*
 * What a worker tells its parent: one JSON object a line (docs/formats/worker.md). The same structure is printed by the
 * worker and parsed by the parent. An event owns what it points to. Any thread; each event one thread at a time.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

typedef enum {
    EVENT_STAGE,
    EVENT_PROGRESS,
    EVENT_WARNING,
    EVENT_ITEM,
    EVENT_SUMMARY,
    EVENT_NEED,
    EVENT_DONE
} EventType;

typedef enum { JOB_COMPLETED, JOB_PARTIAL, JOB_FAILED, JOB_REFUSED, JOB_CANCELLED } JobStatus;

typedef struct {
    EventType type;
    /* stage: name; warning: path, code, message; item: action, kind, path; progress: path = current file */
    char *name, *path, *code, *message, *action, *kind;
    int destination; /* stage, progress, warning, item: which of several destinations; -1: the run as a whole */
    guint64 files_done, files_total, bytes_done,
        bytes_total;                              /* progress; item: bytes_done = bytes, files_done = files */
    double percentage, rate, eta;                 /* progress; rate in bytes/s; eta in s, -1 unknown */
    json_t *summary;                              /* summary: the stats object, owned */
    JobStatus status;                             /* done */
    char *error_code, *error_message, *plan_hash; /* done; may be NULL */
} Event;

Event *event_new(EventType type);

/* One line of JSON, newline included. A path or name that is not UTF-8 is {"b64":..} with a printable form beside it
 * ("pathPrintable"). The caller frees. */
char *event_print(const Event *event);

/* Parses a line of at most JOB_LINE_MAX bytes. NULL with INVALID. Unknown keys are ignored, unknown types are INVALID.
 */
Event *event_parse(const char *line, gsize length, GError **error);

/* "completed" ... ; static. */
const char *job_status_name(JobStatus status);

/* 0 completed, 1 failed, 3 partial, 4 refused, 130 cancelled. */
int job_status_exit_code(JobStatus status);

void event_free(Event *event);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Event, event_free)
