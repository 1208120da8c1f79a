/*
 * Proving one file: reading it from the mirror, and its source if there is no record. Any thread.
 */
#pragma once

#include "base/rate.h"
#include "engine/mirror/hashes.h"
#include "fs/meta.h"

typedef enum {
    VERIFY_PROVEN,   /* equal to its record */
    VERIFY_RECORDED, /* equal to its source: hash is new */
    VERIFY_UNPROVEN, /* nothing to compare with */
    VERIFY_DAMAGED,  /* differs from its record or its source, or cannot be read; message says how */
    VERIFY_GONE,     /* vanished since the walk saw it */
    VERIFY_MISSING,  /* has a record and is not in the mirror */
} VerifyVerdict;

/* Where sources are; read by all threads. */
typedef struct {
    int root_fd;
    GArray *source_fds; /* of int; empty: no sources */
    char **folders;     /* as source_folders of engine/source */
    Rate *rate;
    const CancelFlag *cancel;
    gboolean check_inode;   /* inode numbers are stable there */
    guint64 granularity_ns; /* of the mirror's times */
    void (*progress)(guint64 bytes, gpointer user_data);
    gpointer user_data;
} VerifyContext;

/* One file, filled by the walk; owned by who made it. */
typedef struct {
    char *path;
    FileMeta meta;
    gboolean has_record; /* and it counts (size, time, inode as they are) */
    guint8 recorded[HASH_BYTES];
    VerifyVerdict verdict; /* result */
    guint8 hash[HASH_BYTES];
    char *message; /* for DAMAGED and UNPROVEN; owned */
} VerifyItem;

/* TRUE if the sources are known and none of them has a file at this path of the mirror any more. */
gboolean verify_is_gone_from_source(const VerifyContext *context, const char *path);

/* Proves the item. FALSE only with CANCELLED. */
gboolean verify_file(const VerifyContext *context, VerifyItem *item, GError **error);
