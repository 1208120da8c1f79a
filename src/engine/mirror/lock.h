/*
 * One run at a time for a destination. The lock is the kernel's (flock on .backapp/lock), so it ends with its owner,
 * however that ends; the file's content says who the owner is, and decides where another host may hold it on a network
 * file system that does not share locks. A small thread renews the content every 30 seconds.
 */
#pragma once

#include "base/run_sink.h"

typedef struct Lock Lock;

/* Takes the lock in the open .backapp directory. LOCKED names host, pid and start of the owner. A dead owner's lock is
 * taken over, which is said as a note. `what` is the destination's path for messages. */
Lock *lock_take(int state_fd, const char *what, RunSink *sink, GError **error);

/* Releases and frees; NULL is a no-op. */
void lock_release(Lock *lock);
