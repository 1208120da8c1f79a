/*
 * The bytes of an index: its blocks, the table of them, the footer and the tail. For index_*.c and the fuzzer;
 * docs/formats/archive.md describes every byte. What is read is bounded before memory is taken for it. Values and pure
 * functions; any thread.
 */
#pragma once

#include "base/error.h"
#include "engine/archive/index.h"

#define INDEX_MAGIC       "BAINDEX1"
#define INDEX_MAGIC_BYTES 8
#define INDEX_TAIL_BYTES  56

/* Where a block of entries ends when its raw bytes reach this. */
#define INDEX_BLOCK_BYTES (64 * 1024)
/* The most raw bytes of a block: one entry may have 8 MiB of path, as much of link, 32 MiB of attributes. */
#define INDEX_BLOCK_MAX ((gsize)64 << 20)
#define INDEX_TABLE_MAX ((gsize)512 << 20)
/* Of the footer, as stored. */
#define INDEX_FOOTER_MAX ((gsize)4 << 20)
/* Of the members of an archive so many have their lengths in one block. */
#define INDEX_BLOCK_MEMBERS 16384
/* The longest packed member that is believed. */
#define INDEX_MEMBER_MAX (2 * ARCHIVE_MEMBER_BYTES)

/* Something compressed and where it lies in the index. */
typedef struct {
    guint64 offset;
    guint64 stored, raw;     /* bytes, as it lies there and expanded */
    guint8 hash[HASH_BYTES]; /* SHA-256 of the stored bytes */
} IndexSpan;

typedef struct {
    IndexSpan span;
    gboolean members; /* lengths of members; else entries */
    guint64 count;    /* of either */
    /* Of entries: the first one's path (in the bytes that the table was read from) and whether it is a directory. */
    const char *path;
    gboolean directory;
    /* Of members: the first one's number, its volume (from 0) and its place in the volume's packed bytes. */
    guint64 member, packed_offset;
    guint volume;
} IndexBlock;

/* Appends data as a zlib stream (RFC 1950) to out and fills all of *span but the offset. FALSE with TRANSIENT if memory
 * runs out. `packer`: of index_packer_new. */
typedef struct IndexPacker IndexPacker;
IndexPacker *index_packer_new(void);
gboolean index_pack(IndexPacker *packer, const guint8 *data, gsize length, GByteArray *out, IndexSpan *span,
                    GError **error);
void index_packer_free(IndexPacker *packer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IndexPacker, index_packer_free)
/* Expands what lies in a span into out (resized to it). CORRUPT says what is wrong with it, not where it is. */
gboolean index_unpack(const IndexSpan *span, const guint8 *stored, GByteArray *out, GError **error);

/* One line of the table; and all of them, of IndexBlock, that lie one after another from INDEX_MAGIC_BYTES to `end`. The
 * raw bytes must outlive them. */
void index_table_put(GByteArray *table, const IndexBlock *block);
gboolean index_table_read(const guint8 *raw, gsize length, guint64 end, GArray *blocks, GError **error);

/* The footer: a point and the table's place, as one line of JSON. INVALID, INTERNAL if the point is none. */
GByteArray *index_footer_print(const ArchivePoint *point, const IndexSpan *table, GError **error);
/* CORRUPT, or INVALID if it is of a newer version. Its hash stays zero. */
ArchivePoint *index_footer_parse(const guint8 *data, gsize length, IndexSpan *table, GError **error);
/* FALSE (with `code`) if numbers of a point do not fit each other. */
gboolean index_point_check(const ArchivePoint *point, BackappError code, GError **error);

/* The tail: appends it; reads it from its INDEX_TAIL_BYTES. CORRUPT if it is none. */
void index_tail_put(GByteArray *out, guint64 footer_offset, guint32 footer_length, const guint8 hash[HASH_BYTES]);
gboolean index_tail_read(const guint8 *tail, guint64 *footer_offset, guint32 *footer_length, guint8 hash[HASH_BYTES],
                         GError **error);

/* Where a member lies. */
typedef struct {
    guint64 offset; /* in its volume's packed bytes */
    guint32 length;
    guint volume;
} IndexMember;

/* Reads the raw bytes of a block of members of this point: `places` gets an IndexMember for each. CORRUPT if they do not
 * fit the volumes. */
gboolean index_members_read(const guint8 *raw, gsize length, const IndexBlock *block, const ArchivePoint *point,
                            GArray *places, GError **error);
