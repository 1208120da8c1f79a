/*
 * Patch files for --inplace: the blocks (64 KiB) of a new version that differ from the file that is there, with their
 * offsets, checksums and the new size. Written to the stage, applied after the commit point, any number of times with
 * the same result (a redo log, so no undo is needed). Any thread.
 */
#pragma once

#include "fs/copy.h"

/* Compares src_fd's first `size` bytes with old_fd block by block and writes the differing ones to the empty file
 * patch_fd. result->copied counts their bytes; result->shrunk as in copy.h. */
gboolean patch_make(int src_fd, int old_fd, int patch_fd, guint64 size, const CopyOptions *options, CopyResult *result,
                    GError **error);

/* Applies a patch to the file open for reading and writing, truncates it to the new size, fsyncs. CORRUPT if the patch
 * is damaged (checked before anything is written). */
gboolean patch_apply(int patch_fd, int file_fd, GError **error);
