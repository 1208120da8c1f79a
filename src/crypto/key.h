/*
 * The master key: 32 bytes from which every other key is derived. It comes as base64 from the environment
 * (BACKUP_ENCRYPTION_KEY), or is random and kept in the store, wrapped by a passphrase; the record is described in
 * docs/formats/encryption.md. A Key is read by any number of threads and freed by one; freeing wipes it. No secret
 * gets into an error's message.
 */
#pragma once

#include "crypto/kdf.h"

#define KEY_BYTES 32

/* What a key is derived for: part of the format, so these never change. */
#define KEY_FOR_CONTENT "backapp content 1" /* TINK_KEY_BYTES: streams of tink.h */
#define KEY_FOR_NAMES   "backapp names 1"   /* SIV_KEY_BYTES: names of crypt_name.h */

/* The longest record that is read, in bytes, and the longest passphrase. */
#define KEY_RECORD_MAX     4096
#define KEY_PASSPHRASE_MAX 1024

/* The cost of a new record: 32 MiB and about a quarter of a second. */
#define KEY_COST_DEFAULT ((KdfCost){.log2_n = 15, .r = 8, .p = 3})

typedef struct Key Key;

/* A random key. */
Key *key_generate(void);

/* The key that text has as base64 (44 characters; spaces and line ends around them do not count). `what` names its
 * origin in errors ("BACKUP_ENCRYPTION_KEY"). NULL with INVALID if it is anything else. */
Key *key_from_base64(const char *text, const char *what, GError **error);

/* Its KEY_BYTES; they are the Key's. */
const guint8 *key_bytes(const Key *key);

/* Derives the key of `length` bytes for a purpose (KEY_FOR_...) by HKDF-SHA256 without salt. The caller wipes it. */
void key_derive(const Key *key, const char *purpose, guint8 *out, gsize length);

/* The record (JSON, with a line end) from which key_unwrap gets the key back with the passphrase; each call gives
 * another one. cost NULL: KEY_COST_DEFAULT. NULL with INVALID if the passphrase is empty or too long, or the cost is
 * not valid; TRANSIENT if there is no memory for it. */
char *key_wrap(const Key *key, const char *passphrase, const KdfCost *cost, GError **error);

/* The key in a record of `length` bytes. NULL with DENIED if the passphrase is wrong, CORRUPT if the record is damaged,
 * INVALID if a newer program wrote it or its cost is over the limits of kdf.h, TRANSIENT if there is no memory. */
Key *key_unwrap(const char *record, gsize length, const char *passphrase, GError **error);

/* Wipes and frees; NULL is a no-op. */
void key_free(Key *key);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Key, key_free)
