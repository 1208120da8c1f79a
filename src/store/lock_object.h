/*
 * One run at a time for a place in a store, whatever machine it comes from: the object ".backapp/lock" says who is at
 * work there. It is renewed each minute by a thread; one whose owner is dead (a process of this machine that is gone),
 * or gave no sign of life for 10 minutes, is taken over. A run that finds that its lock is another's stops.
 */
#pragma once

#include "base/cancel.h"
#include "base/run_sink.h"
#include "store/store.h"

typedef struct LockObject LockObject;

/* Only looks: FALSE with LOCKED if somebody else is at work. */
gboolean lock_object_look(Store *store, GError **error);

/* Takes the lock, saying whose it takes over. LOCKED if somebody else has it. The store must outlive it. */
LockObject *lock_object_take(Store *store, RunSink *sink, GError **error);

/* FALSE with LOCKED once it was found to be another's. Asks nothing of the store. NULL is nobody's: TRUE. */
gboolean lock_object_check(LockObject *lock, GError **error);

/* Gives it back (what fails then is left to time) and frees. NULL is a no-op. */
void lock_object_release(LockObject *lock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LockObject, lock_object_release)
