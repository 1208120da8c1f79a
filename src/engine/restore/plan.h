/*
 * What a restore would do: the entries of the point that were asked for, compared with what is in the target. The plan
 * lies in an unlinked temporary file. Made and read by one thread; several readers may follow each other.
 */
#pragma once

#include "engine/restore/run.h"

typedef enum {
    RESTORE_DIR = 1, /* a directory: made if it is missing, and given its metadata at the end */
    RESTORE_PARENT,  /* a directory above something asked for: made if it is missing, else left as it is */
    RESTORE_FILE,    /* a regular file whose content is fetched */
    RESTORE_META,    /* content is right, metadata is not */
    RESTORE_LINK,    /* a further name of entry.link */
    RESTORE_OTHER,   /* symlink, fifo, socket, device: made anew */
    RESTORE_DELETE,  /* the point does not have it: goes, with all below it; only entry.path is set */
} RestoreOp;

typedef struct {
    RestoreOp op;
    gboolean exists; /* something is there */
    gboolean aside;  /* what is there is kept under another name */
    guint64 entries; /* RESTORE_DELETE: how many go with it, itself included; 0 when it is read from the plan */
    S3Entry entry;
    const guint8 *place; /* where the content lies, as RestoreEntry has it */
    gsize place_length;
} RestoreItem;

/* Appends an item as bytes, and reads it back: what it points at lies in data or in arena, which is emptied before.
 * INTERNAL or CORRUPT if it is none. */
void restore_item_encode(const RestoreItem *item, GByteArray *out);
gboolean restore_item_decode(const guint8 *data, gsize length, GByteArray *arena, RestoreItem *item, GError **error);

typedef struct {
    guint64 files_total, bytes_total; /* of the point, as far as asked for */
    guint64 place_files, fetch_bytes; /* all but folders; contents of regular files */
    /* Entries that would go, with all below them, and all that were looked at in folders where some might. */
    guint64 deletes, present;
    guint64 delete_items; /* of the plan */
} RestoreTotals;

typedef struct RestorePlan RestorePlan;
typedef struct RestorePlanReader RestorePlanReader;

/* Makes the plan, and sends its items to the sink if it wants them. NOT_FOUND names a path that the point does not have. */
RestorePlan *restore_plan_make(RestoreRun *run, RestoreTotals *totals, GError **error);
RestorePlanReader *restore_plan_read(RestorePlan *plan);
/* The next item, valid until the next call: 1, 0 at the end, -1 on error. */
int restore_plan_next(RestorePlanReader *reader, RestoreItem *item, GError **error);
void restore_plan_reader_free(RestorePlanReader *reader);
void restore_plan_free(RestorePlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RestorePlan, restore_plan_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RestorePlanReader, restore_plan_reader_free)
