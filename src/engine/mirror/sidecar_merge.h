/*
 * Bringing the sidecar up to date while a run is planned: the present sidecar and the source's entries, both in the order
 * of a walk, are read side by side. As long as nothing differs nothing is written; from the first difference on there is
 * a sidecar.new. Also tells what the destination "has" of metadata that it cannot hold. Memory: the paths of what stays
 * unread or goes as a whole. One thread.
 */
#pragma once

#include "engine/mirror/run.h"
#include "engine/mirror/sidecar.h"

/* TRUE if the destination cannot hold something of what this run keeps, so that there is a sidecar. */
gboolean sidecar_is_needed(const FsAbilities *abilities, const AttrsFilter *wanted);

/* TRUE if an entry of this type cannot exist at the destination: it has only a record. */
gboolean sidecar_is_record_only(const FsAbilities *abilities, guint32 mode);

typedef enum {
    SIDECAR_SAME,    /* the present record says the same, or there is none and none is needed */
    SIDECAR_DIFFERS, /* it says something else */
    SIDECAR_ABSENT,  /* there is none */
    SIDECAR_UNKNOWN, /* the present sidecar is missing or damaged: it is written anew */
} SidecarState;

/* An entry of which there was only a record goes away. `whole`: a directory above it goes, which is told elsewhere. */
typedef gboolean (*SidecarGone)(const char *path, guint32 mode, gboolean whole, gpointer user_data, GError **error);

typedef struct SidecarMerge SidecarMerge;

/* Opens the present sidecar; one that is damaged is said to be, once. In a dry run nothing is written. */
SidecarMerge *sidecar_merge_new(MirrorRun *run, SidecarGone gone, gpointer user_data, GError **error);

/* The record that the source's entry shall have (attributes encoded, see sidecar_encode); decides itself if one is needed.
 * In order. *state: against the present one. *stale (may be NULL): a regular file whose content may differ although size
 * and coarse time are equal. */
gboolean sidecar_merge_put(SidecarMerge *merge, const SidecarRecord *record, const guint8 *attrs, gsize attrs_length,
                           SidecarState *state, gboolean *stale, GError **error);

/* The source has a directory of this name: called among the files of its parent, in order, for the record of something
 * else that has the name ends there. */
gboolean sidecar_merge_directory(SidecarMerge *merge, const char *path, GError **error);

/* What the destination has at the path and below stays as it is, and so do its records: before those come in order. */
void sidecar_merge_keep(SidecarMerge *merge, const char *path);

/* What is at the path goes as a whole; likewise. */
void sidecar_merge_remove(SidecarMerge *merge, const char *path);

/* Number of present records of which there is nothing but the record, so far. */
guint64 sidecar_merge_only_records(const SidecarMerge *merge);

/* All were put. *changed: the sidecar changes; unless this is a dry run, sidecar.new waits for the commit. */
gboolean sidecar_merge_finish(SidecarMerge *merge, gboolean *changed, GError **error);

/* Frees; what is not finished is removed. NULL is a no-op. */
void sidecar_merge_free(SidecarMerge *merge);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SidecarMerge, sidecar_merge_free)
