/*
 * A flag that says "stop": set once from any thread or from a signal handler, looked at often by whoever works.
 * It is never cleared. The flag is owned by who made it and outlives every user.
 */
#pragma once

#include <glib.h>
#include <stdatomic.h>

typedef struct {
    atomic_bool set;
} CancelFlag;

/* Sets the flag. Async-signal-safe. */
void cancel_set(CancelFlag *flag);

/* TRUE once the flag was set. flag may be NULL (never cancelled). */
gboolean cancel_is_set(const CancelFlag *flag);

/* Returns TRUE while work may go on; FALSE with CANCELLED ("cancelled") once the flag is set. flag may be NULL. */
gboolean cancel_check(const CancelFlag *flag, GError **error);
