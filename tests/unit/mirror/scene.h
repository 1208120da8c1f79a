/*
 * A destination made by hand below a fresh temporary directory, for tests of what works on one: its folder, `.backapp`,
 * and a sink that collects warnings. One thread. A failure to set it up fails the test.
 */
#pragma once

#include "../base/cmocka_all.h"

#include "engine/mirror/destination.h"

typedef struct {
    RunSink sink; /* first: the callbacks get it back */
    char *top;    /* temporary directory; the destination is top/dest */
    Destination dest;
    GPtrArray *warnings; /* of "code path message" */
} Scene;

Scene *scene_new(void);
void scene_free(Scene *scene);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

/* Writes a file, makes a directory (with its parents), below the destination. Returns the inode. */
guint64 scene_write(Scene *scene, const char *path, const char *text);
guint64 scene_mkdir(Scene *scene, const char *path, guint mode);

/* The file's text, "<dir>" for a directory, "<none>" if nothing is there; the caller frees. */
char *scene_read(Scene *scene, const char *path);

/* The inode, mode and mtime; 0 if nothing is there. */
guint64 scene_ino(Scene *scene, const char *path);
guint scene_mode(Scene *scene, const char *path);
gint64 scene_mtime(Scene *scene, const char *path);

/* Everything below `path`, one line an entry: path, type, mode, mtime of directories and files, text. Sorted. */
char *scene_list(Scene *scene, const char *path);

/* Number of warnings that contain `text`. */
guint scene_warned(const Scene *scene, const char *text);
