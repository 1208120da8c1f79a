/*
 * The content of a file from the store: found where it is now (under its key, as an old version, in the trash), fetched,
 * decrypted, and proven against the hash that the point has of it. Any thread.
 */
#pragma once

#include "engine/restore/run.h"

/* Where replaced and deleted objects went; filled when it is first needed. */
RestoreTrash *restore_trash_new(void);
void restore_trash_free(RestoreTrash *trash);

/* Writes the content of a regular file to fd, an empty file; to the disk too if it ends in a hole. NOT_FOUND: the store has it no more; CORRUPT: it is not what
 * was backed up; CONFLICT: it is cold (*cold) and has to be thawed first, which was asked for if the options say so. */
gboolean content_fetch(RestoreRun *run, const S3Entry *entry, int fd, gboolean *cold, GError **error);

/* TRUE in *equal if the open file has the content that the point knows the hash of (FALSE too if it knows none). */
gboolean content_matches(RestoreRun *run, const S3Entry *entry, int fd, gboolean *equal, GError **error);
