/*
 * What a mirror keeps of its entries because its file system cannot: .backapp/sidecar, read from the first record to the
 * last (docs/formats/mirror.md). One thread.
 */
#pragma once

#include "engine/source/entry.h"

/* One record: path, metadata (of a regular file its size), owners' names, target, link, attributes. unsure: what lies at
 * the path may be something else. FALSE with an error ends the reading. */
typedef gboolean (*MirrorSidecarFunc)(const S3Entry *record, gboolean unsure, gpointer user_data, GError **error);

/* Calls func for each record of the mirror in root_fd; for none if there is no sidecar. *granularity_ns gets how exactly its
 * file system keeps times (1 without a sidecar). CORRUPT if it is damaged: then func was called for what comes before. */
gboolean mirror_sidecar_read(int root_fd, MirrorSidecarFunc func, gpointer user_data, guint64 *granularity_ns,
                             GError **error);
