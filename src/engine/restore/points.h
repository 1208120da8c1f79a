/*
 * Lists of points, and choosing one. Any thread.
 */
#pragma once

#include "engine/restore/source.h"

/* An empty list (of RestorePoint *, freed with it). */
GPtrArray *points_new(void);
/* Appends a point, which stays the list's, for the caller to fill in. */
RestorePoint *points_add(GPtrArray *points, const char *name, gint64 time);

/* The one that `at` names in a list, newest first: by its name, or the newest that is not after the time. NOT_FOUND says
 * which there are. */
gboolean points_choose(const GPtrArray *points, const char *at, guint *number, GError **error);

/* NOT_FOUND: nothing is called so, and it is no time. Always FALSE. */
gboolean points_no_name(const char *at, GError **error);
