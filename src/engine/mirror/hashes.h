/*
 * The record of proofs, .backapp/hashes: size, mtime, inode and SHA-256 of each regular file of a mirror, in the order
 * of hashes_order. Written beside and renamed, read as a stream with a checksum for each block (docs/formats/mirror.md).
 * A reader or writer belongs to one thread.
 */
#pragma once

#include "crypto/hash.h"
#include "engine/mirror/destination.h"

typedef struct {
    const char *path; /* below the destination */
    guint64 size;
    gint64 mtime_s;
    guint32 mtime_ns;
    guint64 ino;
    guint8 hash[HASH_BYTES];
} HashRecord;

/* The order of records: within a directory its files by the bytes of their names, then its subdirectories likewise, each with all below it. <0, 0, >0. */
int hashes_order(const char *a, const char *b);

typedef struct HashesReader HashesReader;
/* Opens the record; NULL without an error if there is none. CORRUPT if it is not one of ours. */
HashesReader *hashes_reader_open(Destination *dest, GError **error);
/* The next record, valid until the next call: 1; 0 at the end; -1 with CORRUPT if the file is damaged or ends early. */
int hashes_reader_next(HashesReader *reader, HashRecord *record, GError **error);
void hashes_reader_free(HashesReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HashesReader, hashes_reader_free)

typedef struct HashesWriter HashesWriter;
/* Begins a new record beside the present one. */
HashesWriter *hashes_writer_open(Destination *dest, GError **error);
/* Appends; records must come in order. */
gboolean hashes_writer_put(HashesWriter *writer, const HashRecord *record, GError **error);
/* fsyncs, takes the place of the present record, and forgets what hashes_drop noted. */
gboolean hashes_writer_commit(HashesWriter *writer, GError **error);
/* Frees; an uncommitted record is removed. NULL is a no-op. */
void hashes_writer_free(HashesWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HashesWriter, hashes_writer_free)

/* Notes that the records of these paths (of char *, below the destination), and of all below them, no longer count, because a run rewrites
 * or removes the files. Durable when it returns TRUE. Nothing to do for an empty list or if there is no record. */
gboolean hashes_drop(Destination *dest, const GPtrArray *paths, GError **error);

/* The paths that were noted, as a set; the caller unrefs. */
GHashTable *hashes_dropped(Destination *dest, GError **error);

/* TRUE if the path or a directory above it is in the set. */
gboolean hashes_is_dropped(GHashTable *dropped, const char *path);
