/*
 * The object that an index is written to: bytes go in front to back, are encrypted if there is a key, and leave by parts
 * as soon as there are enough for one, or in one request at the end. One thread.
 */
#pragma once

#include "engine/archive/point.h"

typedef struct IndexOutput IndexOutput;

/* An object `key` of the place. associated: NULL, not encrypted; else with the place's key. storage_class may be NULL. */
IndexOutput *index_output_new(const ArchivePlace *place, const char *key, const char *associated,
                              const char *storage_class, const CancelFlag *cancel, GError **error);
gboolean index_output_write(IndexOutput *output, const guint8 *data, gsize length, GError **error);
/* Makes it an object; *stored: its bytes. */
gboolean index_output_finish(IndexOutput *output, guint64 *stored, GError **error);
/* What was not finished leaves nothing. NULL is a no-op. */
void index_output_free(IndexOutput *output);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(IndexOutput, index_output_free)
