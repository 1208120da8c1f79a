/*
 * What a run would do, as a sequence of entries in depth-first order: within a directory first its own entries sorted
 * by name, then its subdirectories. The plan lies in an unlinked temporary file, so its size is not bounded by memory;
 * it is written once by one thread and then read from the start as often as needed.
 */
#pragma once

#include "base/bytes.h"
#include "fs/meta.h"

typedef enum {
    PLAN_DIR_NEW = 1, /* a directory that is not there (or replaces something else) */
    PLAN_DIR_END,     /* all of a new directory's content came before: its final metadata */
    PLAN_DIR_TOUCH,   /* an existing directory (comes after its content) that needs its metadata set */
    PLAN_FILE,        /* anything that is no directory: created, or replaces what is there */
    PLAN_LINK,        /* another name of the file at `target` */
    PLAN_META,        /* only metadata of an existing file */
    PLAN_REMOVE,      /* goes away, with all below it */
    PLAN_RECORD,      /* only the sidecar changes */
} PlanOp;

typedef enum {
    PLAN_IN_NEW = 1 << 0,  /* lies in a directory that is new itself: staged as a part of it */
    PLAN_ATTRS = 1 << 1,   /* extended attributes differ (META, DIR_TOUCH) */
    PLAN_CHANGED = 1 << 2, /* DIR_TOUCH: its own metadata differs, not only its content */
    PLAN_PATCH = 1 << 3,   /* FILE: the existing file is rewritten in place, by a patch */
} PlanFlags;

typedef struct {
    PlanOp op;
    guint flags;        /* PlanFlags */
    guint source;       /* which source it comes from */
    const char *path;   /* relative to the destination; "" is its root (DIR_TOUCH only) */
    const char *target; /* LINK: path of the first name; else NULL */
    FileMeta want;      /* the source's; REMOVE: unset */
    guint64 have_ino;   /* what is at path now; 0: nothing */
    guint32 have_mode;  /* its mode; 0: nothing */
    guint64 files;      /* REMOVE: entries that go, itself included */
    guint64 bytes;      /* REMOVE: their size; FILE: the size to copy */
} PlanEntry;

typedef struct Plan Plan;
typedef struct PlanReader PlanReader;

/* An empty plan whose file is in directory temp_fd, or in $TMPDIR if that is -1. */
Plan *plan_new(int temp_fd, GError **error);

/* Appends an entry; strings are copied. */
gboolean plan_add(Plan *plan, const PlanEntry *entry, GError **error);

/* No more entries; needed before reading. */
gboolean plan_finish(Plan *plan, GError **error);

/* TRUE if nothing is to be done. */
gboolean plan_is_empty(const Plan *plan);

/* 32 hexadecimal digits over what would be done (not over what only identifies files, as inode numbers); the caller
 * frees. It is for confirming the plan that was shown, not against forgery. */
char *plan_hash(const Plan *plan);

/* A reader from the start; the plan must outlive it. */
PlanReader *plan_reader_new(Plan *plan);

/* The next entry, valid until the next call: 1; 0 at the end; -1 on error. */
int plan_reader_next(PlanReader *reader, PlanEntry *entry, GError **error);

void plan_reader_free(PlanReader *reader);
void plan_free(Plan *plan);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PlanReader, plan_reader_free)
