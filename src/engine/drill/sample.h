/*
 * Choosing files of a point in one pass over its entries: the newest, the largest, and random ones (a reservoir). Memory
 * is bounded by the size of the sample. One thread.
 */
#pragma once

#include <glib.h>

#include "engine/restore/source.h"

typedef struct Sample Sample;

/* each: how many of each kind. max_bytes: larger files are never chosen. */
Sample *sample_new(guint each, guint64 max_bytes, guint32 seed);
/* Looks at the next entry; all but regular files and their first names are passed over. */
void sample_offer(Sample *sample, const RestoreEntry *entry);
/* Regular files and their bytes that were offered. */
void sample_totals(const Sample *sample, guint64 *files, guint64 *bytes);
/* What was chosen (of RestoreEntry *, which live as long as the sample; the array is the caller's), no file twice, of all
 * kinds in turn, together at most max_bytes. */
GPtrArray *sample_take(Sample *sample, GError **error);
void sample_free(Sample *sample);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sample, sample_free)
