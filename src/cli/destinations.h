/*
 * The shell's record of known destinations: which marker id the destination at a path had after the last complete run.
 * With it an unmounted drive, or another drive in its place, is noticed by the engine before anything is written.
 *
 * The record is $XDG_STATE_HOME/backapp/destinations (~/.local/state without that variable): a line
 * "backapp destinations 1", then a line "ID PATH" a destination, the path with %XX for what is not printable. It is
 * replaced atomically, under a lock of its own. Functions block; any thread.
 */
#pragma once

#include <glib.h>

/* The id recorded for the destination at `path`. NULL without an error if there is none; with an error if the record
 * cannot be read. The caller frees. */
char *destinations_lookup(const char *path, GError **error);

/* Records the id for the destination at `path`, under the path as given and with its symlinks resolved. */
gboolean destinations_record(const char *path, const char *id, GError **error);

/* The same for a command, to which the record only makes a run safer: what is wrong with it is said on standard error, and
 * the run goes on. */
char *destinations_known_id(const char *path);
void destinations_remember(const char *path, const char *id);
