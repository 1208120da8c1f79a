/*
 * The hash of a file's content as entries and catalogue have it: its SHA-256 if it is one part, else the SHA-256 of the
 * parts' SHA-256s in order (so that it can be told from what is known of the parts). The content comes in pieces of any
 * size. A zeroed one is ready to begin, and it may begin again after its end. One thread at a time.
 */
#pragma once

#include "crypto/hash.h"

typedef struct {
    Hash *part, *whole;
    guint64 part_size, in_part;
    gboolean several;
} ContentHash;

/* Begins a content of `size` bytes in parts of part_size (> 0). */
void content_hash_begin(ContentHash *hash, guint64 size, guint64 part_size);
void content_hash_update(ContentHash *hash, const guint8 *data, gsize length);
void content_hash_end(ContentHash *hash, guint8 out[HASH_BYTES]);

/* Frees what is inside. */
void content_hash_clear(ContentHash *hash);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ContentHash, content_hash_clear)
