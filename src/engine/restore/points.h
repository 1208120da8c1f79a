/*
 * Choosing the point to restore. Any thread.
 */
#pragma once

#include "engine/restore/restore.h"
#include "engine/s3sync/tree.h"

/* Opens the point that `at` names (restore.h says how). NOT_FOUND if there is none: the message says which there are, or
 * that the store holds no backup of ours. */
TreeReader *points_open(Store *store, const char *at, const guint8 *content_key, GError **error);
