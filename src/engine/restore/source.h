/*
 * What restores, drills and exports read: one point of whatever a store or a directory holds - an S3 mirror, a row of
 * archives, a local mirror with its kept versions - as entries in order, and their contents. restore_source_open finds
 * out which it is. One thread opens, reads entries and frees; any number of threads fetch contents meanwhile. Stores and
 * strings in options outlive the source.
 */
#pragma once

#include "base/run_sink.h"
#include "engine/source/entry.h"
#include "store/store.h"

typedef enum { RESTORE_FROM_S3_MIRROR = 1, RESTORE_FROM_ARCHIVES, RESTORE_FROM_MIRROR } RestoreSourceKind;

typedef struct {
    Store *store;          /* below its prefix; NULL: only what is in the directory can be found */
    const char *directory; /* what the store is on this machine; NULL: it is none */
    const char *name;      /* which archives; NULL: those of the only name there is */
    const char *at; /* "latest", a date (YYYY-MM-DD), a time (RFC 3339, or YYYY-MM-DDTHHMMSSZ), or a point's name;
                              NULL: latest. A date means the newest point not after the end of that day (local time) */
    const guint8 *master_key; /* KEY_BYTES, for what is encrypted; may be NULL */
    guint thaw_days;          /* 0: cold objects are named, not asked for */
    const char *thaw_tier;
    const CancelFlag *cancel; /* may be NULL */
    RunSink *sink;            /* gets notes about the point; may be NULL */
} RestoreSourceOptions;

/* One point, for people and for `at`. */
typedef struct {
    char *name;    /* what `at` takes */
    char *folder;  /* that the backup lies in, below the store: to be restored from there; NULL: in the store itself */
    char *archive; /* the name of the archives that it is one of; NULL for mirrors */
    gint64 time;
    guint64 files, bytes;
    gboolean known;   /* files and bytes are */
    gboolean partial; /* some files could not be read when it was made */
    char *problem;    /* why it cannot be used; files and bytes are not known then. NULL: none */
} RestorePoint;
void restore_point_free(RestorePoint *point);

/* An entry and where its content lies. entry.hash tells of the content what entry.h says (part_size 0: nothing is known;
 * a size up to part_size: it is its SHA-256). The key and what is known of the object mean nothing to others. */
typedef struct {
    S3Entry entry;
    const guint8 *place; /* the source's own; goes with the entry wherever that goes. NULL: none */
    gsize place_length;
} RestoreEntry;

/* Where a content goes to. */
typedef struct {
    int fd; /* a regular file, open to read and write; what it holds is replaced. Ends up sparse where there are zeros */
    void (*progress)(gpointer user_data, const S3Entry *entry, guint64 bytes); /* may be NULL */
    gpointer user_data;
    gboolean cold; /* set: it has to be thawed first */
} RestoreFetch;

/* What every source begins with. */
typedef struct RestoreSource RestoreSource;
typedef struct {
    /* Goes to the first entry that is `path` or lies below it ("" the first of all). NOT_FOUND. */
    gboolean (*seek)(RestoreSource *source, const char *path, GError **error);
    /* The next entry, valid until the next call: 1, 0 at the end, -1. */
    int (*next)(RestoreSource *source, RestoreEntry *entry, GError **error);
    gboolean (*fetch)(RestoreSource *source, const RestoreEntry *entry, RestoreFetch *fetch, GError **error);
    /* NULL: by the entry's hash. */
    gboolean (*matches)(RestoreSource *source, const S3Entry *entry, int fd, gboolean *equal, GError **error);
    void (*free)(RestoreSource *source);
} RestoreSourceOps;

struct RestoreSource {
    const RestoreSourceOps *ops;
    RestoreSourceKind kind;
    RestorePoint point; /* which one it is */
};

/* Finds out what there is and opens the point that options->at names. NOT_FOUND if there is nothing of ours (the message
 * says what was looked for) or no such point (it says which there are); INVALID if there are archives of several names and
 * none is chosen (it lists them); DENIED if it is encrypted and the key is missing or another. */
RestoreSource *restore_source_open(const RestoreSourceOptions *options, GError **error);

/* "s3-mirror", "archives", "mirror"; static. */
const char *restore_source_kind_name(RestoreSourceKind kind);

/* As the functions of the table. Entries come sorted: a directory before all below it, and that before anything else. A
 * path may be anything; who writes to a disk looks at it first (restore_path_is_inside). */
gboolean restore_source_seek(RestoreSource *source, const char *path, GError **error);
int restore_source_next(RestoreSource *source, RestoreEntry *entry, GError **error);

/* Writes the content of a regular file to fetch->fd, and to the disk too if it ends in a hole; of a further name that of
 * the file. Proves it by the hash if that is known. NOT_FOUND: it is not there any more; CORRUPT: it is not what was backed
 * up; CONFLICT: it is cold (fetch->cold) and has to be thawed first, which was asked for if the options say so. */
gboolean restore_source_fetch(RestoreSource *source, const RestoreEntry *entry, RestoreFetch *fetch, GError **error);

/* NULL is a no-op. No fetch may be running. */
void restore_source_free(RestoreSource *source);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RestoreSource, restore_source_free)

/* TRUE if the source can tell whether a file has the content of this entry: restore_source_matches tells. */
gboolean restore_source_knows(const RestoreSource *source, const S3Entry *entry);
/* TRUE in *equal if an open file has the content of the entry, which the source knows. Any thread. */
gboolean restore_source_matches(RestoreSource *source, const S3Entry *entry, int fd, const CancelFlag *cancel,
                                gboolean *equal, GError **error);

/* TRUE in *equal if an open file has the content that the entry knows the hash of (FALSE too if it knows none). */
gboolean restore_content_matches(const S3Entry *entry, int fd, const CancelFlag *cancel, gboolean *equal,
                                 GError **error);

/* TRUE if a path (not absolute, no empty segment, no "." and "..") stays below the directory it is taken from. */
gboolean restore_path_is_inside(const char *path);

/* All points there are, newest first (of RestorePoint *, freed with the array); options->at and the thawing do not count.
 * If a store has none of its own: those of the S3 mirrors in the folders right below it, as where each date has one.
 * With archives of several names and none chosen: those of all. Empty if there are none at all. DENIED as above. */
GPtrArray *restore_points(const RestoreSourceOptions *options, GError **error);
