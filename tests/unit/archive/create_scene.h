/*
 * Runs of archive_create for tests: a source that is changed by short words, a store whose writing requests are counted
 * and can fail or kill, a clock that can be put forward, and the proof that a point is the source. What fails fails the
 * test. One thread, but for the hooks of the store.
 */
#pragma once

#include "engine/archive/archive.h"
#include "engine/archive/chain.h"

/* Seconds by which the clock of the test differs from the machine's (clock_gettime is replaced). */
extern atomic_int scene_clock_shift;

typedef struct CreateScene CreateScene;
struct CreateScene {
    char *root;           /* a directory of its own */
    char *source;         /* root/source */
    char *state;          /* root/state; in options unless a test says otherwise */
    const char *paths[4]; /* options.sources; source and NULL */
    Store *store;
    ArchiveOptions options; /* level 1, one thread, a store in memory */
    ArchiveStats stats;     /* of the last run */
    GPtrArray *warnings;    /* of the last run: "CODE PATH", PATH may be empty */
    CancelFlag cancel;
    RunSink sink;
    const char *stage; /* the present one */
    /* Called with each progress of the stage "archive", and when it begins (path NULL, first TRUE). May be NULL. */
    void (*hook)(CreateScene *scene, const char *path, gboolean first);
    guint hooked; /* for the hook's own use; set to 0 before each run */
};

/* local: in root/store, else in memory. */
CreateScene *create_scene_new(gboolean local);
void create_scene_free(CreateScene *scene);

/* A run that has to succeed, or to fail with this code. The clock goes 10 s forward before it (but for `late`): what the
 * source had before an earlier run is not late. */
void scene_run(CreateScene *scene);
void scene_run_late(CreateScene *scene);
void scene_run_fails(CreateScene *scene, int code);
/* The newest point is the source, to the last attribute. */
void scene_check(CreateScene *scene);
/* So does this one say of this path: 1 it is there, 0 not. entry may be NULL; its strings are not valid. */
gboolean scene_find(CreateScene *scene, const char *path, IndexEntry *entry);
/* Its content in the newest point; the caller frees. */
guint8 *scene_content(CreateScene *scene, const char *path, gsize *length);
/* Its tar can be read from the first header to its end, as by whoever knows no index. Makes the index anew. */
void scene_check_tar(CreateScene *scene, const char *point);
/* How many deletions the newest point's index has. */
guint64 scene_deletions(CreateScene *scene);
/* Objects below the place whose names end so. */
guint scene_objects(CreateScene *scene, const char *suffix);
gboolean scene_warned(const CreateScene *scene, const char *code_and_path);
/* Without the last point's index: what else is there is never more than this run left. */
void scene_delete_object(CreateScene *scene, const char *suffix);

/* ---- the source ---- */

/* Paths are relative to the source. */
char *scene_path(const CreateScene *scene, const char *path); /* the caller frees */
void scene_write(const CreateScene *scene, const char *path, const char *text);
/* `length` bytes that depend on the seed. */
void scene_fill(const CreateScene *scene, const char *path, guint seed, gsize length);
/* A line of words: "d PATH" a directory, "f PATH TEXT" a file, "l PATH TARGET" a symlink, "h PATH FIRST" a hard link,
 * "r PATH" removes whatever it is, "e PATH" what is in it, "m FROM TO" renames, "c MODE PATH", "o UID PATH", "x PATH VALUE" an attribute, "s PATH
 * SIZE AT" a sparse file with a byte every so often (AT 0: none), "p PATH" a fifo, "t PATH" a socket, "u PATH SECONDS" its
 * mtime. Several are divided by ";". */
void scene_do(const CreateScene *scene, const char *words);

/* ---- the store ---- */

/* Writing requests so far (put, begin, part, complete, delete, copy); those of the lock do not count. */
extern atomic_uint scene_requests;
/* Objects that became whole so far. With scene_enough no more than so many, less one, do: the next one is refused (0: no
 * limit). */
extern atomic_uint scene_completed, scene_enough;
/* The request with this number (from 1; 0: none) fails, or kills the process: before it is done, or behind it. */
typedef enum { SCENE_FAIL = 1, SCENE_KILL_BEFORE, SCENE_KILL_BEHIND } SceneEnd;
extern atomic_uint scene_end_at;
extern SceneEnd scene_end;
/* Nobody learns what objects there are, but by a list. */
void scene_heads_fail(gboolean fail);
