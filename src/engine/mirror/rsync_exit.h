/*
 * What the end of the rsync program means: its exit code and the last of what it said, as an error that says what can
 * be done. A RsyncTail belongs to one thread.
 */
#pragma once

#include <glib.h>

typedef struct RsyncTail RsyncTail;

/* The last few messages of standard error, each cut to a few hundred bytes. */
RsyncTail *rsync_tail_new(void);

/* One more message; it is copied. */
void rsync_tail_add(RsyncTail *tail, const char *message);

/* rsync's own line about its end ("some files could not be transferred (code 23) at ..."); it is copied. */
void rsync_tail_end(RsyncTail *tail, const char *message);

/* NULL is a no-op. */
void rsync_tail_free(RsyncTail *tail);

/* TRUE for 0, 24 (files vanished) and 23, which sets *partial. Otherwise FALSE with an error: its code says whether
 * trying again may help, its message has what rsync said last, safe to print. status is waitpid's; destination is named.
 */
gboolean rsync_exit_check(int status, const RsyncTail *tail, const char *destination, gboolean *partial,
                          GError **error);
