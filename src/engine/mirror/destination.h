/*
 * A mirror's destination: the open directory, its identity, its lock, and the folder `.backapp` where the engine keeps
 * its state (docs/formats/destination.md):
 *
 *   .backapp-destination    the marker: one line of JSON {"version":1,"id":"<uuid>","created":"<RFC 3339>"}
 *   .backapp/lock           owner of the running job
 *   .backapp/stage/         what a run wrote and did not commit yet (stage.old/: of an interrupted run)
 *   .backapp/journal        a committed run that is not replayed to its end
 *   .backapp/old/           displaced entries on their way out
 *   .backapp/versions/<time>/  kept versions
 *   .backapp/hashes         proof (verify.h)
 *   .backapp/state.json     sources and result of the last complete run
 *
 * A Destination belongs to the thread that opened it; its descriptors may be used by others until it is closed.
 */
#pragma once

#include "base/run_sink.h"
#include "fs/facts.h"
#include "fs/probe.h"

#define DESTINATION_STATE_DIR ".backapp"
#define DESTINATION_MARKER    ".backapp-destination"

typedef struct {
    char *path;   /* absolute, symlinks resolved */
    int root_fd;  /* the directory itself */
    int state_fd; /* .backapp; -1 in a dry run where there is none yet */
    char *id;     /* marker id; NULL in a dry run without a marker */
    FsFacts facts;
    FsAbilities abilities;
    guint64 dev, mount;               /* of the root: what has others lies on another file system */
    guint64 ino;                      /* of the root; all three are 0 without one */
    guint64 known_files, known_bytes; /* what the last complete run had in its sources; for progress only */
} Destination;

typedef struct {
    const char *expected_id; /* from the config or the shell's record; NULL: not known */
    gboolean force;          /* adopts another id, accepts what looks like an unmounted drive */
    gboolean dry_run;        /* creates and changes nothing */
    gboolean existing_only;  /* for recover and verify: NOT_FOUND if there is no .backapp */
} DestinationOptions;

/* Opens `path`; a missing last component is created if its parent exists (in a dry run *dest then has root_fd -1).
 * Checked before anything is written:
 *   INVALID   it is empty or not a directory, .backapp is none, or the marker is no plain file
 *   CORRUPT   the marker is damaged
 *   DENIED    it is not writable, or its file system is mounted read-only
 *   CONFLICT  with *refused: the drive is not mounted (expected_id is given, or the path is below /media, /mnt, /run/media
 *             or in fstab, and there is no marker), or the marker has another id than expected_id,
 *             or this is root and .backapp belongs to another user
 *   NOT_FOUND it is a symbolic link to nothing
 * Then a missing directory, .backapp (0700, no inherited ACL or group) and the marker are made, the lock is taken and
 * the abilities are probed. LOCKED names host, pid and start of the owner; a dead owner's lock is taken over. */
gboolean destination_open(const char *path, const DestinationOptions *options, RunSink *sink, Destination **dest,
                          gboolean *refused, GError **error);

/* Refuses sources that overlap with the destination, by identity of the directories (not by spelling): the same
 * directory, the destination inside a source (unless the source's walk never gets there is not considered), a source
 * inside the destination, a source twice; and a source that does not exist or is no directory. source_fds gets one open
 * descriptor a source (the caller closes). The destination may not exist yet (dest_path); NULL: it is on another host. */
gboolean destination_check_sources(const char *const *sources, const char *dest_path, GArray *source_fds,
                                   GError **error);

/* Releases the lock, closes, frees; NULL is a no-op. */
void destination_close(Destination *dest);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Destination, destination_close)

/* Remembers sources and time of a complete run in state.json (atomically). */
gboolean destination_save_state(Destination *dest, const char *const *sources, GError **error);

/* Fills known_files and known_bytes from state.json; they stay 0 if it does not tell. */
void destination_load_totals(Destination *dest);

/* The remembered sources, NULL-terminated; NULL if none are known. The caller frees with g_strfreev. */
char **destination_load_sources(Destination *dest);
