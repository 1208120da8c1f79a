/*
 * Threads that work off a bounded queue, as many at once as help: it starts with 16, adds some while more is done in
 * the same time, and halves when the store asks to slow down (StoreCounts.slow_downs). One thread pushes and waits;
 * the function may push more with workers_push_first.
 */
#pragma once

#include "store/store.h"

typedef struct Workers Workers;
typedef void (*WorkersFunc)(gpointer item, gpointer user_data);

/* At most this many at once. */
#define WORKERS_MAX 64

/* fixed: exactly so many at once (at most WORKERS_MAX); 0: adapts. store: whose slow-downs count. */
Workers *workers_new(guint fixed, Store *store, WorkersFunc func, gpointer user_data, GError **error);

/* Queues an item, waiting for room. */
void workers_push(Workers *workers, gpointer item);
/* From the function: queues an item that is done before those that wait; never waits. */
void workers_push_first(Workers *workers, gpointer item);
/* From the function: so many bytes were moved by one request or a few. */
void workers_note(Workers *workers, guint64 bytes);

/* Waits until nothing is queued and nothing runs. */
void workers_wait(Workers *workers);
/* Waits, ends the threads, frees. NULL is a no-op. */
void workers_free(Workers *workers);

/* What the next limit is: the rate at this one and the one before. For tests. */
typedef struct {
    guint limit, max;
    double best; /* the best rate so far, forgotten slowly */
} WorkersControl;
void workers_control(WorkersControl *control, double rate, gboolean slow_down);
