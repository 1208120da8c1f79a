/*
 * Removing whole trees, of any depth, without following symlinks or crossing into another mount.
 */
#pragma once

#include "base/cancel.h"

/* Removes `name` in dir_fd and all below it. Directories without u+rwx are given it first. Nothing there is success.
 * With keep_top the emptied directory itself stays. FALSE on the first error, or CANCELLED. Open descriptors stay few
 * however deep. */
gboolean remove_tree(int dir_fd, const char *name, gboolean keep_top, const CancelFlag *cancel, GError **error);
