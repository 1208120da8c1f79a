/*
 * Streaming SHA-256. A Hash is a reusable context, ready for the first byte as soon as it is made and again after
 * hash_finish or hash_reset, so one per thread serves any number of files. It belongs to one thread at a time;
 * different ones may be used in parallel. SHA-256 can fail only where memory runs out or the cryptography library is
 * broken: like an allocation in GLib, that ends the program, since a wrong hash must never be written down.
 */
#pragma once

#include <glib.h>

/* Length of a hash in bytes. */
#define HASH_BYTES 32

typedef struct Hash Hash;

/* A new context. Freed with hash_free. Never NULL. */
Hash *hash_new(void);

/* Feeds `length` bytes. data may be NULL if length is 0. */
void hash_update(Hash *hash, const void *data, gsize length);

/* Writes the hash of all that was fed since the start to out; then the context is as new. */
void hash_finish(Hash *hash, guint8 out[HASH_BYTES]);

/* Forgets what was fed; then the context is as new. */
void hash_reset(Hash *hash);

/* Frees; NULL is a no-op. */
void hash_free(Hash *hash);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hash, hash_free)
