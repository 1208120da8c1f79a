/*
 * Reads an archive from its first member to its last, whatever state its volumes are in: several threads fetch and expand
 * ahead, the calling one gets everything in order. Memory: 16 MiB for each thread and for two more.
 */
#pragma once

#include "engine/archive/index.h"

/* The size of a volume that is not there. */
#define SWEEP_MISSING G_MAXUINT64

typedef struct {
    const ArchivePlace *place;
    Index *index;
    const guint64 *sizes; /* of each volume, as it is in the store now; or SWEEP_MISSING */
    guint threads;        /* at least 1 */
    const CancelFlag *cancel;
    /* What lies in a volume, unless it is encrypted; data NULL: that much could not be read. FALSE ends the sweep. */
    gboolean (*packed)(gpointer user_data, guint volume, const guint8 *data, gsize length, GError **error);
    /* A member of `size` bytes that begins at tar_offset; data NULL: it is damaged (or its volume is missing), and why. */
    gboolean (*member)(gpointer user_data, guint volume, guint64 tar_offset, const guint8 *data, gsize size,
                       const GError *why, GError **error);
    gpointer user_data;
} SweepOptions;

/* Damage is no error; FALSE if the store cannot be read now, or a function ended it. */
gboolean sweep_run(const SweepOptions *options, GError **error);
