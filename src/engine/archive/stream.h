/*
 * A tar on its way to the store: cut into members of ARCHIVE_MEMBER_BYTES, compressed by several threads, put in order
 * again, cut into volumes, encrypted, and sent by parts. One thread writes; memory is bounded by a few members for each
 * compressing thread and a few parts, whatever the store's speed: writing waits. The first error stops it all and is
 * what every later call returns.
 */
#pragma once

#include "base/rate.h"
#include "engine/archive/point.h"

typedef struct ArchiveStream ArchiveStream;

/* A volume is complete in the store, and so is everything of the tar before tar_end. packed_lengths: of all members so far
 * (guint32). volumes: all so far (of ArchiveVolume), this one last. In a thread of the stream's. FALSE ends it. Not called
 * for a volume behind which nothing could be added: the only one without a number, or one that ends the archive with a
 * member that is not full. So tar_end is a multiple of ARCHIVE_MEMBER_BYTES. */
typedef gboolean (*ArchiveVolumeDone)(gpointer user_data, const GArray *volumes, const GArray *packed_lengths,
                                      guint64 tar_end, GError **error);

typedef struct {
    const ArchivePlace *place;
    const ArchivePoint *point; /* base, name.codec, numbered, level: how it is packed and named */
    guint64 volume_size;
    const char *storage_class; /* may be NULL */
    guint threads;             /* 0: by processors */
    const CancelFlag *cancel;  /* may be NULL */
    /* To go on behind volumes that are complete (both NULL: from the start), as volume_done got them; copied. What uploads
     * of this archive an interrupted run has left is aborted. */
    const GArray *volumes, *packed_lengths;
    ArchiveVolumeDone volume_done; /* may be NULL */
    gpointer user_data;
} StreamOptions;

/* The options' place and point (and their strings), cancel and storage_class have to outlive the stream. INVALID if the
 * store cannot hold volumes of that size, or the codec has no such level; CORRUPT if volumes and lengths do not fit. A
 * point that is not numbered has one volume, even beyond volume_size. */
ArchiveStream *stream_new(const StreamOptions *options, GError **error);
/* Room for at least one byte to write into, at most a member: *room bytes. NULL on error. */
guint8 *stream_reserve(ArchiveStream *stream, gsize *room, GError **error);
/* So many of them are written. */
gboolean stream_advance(ArchiveStream *stream, gsize length, GError **error);
/* Copies. */
gboolean stream_write(ArchiveStream *stream, const void *data, gsize length, GError **error);
gboolean stream_zeros(ArchiveStream *stream, guint64 length, GError **error);
/* Where the next byte comes to lie in the tar. */
guint64 stream_offset(const ArchiveStream *stream);
/* Bytes that the store has taken from this stream so far (any thread). */
guint64 stream_stored(ArchiveStream *stream);
/* Sends the rest and waits for all: fills point->volumes, tar_size, members; *packed_lengths (guint32 each) is the
 * caller's. If nothing was written there is no volume. Called once; then only stream_offset, stream_stored and
 * stream_free. */
gboolean stream_finish(ArchiveStream *stream, ArchivePoint *point, GArray **packed_lengths, GError **error);
/* Stops what is under way, aborts an unfinished upload, frees. Complete volumes stay. NULL is a no-op. */
void stream_free(ArchiveStream *stream);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ArchiveStream, stream_free)
