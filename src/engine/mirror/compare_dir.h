/*
 * Looking at one directory of the source beside the same one of the destination. Called by the walk in any of its
 * threads; what is found is put as records, which compare.c turns into the plan in order.
 */
#pragma once

#include "base/bytes.h"
#include "engine/mirror/run.h"
#include "fs/walk.h"

/* How a directory was named to the walk. */
enum {
    COMPARE_PAIR = 1, /* on both sides */
    COMPARE_NEW = 2,  /* only in the source */
    COMPARE_STOP = 4, /* not to be entered: another file system */
};

typedef enum {
    FOUND_SELF = 1, /* the directory itself: want, have; flags */
    FOUND_ENTRY,    /* a file that needs work, or may need it because of hard links */
    FOUND_DIR_NEW,  /* a directory that is not there; comes right before its subtree */
    FOUND_REMOVE,   /* an extraneous entry */
    FOUND_WARNING,  /* code in text, path in name, message */
    FOUND_COUNTS,   /* what was seen */
    FOUND_SUBDIR,   /* where there is a sidecar: the source has a directory of this name, to be walked later */
    FOUND_LEFT,     /* where there is a sidecar: the source's entry of this name takes no part */
} FoundKind;

typedef enum {
    VERDICT_NEW = 1, /* nothing is there */
    VERDICT_REPLACE, /* content or type differs */
    VERDICT_META,    /* only metadata differs */
    VERDICT_SAME,    /* nothing differs */
} Verdict;

typedef struct {
    FoundKind kind;
    Verdict verdict;       /* ENTRY */
    gboolean attrs;        /* extended attributes differ */
    gboolean changed;      /* SELF: own metadata differs */
    gboolean odd_time;     /* the destination cannot hold its time: only the sidecar tells if the content is the same */
    gboolean record_only;  /* ENTRY: it cannot exist at the destination */
    const char *target;    /* ENTRY where there is a sidecar: of a symlink, else NULL */
    const guint8 *encoded; /* SELF, ENTRY where there is a sidecar: the source's attributes; nothing if it has none */
    gsize encoded_length;
    const char *
        name; /* ENTRY, DIR_NEW, SUBDIR, LEFT: one component; REMOVE: relative to the directory; WARNING: component or "" */
    const char *code;    /* WARNING; static */
    const char *message; /* WARNING */
    FileMeta want;
    guint64 have_ino, have_size, have_nlink;
    guint32 have_mode;
    guint64 files, bytes; /* REMOVE, ENTRY that replaces a directory: entries that go, bytes of regular files */
    guint64 gone_files;   /* of files: not directories */
    guint64 unchanged, files_total, bytes_total, dest_files; /* COUNTS */
} Found;

/* The walk's visit function; user_data is the MirrorRun. */
gboolean compare_visit(WalkDir *dir, gpointer user_data, GError **error);

/* Reads a record back. What it points to lives as long as data, except strings, which are in *scratch. */
gboolean compare_found_decode(const guint8 *data, gsize length, Found *found, GString *name, GString *message,
                              GString *target, GError **error);
