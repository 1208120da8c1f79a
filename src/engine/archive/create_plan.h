/*
 * What a run of archive_create would put into the archive: the sources, walked in the order of the index, against the
 * parent point and against what an interrupted run has archived already. Lies in an unlinked temporary file.
 */
#pragma once

#include "engine/archive/create_run.h"

typedef enum {
    CREATE_STORE = 1,
    CREATE_CHECK, /* a regular file that looks as in the parent but has to be read: stored if entry.hash is not its hash */
    CREATE_FOLLOW, /* a further name of such a file: stored if that is */
    CREATE_DELETE, /* the parent has it, the sources have not */
    CREATE_DROP,   /* only what was interrupted has it */
} CreateOp;

typedef struct {
    CreateOp op;
    gboolean known; /* the parent has it: something of it may be lost */
    guint source;   /* number of its source */
    S3Entry entry;  /* path and link as in the archive */
} CreateItem;

typedef struct {
    guint64 files, directories, bytes;             /* of the sources */
    guint64 store_files, store_bytes, check_bytes; /* to be stored: all that are no directories; contents */
    guint64 created, changed, deleted, unchanged;
    guint64 unreadable, vanished, skipped;
    guint64 tar_bytes; /* of the tar that comes out, at most */
    gboolean partial;
} CreateTotals;

typedef struct CreatePlan CreatePlan;
typedef struct CreatePlanReader CreatePlanReader;

/* Makes the plan; with a sink that wants items they are sent. */
CreatePlan *create_plan_make(CreateRun *run, CreateTotals *totals, GError **error);
CreatePlanReader *create_plan_read(CreatePlan *plan);
/* The next item, valid until the next call: 1, 0, -1. */
int create_plan_next(CreatePlanReader *reader, CreateItem *item, GError **error);
void create_plan_reader_free(CreatePlanReader *reader);
void create_plan_free(CreatePlan *plan);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CreatePlan, create_plan_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(CreatePlanReader, create_plan_reader_free)

/* An item as bytes, and back: also for what has to be stored once more. */
void create_item_encode(const CreateItem *item, GByteArray *out);
gboolean create_item_decode(const guint8 *data, gsize length, GByteArray *arena, CreateItem *item, GError **error);
