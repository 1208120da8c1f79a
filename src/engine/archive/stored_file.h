/*
 * The content of a regular file on its way out of a tar: pieces go in as they lie there, data comes out with its places
 * in the file, and the hash of the whole with its holes as zeros. A StoredFile serves one file after another and belongs to
 * one thread.
 */
#pragma once

#include "engine/archive/members.h"

typedef struct StoredFile StoredFile;

StoredFile *stored_file_new(void);
/* Begins a file of `size` bytes. sparse: a map comes first. write may be NULL: only the hash is wanted. */
void stored_file_begin(StoredFile *file, guint64 size, gboolean sparse, MembersWriteAt write, gpointer user_data);
/* The next piece of the tar. *used: how much of it belongs to the file (all, until the file ends). CORRUPT for a map that
 * cannot be. */
gboolean stored_file_feed(StoredFile *file, const guint8 *data, gsize length, gsize *used, GError **error);
/* Bytes of the tar that are missing still, as far as is known (at least 1 until it is whole). 0: it is whole. */
guint64 stored_file_wanted(const StoredFile *file);
/* Of a whole one: the SHA-256. */
void stored_file_finish(StoredFile *file, guint8 hash[HASH_BYTES]);
/* NULL is a no-op. */
void stored_file_free(StoredFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoredFile, stored_file_free)
