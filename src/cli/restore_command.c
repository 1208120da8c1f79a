#include "cli/command.h"

#include "base/error.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"
#include "cli/store_args.h"

#include <string.h>

static const OptionDef options[] = {
    ROW_TO,
    ROW_AT,
    ROW_CONFLICT,
    ROW_RESTORE_DELETE,
    ROW_CHECKSUM,
    ROW_DRY_RUN,
    ROW_NO_ACLS,
    ROW_NO_XATTRS,
    ROW_THAW,
    ROW_THAW_TIER,
    ROW_MAX_DELETE,
    ROW_FORCE,
    ROW_RESTORE_CONCURRENCY,
    ROWS_STORE,
    ROWS_LIMITS,
    ROW_JSON,
    ROW_VERBOSE,
    OPTION_HELP_ROW,
    OPTION_END,
};

/* A path inside the backup as it is kept there: no slash before or behind it. */
static char *inner_path(const char *operand)
{
    while (*operand == '/')
        operand++;
    while (g_str_has_prefix(operand, "./"))
        for (operand += 2; *operand == '/';)
            operand++;
    char *path = g_strdup(operand);
    for (gsize length = strlen(path); length > 0 && path[length - 1] == '/'; length--)
        path[length - 1] = '\0';
    return path;
}

static gboolean add_paths(JobSpec *spec, const OptionArgs *args, GError **error)
{
    for (guint i = 1; i < args->operands->len; i++) {
        g_autofree char *path = inner_path(g_ptr_array_index(args->operands, i));
        if (*path == '\0' || strcmp(path, ".") == 0) {
            /* All of it. */
            g_ptr_array_set_size(spec->options.restore.paths, 0);
            return TRUE;
        }
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        if (g_strv_contains((const char *const *)parts, "..") || g_strv_contains((const char *const *)parts, "."))
            return error_set(error, BACKAPP_ERROR_INVALID, "a PATH is one inside the backup: without '.' and '..'");
        g_ptr_array_add(spec->options.restore.paths, g_steal_pointer(&path));
    }
    return TRUE;
}

static JobSpec *build(const OptionArgs *args, GError **error)
{
    const char *to = options_value(args, OPT_TO);
    if (args->operands->len == 0 || *(const char *)g_ptr_array_index(args->operands, 0) == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "restore needs a STORE: restore STORE [PATH]... --to DIR"), NULL;
    if (!to || !*to)
        return error_set(error, BACKAPP_ERROR_INVALID, "--to DIR is missing: where the files shall be restored"), NULL;
    if (store_args_is_url(to))
        return error_set(error, BACKAPP_ERROR_INVALID, "--to must be a directory"), NULL;
    g_autoptr(JobSpec) spec = job_spec_new(JOB_RESTORE);
    store_args_set_source(spec, g_ptr_array_index(args->operands, 0));
    JobDestination target = {.path = mirror_options_absolute(to)};
    g_array_append_val(spec->destinations, target);
    spec->run_id = g_uuid_string_random();
    if (!add_paths(spec, args, error) || !job_options_apply(spec, args, error) || !store_args_complete(spec, error) ||
        !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run(const Command *command, const OptionArgs *args)
{
    return run_command_job(command, args, build);
}

const Command restore_command = {
    .name = "restore",
    .usage = "restore [OPTION]... STORE [PATH]... --to DIR",
    .summary = "get files back from a store",
    .details = "STORE is s3://BUCKET/PREFIX or a directory into which s3sync or two-stage wrote.\n"
               "Without a PATH everything is restored. What is already right in DIR is not\n"
               "fetched again, so a restore that was interrupted can be repeated. Nothing is\n"
               "ever written outside DIR.",
    .options = options,
    .run = run,
};
