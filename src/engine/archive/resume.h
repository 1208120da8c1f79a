/*
 * What a run of archive_create leaves on this machine while it works, so that one that was interrupted can go on behind
 * its complete volumes: a folder for each place below the state directory, with the file "state" (replaced whole after each
 * volume) and the list of what was archived (runs.h). One thread at a time.
 */
#pragma once

#include "engine/archive/point.h"

#define RESUME_ENTRIES "entries"

typedef struct {
    ArchivePoint *point; /* base, name, place_name, numbered, level, time, scan, parent, sources, of it */
    guint64 volume_size;
    guint8 how[HASH_BYTES]; /* of what else decides what is stored and how: another one cannot go on */
    GArray *volumes;        /* of ArchiveVolume */
    GArray *packed_lengths; /* of guint32 */
    guint64 tar_end;        /* everything before it is in the volumes */
    guint64 entries_length; /* of the list, bytes that are durable */
} Resume;
void resume_clear(Resume *resume);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Resume, resume_clear)

/* Opens the place's folder, made if it is missing. -1 on error. */
int resume_folder(const char *state_dir, const ArchivePlace *place, GError **error);
/* Replaces the state; arrays and point stay the caller's. */
gboolean resume_save(int dir_fd, const Resume *resume, GError **error);
/* 1 if there is one, 0 if not, or it is damaged or of another version; -1 on error. */
int resume_load(int dir_fd, const ArchivePlace *place, Resume *resume, GError **error);
/* Removes state and list. */
gboolean resume_forget(int dir_fd, GError **error);
