/*
 * Handling what must not be known to others: random bytes, comparing without telling by the time it takes, and wiping.
 * Any thread.
 */
#pragma once

#include <glib.h>

/* Fills out from the system's generator, through OpenSSL's. If it does not work the program ends: a key that can be
 * guessed must never be used. */
void secret_random(void *out, gsize length);

/* TRUE if both are the same bytes; the time taken depends on the length only. */
gboolean secret_equal(const void *a, const void *b, gsize length);

/* Overwrites with zeros in a way that the compiler keeps. NULL is a no-op. */
void secret_wipe(void *secret, gsize length);

/* A copy of bytes, for secrets that outlive the place they came from. Freed with secret_free. */
guint8 *secret_copy(const void *bytes, gsize length);

/* Wipes and frees. NULL is a no-op. */
void secret_free(void *secret, gsize length);
