/*
 * The headers of a tar in the pax format (POSIX.1-2001), as GNU tar and libarchive read them: a pax header wherever
 * ustar's fields cannot say it (long names, sizes over 8 GiB, times with nanoseconds), SCHILY.xattr.* and
 * SCHILY.acl.access/default as text, GNU sparse format 1.0. Names are the bytes that they are, in no character set: long
 * ones that are not ASCII stand in GNU's 'L' and 'K' headers, before the pax header. Values; any thread.
 */
#pragma once

#include "engine/source/entry.h"

#define TAR_BLOCK 512

/* The most pieces of one sparse file. */
#define TAR_EXTENTS_MAX (16u * 1024 * 1024)
/* A file whose holes have more bytes together is not archived. */
#define TAR_HOLES_MAX ((guint64)64 << 40)
/* A piece of a file that is no hole. */
typedef struct {
    guint64 offset, length;
} TarExtent;

/* Appends the headers of an entry. What follows them of a regular file without entry->link: of a sparse one (extents, in
 * ascending order; NULL: not sparse) the map (tar_put_map), then tar_content_size bytes of content, then tar_padding of
 * these. The size in the headers counts the map. Paths are written as they are; the root ("") is "./". Of entry->link
 * there is a hard link without content. FALSE with INVALID for what a tar cannot hold (a socket), and for
 * more than TAR_EXTENTS_MAX pieces; CORRUPT if the entry's attributes cannot be read. On an error out is as it was.
 * Attributes of more than 1 MB together are not all in the tar, as libarchive would read no further; the index has them. */
gboolean tar_put_header(const S3Entry *entry, const TarExtent *extents, guint count, GByteArray *out, GError **error);
/* Appends the map of a sparse file, with its padding to a whole block. NOT part of what tar_put_header appends. A hole at
 * the file's end is in it as a last piece of no bytes. */
void tar_put_map(const S3Entry *entry, const TarExtent *extents, guint count, GByteArray *out);
/* Bytes of content behind the headers and the map: the size, or the extents' sum. */
guint64 tar_content_size(const S3Entry *entry, const TarExtent *extents, guint count);
/* Zeros behind `size` bytes up to a whole block. */
guint tar_padding(guint64 size);
/* The two blocks of zeros that end a tar. */
#define TAR_END_BYTES (2 * TAR_BLOCK)

/* Reads the map that a sparse file's content begins with: appends TarExtents to extents; *used: its length with padding.
 * 1; 0 if data ends before the map does (then extents is as it was); -1 with CORRUPT (not ascending, beyond `size`, more than
 * TAR_EXTENTS_MAX pieces). */
int tar_read_map(const guint8 *data, gsize length, guint64 size, GArray *extents, gsize *used, GError **error);
