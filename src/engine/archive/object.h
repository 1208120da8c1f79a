/*
 * An archive's object read at any place: the bytes inside, whether it is encrypted or not. Any thread.
 */
#pragma once

#include "engine/archive/point.h"

typedef struct ArchiveObject ArchiveObject;

/* key: in place->store, which has to outlive it (the rest is copied, but cancel). size: of the object in the store; 0: it
 * is asked for, with one request. Otherwise nothing is asked of the store yet, and what is wrong is found by the first
 * read. With encrypted, associated as archive_associated gives it. NOT_FOUND; CORRUPT if it is shorter or longer than
 * `size`; DENIED without a key. */
ArchiveObject *object_open(const ArchivePlace *place, const char *key, guint64 size, gboolean encrypted,
                           const char *associated, const CancelFlag *cancel, GError **error);
/* Bytes inside. */
guint64 object_size(const ArchiveObject *object);
/* Reads exactly `length` bytes at `offset` (INVALID beyond the end) into write, in pieces, in order. Encrypted ones are
 * proven before they are given. One request; two if it is encrypted, this is the first read and not of its beginning.
 * NOT_FOUND; CORRUPT names the object and the place. */
gboolean object_read(ArchiveObject *object, guint64 offset, guint64 length, StoreWrite write, gpointer user_data,
                     GError **error);
/* The same into memory. */
gboolean object_read_bytes(ArchiveObject *object, guint64 offset, gsize length, guint8 *out, GError **error);
void object_close(ArchiveObject *object);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ArchiveObject, object_close)
