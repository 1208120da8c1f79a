/*
 * The metadata tree of a run: the plan's entries with what the catalogue says of their objects now. What could not be
 * stored and is not in the bucket is left out; what lies below a directory that could not be read is taken over from
 * the newest root.
 */
#pragma once

#include "engine/s3sync/run.h"
#include "engine/s3sync/tree.h"

gboolean record_tree(S3Run *run, S3Plan *plan, const ScanStats *scan, TreeWriter *writer, GError **error);

/* FALSE with INVALID, which says that the place holds a copy of the other kind: an encrypted one, or a plain one. */
gboolean record_other_kind(gboolean encrypted, const Store *store, GError **error);

/* The same of a place whose catalogue does not say which kind it is: the newest root is asked. */
gboolean record_check_kind(Store *store, const guint8 *content_key, GError **error);

/* Fills an empty catalogue with what the newest root says, so that not each object has to be looked at. A damaged one
 * is no error; one that is of the other kind (encrypted without a key, plain with one) is INVALID. */
gboolean record_rebuild(Catalogue *catalogue, Store *store, const guint8 *content_key, GError **error);
