/*
 * Removing whole trees, of any depth, without following symlinks or crossing into another mount.
 */
#pragma once

#include "base/cancel.h"

/* Removes `name` in dir_fd and all below it. Directories without u+rwx are given it first. Nothing there is success.
 * With keep_top the emptied directory itself stays. FALSE on the first error, or CANCELLED. Open descriptors stay few
 * however deep. */
gboolean remove_tree(int dir_fd, const char *name, gboolean keep_top, const CancelFlag *cancel, GError **error);

/* How many entries remove_tree would remove with `name` (one component) in dir_fd, itself included; 0 if nothing is there.
 * Nothing is changed: a directory that may not be read, or that is another mount, counts as one. */
gboolean remove_count(int dir_fd, const char *name, const CancelFlag *cancel, guint64 *entries, GError **error);
