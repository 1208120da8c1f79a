/*
 * Which of a point's entries are asked for: all, or those at and below some paths, with the folders above them. One thread
 * makes and goes through it; what it holds may be asked from any thread.
 */
#pragma once

#include "engine/restore/source.h"

typedef struct Selection Selection;

/* paths: NULL-terminated; NULL or empty: all. */
Selection *selection_new(const char *const *paths);
/* TRUE if the path is one of those asked for or below one. */
gboolean selection_has(const Selection *selection, const char *path);
void selection_free(Selection *selection);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Selection, selection_free)

/* Calls func for each entry, a folder before all below it; `parent`: only because it is above one that is asked for.
 * NOT_FOUND names a path that the point does not have; CORRUPT if an entry's path or link would lead outside of where it is
 * put. */
typedef gboolean (*SelectionFunc)(const RestoreEntry *entry, gboolean parent, gpointer user_data, GError **error);
gboolean selection_each(const Selection *selection, RestoreSource *source, const CancelFlag *cancel, SelectionFunc func,
                        gpointer user_data, GError **error);

/* TRUE if path is folder or below it; everything is below "". */
gboolean selection_is_below(const char *path, const char *folder);
