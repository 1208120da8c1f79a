/*
 * A content on its way into a file: proven against the hash that its entry has, zeros left out as holes, durable where the
 * file's size alone would not tell that it is whole. One thread at a time.
 */
#pragma once

#include "engine/restore/source.h"
#include "engine/s3sync/content_hash.h"

typedef struct {
    const S3Entry *entry;
    RestoreFetch *fetch;
    const CancelFlag *cancel;
    guint64 offset;  /* of the content */
    guint64 written; /* where the last of it that is no hole ends */
    gboolean proven; /* whoever sends the content proves it */
    ContentHash hash;
} ContentOutput;

/* Empties the file and begins. `proven`: the content comes proven, and maybe with gaps. */
gboolean content_begin_output(ContentOutput *output, const S3Entry *entry, RestoreFetch *fetch, gboolean proven,
                              const CancelFlag *cancel, GError **error);
/* The next bytes. CORRUPT if they are more than there can be, CANCELLED. */
gboolean content_take(ContentOutput *output, const guint8 *data, gsize length, GError **error);
/* Bytes at an offset that is not before what came already; what is between is a hole. */
gboolean content_take_at(ContentOutput *output, guint64 offset, const guint8 *data, gsize length, GError **error);
/* No more bytes. CORRUPT if some are missing or the hash is another. */
gboolean content_end_output(ContentOutput *output, GError **error);
void content_output_clear(ContentOutput *output);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ContentOutput, content_output_clear)
