#include "cli/command.h"

#include "cli/destinations.h"
#include "cli/mirror_options.h"
#include "cli/run.h"

#include <stdio.h>

/* The record only makes a run safer: without it the run goes on, and says so. */
static void warn_record(const GError *error)
{
    fprintf(stderr, "warning: the record of known destinations: %s\n", error->message);
}

static void look_up(JobDestination *destination)
{
    g_autoptr(GError) error = NULL;
    destination->expected_id = destinations_lookup(destination->path, &error);
    if (error)
        warn_record(error);
}

static void record(const JobDestination *destination, const RunOutcome *outcome)
{
    g_autoptr(GError) error = NULL;
    if (outcome->status != JOB_COMPLETED && outcome->status != JOB_PARTIAL)
        return;
    if (outcome->destination_id && !destinations_record(destination->path, outcome->destination_id, &error))
        warn_record(error);
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = mirror_options_build(args, &error);
    if (!spec)
        return command_usage_error(command, error);
    gboolean has_marker = spec->type == JOB_MIRROR && !spec->options.engine_rsync;
    JobDestination *destination = &g_array_index(spec->destinations, JobDestination, 0);
    if (has_marker)
        look_up(destination);
    g_auto(RunOutcome) outcome = {0};
    int code = run_job(spec, options_has(args, MIRROR_OPTION_JSON), &outcome);
    if (has_marker && !spec->options.dry_run)
        record(destination, &outcome);
    return code;
}

const Command mirror_command = {
    .name = "mirror",
    .usage = "mirror [OPTION]... SOURCE... DEST\nmirror --recover DEST",
    .summary = "make a directory equal to its sources, all of it or nothing",
    .details = "One SOURCE is mirrored into DEST (as rsync does with SOURCE/ DEST/); several\n"
               "get a folder of their own each. What is new is first written beside the mirror\n"
               "and then put in place in one transaction: a run that is cancelled or killed\n"
               "leaves the previous state, or one that the next run completes.\n"
               "\n"
               "DEST is a directory, or with the rsync program host:path or rsync://host/module.",
    .options = mirror_option_defs,
    .run = run,
};
