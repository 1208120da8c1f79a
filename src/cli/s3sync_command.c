#include "cli/command.h"

#include "base/error.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"
#include "cli/store_args.h"

static const OptionDef options[] = {
    ROW_DELETE, ROWS_SELECTION, ROW_CHECKSUM, ROW_DRY_RUN, ROW_VERIFY_STORE, ROWS_S3_WRITE, ROWS_SAFETY,
    ROWS_STORE, ROWS_LIMITS,    ROW_JSON,     ROW_VERBOSE, OPTION_HELP_ROW,  OPTION_END,
};

static JobSpec *build(const OptionArgs *args, GError **error)
{
    if (args->operands->len < 2) {
        error_set(error, BACKAPP_ERROR_INVALID, "s3sync needs a DIR and at least one STORE");
        return NULL;
    }
    for (guint i = 0; i < args->operands->len; i++)
        if (*(const char *)g_ptr_array_index(args->operands, i) == '\0')
            return error_set(error, BACKAPP_ERROR_INVALID, "%s is empty", i == 0 ? "DIR" : "a STORE"), NULL;
    const char *source = g_ptr_array_index(args->operands, 0);
    if (store_args_is_url(source))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "the first operand of s3sync is the directory to copy; to get files out of a store there is "
                         "'backapp restore'"),
               NULL;
    g_autoptr(JobSpec) spec = job_spec_new(JOB_S3_MIRROR);
    g_ptr_array_add(spec->sources, mirror_options_absolute(source));
    for (guint i = 1; i < args->operands->len; i++)
        store_args_add_destination(spec, g_ptr_array_index(args->operands, i));
    spec->run_id = g_uuid_string_random();
    if (!job_options_apply(spec, args, error) || !store_args_complete(spec, error) || !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run(const Command *command, const OptionArgs *args)
{
    return run_command_job(command, args, build);
}

const Command s3sync_command = {
    .name = "s3sync",
    .usage = "s3sync [OPTION]... DIR STORE...",
    .summary = "make a prefix of a bucket equal to a directory",
    .details = "STORE is s3://BUCKET/PREFIX, or a directory. With several of them each has a\n"
               "copy of its own; one that fails does not stop the others. The objects are as\n"
               "rclone and aws s3 sync make them; beside them, in .backapp/, lies what S3 cannot\n"
               "hold, so that 'backapp restore' gives back the tree with all its metadata.\n"
               "\n"
               "Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, from a profile of\n"
               "the shared AWS files, or from the machine's role; never from the command line.",
    .options = options,
    .run = run,
};
