/*
 * From the store of a job spec to an open one: for the worker's engines, and for commands that only look at a store. The
 * caller's thread.
 */
#pragma once

#include "fs/pattern.h"
#include "job/spec.h"
#include "store/drivers.h"
#include "store/provider.h"

/* Opens the store with the whole URL, its prefix included. A directory has to be there (NOT_FOUND). */
Store *engine_open_store(const JobStore *where, Rate *rate, const CancelFlag *cancel, GError **error);

/* Opens the bucket or directory alone; *prefix (the caller's) is what the URL has behind it, "" if nothing. */
Store *engine_open_bucket(const JobStore *where, Rate *rate, const CancelFlag *cancel, char **prefix, GError **error);

/* Whose store it is, as far as that is certain before anything is asked: by its name, its endpoint, or because nothing says
 * that it is not Amazon's. NULL if it is no S3, or not known. */
const Provider *engine_provider(const JobStore *where);

/* The directory that the store is on this machine; NULL if it is none. The caller frees. */
char *engine_store_directory(const JobStore *where);

/* FALSE with INVALID if the store is a directory that lies inside one of the sources (NULL-terminated) and that the patterns
 * (may be NULL) do not leave out, nor, with one_file_system, its mount: a copy would be part of what is copied. */
gboolean engine_check_apart(const JobStore *where, const char *const *sources, const PatternList *patterns,
                            gboolean one_file_system, GError **error);

/* FALSE with NOT_FOUND if the store is a directory that is not there: opening would make it. */
gboolean engine_store_is_there(const JobStore *where, GError **error);

/* For a dry run: as engine_open_bucket, but a directory that is not there is not made; an empty store stands for it. */
Store *engine_open_unmade(const JobStore *where, Rate *rate, const CancelFlag *cancel, char **prefix, GError **error);

/* Opens the store with the whole URL to write to it: a directory is made if its parent is there. For a dry run it is not:
 * then an empty store stands for one that is missing. */
Store *engine_open_target(const JobStore *where, gboolean dry_run, Rate *rate, const CancelFlag *cancel,
                          GError **error);

/* The spec's master key into key: its encryption key, or the one that its passphrase opens in the store (below the whole
 * URL; keyring.h). *given FALSE: the spec has neither, or the store has no key that a
 * passphrase could open. DENIED if it opens none of them. The caller wipes it. */
gboolean engine_master_key(const JobSpec *spec, Store *store, guint8 key[32], gboolean *given, GError **error);

/* The 32 bytes of the spec's encryption key into key. INVALID if there is none or it is no key. */
gboolean engine_encryption_key(const JobSpec *spec, guint8 key[32], GError **error);
