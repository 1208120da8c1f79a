#include "cli/command.h"

#include "cli/destinations.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = mirror_options_build(args, &error);
    if (!spec)
        return command_usage_error(command, error);
    gboolean has_marker = spec->type == JOB_MIRROR && !spec->options.engine_rsync;
    JobDestination *destination = &g_array_index(spec->destinations, JobDestination, 0);
    if (has_marker)
        destination->expected_id = destinations_known_id(destination->path);
    g_auto(RunOutcome) outcome = {0};
    int code = run_job(spec, options_has(args, OPT_JSON), &outcome);
    gboolean good = outcome.status == JOB_COMPLETED || outcome.status == JOB_PARTIAL;
    if (has_marker && good && outcome.destination_id && !spec->options.dry_run)
        destinations_remember(destination->path, outcome.destination_id);
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
