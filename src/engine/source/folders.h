/*
 * Several sources in one backup: each gets a folder of its own. Any thread.
 */
#pragma once

#include <glib.h>

/* The names of the sources' folders, in their order (their last component; INVALID if two are equal, one is empty, or
 * there is no source); for one source a single "", as its content stands at the top. The caller frees. */
char **source_folders(const char *const *sources, GError **error);
