/*
 * The names of one directory in the order of their keys, a directory's with a slash at its end. Up to 200,000 names are
 * held in memory (the bytes of key segment and, where it differs, name, and 7 more each); beyond that sorted runs go to
 * temporary files and are merged while they are read (64 KiB a run). One thread.
 */
#pragma once

#include "base/cancel.h"
#include "engine/source/names.h"

typedef struct ScanNames ScanNames;

typedef struct {
    const char *name;
    const char *segment; /* last part of the key */
    gboolean directory;
} ScanName;

/* Reads all names of dir_fd, whose key is parent_key. temp_fd as for spool_new. INVALID beyond 50,000,000 names. */
ScanNames *scan_names_read(int dir_fd, const S3Names *names, const char *parent_key, int temp_fd,
                           const CancelFlag *cancel, GError **error);

/* The next one, valid until the next call: 1, 0 at the end, -1 on error. */
int scan_names_next(ScanNames *scan, ScanName *name, GError **error);

void scan_names_free(ScanNames *scan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ScanNames, scan_names_free)
