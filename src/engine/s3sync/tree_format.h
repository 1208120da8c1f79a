/*
 * The bytes of a metadata tree: blocks of entries and roots, compressed and, with a key, encrypted. For tree*.c and the
 * fuzzer; docs/formats/s3-mirror.md describes every byte. Pure; any thread.
 */
#pragma once

#include "engine/s3sync/tree.h"

#define TREE_ROOTS        ".backapp/tree/roots/"
#define TREE_BLOCK_PREFIX ".backapp/tree/blocks/"

/* The most bytes that a block or a root may have, unpacked. An entry has at most 16 MiB of attributes and 8 MiB of
 * path. */
#define TREE_RAW_MAX    ((gsize)256 * 1024 * 1024)
#define TREE_STORED_MAX (TREE_RAW_MAX + 1024 * 1024)

/* A block as its root names it. */
typedef struct {
    guint8 name[HASH_BYTES];
    guint64 entries;
    char *first;        /* path of its first entry; owned */
    gboolean directory; /* which is a directory */
} TreeBlock;

/* An array of TreeBlock that clears what is in it. */
GArray *tree_blocks_new(void);

/* Writes and reads a root with its blocks. Reading fills the root (cleared before) but not its key. CORRUPT. */
void tree_root_encode(const TreeRoot *root, const GArray *blocks, GByteArray *out);
gboolean tree_root_decode(const guint8 *data, gsize length, TreeRoot *root, GArray *blocks, GError **error);

/* The name of a block with these (unpacked) bytes: their SHA-256, with a key an HMAC, so that a name does not tell
 * whether somebody's guess at the content is right. */
void tree_block_name(const guint8 *content_key, const void *data, gsize length, guint8 name[HASH_BYTES]);
/* The key of the object of a block; the caller frees. */
char *tree_block_key(const guint8 name[HASH_BYTES]);

/* Compresses, and encrypts if there is a key (32 bytes; NULL: not); `what` is the object's key and is bound to it. */
GByteArray *tree_pack(const guint8 *content_key, const char *what, const void *data, gsize length, GError **error);
/* Reverses it. CORRUPT, or DENIED if it is encrypted and there is no key. */
GByteArray *tree_unpack(const guint8 *content_key, const char *what, const void *data, gsize length, GError **error);

/* Reads the root at `key` from the store, into a zeroed root and an empty array of blocks. */
gboolean tree_root_read(Store *store, const char *key, const guint8 *content_key, TreeRoot *root, GArray *blocks,
                        GError **error);
/* Reads a block and proves that it is the one with this name. */
GByteArray *tree_block_read(Store *store, const guint8 *content_key, const guint8 name[HASH_BYTES], GError **error);
