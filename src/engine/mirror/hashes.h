/*
 * The record of proofs, .backapp/hashes (docs/formats/mirror.md).
 */
#pragma once

#include "engine/mirror/destination.h"

/* Notes that the records of these paths (of char *, below the destination) no longer count, because a run rewrites the files in
 * place. Durable when it returns TRUE. Nothing to do for an empty list. */
gboolean hashes_drop(Destination *dest, const GPtrArray *paths, GError **error);
