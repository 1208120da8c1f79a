/*
 * A row of archives as a source of restores: entries from the chain of a point's indexes, contents by ranges of volumes.
 * For source.c.
 */
#pragma once

#include "engine/archive/point.h"
#include "engine/restore/source.h"

/* Opens the point that options->at names of the archives called `name`. */
RestoreSource *archive_source_open(const RestoreSourceOptions *options, const char *name, GError **error);

/* Appends the points of the archives called `name`. */
gboolean archive_source_list(const RestoreSourceOptions *options, const char *name, GPtrArray *points, GError **error);
