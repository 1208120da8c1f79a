/*
 * The sidecar, .backapp/sidecar: what the destination's file system cannot hold of the mirror's entries (owners, modes,
 * exact times, links, attributes), one record an entry, in the order in which a mirror is walked. Written as sidecar.new,
 * which the replay of a committed run renames; read as a stream with a checksum for each block (docs/formats/mirror.md).
 * sidecar_merge.h brings it up to date; engine/restore reads it by itself. A reader or writer belongs to one thread.
 */
#pragma once

#include "engine/mirror/destination.h"
#include "fs/attrs.h"
#include "fs/meta.h"

#define SIDECAR_NAME     "sidecar"
#define SIDECAR_NEW_NAME "sidecar.new"

/* The largest set of encoded attributes that a record can hold; Linux file systems stay below. */
#define SIDECAR_ATTRS_MAX (512 * 1024)

typedef struct {
    const char *path;         /* below the destination; "" is its root */
    FileMeta meta;            /* mode, uid, gid, mtime; size of a regular file, rdev of a device; the rest is 0 */
    gboolean unsure;          /* what lies at the path may not be what the record speaks of: copying it failed */
    const char *target;       /* of a symlink, else NULL */
    const char *link;         /* path of the first name of a file that has several; NULL: it is that, or has only one */
    const Attrs *attrs;       /* never NULL */
    const char *user, *group; /* the owner's names; NULL: not known */
} SidecarRecord;

/* The order of records and the form of a path in it: a directory's ends with a slash, so it comes after the files of its
 * parent and before its content. The caller frees. */
char *sidecar_key(const char *path, gboolean is_directory);
int sidecar_order(const char *key, const char *other);

/* Appends the body of a record (all but path and names of owners): equal bodies are equal records. attrs: as attrs_encode
 * has them, or nothing for an empty set. */
void sidecar_encode(const SidecarRecord *record, const guint8 *attrs, gsize attrs_length, GByteArray *out);

typedef struct SidecarReader SidecarReader;
/* Opens .backapp/NAME; NULL without an error if there is none. CORRUPT if it is not one of ours. */
SidecarReader *sidecar_reader_open(const Destination *dest, const char *name, GError **error);
/* What the file system could hold when the sidecar was written goes to *abilities; what it does not speak of stays. */
void sidecar_reader_abilities(const SidecarReader *reader, FsAbilities *abilities);
/* The next record, valid until the next call: 1; 0 at the end; -1 with CORRUPT if the file is damaged or ends early. */
int sidecar_reader_next(SidecarReader *reader, SidecarRecord *record, GError **error);
/* The same, not decoded but for its key. */
int sidecar_reader_step(SidecarReader *reader, const char **key, const guint8 **body, gsize *length, GError **error);
void sidecar_reader_free(SidecarReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SidecarReader, sidecar_reader_free)

/* Reads type and unsure, and size and time, of a body that sidecar_reader_step gave: FALSE if it is damaged. */
gboolean sidecar_peek(const guint8 *body, gsize length, SidecarRecord *record);

typedef struct SidecarWriter SidecarWriter;
/* Begins sidecar.new. Names of owners that this machine does not know are taken from `old` (may be NULL), which must
 * outlive the writer. */
SidecarWriter *sidecar_writer_open(const Destination *dest, const SidecarReader *old, GError **error);
/* Appends; keys must come in order. */
gboolean sidecar_writer_put(SidecarWriter *writer, const char *key, const guint8 *body, gsize length, GError **error);
/* Completes and fsyncs sidecar.new, which from then on waits for the run's commit. */
gboolean sidecar_writer_finish(SidecarWriter *writer, GError **error);
/* Frees; what is not finished is removed. NULL is a no-op. */
void sidecar_writer_free(SidecarWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SidecarWriter, sidecar_writer_free)

/* Marks the records of these paths (a set) in the finished sidecar.new as unsure. Nothing to do for an empty set. */
gboolean sidecar_mark_unsure(const Destination *dest, GHashTable *paths, GError **error);

/* The step of a replay: sidecar.new becomes the sidecar. Done already is no error. */
gboolean sidecar_replay(const Destination *dest, GError **error);

/* Removes what a run left that did not commit. */
gboolean sidecar_drop_new(const Destination *dest, GError **error);
