/*
 * Reads a tar as tar_format.h writes it, from its start to its end, when there is no index: headers become entries, as
 * exact as they were put in (a general reader would bring names into its locale and say nothing of where a content lies).
 * Nothing in the tar is trusted: numbers are bounded, and an entry whose path could lead out of a tree is marked. One
 * thread.
 */
#pragma once

#include "engine/source/entry.h"

typedef struct TarReader TarReader;

/* Gives the next bytes of the tar, at least one, valid until the next call: 1; 0 at the end; -1 on error. */
typedef int (*TarInput)(gpointer user_data, const guint8 **data, gsize *length, GError **error);

typedef struct {
    S3Entry entry;         /* path without a slash at its end; "" the root */
    guint64 offset;        /* of its first header in the tar */
    guint32 header_length; /* from there to its content */
    guint64 stored;        /* bytes of content there */
    gboolean sparse;       /* with a map in front of it */
    const char *refused;   /* why it may not be used: static; NULL: it may */
} TarEntry;

TarReader *tar_reader_new(TarInput input, gpointer user_data);
/* The next entry, valid until the next call; what was not read of the one before is passed over. 1; 0 at the end of the
 * tar; -1: CORRUPT names the place. */
int tar_reader_next(TarReader *reader, TarEntry *entry, GError **error);
/* The next piece of the entry's content, valid until the next call: 1, 0 at its end, -1. */
int tar_reader_content(TarReader *reader, const guint8 **data, gsize *length, GError **error);
/* After -1: TRUE if nothing is wrong with the tar but that its end is missing. */
gboolean tar_reader_was_cut(const TarReader *reader);
/* NULL is a no-op. */
void tar_reader_free(TarReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TarReader, tar_reader_free)
