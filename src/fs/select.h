/*
 * What a directory's own files say about taking part in a backup. Any thread.
 */
#pragma once

#include <glib.h>

/* TRUE if the directory `name` in dir_fd asks to be left out: it holds a file called exclude_if_present (may be NULL), or
 * (with exclude_caches) a CACHEDIR.TAG with the signature of that convention. FALSE if it cannot be looked into: then
 * reading it says why. */
gboolean select_leaves_out(int dir_fd, const char *name, gboolean exclude_caches, const char *exclude_if_present);
