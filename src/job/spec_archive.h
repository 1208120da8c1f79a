/*
 * The part of a job spec that is about archives (docs/formats/worker.md): how one is made, and which one is meant. A plain
 * structure with its table for json_line; spec.c puts it into the spec. One thread at a time; strings are owned and may
 * be NULL: not said.
 */
#pragma once

#include "job/json_line.h"

#define JOB_ARCHIVE_VOLUME_MIN (8 * 1024 * 1024)

/* options.archive; see engine/archive/archive.h for the meaning. Names in JSON are the seeds' where they have one: type,
 * compression, compressionLevel, encryption; ours: name, codec, fullEveryDays, volumeSize, storageClass, time, stateDir,
 * and for a verification or reindexing at, full. */
typedef struct {
    char *name;            /* of the place below the store; NULL, to read: the only one there is */
    char *type;            /* of job_archive_types; NULL: incremental */
    char *codec;           /* of job_archive_codecs; NULL: gzip */
    gboolean compression;  /* FALSE: a plain tar */
    guint level;           /* 0: the codec's default */
    gboolean encryption;   /* with the spec's key or passphrase */
    guint full_every_days; /* 0: not because of its age */
    guint64 volume_size;   /* bytes; 0: the engine's default */
    char *storage_class;   /* NULL: the store's default */
    guint64 time;          /* the due time, seconds since 1970; 0: now */
    char *state_dir;       /* absolute; NULL: nothing can be resumed */
    char *at;              /* the point; NULL: the latest */
    gboolean full;         /* a verification reads everything */
} JobArchiveOptions;

/* The words of type and codec, in the order of ArchiveType and, from gzip on, ArchiveCodec; NULL-terminated. */
extern const char *const job_archive_types[4];
extern const char *const job_archive_codecs[3];

extern const JsonField job_archive_fields[];
void job_archive_options_init(JobArchiveOptions *options);
void job_archive_options_clear(JobArchiveOptions *options);
/* INVALID names the key: a word that is none, a level that the codec has not, too small volumes. */
gboolean job_archive_options_validate(const JobArchiveOptions *options, GError **error);
