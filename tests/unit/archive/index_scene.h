/*
 * Trees as a model for tests of indexes and chains, and indexes written from them. One thread.
 */
#pragma once

#include "engine/archive/index.h"

typedef struct {
    char *path;
    gboolean directory;
    char *target; /* of a symlink; else NULL */
    gint64 mtime;
    guint64 size, tar_offset;
    guint flags;
    guint8 hash[HASH_BYTES];
} SceneItem;

void scene_item_free(SceneItem *item);
SceneItem *scene_item_copy(const SceneItem *item);
/* A changed content: size, time, hash, place. */
void scene_touch(SceneItem *item, GRand *random);
/* A random name's length is 1 to 20 bytes, of characters that sort around the slash. Below parent (may be ""). */
SceneItem *scene_item_new(GRand *random, const char *parent, gboolean directory);

/* A tree of that many items (SceneItem *) with its root, in order, no path twice. Freed with the array. */
GPtrArray *scene_tree(GRand *random, guint count);
/* Sorts items in the order of an index, by another way than the index's. */
void scene_sort(GPtrArray *items);

void scene_fill(const SceneItem *item, IndexEntry *entry);
/* TRUE if the entry is what scene_fill makes of the item. */
gboolean scene_same(const SceneItem *item, const IndexEntry *entry);

/* The tar size of points that scene_point makes. */
#define SCENE_MEMBERS  40000
#define SCENE_TAR_SIZE ((guint64)SCENE_MEMBERS * ARCHIVE_MEMBER_BYTES)

/* A point with three volumes of SCENE_MEMBERS members; *lengths gets them (guint32), of random size. */
ArchivePoint *scene_point(const ArchivePlace *place, const char *base, GRand *random, GArray **lengths);
/* Writes the items as the index of a point, which is returned. NULL with the error. */
ArchivePoint *scene_write(const ArchivePlace *place, const char *base, const GPtrArray *items, ArchivePoint *parent,
                          GRand *random, GError **error);
