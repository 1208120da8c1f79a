/*
 * The metadata tree of a mirror in a bucket, ".backapp/tree/": sorted, compressed blocks of entries, named by the hash
 * of their content, so that a run writes only those that changed; and one small root object per run, written last: it
 * is the run's commit and a restore point. With client-side encryption both are encrypted. See
 * docs/formats/s3-mirror.md. A writer or reader belongs to one thread.
 */
#pragma once

#include "base/cancel.h"
#include "engine/source/entry.h"
#include "store/store.h"

/* What a root says beside its blocks. Strings are owned when it was read. */
typedef struct {
    char *run_id;        /* unique */
    gint64 time;         /* when the run began, seconds since 1970 */
    char *source, *host; /* where it came from, for people */
    guint64 files, directories, bytes;
    gboolean partial; /* some source files could not be read */
    gboolean encrypted, encrypted_names;
    char *key; /* of the root object itself, relative to the prefix; set by reading */
} TreeRoot;
void tree_root_clear(TreeRoot *root);

typedef struct TreeWriter TreeWriter;
/* Begins a tree. content_key: 32 bytes or NULL (plain). The blocks of the newest root that the store
 * still lists are not written again. Puts blocks as they fill (synchronously or by a thread of its own). */
TreeWriter *tree_writer_new(Store *store, const guint8 *content_key, const CancelFlag *cancel, GError **error);
/* Appends an entry; they come in the order of the scan. What changes by itself and says nothing of the file (inode,
 * device, ctime, link count) is left out. */
gboolean tree_writer_put(TreeWriter *writer, const S3Entry *entry, GError **error);
/* No more entries: writes the blocks that are left. *changed (may be NULL) as tree_writer_commit would tell it for this
 * root. */
gboolean tree_writer_finish(TreeWriter *writer, const TreeRoot *root, gboolean *changed, GError **error);
/* Writes what is left, then the root. *changed (may be NULL): FALSE if the tree equals the newest root's and no root
 * was written. */
gboolean tree_writer_commit(TreeWriter *writer, const TreeRoot *root, gboolean *changed, GError **error);
void tree_writer_free(TreeWriter *writer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TreeWriter, tree_writer_free)

/* The roots there are, newest first (of TreeRoot *, freed with the array; only key and time are set). */
GPtrArray *tree_list_roots(Store *store, GError **error);

typedef struct TreeReader TreeReader;
/* Reads the root with this key (from tree_list_roots) and then its entries. NOT_FOUND, CORRUPT, DENIED (encrypted, and
 * no key was given). */
TreeReader *tree_reader_open(Store *store, const char *root_key, const guint8 *content_key, GError **error);
const TreeRoot *tree_reader_root(const TreeReader *reader);
/* Goes to the first entry whose path is `path` or lies below it (blocks before it are not read; with encrypted names
 * they are, since their order is known only to who has that key). NOT_FOUND if there is none. */
gboolean tree_reader_seek(TreeReader *reader, const char *path, GError **error);
/* The next entry, valid until the next call: 1, 0 at the end, -1 on error. */
int tree_reader_next(TreeReader *reader, S3Entry *entry, GError **error);
void tree_reader_free(TreeReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TreeReader, tree_reader_free)

/* Removes roots that were followed by another one before `before` (never the newest), and blocks that no root names and that were written
 * before then. Returns how many through *removed (may be NULL). Needs the destination's lock. */
gboolean tree_expire(Store *store, gint64 before, const guint8 *content_key, guint64 *removed, GError **error);
