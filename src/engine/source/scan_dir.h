/*
 * Looking at one directory of a scan. Called by the walk in any of its threads; what is found is put as records, which
 * scan.c turns into entries in order.
 */
#pragma once

#include "engine/source/scan.h"
#include "fs/walk.h"

typedef enum {
    FOUND_ENTRY = 1,  /* something that is handed on */
    FOUND_VANISHED,   /* gone before it could be looked at; all but ENTRY keep the key from being deleted */
    FOUND_UNREADABLE, /* makes the run partial */
    FOUND_SKIPPED,    /* left out with a warning; message */
    FOUND_LEFT_OUT,   /* left out without one */
    FOUND_UNKEPT,     /* an attribute of an entry that follows could not be read; message */
} FoundKind;

/* name "" is the directory itself. */
typedef struct {
    FoundKind kind;
    gboolean directory;
    const char *name, *segment; /* of path and of key */
    const char *message;        /* of a warning; NULL else */
    FileMeta meta;              /* ENTRY, as are those that follow */
    const char *target;         /* NULL if it is no symlink */
    const guint8 *attrs;        /* NULL: none */
    gsize attrs_length;
} Found;

/* What visits need: the options and, opened once, where to spill. */
typedef struct {
    const ScanOptions *options;
    int temp_fd;
} ScanVisits;

/* The walk's visit function; visit_data is a ScanVisits. */
gboolean scan_dir_visit(WalkDir *dir, gpointer visit_data, GError **error);

/* Reads a record back; what it points to lives as long as data. */
gboolean scan_dir_decode(const guint8 *data, gsize length, Found *found, GError **error);
