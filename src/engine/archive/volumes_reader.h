/*
 * The tar of an archive without its index: all volumes from first to last, fetched part by part, decrypted, expanded
 * member by member; what an index has to say of volumes and members is gathered on the way. A few parts of memory. One
 * thread.
 */
#pragma once

#include "engine/archive/point.h"

typedef struct VolumesReader VolumesReader;

/* Finds the volumes of the archive `base`. NOT_FOUND if there is none, or one is missing between others. */
VolumesReader *volumes_reader_new(const ArchivePlace *place, const char *base, const CancelFlag *cancel,
                                  GError **error);
/* Bytes of all volumes in the store; bytes read so far. */
guint64 volumes_reader_size(const VolumesReader *reader);
guint64 volumes_reader_done(const VolumesReader *reader);
/* The next member expanded (user_data is the reader, as tar_reader.h wants it), valid until the next call: 1; 0 at the
 * end; -1: CORRUPT names the volume and the place. */
int volumes_reader_next(gpointer user_data, const guint8 **data, gsize *length, GError **error);
/* After the end: fills volumes, numbered, tar_size and members of the point; packed_lengths (guint32 each) is the
 * caller's. */
void volumes_reader_finish(VolumesReader *reader, ArchivePoint *point, GArray **packed_lengths);
/* NULL is a no-op. */
void volumes_reader_free(VolumesReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VolumesReader, volumes_reader_free)
