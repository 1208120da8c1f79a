/*
 * Numbers of a summary as words: what the summaries of the kinds of jobs are made of. Pure functions; one thread.
 */
#pragma once

#include <glib.h>
#include <jansson.h>

/* A number of the object; 0 if it is not there. object may be NULL. */
guint64 summary_count_of(const json_t *object, const char *key);

/* BEFORE, the number as "1,234" or the size as "1.2 MiB", AFTER. */
void summary_append_count(GString *out, const char *before, guint64 count, const char *after);
void summary_append_size(GString *out, const char *before, guint64 bytes, const char *after);

/* A line for a number that is only worth one if it is not 0. */
void summary_append_if_any(GString *out, const json_t *object, const char *key, const char *one, const char *many);
