/*
 * What the commands that look at archives in the shell's own process share: the place from the command line, the end of a
 * listing, and lines about points and entries, safe for a terminal or as JSON. One thread, unless said otherwise.
 */
#pragma once

#include "cli/command.h"
#include "engine/archive/chain.h"
#include "job/engine_place.h"
#include "job/json_line.h"

/* Zero it before. */
typedef struct {
    JobSpec *spec;
    EnginePlace place;
    gboolean json;
} ArchiveLook;

/* What the command line says of the store (its second operand), checked. FALSE with INVALID. */
gboolean archive_look_prepare(const OptionArgs *args, ArchiveLook *look, GError **error);

/* Opens the store's place. Errors as of engine_place_open. */
gboolean archive_look_open(ArchiveLook *look, GError **error);

void archive_look_clear(ArchiveLook *look);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ArchiveLook, archive_look_clear)

/* Flushes the output and says on standard error what went wrong. Returns the exit code; error may be NULL if fine. */
int archive_look_end(gboolean fine, const GError *error);

/* "2026-11-20T02:00:00Z" of seconds since 1970; "?" if there is no such time. The caller frees. */
char *archive_look_time(gint64 seconds);

/* Writes the object as one line; takes the reference. */
void archive_look_print(json_t *line);

/* Sets what everybody wants to know of an entry: path, kind, and of what they are worth mode, size, mtime, uid, gid, user,
 * group, target, link. */
void archive_look_entry(json_t *line, const S3Entry *entry);

/* The path of an entry as people read it: a directory's with a slash at its end, the root's "./". The caller frees. */
char *archive_look_path(const S3Entry *entry);
