/*
 * Shows a job's events: as they are (--json), or as text through a Terminal. One thread.
 */
#pragma once

#include "cli/terminal.h"
#include "job/spec.h"

typedef struct Report Report;

/* A report of this job. spec and terminal stay the caller's and outlive the report. */
Report *report_new(const JobSpec *spec, gboolean json, Terminal *terminal);

/* Shows one event. Of the warnings, text shows the first 200 and then counts. */
void report_event(Report *report, const Event *event);

/* Says that the job is being cancelled (a first Ctrl-C) or killed (a second one). */
void report_cancelling(Report *report, gboolean kill);

/* The stats of the summary event, owned by the report; NULL if none came. */
const json_t *report_summary(const Report *report);

void report_free(Report *report);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Report, report_free)
