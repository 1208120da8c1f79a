/*
 * Sorts any number of records in bounded memory: what does not fit goes to temporary files in sorted runs, which are
 * merged while they are read. Equal records keep the order in which they were put. One thread.
 */
#pragma once

#include <glib.h>

typedef struct Sorter Sorter;

/* As strcmp. */
typedef int (*SorterCompare)(const guint8 *a, gsize a_length, const guint8 *b, gsize b_length);

/* memory: bytes of records that are held at most (0: 16 MiB); about 4 MiB more while runs are merged. */
Sorter *sorter_new(SorterCompare compare, gsize memory);
/* Adds one record of at most 16 MiB (INVALID beyond). */
gboolean sorter_put(Sorter *sorter, const void *data, gsize length, GError **error);
/* No more records: from now on they are read. */
gboolean sorter_finish(Sorter *sorter, GError **error);
/* The next record in order, valid until the next call: 1, 0 at the end, -1 on error. */
int sorter_next(Sorter *sorter, const guint8 **data, gsize *length, GError **error);
/* NULL is a no-op. */
void sorter_free(Sorter *sorter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sorter, sorter_free)
