/*
 * Members: pieces of a tar stream, each compressed for itself, so that several threads can work and any of them can be
 * read alone. gzip members (RFC 1952) one after another are one gzip file, zstd frames one zstd file. A Codec belongs to
 * one thread.
 */
#pragma once

#include "engine/archive/point.h"

typedef struct Codec Codec;

/* level: gzip 1 to 9 (1 by ISA-L where that is faster, the others by libdeflate), zstd 1 to 19; plain ignores it. NULL
 * with INVALID for another level. */
Codec *codec_new(ArchiveCodec codec, int level, GError **error);
/* The most that a member of `length` bytes can become. */
gsize codec_bound(const Codec *codec, gsize length);
/* Compresses into out, which has room for codec_bound; returns the length. With checksums inside (gzip's CRC-32, zstd's). */
gsize codec_pack(Codec *codec, const guint8 *data, gsize length, guint8 *out);
/* Expands one whole member of `length` bytes to exactly what it was: out has room for `size` bytes. CORRUPT if it is
 * damaged, or holds more or less than one member of that size. */
gboolean codec_unpack(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize size, GError **error);
void codec_free(Codec *codec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Codec, codec_free)

/* Without an index: expands the member that data begins with. *used: its length in data; *size: what it holds, at most
 * ARCHIVE_MEMBER_BYTES, for which out has room. 1; 0 if data ends before the member does; -1 with CORRUPT. A plain
 * archive's members have no ends: it takes what is there, up to a whole one. */
int codec_unpack_next(Codec *codec, const guint8 *data, gsize length, guint8 *out, gsize *used, gsize *size,
                      GError **error);
