/*
 * Copying a regular file's data: reflink, then copy_file_range, then read and write. Holes stay holes. Any thread;
 * descriptors stay the caller's.
 */
#pragma once

#include "base/cancel.h"
#include "base/rate.h"

typedef struct {
    Rate *rate;               /* bytes are taken from it before they are written; may be NULL */
    const CancelFlag *cancel; /* looked at every few MiB; may be NULL */
    void (*progress)(guint64 bytes, gpointer user_data); /* called with the bytes just copied; may be NULL */
    gpointer user_data;
    gboolean no_reflink; /* never share blocks with the source */
} CopyOptions;

typedef struct {
    guint64 copied;         /* bytes of data that were written or cloned; holes excluded */
    gboolean reflinked;     /* the data is shared, nothing moved */
    gboolean shrunk;        /* the source ended before `size` */
    gboolean source_failed; /* when FALSE was returned: it was the source that could not be read */
} CopyResult;

/* Copies the first `size` bytes of src_fd to dst_fd, which is empty and open for writing (O_RDWR if no reflink from
 * above is possible). `blocks` is the source's st_blocks: if it says that there are holes they are found by SEEK_HOLE
 * and not written. The destination ends with exactly the size copied. Small files are one read and one write. A source
 * that grows is cut at `size`; one that shrinks sets shrunk. NO_SPACE, CANCELLED, or INTERNAL with the errno's text on
 * failure. */
gboolean copy_data(int src_fd, int dst_fd, guint64 size, guint64 blocks, const CopyOptions *options, CopyResult *result,
                   GError **error);

/* Makes dst_fd's content equal src_fd's first `size` bytes by rewriting only the blocks (64 KiB) that differ; then
 * truncates. For a clone of the old version. result->copied counts bytes written. */
gboolean copy_changed_blocks(int src_fd, int dst_fd, guint64 size, const CopyOptions *options, CopyResult *result,
                             GError **error);

/* Shares all data of src_fd with the empty dst_fd (FICLONE). FALSE without an error if the file systems cannot. */
gboolean copy_try_reflink(int src_fd, int dst_fd);

/* Compares two descriptors' first `size` bytes. *same is set; FALSE on a read error. */
gboolean copy_same_content(int a_fd, int b_fd, guint64 size, const CancelFlag *cancel, gboolean *same, GError **error);
