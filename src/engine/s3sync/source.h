/*
 * Reading one file of the source as it is, and noticing that it is not what it was.
 */
#pragma once

#include "engine/s3sync/job.h"

/* Opens the job's file for reading, without touching its access time where that is allowed, and takes its metadata. -1
 * if it cannot be read or is no regular file any more: then the warning was sent and the catalogue's row dropped,
 * unless *error is set. */
int source_open(S3Job *job, GError **error);

/* Reads exactly `length` bytes at `offset`. FALSE if there are fewer or they cannot be read; *errnum is 0 for fewer. */
gboolean source_read(int fd, guint8 *data, gsize length, guint64 offset, int *errnum);

/* TRUE if the open file is no longer what job->meta says; *now is what it is. */
gboolean source_changed(const S3Job *job, int fd, FileMeta *now);

/* SHA-256 of a range, read in pieces. FALSE as source_read. */
gboolean source_hash(int fd, guint64 offset, guint64 length, guint8 hash[HASH_BYTES], int *errnum);

/* A range of a file as what is to be sent. */
typedef struct {
    int fd;
    guint64 offset, length;
} SourceRange;
StoreBody source_body(SourceRange *range, const guint8 hash[HASH_BYTES]);

/* The file cannot be read (errnum; 0: it became shorter): warns, and drops the row. FALSE only on a catalogue's error.
 * */
gboolean source_lost(S3Job *job, int errnum, GError **error);
