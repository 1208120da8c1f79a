/*
 * How an engine tells the world what it does. The engine calls, job/ implements: the worker turns each call into an
 * event line, tests collect them. Names are bytes as the file system has them.
 *
 * Threads: the engine may call from several of its threads; an implementation locks for itself. The sink is owned by
 * who made it and outlives the run.
 */
#pragma once

#include <glib.h>

/* Numbers of a running stage. Totals are 0 while unknown. */
typedef struct {
    guint64 files_done, files_total;
    guint64 bytes_done, bytes_total;
    const char *current_file; /* relative path being worked on; may be NULL; valid only during the call */
} RunProgress;

/* One thing that a dry run prints or -v shows: what would be or was done to a path. Static strings. */
typedef struct {
    const char *action; /* "create", "update", "metadata", "delete", "link", "replace" */
    const char *kind;   /* "file", "directory", "symlink", "fifo", "socket", "device" */
    const char *path;   /* relative to the destination */
    guint64 bytes;      /* that would be copied; 0 if none */
    guint64 files;      /* for delete of a directory: how many entries go with it */
} RunItem;

typedef struct RunSink RunSink;
struct RunSink {
    /* A stage ("scan", "rsync", "verify", ...) begins. Never NULL. */
    void (*stage)(RunSink *sink, const char *name);
    /* Where the stage stands. The engine may call it often; the sink drops what is too much. Never NULL. */
    void (*progress)(RunSink *sink, const RunProgress *progress);
    /* Something that did not stop the run. `code` is a stable word ("unreadable", "vanished", "changed", "skipped",
     * "metadata", "note"); path is the file's, or NULL. Never NULL. */
    void (*warning)(RunSink *sink, const char *code, const char *path, const char *message);
    /* One item of the plan. May be NULL: nobody wants them. */
    void (*item)(RunSink *sink, const RunItem *item);
};
