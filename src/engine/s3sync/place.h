/*
 * Where a destination's catalogue lies on this machine, and what was the newest date before a dated prefix.
 */
#pragma once

#include "engine/s3sync/catalogue.h"
#include "engine/s3sync/s3sync.h"

/* The catalogue of a prefix, made if it is missing (then filled from the newest root, if there is one). */
Catalogue *place_catalogue(const char *state_dir, Store *bucket, const char *prefix, const guint8 *content_key,
                           gboolean *fresh, gboolean *unfinished, GError **error);

/* The newest other date that has a root: the one of the last run, else of the 31 days before. *prefix and *catalogue
 * stay NULL if there is none. The caller frees both. */
gboolean place_base(const S3syncOptions *options, const char *common, const char *prefix, const guint8 *content_key,
                    char **base_prefix, Catalogue **catalogue, GError **error);

/* Remembers the prefix of a run that is complete, and removes the catalogue of the date that it was made from. */
gboolean place_done(const S3syncOptions *options, const char *common, const char *prefix, const char *base_prefix,
                    GError **error);

/* The prefix of the last complete run, as it was remembered. NULL if there is none; the caller frees. */
char *place_last(const S3syncOptions *options, const char *common);

/* The run's prefixes. The caller frees *prefix and *common. */
gboolean place_prefix(const S3syncOptions *options, gint64 time, char **prefix, char **common, gboolean *dated,
                      GError **error);
