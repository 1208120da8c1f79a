/*
 * An S3 mirror as a source of restores: the list of files that a root in the store names, and contents found where they are
 * now (under their keys, as old versions, in the trash), fetched and decrypted. For source.c, s3_*.c and points.c.
 */
#pragma once

#include "engine/restore/source.h"
#include "engine/s3sync/content.h"
#include "engine/s3sync/tree.h"

typedef struct {
    RestoreSource source;
    RestoreSourceOptions options;
    Store *store;
    S3Keys keys;
    const guint8 *content_key; /* NULL: not encrypted */
    TreeReader *tree;
    GMutex lock;
    GPtrArray *times; /* at which something went to the trash: of char *, ascending; NULL: not listed yet; under lock */
} S3Source;

/* Opens the point that options->at names among the roots (of tree_list_roots; at least one). */
RestoreSource *s3_source_open(const RestoreSourceOptions *options, const GPtrArray *roots, GError **error);

/* The content of an entry; as restore_source_fetch. Any thread. */
gboolean s3_source_content(S3Source *self, const S3Entry *entry, RestoreFetch *fetch, GError **error);

/* Appends the points of the mirror in a folder of the store to points; NULL: in the store itself. */
gboolean s3_source_list(const RestoreSourceOptions *options, const char *folder, GPtrArray *points, GError **error);
