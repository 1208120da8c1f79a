/*
 * What the tests of scan and plan share: a source, a store in memory, a catalogue; making plans; and a model of a run
 * that does what a plan says in the simplest way. One thread.
 */
#pragma once

#include "../fs/scratch.h"

#include "engine/s3sync/plan.h"
#include "store/drivers.h"

typedef struct {
    Scratch *scratch; /* source/ and state/ in it */
    int source_fd;
    Store *whole, *store; /* the second below the prefix */
    char *prefix;
    Catalogue *catalogue;
    S3Names *names;
    PatternList *patterns;
    S3syncOptions options;
    ScanOptions scan;
    RunSink sink;
    GPtrArray *warnings; /* of char *: "code path" */
    Catalogue *base;
    char *base_prefix;
    gboolean list;
    ScanStats stats; /* of the last plan */
} Scene;

/* encrypted_names: with a key made of zeros. Freed with scene_free. */
Scene *scene_new(Scratch *scratch, const char *prefix, gboolean encrypted_names);
void scene_free(Scene *scene);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

/* Opens the catalogue of a prefix. */
Catalogue *scene_catalogue(Scene *scene, const char *prefix);

/* Writes a file of the source, making its parents; mtime in seconds. */
void scene_write(Scene *scene, const char *path, const char *content, gint64 mtime);
/* Puts an object with this content; mtime as metadata, NULL for none. */
void scene_put(Scene *scene, const char *key, const char *content, const char *mtime);
/* The content of an object; NULL if there is none. */
char *scene_get(Scene *scene, const char *key);

S3Plan *scene_plan(Scene *scene);
/* "op key reason" of all items but KEEP and META, joined by ", ". op is a letter: U C T Y D (Y is copy). */
char *scene_describe(S3Plan *plan);
/* scene_plan and scene_describe, compared with what is wanted. */
void scene_expect(Scene *scene, const char *want);
/* Does what a plan says. */
void scene_apply(Scene *scene, S3Plan *plan);
/* scene_plan and scene_apply. */
void scene_run(Scene *scene);

/* TRUE if such a warning was sent. */
gboolean scene_warned(const Scene *scene, const char *code_and_path);
