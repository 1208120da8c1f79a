/*
 * Extended attributes, ACLs among them (they are the attributes system.posix_acl_access and system.posix_acl_default;
 * the kernel's binary form is kept as it is). Which ones count follows rsync: without root only user.*, as root all but
 * system.*; ACLs by a switch of their own. An Attrs belongs to one thread at a time.
 */
#pragma once

#include "base/bytes.h"

/* Which attributes are looked at. */
typedef struct {
    gboolean xattrs; /* user.* (as root: security.*, trusted.* too) */
    gboolean acls;   /* system.posix_acl_* */
} AttrsFilter;

typedef struct Attrs Attrs;

/* Reads the attributes of `name` in dir_fd ("" = the descriptor itself) without following symlinks. If fd >= 0 it is an
 * open descriptor of the file and is used instead. A file system without attributes gives an empty set. NULL on error.
 * The limit is 16 MiB for one file (CORRUPT beyond). An empty set is the shared constant attrs_empty(): no allocation.
 */
const Attrs *attrs_read(int dir_fd, const char *name, int fd, const AttrsFilter *filter, GError **error);

/* The empty set; static, never freed. */
const Attrs *attrs_empty(void);

/* TRUE if it holds nothing. */
gboolean attrs_is_empty(const Attrs *attrs);

/* TRUE if names and values are equal. */
gboolean attrs_equal(const Attrs *a, const Attrs *b);

/* Calls visit for each in the order of their names, until it returns FALSE; then FALSE too. */
gboolean attrs_each(const Attrs *attrs,
                    gboolean (*visit)(const char *name, const guint8 *value, gsize length, gpointer user_data),
                    gpointer user_data);

/* Makes the attributes (within filter) of `name`/fd exactly `want`: sets what differs, removes what is extra.
 * Attributes that the file system does not take or that need root are not an error: *refused (may be NULL) counts them.
 * A real I/O error or no space is FALSE. `have` are the present ones if the caller knows them, else NULL and they are
 * read. To be called after the owner is set: chown drops security.capability. */
gboolean attrs_apply(int dir_fd, const char *name, int fd, const Attrs *want, const Attrs *have,
                     const AttrsFilter *filter, guint *refused, GError **error);

/* Appends the set to out / reads it back (NULL with CORRUPT for damaged bytes). */
void attrs_encode(const Attrs *attrs, GByteArray *out);
const Attrs *attrs_decode(BytesReader *in, GError **error);

/* Frees; NULL and the empty set are no-ops. */
void attrs_free(const Attrs *attrs);

static inline void attrs_cleanup(const Attrs **attrs)
{
    attrs_free(*attrs);
}
/* const Attrs *x ATTRS_AUTO = NULL; */
#define ATTRS_AUTO __attribute__((cleanup(attrs_cleanup)))
