/*
 * The parts of a job spec that are about what stays and what is proven (docs/formats/worker.md): rules of retention, and
 * the sample of a restore drill. Plain structures with their tables for json_line; spec.c puts them into the spec. One
 * thread at a time; strings are owned and may be NULL: not said.
 */
#pragma once

#include "job/json_line.h"

/* A count of rules that is no limit: "unlimited" in JSON. */
#define JOB_KEEP_ALL G_MAXUINT

/* options.retention; see engine/retention/rules.h for the meaning. 0: not given. With options.dryRun it only says what
 * would go. */
typedef struct {
    guint count, days;                                  /* retention.count, .days; the seeds' retentionDays is days */
    guint last, hourly, daily, weekly, monthly, yearly; /* keepLast, keepHourly, ... */
    char *within;                                       /* keepWithin: "30d", "1y6m" */
    char *time_zone;                                    /* timezone, an IANA name; NULL: the machine's */
    gboolean unfinished;                                /* also what has no index for 7 days */
} JobRetentionOptions;

extern const JsonField job_retention_fields[];
void job_retention_options_clear(JobRetentionOptions *options);

/* options.drill; see engine/drill/drill.h for the meaning. The point is options.restore.at, the archives' name
 * options.archive.name, and the spec's sources are what it is compared with. */
typedef struct {
    guint files;       /* of each kind; 0: the default */
    guint64 max_bytes; /* 0: the default */
    guint seed;        /* 0: any */
} JobDrillOptions;

extern const JsonField job_drill_fields[];
