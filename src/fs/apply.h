/*
 * Giving a file all of its metadata in the one order that works: owner (a change of owner clears setuid and
 * capabilities), attributes (user.* needs write permission), mode, time. Any thread.
 */
#pragma once

#include "fs/attrs.h"
#include "fs/meta.h"

/* What could not be kept, for a warning. */
typedef struct {
    MetaParts failed;
    guint refused_attrs;
} ApplyLosses;

/* Applies `parts` of want, and the attributes unless attrs is NULL, to `name` in dir_fd (or to the open descriptor fd
 * if it is >= 0; name "" is dir_fd itself). have: the attributes that are there if that is known, else NULL. Losses are
 * no error; *losses is set in every case. */
gboolean apply_metadata(int dir_fd, const char *name, int fd, const FileMeta *want, MetaParts parts, const Attrs *attrs,
                        const Attrs *have, const AttrsFilter *filter, ApplyLosses *losses, GError **error);

/* The losses in words for a warning; NULL if there are none. The caller frees. */
char *apply_losses_text(const ApplyLosses *losses);
