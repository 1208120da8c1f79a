/*
 * Stores on the command line: what is a store's URL, and what a job needs for its stores beside the URL: keys from the
 * environment (taken out of it, so that no child inherits them), the encryption key, the folder for catalogues. One
 * thread.
 */
#pragma once

#include "cli/options.h"
#include "job/spec.h"

/* TRUE if an operand names a store, not a directory: it has a scheme that we know. */
gboolean store_args_is_url(const char *operand);

/* Appends a destination that is a store; a directory is made absolute. */
void store_args_add_destination(JobSpec *spec, const char *operand);

/* Sets what a restore or a verification reads. */
void store_args_set_source(JobSpec *spec, const char *operand);

/* Takes the passphrase from --passphrase-file, if the command has that option and it was given. FALSE with what reading the
 * file says. Before store_args_complete, which looks at the environment otherwise. */
gboolean store_args_passphrase(JobSpec *spec, const OptionArgs *args, GError **error);

/* Fills in keys and, unless it is given, the folder for catalogues, which is made. To be called after the options were
 * applied. FALSE with INVALID or what making the folder says. */
gboolean store_args_complete(JobSpec *spec, GError **error);
