#include "cli/command.h"

#include "base/error.h"
#include "cli/destinations.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"
#include "cli/store_args.h"

#include <stdio.h>

static const OptionDef options[] = {
    ROW_DELETE,    ROWS_SELECTION, ROW_CHECKSUM,      ROW_DRY_RUN, ROW_KEEP_VERSIONS, ROW_INPLACE,     ROW_VERIFY_BOTH,
    ROW_NO_ACLS,   ROW_NO_XATTRS,  ROW_NO_HARD_LINKS, ROWS_SAFETY, ROW_ENGINE,        ROW_JOBS,        ROW_ONLY_S3,
    ROWS_S3_WRITE, ROWS_STORE,     ROWS_LIMITS,       ROW_JSON,    ROW_VERBOSE,       OPTION_HELP_ROW, OPTION_END,
};

static gboolean check_operands(const OptionArgs *args, GError **error)
{
    guint count = args->operands->len;
    gboolean only_s3 = options_has(args, OPT_ONLY_S3);
    for (guint i = 0; i < count; i++)
        if (*(const char *)g_ptr_array_index(args->operands, i) == '\0')
            return error_set(error, BACKAPP_ERROR_INVALID, "%s is empty",
                             i + 2 < count    ? "a SOURCE"
                             : i + 2 == count ? "DEST"
                                              : "STORE");
    if (count < (only_s3 ? 2 : 3))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         only_s3 ? "with --only-s3 two-stage needs a DEST and a STORE"
                                 : "two-stage needs a SOURCE, a DEST and a STORE");
    if (store_args_is_url(g_ptr_array_index(args->operands, count - 2)))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "DEST, before the STORE, must be a directory: the mirror that is copied to the store");
    return TRUE;
}

static JobSpec *build(const OptionArgs *args, GError **error)
{
    if (!check_operands(args, error))
        return NULL;
    guint count = args->operands->len;
    const char *mirror = g_ptr_array_index(args->operands, count - 2);
    g_autoptr(JobSpec) spec = job_spec_new(JOB_TWO_STAGE);
    for (guint i = 0; i + 2 < count; i++)
        g_ptr_array_add(spec->sources, mirror_options_absolute(g_ptr_array_index(args->operands, i)));
    JobDestination entry = {.path = mirror_options_absolute(mirror)};
    g_array_append_val(spec->destinations, entry);
    store_args_add_destination(spec, g_ptr_array_index(args->operands, count - 1));
    spec->run_id = g_uuid_string_random();
    if (!mirror_options_check_local(mirror, error) || !job_options_apply(spec, args, error) ||
        !store_args_complete(spec, error) || !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = build(args, &error);
    if (!spec)
        return command_usage_error(command, error);
    JobDestination *mirror = &g_array_index(spec->destinations, JobDestination, 0);
    gboolean has_marker = !spec->options.engine_rsync;
    if (has_marker)
        mirror->expected_id = destinations_known_id(mirror->path);
    g_auto(RunOutcome) outcome = {0};
    int code = run_job(spec, options_has(args, OPT_JSON), &outcome);
    if (has_marker && !spec->options.dry_run && !spec->options.s3.only_s3 && outcome.destination_id)
        destinations_remember(mirror->path, outcome.destination_id);
    return code;
}

const Command two_stage_command = {
    .name = "two-stage",
    .usage = "two-stage [OPTION]... SOURCE... DEST STORE\ntwo-stage --only-s3 [OPTION]... DEST STORE",
    .summary = "mirror to a drive, then copy the mirror to a bucket",
    .details = "The first stage is 'backapp mirror SOURCE... DEST'. If it succeeds, the mirror\n"
               "is copied to the STORE (s3://BUCKET/PREFIX, or a directory) as 'backapp s3sync'\n"
               "does, while no other run may change it. If the second stage fails the mirror is\n"
               "complete and valid; --only-s3 runs that stage alone.",
    .options = options,
    .run = run,
};
