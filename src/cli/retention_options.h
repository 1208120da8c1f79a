/*
 * The options of retention: rows, and what they change in a job's spec. No input or output. One thread.
 */
#pragma once

#include "cli/options.h"
#include "job/spec.h"

enum {
    OPT_COUNT = 3000,
    OPT_DAYS,
    OPT_KEEP_LAST,
    OPT_KEEP_HOURLY,
    OPT_KEEP_DAILY,
    OPT_KEEP_WEEKLY,
    OPT_KEEP_MONTHLY,
    OPT_KEEP_YEARLY,
    OPT_KEEP_WITHIN,
    OPT_TIME_ZONE,
    OPT_SIMULATE,
    OPT_UNFINISHED,
};

/* clang-format off */
#define ROW_KEEP_LAST {"keep-last", 0, "N", "retention: keep the newest N points.", OPT_KEEP_LAST}
#define ROW_KEEP_HOURLY {"keep-hourly", 0, "N", "retention: keep the newest of each of the last N hours that have any (N may be unlimited, here and below).", OPT_KEEP_HOURLY}
#define ROW_KEEP_DAILY {"keep-daily", 0, "N", "retention: likewise of days.", OPT_KEEP_DAILY}
#define ROW_KEEP_WEEKLY {"keep-weekly", 0, "N", "retention: likewise of weeks, which begin on Monday.", OPT_KEEP_WEEKLY}
#define ROW_KEEP_MONTHLY {"keep-monthly", 0, "N", "retention: likewise of months.", OPT_KEEP_MONTHLY}
#define ROW_KEEP_YEARLY {"keep-yearly", 0, "N", "retention: likewise of years.", OPT_KEEP_YEARLY}
#define ROW_KEEP_WITHIN {"keep-within", 0, "SPAN", "retention: keep what is younger than the newest point less SPAN (30d, 12h, 1y6m).", OPT_KEEP_WITHIN}
#define ROW_COUNT {"count", 0, "N", "retention: the same as --keep-last.", OPT_COUNT}
#define ROW_DAYS {"days", 0, "N", "retention: keep what is not older than N days.", OPT_DAYS}
#define ROW_TIME_ZONE {"timezone", 0, "ZONE", "retention: where days begin (Europe/Berlin; default: this machine's).", OPT_TIME_ZONE}
#define ROW_SIMULATE {"simulate", 0, NULL, "retention: only say which points would go, and why.", OPT_SIMULATE}
#define ROW_UNFINISHED {"unfinished", 0, NULL, "retention: also remove archives that have had no index for 7 days.", OPT_UNFINISHED}
#define ROWS_RETENTION ROW_KEEP_LAST, ROW_KEEP_HOURLY, ROW_KEEP_DAILY, ROW_KEEP_WEEKLY, ROW_KEEP_MONTHLY, ROW_KEEP_YEARLY, ROW_KEEP_WITHIN, ROW_COUNT, ROW_DAYS, ROW_TIME_ZONE, ROW_SIMULATE, ROW_UNFINISHED
/* clang-format on */

/* Applies those of the uses that are in ROWS_RETENTION. FALSE with INVALID, which names the option. */
gboolean retention_options_apply(JobSpec *spec, const OptionArgs *args, GError **error);
