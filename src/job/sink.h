/*
 * The worker's voice: turns what an engine reports into event lines on a descriptor, with at most four progress lines
 * in any second. Any thread may call; lines never mix. If nobody reads any more, the run is cancelled.
 *
 * It is also where a pause takes hold: an engine that reports a stage, an item or progress while the run is paused is
 * not let go on until it is resumed or cancelled. While changes are being committed a pause waits, because readers see
 * a mix of old and new until the end of it.
 */
#pragma once

#include "base/cancel.h"
#include "base/run_sink.h"
#include "job/event.h"

typedef struct Sink Sink;

/* Writes to fd, which stays the caller's. items: whether item events are wanted. cancel is set when writing fails; it
 * is also what ends a pause. */
Sink *sink_new(int fd, gboolean items, CancelFlag *cancel);

/* The side the engine sees; the sink's. */
RunSink *sink_run_sink(Sink *sink);

/* Makes a side for each of several destinations that are worked on at once: what they report carries the destination's
 * number, and they share the progress lines. Once, before any is used. */
void sink_split(Sink *sink, guint destinations);

/* The side of one destination; the sink's. */
RunSink *sink_part(Sink *sink, guint destination);

/* Writes one event at once. FALSE if nobody reads any more. */
gboolean sink_send(Sink *sink, const Event *event);

/* Writes a warning with code "note". */
void sink_note(Sink *sink, const char *message);

/* Holds the engine at its next report, and lets it go again. */
void sink_pause(Sink *sink, gboolean paused);

/* Frees; NULL is a no-op. */
void sink_free(Sink *sink);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sink, sink_free)
