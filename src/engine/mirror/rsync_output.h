/*
 * What the rsync program prints, line by line, with LC_ALL=C and the arguments of rsync_args.h: items of --out-format,
 * progress2, the block of --stats, and messages. The input may come from another host and is trusted in nothing: lines
 * of any length and bytes are accepted, numbers saturate, names are decoded from rsync's escapes (\#ooo).
 *
 * Pure functions for any thread. The strings inside of an RsyncLine are freed by rsync_line_clear.
 */
#pragma once

#include "base/run_sink.h"

typedef enum {
    RSYNC_LINE_NOTHING,  /* empty, or known and of no interest */
    RSYNC_LINE_ITEM,     /* item and what follows it */
    RSYNC_LINE_PROGRESS, /* the numbers of progress */
    RSYNC_LINE_STAT,     /* stat, value, directories */
    RSYNC_LINE_MESSAGE,  /* code, path, message; also of everything that is not known */
    RSYNC_LINE_END       /* "rsync error: ... (code N)": why it ends; message */
} RsyncLineKind;

typedef enum {
    RSYNC_STAT_FILES,             /* entries of the list; directories: how many of them are some */
    RSYNC_STAT_TRANSFERRED_FILES, /* regular files whose content travelled */
    RSYNC_STAT_TOTAL_BYTES,       /* of all files in the list */
    RSYNC_STAT_TRANSFERRED_BYTES, /* sizes of the files transferred */
    RSYNC_STAT_LITERAL_BYTES      /* content that really travelled */
} RsyncStat;

typedef struct {
    RsyncLineKind kind;

    RunItem item; /* its path is the member path */
    gboolean created, deleted, metadata_only, is_directory;
    gboolean same_size_and_time; /* an update that only the content asked for */

    guint64 bytes, files_left, files_total; /* progress; files_total 0: not known yet */

    RsyncStat stat;
    guint64 value, directories;

    const char *code; /* a warning's code, see RunSink; static */
    char *path;       /* bytes as the file system has them; may be NULL; owned */
    char *message;    /* without what introduces it; owned */
} RsyncLine;

/* Reads a line of standard output (without its end). `line` is zero-terminated. */
void rsync_output_read(const char *line, RsyncLine *out);

/* Reads a line of standard error. */
void rsync_output_read_error(const char *line, RsyncLine *out);

/* A name as rsync prints it, turned back to bytes (\#ooo is one byte; never a zero). The caller frees. */
char *rsync_output_name(const char *text, gsize length);

/* The version that `rsync --version` names in its first line; FALSE if it is not one of rsync's. */
gboolean rsync_output_version(const char *line, guint *major, guint *minor, guint *patch);

/* Frees the strings inside; a zeroed one is fine. */
void rsync_line_clear(RsyncLine *line);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(RsyncLine, rsync_line_clear)
