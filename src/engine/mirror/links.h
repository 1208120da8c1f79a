/*
 * Which names shall be one file: for every hard-linked inode of the sources its first name in plan order, and which
 * inodes of the destination are taken by whom. About 100 bytes and the path for each hard-linked inode; nothing for
 * others. One thread.
 */
#pragma once

#include "engine/mirror/compare_dir.h"

typedef struct Links Links;

typedef enum {
    LINKS_KEEP, /* what is there is the right inode: nothing but perhaps metadata (see verdict) */
    LINKS_COPY, /* needs an inode of its own: copy the file anew */
    LINKS_LINK, /* a further name of *target */
} LinksDecision;

Links *links_new(gboolean hard_links);

/* Decides about one found file at `path`, in plan order. *target (LINKS_LINK) stays valid until links_free. */
LinksDecision links_decide(Links *links, const char *path, const Found *found, const char **target);

/* For a destination that cannot hold hard links: the first name of the group that a file with several names is in, valid
 * until links_free; NULL for that one itself and for others. Not for files that links_decide was asked about. */
const char *links_first_name(Links *links, const char *path, const FileMeta *want);

void links_free(Links *links);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Links, links_free)
