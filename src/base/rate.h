/*
 * Token-bucket rate limit, shared by any number of threads. Tokens are bytes. The bucket holds a quarter of a second's
 * worth (at least 64 KiB), so short bursts pass and the average holds.
 */
#pragma once

#include "base/cancel.h"

typedef struct Rate Rate;

/* A new limit in bytes per second; 0 means no limit. Freed with rate_free. */
Rate *rate_new(guint64 bytes_per_second);

/* Changes the limit while it is in use; 0 lifts it. Any thread. */
void rate_set(Rate *rate, guint64 bytes_per_second);

/* The limit now; 0: none. For a program that limits itself. Any thread. */
guint64 rate_get(Rate *rate);

/* Takes `bytes` tokens, sleeping as long as it must (in pieces, so that cancel and rate_set are noticed within 100 ms).
 * rate NULL or unlimited returns at once. FALSE with CANCELLED if cancel was set while waiting. */
gboolean rate_take(Rate *rate, guint64 bytes, const CancelFlag *cancel, GError **error);

/* Frees; NULL is a no-op. */
void rate_free(Rate *rate);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Rate, rate_free)
