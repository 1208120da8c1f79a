/*
 * Sends one file. What fits in one part is read into memory and put; more goes as a multipart upload, its parts in
 * parallel, unchanged ones copied inside the store; with encryption as one stream. A file that changes while it is
 * read is read again once.
 */
#pragma once

#include "engine/s3sync/job.h"

/* Uploads in the workers. Takes the job. */
void upload_file(S3Work *work);

/* The same with the file already open (taken); `again`: this is the second attempt. */
void upload_open(S3Job *job, int fd, gboolean again);

/* For the parts of this module. Multipart of a file over one part; takes both. */
void multipart_start(S3Job *job, int fd, gboolean again);
/* An encrypted upload. */
gboolean upload_sealed(S3Job *job, int fd, gboolean again, GError **error);

/* Counts an upload that is done, and its bytes. */
void upload_count(S3Job *job, guint64 sent, guint64 saved);
