/*
 * The hashes that a local mirror has recorded of some of its files (engine/mirror/hashes.h), read without touching the
 * mirror or its lock. One thread.
 */
#pragma once

#include "crypto/hash.h"
#include "engine/restore/source.h"

/* Looks up entries (of RestoreEntry *) of the mirror in `directory`: path -> HASH_BYTES, for those that are there now with the
 * size and time of a record that still counts. Empty if nothing is recorded. The caller unrefs. CORRUPT if the record is
 * damaged. */
GHashTable *recorded_find(const char *directory, const GPtrArray *entries, GError **error);
