/*
 * One run at a time for a destination. The lock is the kernel's (flock on .backapp/lock), so it ends with its owner,
 * however that ends; the file's content says who the owner is, and decides where another host may be at work on a file
 * system that hosts share, for some of them do not share locks. A small thread renews the content every 30 seconds.
 */
#pragma once

#include "base/run_sink.h"

typedef struct Lock Lock;

/* Takes the lock in the open .backapp directory, whose file system is of this type (FsFacts.type). LOCKED names host,
 * pid and start of the owner. A dead owner's lock is taken over, which is said as a note: on a file system of this host
 * alone whoever holds no lock in the kernel is dead; on one that hosts share an owner on another host is dead once it
 * did not renew for 10 minutes by the file system's own clock. INVALID if the lock is no plain file. `what` is the
 * destination's path for messages. */
Lock *lock_take(int state_fd, const char *type, const char *what, RunSink *sink, GError **error);

/* Releases and frees; NULL is a no-op. */
void lock_release(Lock *lock);
