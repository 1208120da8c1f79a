/*
 * What the two halves of a retention share: judging (retire_judge.c) and removing (retire.c). One thread.
 */
#pragma once

#include "engine/archive/retire.h"

/* An archive of the place on its way to a verdict. Those that are opened have what their index says. */
typedef struct {
    const ArchiveListed *listed;
    RetirePoint *report; /* belongs to the report */
    char *parent;        /* base; NULL: none, or not known */
    guint8 parent_hash[HASH_BYTES], hash[HASH_BYTES];
    gboolean rebuilt_full; /* other points may know it by another hash */
    guint wanted_volumes;
    guint64 wanted_bytes;
    GError *error;   /* why the index could not be read */
    gboolean opened; /* it could */
    gboolean judged; /* sound and depth are known */
    gboolean sound;  /* all that it needs is there */
    guint depth;     /* how many it builds on */
    gboolean keep;
} RetireCandidate;

typedef struct {
    const RetireOptions *options;
    RetireReport *report;
    gint64 now;
    gboolean lockable; /* the store has versions, and they may be locked */
    GTimeZone *zone;
    GPtrArray *listed;     /* of ArchiveListed * */
    GPtrArray *candidates; /* of RetireCandidate *, newest first */
    GHashTable *by_base;   /* base -> RetireCandidate */
    GHashTable *begun;     /* bases with a marker */
} Retire;

/* The candidate that this one builds on; NULL: none, or it is not there. */
RetireCandidate *retire_parent(const Retire *retire, const RetireCandidate *candidate);
/* Keeps it, with one more reason (taken). */
void retire_keep(RetireCandidate *candidate, char *why);
/* Everything that it builds on stays, because of it. */
void retire_keep_parents(const Retire *retire, const RetireCandidate *candidate);
/* Reads the indexes and decides about all candidates: keep, and the report's state and why. */
gboolean retire_judge(Retire *retire, GError **error);
