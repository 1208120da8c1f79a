#include "cli/report.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/summary.h"

#include <string.h>
#include <unistd.h>

/* A source on a failing disk can have a warning a file; the first ones tell what is wrong. */
#define WARNINGS_SHOWN 200

struct Report {
    const JobSpec *spec;
    Terminal *terminal;
    gboolean json;
    guint64 warnings;
    const char *stage;     /* in words; static or `stage_name` */
    char *stage_name;      /* printable */
    gboolean scanning;     /* nothing is copied yet */
    gboolean committed;    /* a stage began that comes after the commit point */
    gboolean recovered;    /* an earlier run was completed first */
    gboolean restoring;    /* the target is being written */
    gboolean second_stage; /* objects are being changed; of two stages the mirror is complete */
    gint64 started;
    json_t *summary;
};

Report *report_new(const JobSpec *spec, gboolean json, Terminal *terminal)
{
    Report *report = g_new0(Report, 1);
    report->spec = spec;
    report->json = json;
    report->terminal = terminal;
    report->stage = "starting";
    report->started = g_get_monotonic_time();
    return report;
}

static const char *stage_words(const char *name)
{
    static const struct {
        const char *name, *words;
    } known[] = {
        {"scan", "comparing"},
        {"plan", "planning"},
        {"check", "checking"},
        {"rsync", "copying"},
        {"stage", "copying"},
        {"copy", "copying"},
        {"sync", "writing to disk"},
        {"commit", "putting in place"},
        {"verify", "verifying"},
        {"recover", "completing an interrupted run"},
        {"clean", "cleaning up"},
        {"s3-sync", "copying to the store"},
        {"restore", "restoring"},
        {"delete", "deleting"},
        {"list", "listing"},
        {"archive", "archiving"},
        {"index", "writing the index"},
        {"reindex", "reading the archive"},
        {"retention", "looking at what stays"},
        {"drill", "restoring a sample"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(known); i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].words;
    return NULL;
}

static gboolean is_after_commit(const char *stage)
{
    return strcmp(stage, "commit") == 0 || strcmp(stage, "verify") == 0 || strcmp(stage, "clean") == 0;
}

/* "URL: " of one of several destinations; "" for the run as a whole. */
static char *destination_label(const Report *report, int destination)
{
    if (destination < 0 || (guint)destination >= report->spec->destinations->len)
        return g_strdup("");
    const JobDestination *entry = &g_array_index(report->spec->destinations, JobDestination, destination);
    g_autofree char *shown = human_name(entry->store.url ? entry->store.url : entry->path, -1);
    return g_strconcat(shown, ": ", NULL);
}

static void show_stage(Report *report, const Event *event)
{
    const char *name = event->name ? event->name : "";
    report->committed = report->committed || is_after_commit(name);
    report->recovered = report->recovered || strcmp(name, "recover") == 0;
    report->scanning = strcmp(name, "scan") == 0;
    report->restoring = report->restoring || strcmp(name, "restore") == 0;
    report->second_stage = report->second_stage || strcmp(name, "s3-sync") == 0;
    g_free(report->stage_name);
    report->stage_name = human_name(name, -1);
    report->stage = stage_words(name) ? stage_words(name) : report->stage_name;
    g_autofree char *place = destination_label(report, event->destination);
    terminal_line(report->terminal, "%s%s ...", place, report->stage);
}

static void show_progress(Report *report, const Event *event)
{
    Event shown = *event;
    /* Sizes of files that are only looked at would read like a speed of light. */
    if (report->scanning)
        shown.rate = 0;
    terminal_progress(report->terminal, report->stage, &shown);
}

static void show_warning(Report *report, const Event *event)
{
    if (++report->warnings > WARNINGS_SHOWN)
        return;
    g_autofree char *message = terminal_safe(event->message ? event->message : "");
    g_autofree char *place = destination_label(report, event->destination);
    const char *kind = g_strcmp0(event->code, "note") == 0 ? "note" : "warning";
    if (event->path && *event->path) {
        g_autofree char *path = human_name(event->path, -1);
        terminal_error(report->terminal, "%s: %s%s: %s", kind, place, path, message);
    } else
        terminal_error(report->terminal, "%s: %s%s", kind, place, message);
}

static const char *destination_path(const Report *report)
{
    const GArray *destinations = report->spec->destinations;
    return destinations->len > 0 ? g_array_index(destinations, JobDestination, 0).path : NULL;
}

static gboolean has_journal(const char *destination)
{
    g_autofree char *journal = g_build_filename(destination, ".backapp", "journal", NULL);
    return access(journal, F_OK) == 0;
}

/* What a run that did not finish leaves behind; NULL if that cannot be said for sure. */
static const char *describe_state(const Report *report)
{
    const JobSpec *spec = report->spec;
    /* With a summary it was read to its end: then the record is written, damage or not. */
    if (spec->type == JOB_VERIFY)
        return report->summary ? NULL : "Nothing was changed, and no hash was recorded.";
    if (spec->options.dry_run)
        return "Nothing was changed.";
    if (spec->type == JOB_S3_MIRROR)
        return "What was uploaded so far stays; the last restore point is as it was. Run it again to go on.";
    if (spec->type == JOB_ARCHIVE)
        return "No new point was made; those that were there are as before. Volumes that were stored whole are not "
               "sent again by the next run.";
    if (spec->type == JOB_ARCHIVE_VERIFY || spec->type == JOB_ARCHIVE_REINDEX || spec->type == JOB_DRILL)
        return "Nothing was changed.";
    if (spec->type == JOB_ARCHIVE_RETENTION)
        return "Every point that was not removed is whole. Run it again to go on.";
    if (spec->type == JOB_RESTORE)
        return report->restoring ? "What was restored so far stays; run it again to go on." : "Nothing was changed.";
    if (spec->type == JOB_TWO_STAGE && spec->options.s3.only_s3)
        return "The mirror is as it was, and in the store the last restore point.";
    if (spec->type == JOB_TWO_STAGE && report->second_stage)
        return "The mirror is complete. In the store the last restore point is as it was; --only-s3 goes on.";
    const char *destination = destination_path(report);
    if (!destination)
        return NULL;
    if (has_journal(destination))
        return "The new state is committed but not yet wholly in place: the next run completes it, or now "
               "'backapp mirror --recover'.";
    if (spec->type == JOB_RECOVER)
        return NULL;
    if (report->committed)
        return "The destination holds the new state.";
    return report->recovered ? "An earlier run was completed; this one changed nothing."
                             : "The destination is unchanged.";
}

/* The transaction is the native engine's; with rsync what it has copied stays. */
static gboolean is_native(const JobSpec *spec)
{
    return !spec->options.engine_rsync;
}

static void show_end(Report *report, const char *what, const char *message)
{
    g_autofree char *safe = terminal_safe(message ? message : "");
    /* A message that begins with the status ("cancelled; ...") is not introduced by it. */
    if (g_str_has_prefix(safe, what))
        terminal_error(report->terminal, "backapp: %s", safe);
    else
        terminal_error(report->terminal, "backapp: %s%s%s", what, *safe ? ": " : "", safe);
}

/* What a run had done before one of its plans was refused. */
static const char *refused_state(const Report *report)
{
    const JobSpec *spec = report->spec;
    if (spec->options.dry_run || spec->type == JOB_RECOVER)
        return "Nothing was changed.";
    if (spec->type == JOB_TWO_STAGE && !spec->options.s3.only_s3 && json_object_get(report->summary, "stage2"))
        return "The mirror was brought up to date; the store was not changed. To go on with the store alone: two-stage "
               "--only-s3 DEST STORE, with --confirm or --force.";
    /* Of several sources, or several stores, others had their turn. */
    if (spec->type == JOB_S3_MIRROR && report->second_stage)
        return "That plan was not carried out; what was done before it, or in other stores, stays.";
    return report->recovered ? "An earlier run was completed; this one changed nothing." : "Nothing was changed.";
}

static void show_refused(Report *report, const Event *event)
{
    const char *state = refused_state(report);
    show_end(report, "refused", event->error_message);
    if (event->error_message && strstr(event->error_message, "--force")) {
        terminal_error(report->terminal, "%s", state);
    } else if (event->plan_hash) {
        g_autofree char *hash = human_name(event->plan_hash, -1);
        terminal_error(report->terminal,
                       "%s To go on all the same, run it again with --confirm %s (exactly this plan) or --force (any "
                       "plan).",
                       state, hash);
    } else
        terminal_error(report->terminal, "%s To go on all the same, run it again with --force.", state);
}

static void show_incomplete(Report *report, const Event *event)
{
    show_end(report, job_status_name(event->status), event->error_message);
    if (!is_native(report->spec)) {
        if (g_strcmp0(event->error_code, error_code_name(BACKAPP_ERROR_INVALID)) == 0)
            return; /* rsync was not even started */
        terminal_error(report->terminal, "What rsync had copied so far stays in the destination.");
        return;
    }
    /* The engine's own words about the state are nearer to it than ours; and what is there while somebody else is at
     * work is theirs. */
    if ((event->error_message && strstr(event->error_message, "--recover")) ||
        g_strcmp0(event->error_code, error_code_name(BACKAPP_ERROR_LOCKED)) == 0)
        return;
    const char *state = describe_state(report);
    if (state)
        terminal_error(report->terminal, "%s", state);
}

static void show_summary(Report *report)
{
    g_autofree char *text = summary_describe(report->spec->type, report->spec->options.dry_run, report->summary);
    terminal_raw(report->terminal, text);
}

/* Why a finished run is not complete. */
static const char *partial_words(const Report *report)
{
    if (report->spec->type == JOB_RESTORE)
        return "not all could be restored as it was";
    if (report->spec->type == JOB_S3_MIRROR && report->spec->destinations->len > 1)
        return "not all is in every store";
    if (report->spec->type == JOB_ARCHIVE_RETENTION)
        return "not all that should go could go, or an index is damaged";
    if (report->spec->type == JOB_DRILL)
        return "not every file could be proven";
    return "not all of the source could be read as it was";
}

/* A verification that found damage did its work, and of a retention that ended early the first part is done. */
static gboolean tells_of_failure(JobType type)
{
    return type == JOB_VERIFY || type == JOB_ARCHIVE_VERIFY || type == JOB_ARCHIVE_RETENTION || type == JOB_DRILL;
}

static void show_done(Report *report, const Event *event)
{
    double seconds = summary_seconds(report->summary, "duration");
    if (seconds <= 0)
        seconds = (double)(g_get_monotonic_time() - report->started) / G_USEC_PER_SEC;
    g_autofree char *duration = human_duration(seconds);
    if (report->warnings > WARNINGS_SHOWN) {
        g_autofree char *more = human_count(report->warnings - WARNINGS_SHOWN);
        terminal_error(report->terminal, "and %s more warnings", more);
    }
    gboolean dry_run = report->spec->options.dry_run;
    switch (event->status) {
    case JOB_COMPLETED:
        terminal_line(report->terminal, "%s in %s%s", dry_run ? "dry run" : "completed", duration,
                      dry_run ? ": nothing was changed" : "");
        show_summary(report);
        break;
    case JOB_PARTIAL:
        terminal_line(report->terminal, "%s in %s, but %s", dry_run ? "dry run" : "finished", duration,
                      partial_words(report));
        show_summary(report);
        break;
    case JOB_REFUSED:
        if (dry_run)
            show_summary(report);
        show_refused(report, event);
        break;
    case JOB_FAILED:
        if (tells_of_failure(report->spec->type) && report->summary)
            show_summary(report);
        show_incomplete(report, event);
        break;
    case JOB_CANCELLED:
        show_incomplete(report, event);
        break;
    }
}

static void show_text(Report *report, const Event *event)
{
    switch (event->type) {
    case EVENT_STAGE:
        show_stage(report, event);
        break;
    case EVENT_PROGRESS:
        show_progress(report, event);
        break;
    case EVENT_WARNING:
        show_warning(report, event);
        break;
    case EVENT_ITEM: {
        g_autofree char *line = summary_item(event);
        terminal_line(report->terminal, "%s", line);
        break;
    }
    case EVENT_DONE:
        show_done(report, event);
        break;
    case EVENT_SUMMARY: /* shown with the end */
    case EVENT_NEED:    /* nothing that a shell could give */
        break;
    }
}

void report_event(Report *report, const Event *event)
{
    if (event->type == EVENT_SUMMARY && event->summary) {
        json_decref(report->summary);
        report->summary = json_incref(event->summary);
    }
    if (report->json) {
        g_autofree char *line = event_print(event);
        terminal_raw(report->terminal, line);
    } else
        show_text(report, event);
}

void report_cancelling(Report *report, gboolean kill)
{
    if (report->json)
        return;
    terminal_error(report->terminal, "%s",
                   kill ? "killing the run ..." : "cancelling ... (once more kills the run at once)");
}

const json_t *report_summary(const Report *report)
{
    return report->summary;
}

void report_free(Report *report)
{
    if (!report)
        return;
    json_decref(report->summary);
    g_free(report->stage_name);
    g_free(report);
}
