/*
 * What is in the target under the name of an entry, and what follows from it. Any thread.
 */
#pragma once

#include "engine/restore/run.h"

typedef enum {
    EXISTING_NONE,    /* nothing is there */
    EXISTING_RIGHT,   /* it is as it should be */
    EXISTING_META,    /* only its metadata differs */
    EXISTING_REPLACE, /* it differs and is to be replaced */
    EXISTING_ASIDE,   /* likewise, but it is kept under another name */
    EXISTING_LEAVE,   /* it differs and stays, as the conflict policy says */
} Existing;

/* Looks at `base` in dir_fd. inode: the number that a further name must have, NULL if that is not asked. *have (may be
 * NULL) gets the metadata of what is there, if something is. A file whose content is to be compared and cannot be read
 * differs. FALSE if nothing can be found out, or CANCELLED. */
gboolean existing_compare(RestoreRun *run, int dir_fd, const char *base, const S3Entry *entry, const guint64 *inode,
                          Existing *existing, FileMeta *have, GError **error);

/* The table for RestoreRun.proven, empty. */
GHashTable *existing_proven_new(void);

/* What the conflict policy says of something that is there and differs. */
Existing existing_policy(const RestoreRun *run, const S3Entry *entry, const FileMeta *have);

/* The attributes of an entry; NULL with CORRUPT. Freed with attrs_free. */
const Attrs *existing_entry_attrs(const S3Entry *entry, GError **error);
