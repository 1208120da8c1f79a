/*
 * Writes the volumes of an archive, one after the other: packed members go in, are encrypted if there is a key, and leave
 * as parts of an upload by several threads, or in one request if they fit in one. One thread calls; memory is a few
 * parts, and adding waits while all of them are on their way. After an error only volume_abort and volume_free are left.
 */
#pragma once

#include "engine/archive/point.h"

typedef struct VolumeWriter VolumeWriter;

typedef struct {
    const ArchivePlace *place; /* it and its strings outlive the writer */
    const ArchivePoint *point; /* base, numbered; likewise */
    guint64 volume_size;       /* at which the caller ends a volume */
    gsize member_max;          /* the most that one volume_add brings */
    const char *storage_class; /* may be NULL */
    const CancelFlag *cancel;  /* may be NULL */
} VolumeOptions;

/* INVALID if the store cannot hold volumes of this size. Nothing is asked of it yet. */
VolumeWriter *volume_new(const VolumeOptions *options, GError **error);
/* The size at which a volume has to end: volume_size, or less if the store takes no larger objects. */
guint64 volume_limit(const VolumeWriter *writer);
/* Begins volume `number` (from 1), with its own salt. Nothing of the one before may be open. */
gboolean volume_begin(VolumeWriter *writer, guint number, GError **error);
/* The next packed member. */
gboolean volume_add(VolumeWriter *writer, const guint8 *data, gsize length, GError **error);
/* TRUE between volume_begin and volume_end. */
gboolean volume_is_open(const VolumeWriter *writer);
/* What the open volume would have in the store if it ended now. */
guint64 volume_size(const VolumeWriter *writer);
/* Makes it an object of the store, and knows that it is one. Fills all of *volume but first_member. */
gboolean volume_end(VolumeWriter *writer, ArchiveVolume *volume, GError **error);
/* Bytes that the store has taken so far. Any thread. */
guint64 volume_sent(VolumeWriter *writer);
/* Lets go of an open volume and of its upload. */
void volume_abort(VolumeWriter *writer);
/* With volume_abort. NULL is a no-op. */
void volume_free(VolumeWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VolumeWriter, volume_free)
