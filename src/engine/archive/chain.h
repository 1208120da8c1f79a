/*
 * A point together with those it builds on: the tree as it was then. The points' indexes are merged by path, the newest
 * one that names a path tells of it. A Chain's indexes stay open; a ChainReader belongs to one thread.
 */
#pragma once

#include "engine/archive/index.h"

typedef struct Chain Chain;
typedef struct ChainReader ChainReader;

/* Opens a point and its parents down to the full one. CORRUPT if a parent is not the one that the child was made on,
 * NOT_FOUND if one is missing: then the message names it, and *broken (may be NULL) is TRUE. */
Chain *chain_open(const ArchivePlace *place, const char *base, const CancelFlag *cancel, gboolean *broken,
                  GError **error);
/* How many points; the newest is number 0, the full one the last. */
guint chain_length(const Chain *chain);
Index *chain_index(Chain *chain, guint number);
void chain_close(Chain *chain);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Chain, chain_close)

/* What there was at the point, in order, without what was deleted. from as index_read. */
ChainReader *chain_read(Chain *chain, const char *from, gboolean from_is_directory, GError **error);
/* The next, valid until the next call, and the number of the point whose archive tells of it: 1, 0, -1. */
int chain_reader_next(ChainReader *reader, IndexEntry *entry, guint *number, GError **error);
void chain_reader_free(ChainReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ChainReader, chain_reader_free)

/* The point that `at` names: NULL or "latest"; a base name, or a beginning of one that only one has; a date YYYY-MM-DD
 * (the newest not after the end of that day, local time); a time (RFC 3339 or YYYY-MM-DDTHHMMSSZ: the newest not after
 * it). Only archives with an index count. NOT_FOUND says which there are. The caller frees the base name. */
char *chain_choose(const ArchivePlace *place, const char *at, const CancelFlag *cancel, GError **error);
