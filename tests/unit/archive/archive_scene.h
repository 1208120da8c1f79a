/*
 * Archives for tests, made of files that lie in memory by nothing but the stream, the tar's headers and the writer of
 * indexes. What fails fails the test. One thread.
 */
#pragma once

#include "engine/archive/chain.h"
#include "engine/archive/tar_format.h"

/* One thing of an archive. path and mode have to be said; data is the whole content of a regular file. */
typedef struct {
    const char *path;
    guint32 mode; /* with the type; 0: S_IFREG | 0644 */
    const void *data;
    gsize length;
    const TarExtent *extents; /* of a sparse one: what of data is no hole */
    guint extent_count;
    const char *target, *link;
    const guint8 *attrs;
    gsize attrs_length;
    gboolean deleted; /* only in the index */
    gboolean hidden;  /* only in the tar */
} SceneFile;

typedef struct {
    ArchiveCodec codec;  /* 0: gzip */
    ArchiveType type;    /* 0: full */
    gint64 time;         /* 0: 1763604000 */
    guint64 volume_size; /* 0: one volume without a number */
    const ArchivePoint *parent;
    gboolean unhashed; /* the index knows no hashes */
    gboolean no_end;   /* the tar ends without the blocks of zeros */
} SceneOptions;

/* A key for places that are encrypted. */
extern const guint8 SCENE_KEY[];

/* Makes an archive of files (in the order of an index); it is encrypted if place has a key. The caller frees the point. */
ArchivePoint *scene_archive(const ArchivePlace *place, const SceneOptions *options, const SceneFile *files,
                            guint count);

/* `length` bytes of which no two KiB are alike; with the same seed the same. packs: they can be compressed to a half. The
 * caller frees. */
guint8 *scene_bytes(guint seed, gsize length, gboolean packs);

/* Turns the bit of a byte of an object around; from the end if at is negative. */
void scene_flip(Store *store, const char *key, gint64 at);
/* Cuts an object off. */
void scene_cut(Store *store, const char *key, gsize length);
