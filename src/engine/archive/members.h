/*
 * Contents out of archives: members are fetched, decrypted and expanded once, kept while they may be needed again, and
 * fetched ahead when they are read in order. Any number of threads read at once; memory is bounded.
 */
#pragma once

#include "engine/archive/chain.h"

typedef struct Members Members;

/* Reads from the archives of a chain, which must outlive it. memory: bytes of expanded members that are kept at most
 * (at least 8 members; 0: 64 MiB). */
Members *members_new(const ArchivePlace *place, Chain *chain, gsize memory, const CancelFlag *cancel, GError **error);
/* `length` bytes of the tar of point `number` at tar_offset, in order; write may not read from members itself. CORRUPT
 * names the volume and the member. */
gboolean members_read(Members *members, guint number, guint64 tar_offset, guint64 length, StoreWrite write,
                      gpointer user_data, GError **error);
/* Bytes of the tar of point `number`. */
guint64 members_tar_size(const Members *members, guint number);
/* No read may be running. NULL is a no-op. */
void members_free(Members *members);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Members, members_free)

/* The content of a regular file (INDEX_STORED, no link): data pieces go to write at their offsets, holes are not written.
 * The hash of the whole is proven: CORRUPT if it is another. */
typedef gboolean (*MembersWriteAt)(gpointer user_data, guint64 offset, const void *data, gsize length, GError **error);
gboolean members_content(Members *members, guint number, const IndexEntry *entry, MembersWriteAt write,
                         gpointer user_data, GError **error);
