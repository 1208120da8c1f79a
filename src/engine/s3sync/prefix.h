/*
 * Where in a bucket a run puts its objects: destination prefix + s3Prefix with its dates filled in. Pure; any thread.
 */
#pragma once

#include <glib.h>

typedef struct {
    gint64 time;               /* the run's due time, seconds since 1970 */
    const char *timezone;      /* of the schedule, an IANA name; NULL: the machine's */
    const char *config, *host; /* for {config} and {host}; NULL: "" */
} PrefixValues;

/* base and template (either may be NULL) joined and normalised: no leading slash, one at the end unless empty, none
 * doubled. YYYY-MM-DD, {date}, {time} (HHMMSS), {config}, {host} are filled in. *dated (may be NULL): TRUE if it changes
 * with the date. INVALID for an unknown {word} or time zone. The caller frees. */
char *prefix_expand(const char *base, const char *template, const PrefixValues *values, gboolean *dated,
                    GError **error);

/* The part of the expanded prefix that all dates share (up to the first segment with a date), for listing dates. */
char *prefix_common(const char *base, const char *template, const PrefixValues *values, GError **error);
