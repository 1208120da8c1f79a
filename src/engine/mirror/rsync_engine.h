/*
 * `engine: rsync`: the same job through the rsync program, also to host:path and rsync:// destinations. The
 * transaction, kept versions and the marker do not apply; --delay-updates and --delete-delay are used instead.
 */
#pragma once

#include "engine/mirror/mirror.h"

/* TRUE if the destination is host:path, user@host:path or rsync://host/module/path, as rsync itself decides it. */
gboolean rsync_is_remote(const char *destination);

/* Runs it. As mirror_run; options that cannot be had with this engine (keep versions, confirm, ...) are INVALID by
 * name. */
gboolean rsync_run(const MirrorOptions *options, MirrorStats *stats, GError **error);
