/*
 * Streaming SHA-256 and MD5. A Hash is a reusable context, ready for the first byte as soon as it is made and again
 * after hash_finish or hash_reset, so one per thread serves any number of files. It belongs to one thread at a time;
 * different ones may be used in parallel. A hash can fail only where memory runs out or the cryptography library is
 * broken: like an allocation in GLib, that ends the program, since a wrong hash must never be written down. Hashes of
 * bytes that lie in memory, and their text forms, are in digest.h.
 */
#pragma once

#include <glib.h>

/* Length of a SHA-256 in bytes, and of an MD5. */
#define HASH_BYTES     32
#define HASH_MD5_BYTES 16

typedef struct Hash Hash;

/* A new context for SHA-256. Freed with hash_free. Never NULL. */
Hash *hash_new(void);

/* A new context for MD5: only for protocols that ask for it (Content-MD5), it proves nothing against an attacker.
 * NULL with INVALID where the system's policy has switched MD5 off (FIPS); then there is nothing to send. */
Hash *hash_new_md5(GError **error);

/* Feeds `length` bytes. data may be NULL if length is 0. */
void hash_update(Hash *hash, const void *data, gsize length);

/* Writes the hash of all that was fed since the start to out (an MD5 fills only the first HASH_MD5_BYTES, the others
 * stay as they are); then the context is as new. */
void hash_finish(Hash *hash, guint8 out[HASH_BYTES]);

/* Forgets what was fed; then the context is as new. */
void hash_reset(Hash *hash);

/* Frees; NULL is a no-op. */
void hash_free(Hash *hash);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hash, hash_free)
