/*
 * Which restore points stay, by rules: a point stays while any given rule keeps it. The rules mean what they mean to
 * `restic forget`. Pure functions over times; any thread.
 *
 * Two things hold whatever the rules say. The newest point from which everything can be restored always stays. And a point
 * whose date is in the future (some clock was or is wrong) always stays and counts for no rule, so it can push no other
 * out.
 */
#pragma once

#include <glib.h>

/* For the counts below: all of them. */
#define RETENTION_ALL G_MAXUINT

/* A span of the calendar: first years, months and days, then hours. All 0: none is given. */
typedef struct {
    guint years, months, days, hours;
} RetentionSpan;

/* What is 0 is not given. */
typedef struct {
    guint count;                                  /* the newest so many */
    guint days;                                   /* what is not older than so many days, by the clock */
    guint last;                                   /* the newest so many, too */
    guint hourly, daily, weekly, monthly, yearly; /* the newest of each of the newest so many that have any; as long as
                                                     there are fewer, the oldest point too. Weeks are those of ISO 8601 */
    RetentionSpan within;                         /* what is younger than the newest point less this */
} RetentionRules;

typedef struct {
    gint64 time;   /* seconds since 1970 */
    gboolean good; /* everything that it should hold can be restored from it */
} RetentionPoint;

typedef struct {
    gboolean keep;
    char *why; /* in words, the reasons joined by ", "; owned */
} RetentionVerdict;

/* "30d", "1y6m", "2w", "12h": numbers with y, m, w (7 days), d, h, each at most once and in this order. INVALID otherwise, and
 * for one of no length. */
gboolean retention_parse_span(const char *text, RetentionSpan *span, GError **error);
/* A count of rules: a number from 1, or "unlimited". `what` names it in the error. */
gboolean retention_parse_count(const char *text, const char *what, guint *count, GError **error);
/* "2y5m7d3h"; "" for none. The caller frees. */
char *retention_print_span(const RetentionSpan *span);

/* TRUE if any rule is given. Without any all points stay. */
gboolean retention_has_rules(const RetentionRules *rules);
/* The rules in words: "the newest 7, 4 weekly, what is younger than 30d"; "all points". The caller frees. */
char *retention_describe(const RetentionRules *rules);

/* What becomes of each point (of RetentionVerdict, in the order of points, which is any; cleared with the array). now:
 * seconds since 1970. zone: by whose clock hours, days and years end. */
GArray *retention_decide(const RetentionPoint *points, guint count, const RetentionRules *rules, gint64 now,
                         GTimeZone *zone);
