#include "cli/command.h"

#include "base/error.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"
#include "cli/store_args.h"

#include <sys/stat.h>

static const OptionDef options[] = {
    ROW_JOBS,    ROW_READ_BACK, ROW_CONCURRENCY, ROWS_STORE, ROW_STATE_DIR,
    ROWS_LIMITS, ROW_JSON,      OPTION_HELP_ROW, OPTION_END,
};

static gboolean has(const char *directory, const char *name)
{
    struct stat st;
    g_autofree char *path = g_build_filename(directory, name, NULL);
    return lstat(path, &st) == 0;
}

/* A directory is a mirror, unless it holds the lists that s3sync makes of what it stores, and no mirror's marker. */
static gboolean is_store(const char *place)
{
    if (store_args_is_url(place))
        return TRUE;
    g_autofree char *directory = mirror_options_absolute(place);
    return has(directory, ".backapp/tree") && !has(directory, ".backapp-destination");
}

/* What only makes sense for a store, or only for a mirror, is not silently ignored. */
static gboolean check_options(const OptionArgs *args, gboolean store, GError **error)
{
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        gboolean common = def->id == OPT_JSON || def->id == OPT_BWLIMIT || def->id == OPT_NICE || def->id == OPT_IONICE;
        if (!common && (def->id == OPT_JOBS) == store)
            return error_set(error, BACKAPP_ERROR_INVALID, "--%s is for %s", def->name,
                             store ? "mirrors; a store takes --concurrency" : "stores; this directory is none");
    }
    return TRUE;
}

static JobSpec *build(const OptionArgs *args, GError **error)
{
    const char *place = args->operands->len > 0 ? g_ptr_array_index(args->operands, 0) : "";
    if (args->operands->len != 1)
        return error_set(error, BACKAPP_ERROR_INVALID, "verify needs one destination: verify DEST"), NULL;
    if (*place == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "DEST is empty"), NULL;
    gboolean store = is_store(place);
    g_autoptr(JobSpec) spec = job_spec_new(JOB_VERIFY);
    if (store) {
        store_args_set_source(spec, place);
    } else {
        JobDestination entry = {.path = mirror_options_absolute(place)};
        g_array_append_val(spec->destinations, entry);
    }
    spec->run_id = g_uuid_string_random();
    if (!check_options(args, store, error) || !job_options_apply(spec, args, error) ||
        (store && !store_args_complete(spec, error)) || !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run(const Command *command, const OptionArgs *args)
{
    return run_command_job(command, args, build);
}

const Command verify_command = {
    .name = "verify",
    .usage = "verify [OPTION]... DEST",
    .summary = "read a mirror or a store and compare it with what was recorded",
    .details = "DEST is a mirror, or a store: s3://BUCKET/PREFIX, file:///DIR, or a directory\n"
               "that s3sync wrote to. Of a store the list is compared with what was recorded,\n"
               "with --read-back every object is read.\n"
               "\n"
               "Of a mirror every file is read. A file without a recorded hash is\n"
               "compared with its source, where that is unchanged, and recorded; otherwise it is\n"
               "reported as not yet proven. The exit code is 1 if a file is damaged or missing.",
    .options = options,
    .run = run,
};
