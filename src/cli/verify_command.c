#include "cli/command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/mirror_options.h"
#include "cli/run.h"

enum { OPT_JOBS = OPTION_FIRST, OPT_JSON };

static const OptionDef options[] = {
    {"jobs", 0, "N", "Read with N threads (default: by the number of processors).", OPT_JOBS},
    {"json", 0, NULL, "Print the run's events, one JSON object a line.", OPT_JSON},
    OPTION_HELP_ROW,
    OPTION_END,
};

static JobSpec *build(const OptionArgs *args, GError **error)
{
    const char *path = args->operands->len > 0 ? g_ptr_array_index(args->operands, 0) : "";
    if (args->operands->len != 1) {
        error_set(error, BACKAPP_ERROR_INVALID, "verify needs one destination: verify DEST");
        return NULL;
    }
    if (*path == '\0') {
        error_set(error, BACKAPP_ERROR_INVALID, "DEST is empty");
        return NULL;
    }
    g_autoptr(JobSpec) spec = job_spec_new(JOB_VERIFY);
    const char *jobs = options_value(args, OPT_JOBS);
    guint64 count = 0;
    if (jobs && !human_parse_number(jobs, 1, 256, "--jobs", &count, error))
        return NULL;
    spec->options.jobs = (guint)count;
    JobDestination entry = {.path = mirror_options_absolute(path)};
    g_array_append_val(spec->destinations, entry);
    g_free(spec->run_id);
    spec->run_id = g_uuid_string_random();
    return job_spec_validate(spec, error) ? g_steal_pointer(&spec) : NULL;
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = build(args, &error);
    if (!spec)
        return command_usage_error(command, error);
    g_auto(RunOutcome) outcome = {0};
    return run_job(spec, options_has(args, OPT_JSON), &outcome);
}

const Command verify_command = {
    .name = "verify",
    .usage = "verify [OPTION]... DEST",
    .summary = "read a mirror and compare it with its recorded hashes",
    .details = "Reads every file of the mirror in DEST. A file without a recorded hash is\n"
               "compared with its source, where that is unchanged, and recorded; otherwise it is\n"
               "reported as not yet proven. The exit code is 1 if a file is damaged or missing.",
    .options = options,
    .run = run,
};
