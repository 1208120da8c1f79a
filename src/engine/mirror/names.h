/*
 * Names and sizes that a weak file system (FAT, exFAT, NTFS, a case-folding directory) cannot hold: found while planning,
 * so that they are warnings and not failures in the middle. For file systems that hold everything it costs nothing.
 * A NamesSeen belongs to the thread that looks at one directory.
 */
#pragma once

#include "fs/meta.h"
#include "fs/probe.h"

typedef struct NamesSeen NamesSeen;

/* For one directory; NULL if the file system tells upper from lower case. */
NamesSeen *names_seen_new(const FsAbilities *abilities);

/* Why `name` (with this metadata) cannot be kept on such a file system; NULL if it can. A name that differs only in case from one asked
 * about before is refused. Static text. seen may be NULL. */
const char *names_problem(const FsAbilities *abilities, NamesSeen *seen, const char *name, const FileMeta *meta);

void names_seen_free(NamesSeen *seen);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(NamesSeen, names_seen_free)
