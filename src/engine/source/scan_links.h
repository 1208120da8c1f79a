/*
 * Which names are one file: for every inode with several names the first one in the order of the scan, until as many
 * names as it has were seen. About 80 bytes and the path for each inode that waits. One thread.
 */
#pragma once

#include "fs/meta.h"

typedef struct ScanLinks ScanLinks;

ScanLinks *scan_links_new(void);

/* The first name of this inode if `path` is a further one, else NULL. Valid until the next call. */
const char *scan_links_first(ScanLinks *links, const FileMeta *meta, const char *path);

void scan_links_free(ScanLinks *links);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ScanLinks, scan_links_free)
