/*
 * An open index, for index_*.c and chain.c. Any thread, but for what the lock covers.
 */
#pragma once

#include "engine/archive/index_format.h"
#include "engine/archive/object.h"

/* So many expanded blocks of members are kept. */
#define INDEX_MEMBER_BLOCKS 8

typedef struct {
    guint block;    /* its number in blocks */
    GArray *places; /* of IndexMember; NULL: none is kept here */
    guint64 used;   /* when it was used last */
} IndexMemberBlock;

struct Index {
    ArchivePoint *point;
    ArchiveObject *object;
    char *shown; /* "NAME/BASE.index", for messages */
    gboolean encrypted;
    guint64 footer_offset;
    IndexSpan table_span;
    /* The end of the index, read at the beginning: small ones lie in it as a whole. */
    guint64 tail_offset;
    GByteArray *tail;

    GMutex lock; /* of all below, but the table once it is there */
    gboolean has_table;
    GByteArray *table;
    GArray *blocks; /* of IndexBlock: first those of entries, then those of members */
    guint entry_blocks;
    IndexMemberBlock kept[INDEX_MEMBER_BLOCKS];
    guint64 clock;
};

/* Reads the table if that was not done yet. After it blocks and entry_blocks may be read without the lock. */
gboolean index_load_table(Index *index, GError **error);
/* Bytes of the index. */
gboolean index_fetch(Index *index, guint64 offset, gsize length, guint8 *out, GError **error);
/* Puts the index's name and the block's number before a message. Returns FALSE. */
gboolean index_bad_block(const Index *index, guint block, GError **error);
/* Reads and proves a block of members into a new array of IndexMember. */
GArray *index_read_members(Index *index, guint block, GError **error);
/* Proves the index's first bytes. */
gboolean index_check_magic(Index *index, GError **error);

/* index_read with at most `window` bytes of stored blocks read ahead. */
IndexReader *index_read_window(Index *index, const char *from, gboolean from_is_directory, gsize window,
                               GError **error);
