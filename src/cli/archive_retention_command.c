#include "cli/archive_command.h"

#include "base/error.h"
#include "cli/archive_options.h"
#include "cli/retention_options.h"
#include "cli/run.h"
#include "cli/store_args.h"

static JobSpec *build(const OptionArgs *args, GError **error)
{
    if (args->operands->len != 2)
        return error_set(error, BACKAPP_ERROR_INVALID, "archive retention needs one STORE and nothing else"), NULL;
    g_autoptr(JobSpec) spec = job_spec_new(JOB_ARCHIVE_RETENTION);
    store_args_set_source(spec, g_ptr_array_index(args->operands, 1));
    spec->run_id = g_uuid_string_random();
    if (!retention_options_apply(spec, args, error) || !archive_options_apply(spec, args, error) ||
        !store_args_passphrase(spec, args, error) || !store_args_complete(spec, error) ||
        !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run(const Command *command, const OptionArgs *args)
{
    return run_command_job(command, args, build);
}

static const int takes[] = {OPT_COUNT,
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
                            OPT_DRY_RUN,
                            OPT_BWLIMIT,
                            OPT_NICE,
                            OPT_IONICE,
                            0};

const ArchiveAction archive_retention_action = {.name = "retention", .takes = takes, .run = run};
