/*
 * A fixed set of threads that work off a bounded queue. Pushing blocks while the queue is full, so memory is bounded
 * by its capacity. The work function owns the item it is given. One thread pushes and waits; the pool's threads only
 * run the function (which may not push to its own pool).
 */
#pragma once

#include <glib.h>

typedef struct Pool Pool;
typedef void (*PoolFunc)(gpointer item, gpointer user_data);

/* Starts `threads` (>= 1) threads named `name`, with a queue of at most `capacity` (>= 1) waiting items. NULL with
 * INTERNAL if a thread cannot be started. */
Pool *pool_new(const char *name, guint threads, guint capacity, PoolFunc func, gpointer user_data, GError **error);

/* Queues one item, waiting for room. */
void pool_push(Pool *pool, gpointer item);

/* Waits until the queue is empty and no function runs. */
void pool_wait(Pool *pool);

/* Waits for all queued work, ends the threads, frees. NULL is a no-op. */
void pool_free(Pool *pool);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Pool, pool_free)
