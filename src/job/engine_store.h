/*
 * From the store of a job spec to an open one: for the worker's engines, and for commands that only look at a store. The
 * caller's thread.
 */
#pragma once

#include "job/spec.h"
#include "store/drivers.h"

/* Opens the store with the whole URL, its prefix included. */
Store *engine_open_store(const JobStore *where, Rate *rate, const CancelFlag *cancel, GError **error);

/* Opens the bucket or directory alone; *prefix (the caller's) is what the URL has behind it, "" if nothing. */
Store *engine_open_bucket(const JobStore *where, Rate *rate, const CancelFlag *cancel, char **prefix, GError **error);

/* The 32 bytes of the spec's encryption key into key. INVALID if there is none or it is no key. */
gboolean engine_encryption_key(const JobSpec *spec, guint8 key[32], GError **error);
