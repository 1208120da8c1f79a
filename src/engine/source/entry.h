/*
 * One thing of a source tree and what is kept of it in a bucket: its path, its metadata, and, for a regular file, its
 * object. The scan makes entries, the plan carries them, the metadata tree in the bucket is made of them, a restore reads
 * them back. Values; strings belong to whoever filled the structure.
 */
#pragma once

#include "base/bytes.h"
#include "crypto/hash.h"
#include "fs/attrs.h"
#include "fs/meta.h"

typedef struct {
    const char *path; /* bytes, relative to the source; "" is the root directory itself */
    const char *key;  /* of its object, relative to the prefix; NULL: it has none (all but regular files) */
    FileMeta meta;
    const char *user, *group; /* names of meta.uid and meta.gid; NULL: unknown */
    const char *target;       /* of a symlink; else NULL */
    const char *link; /* path of the first name of the same inode, if this is a further one; else NULL. A further name
                           of a regular file has an object all the same */
    const guint8 *attrs; /* as attrs_encode writes them; NULL: none */
    gsize attrs_length;

    /* What is known of the object; zero while it is not uploaded. */
    guint64 object_size;        /* in the store (an encrypted one is longer than the file) */
    const char *etag, *version; /* NULL: unknown */
    guint64 part_size;          /* of which hash is made; 0: hash unknown */
    guint8 hash[HASH_BYTES];    /* SHA-256 of the content if size <= part_size, else of the parts' SHA-256s in order */
} S3Entry;

/* Appends an entry to out, and reads one back (FALSE: CORRUPT; strings point into the reader's bytes or into arena,
 * which the caller clears with entry_arena_clear between entries). With previous_path (may be "") the path is stored as
 * what differs from it. */
void entry_encode(const S3Entry *entry, const char *previous_path, GByteArray *out);
gboolean entry_decode(BytesReader *in, const char *previous_path, GByteArray *arena, S3Entry *entry, GError **error);
