/*
 * What the tests of whole runs share: a source, a place for catalogues, a store whose requests can be counted, broken
 * off or answered by a kill, and a comparison of bucket and newest root with the source. One thread; what the hooks
 * count may come from many.
 */
#pragma once

#include "../base/cmocka_all.h"
#include "../mirror/collector.h"
#include "engine/s3sync/s3sync.h"
#include "engine/s3sync/tree.h"
#include "store/drivers.h"

typedef struct {
    char *path, *source, *state, *bucket; /* directories; bucket for a local store */
    int source_fd;
    Store *store;
    Collector *collector;
    S3syncOptions options;
    S3syncStats stats;
} Scene;

/* A scene with a store in memory, or (local) in a directory. */
Scene *scene_new(gboolean local);
void scene_free(Scene *scene);

/* Makes a file of `size` bytes that depend on seed; parents are made. mtime: seconds since 1970, 0: now. */
void scene_file(Scene *scene, const char *path, gsize size, guint seed, gint64 mtime);
/* Writes `length` bytes into an existing file at an offset. */
void scene_edit(Scene *scene, const char *path, gsize offset, const char *text);
void scene_remove(Scene *scene, const char *path);

/* Runs; the outcome is in scene->stats. */
gboolean scene_run(Scene *scene, GError **error);
/* Runs, which has to succeed. */
void scene_sync(Scene *scene);

/* Fails unless the objects below prefix (our own aside) and the newest root are the source. */
void scene_check(Scene *scene, const char *prefix);

/* Facts of the bucket. */
gboolean scene_has(Scene *scene, const char *key);
guint scene_count(Scene *scene, const char *prefix);
char *scene_get(Scene *scene, const char *key, gsize *length);
/* The key of the only object below prefix that ends so; the caller frees. NULL if there is none. */
char *scene_find(Scene *scene, const char *prefix, const char *suffix);

/* Requests that change the bucket, since the hooks were set. */
guint64 scene_writes(Scene *scene);

/* Hooks every request of the store: after `count` boundaries (each request has one before and one after it) the process
 * kills itself (kill), or all later requests fail with TRANSIENT. 0: only counts. */
void scene_hook(Scene *scene, guint count, gboolean kill);
/* Boundaries that were passed. */
guint scene_boundaries(void);
/* Ends the effect of scene_hook. */
void scene_unhook(Scene *scene);
