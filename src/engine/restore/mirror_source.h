/*
 * A local mirror with its kept versions as a source of restores. A point is the state that a run found before it changed
 * the mirror, as far as it was kept, or the present one. For source.c and mirror_*.c.
 */
#pragma once

#include "engine/restore/source.h"

/* TRUE if the directory is a mirror of ours. */
gboolean mirror_source_is_one(const char *directory);

RestoreSource *mirror_source_open(const RestoreSourceOptions *options, GError **error);

/* Appends the mirror's points. */
gboolean mirror_source_list(const RestoreSourceOptions *options, GPtrArray *points, GError **error);
