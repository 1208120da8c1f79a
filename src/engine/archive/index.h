/*
 * The index of an archive: what it holds and where, sorted by path, in compressed blocks with a table of their first
 * paths, so that one path is found by reading the end of the index and one block. Written once, front to back; read at
 * any place. With a key the whole is one stream of crypto/tink.h. Every block is proven by a hash in the table, the
 * table by one in the footer. Order of paths: their bytes, where a slash sorts as written and a directory's path counts
 * with a slash at its end (index_compare_paths) - the order in which engine/source/scan.h hands them on with
 * names_new_paths. A writer or reader belongs to one thread; readers of one index may be used side by side.
 */
#pragma once

#include "engine/archive/point.h"
#include "engine/source/entry.h"

typedef enum {
    INDEX_DELETED = 1 << 0, /* it was in the parent and is no more: only path and the type in meta.mode count */
    INDEX_STORED = 1 << 1,  /* it has an entry in the tar of this archive */
    INDEX_SPARSE = 1 << 2,  /* its content is there in the GNU sparse format 1.0: a map, then what is not a hole */
    INDEX_CHANGED = 1 << 3, /* it went on changing while it was read */
} IndexFlags;

/* entry.hash with entry.part_size > 0 is the SHA-256 of the whole content (holes as zeros); object fields are not used. */
typedef struct {
    S3Entry entry;
    guint flags;
    guint64 tar_offset;    /* of its first header block, in the members of the archive one after another */
    guint32 header_length; /* from there to its content, bytes */
} IndexEntry;

/* Appends one to out, its path as what differs from previous_path; and reads it back (entry.h on arena). */
void index_entry_encode(const IndexEntry *entry, const char *previous_path, GByteArray *out);
gboolean index_entry_decode(BytesReader *in, const char *previous_path, GByteArray *arena, IndexEntry *entry,
                            GError **error);

/* -1, 0, 1 by the order above. is_directory of each decides what ends its path. */
int index_compare_paths(const char *a, gboolean a_is_directory, const char *b, gboolean b_is_directory);

typedef struct IndexWriter IndexWriter;
/* Begins an index; it goes to the store as it grows (by parts if it is large). storage_class may be NULL. */
IndexWriter *index_writer_new(const ArchivePlace *place, const char *base, const char *storage_class,
                              const CancelFlag *cancel, GError **error);
/* The next entry, in ascending order (INTERNAL otherwise). */
gboolean index_writer_put(IndexWriter *writer, const IndexEntry *entry, GError **error);
/* No more entries: writes the members' places (packed_lengths: guint32 for each, point->members of them), the table and
 * the footer with what point says, and completes the object: the archive is a point from then on. Sets point->hash,
 * entries and deletions. *stored (may be NULL): bytes of the object. */
gboolean index_writer_commit(IndexWriter *writer, ArchivePoint *point, const GArray *packed_lengths, guint64 *stored,
                             GError **error);
/* Frees; what was not committed leaves no object. NULL is a no-op. */
void index_writer_free(IndexWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IndexWriter, index_writer_free)

typedef struct Index Index; /* an open one: footer and table in memory; any thread */
typedef struct IndexReader IndexReader;

/* Opens the index of the archive `base`. NOT_FOUND; CORRUPT names what is damaged; DENIED if it is encrypted and the key
 * is missing or another. */
Index *index_open(const ArchivePlace *place, const char *base, const CancelFlag *cancel, GError **error);
/* It belongs to the index. */
const ArchivePoint *index_point(const Index *index);
/* The member's first byte in its volume's packed bytes, its packed length, and the volume (from 0). */
gboolean index_member(Index *index, guint64 member, guint *volume, guint64 *packed_offset, guint32 *packed_length,
                      GError **error);
void index_close(Index *index);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Index, index_close)

/* All entries from the first whose path is not before `from` (NULL or "": all). The index must outlive it. */
IndexReader *index_read(Index *index, const char *from, gboolean from_is_directory, GError **error);
/* The next entry, valid until the next call: 1, 0 at the end, -1 on error. */
int index_reader_next(IndexReader *reader, IndexEntry *entry, GError **error);
void index_reader_free(IndexReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IndexReader, index_reader_free)

/* Reads the whole index and proves every block; counts entries through *entries (may be NULL). */
gboolean index_check(Index *index, guint64 *entries, GError **error);
