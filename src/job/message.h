/*
 * What a parent sends to a running worker after the spec: one JSON object a line (docs/formats/worker.md). Pure
 * functions for any thread.
 */
#pragma once

#include <glib.h>

typedef enum {
    MESSAGE_CANCEL,
    MESSAGE_PAUSE,
    MESSAGE_RESUME,
    MESSAGE_LIMITS,
    MESSAGE_CREDENTIALS, /* for stores; known, but of no use to the jobs there are now */
    MESSAGE_PRESIGNED,   /* likewise */
} MessageType;

#define MESSAGE_NOT_GIVEN G_MAXUINT64

typedef struct {
    MessageType type;
    guint64 bandwidth; /* limits: bytes per second, 0 lifts the limit; or MESSAGE_NOT_GIVEN */
    guint64 nice;      /* limits: 0..19; or MESSAGE_NOT_GIVEN */
} Message;

/* Parses one line. FALSE with INVALID for an unknown type or key, or a value out of range. */
gboolean message_parse(const char *line, gsize length, Message *message, GError **error);

/* The message as one line, newline included, for job_child_send. The caller frees. */
char *message_print(const Message *message);
