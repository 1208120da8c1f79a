/*
 * The entries of a mirror as it was: its kept versions from a time on, each with what was replaced or deleted then, and
 * what is there now, merged. A path is as the first of them has it. One thread.
 */
#pragma once

#include "engine/restore/source.h"
#include "fs/spool.h"

/* A directory that is a layer of a state. */
typedef struct {
    char *path;       /* below the mirror's root; "": the mirror itself */
    gboolean present; /* what is there now, not a kept version */
} MirrorLayer;

/* Merges the layers, and what the sidecar has of the present one: the oldest first, the present one last, into a spool of entries (entry_encode with ""), a directory
 * right before all below it. The key of an entry is where its content lies, below the mirror's root. *partial is TRUE if
 * something could not be read, which is a warning. *granularity_ns: how exactly the times of the files there are kept. */
Spool *mirror_state_merge(int root_fd, const GArray *layers, const RestoreSourceOptions *options, gboolean *partial,
                          guint64 *granularity_ns, GError **error);
