#include "cli/command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/inner_paths.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"
#include "cli/store_args.h"

#define FILES_MAX 10000

enum { OPT_FILES = 4000, OPT_MAX_BYTES, OPT_SEED, OPT_SOURCE };

/* clang-format off */
#define ROW_DRILL_AT {"at", 0, "WHEN", "Try this point: latest (default), a date (2026-11-20), a time (2026-11-20T02:00:00Z), or its name.", OPT_AT}
#define ROW_FILES {"files", 0, "N", "Restore the N newest files, the N largest, and N random ones (default 10).", OPT_FILES}
#define ROW_MAX_BYTES {"max-bytes", 0, "SIZE", "Restore at most SIZE (default 1G); larger files are never chosen.", OPT_MAX_BYTES}
#define ROW_SEED {"seed", 0, "N", "Choose the random files that a drill with this seed chose.", OPT_SEED}
#define ROW_SOURCE {"source", 0, "DIR", "Compare with the source too, where it has the recorded size and time; repeat it as for the backup.", OPT_SOURCE}
/* clang-format on */

static const OptionDef options[] = {
    ROW_DRILL_AT,        ROW_FILES,  ROW_MAX_BYTES, ROW_SEED, ROW_SOURCE,      ROW_NAME,
    ROW_PASSPHRASE_FILE, ROWS_STORE, ROWS_LIMITS,   ROW_JSON, OPTION_HELP_ROW, OPTION_END,
};

static gboolean set_number(guint *target, const char *value, guint64 max, const char *what, GError **error)
{
    guint64 number = 0;
    if (!human_parse_number(value, 1, max, what, &number, error))
        return FALSE;
    *target = (guint)number;
    return TRUE;
}

static gboolean set_max_bytes(guint64 *target, const char *value, GError **error)
{
    if (human_parse_size(value, target, error))
        return *target > 0 || error_set(error, BACKAPP_ERROR_INVALID, "--max-bytes must be at least 1");
    g_prefix_error(error, "--max-bytes: ");
    return FALSE;
}

static gboolean add_source(JobSpec *spec, const char *value, GError **error)
{
    if (*value == '\0' || store_args_is_url(value))
        return error_set(error, BACKAPP_ERROR_INVALID, "--source must be a directory");
    g_ptr_array_add(spec->sources, mirror_options_absolute(value));
    return TRUE;
}

static gboolean apply(JobSpec *spec, const OptionUse *use, GError **error)
{
    JobDrillOptions *drill = &spec->options.drill;
    switch (use->def->id) {
    case OPT_FILES:
        return set_number(&drill->files, use->value, FILES_MAX, "--files", error);
    case OPT_SEED:
        return set_number(&drill->seed, use->value, G_MAXUINT32, "--seed", error);
    case OPT_MAX_BYTES:
        return set_max_bytes(&drill->max_bytes, use->value, error);
    case OPT_SOURCE:
        return add_source(spec, use->value, error);
    default:
        return TRUE;
    }
}

static JobSpec *build(const OptionArgs *args, GError **error)
{
    if (args->operands->len == 0 || *(const char *)g_ptr_array_index(args->operands, 0) == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "drill needs a STORE: drill STORE [PATH]..."), NULL;
    g_autoptr(JobSpec) spec = job_spec_new(JOB_DRILL);
    store_args_set_source(spec, g_ptr_array_index(args->operands, 0));
    spec->run_id = g_uuid_string_random();
    for (guint i = 0; i < args->uses->len; i++)
        if (!apply(spec, &g_array_index(args->uses, OptionUse, i), error))
            return NULL;
    if (!inner_paths_add(spec, args, 1, error) || !job_options_apply(spec, args, error) ||
        !store_args_passphrase(spec, args, error) || !store_args_complete(spec, error) ||
        !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run(const Command *command, const OptionArgs *args)
{
    return run_command_job(command, args, build);
}

const Command drill_command = {
    .name = "drill",
    .usage = "drill [OPTION]... STORE [PATH]...",
    .summary = "prove that files can be restored, by restoring some",
    .details = "STORE is s3://BUCKET/PREFIX or a directory with archives, an S3 mirror or a\n"
               "mirror. The newest files, the largest and random ones (of those below the PATHs,\n"
               "if any) are really restored into a directory of their own in TMPDIR, compared\n"
               "with the recorded hashes and, with --source, with the sources, and removed.\n"
               "\n"
               "The exit code is 0 only if every one of them was proven, 1 if one could not be\n"
               "restored as it was or there was none to try, 3 if one could not be proven.",
    .options = options,
    .run = run,
};
