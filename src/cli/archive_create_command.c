#include "cli/archive_command.h"

#include "base/error.h"
#include "cli/archive_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"
#include "cli/store_args.h"
#include "engine/archive/point.h"

#include <string.h>

/* The host's name as a name of archives: what cannot stand there becomes a dash. */
static char *default_name(void)
{
    g_autofree char *host = g_strndup(g_get_host_name(), ARCHIVE_NAME_MAX);
    for (char *c = host; *c; c++)
        if (!g_ascii_isalnum(*c) && !strchr("-_.", *c))
            *c = '-';
    const char *name = host;
    while (*name == '.')
        name++;
    return g_strdup(*name && archive_check_name(name, NULL) ? name : "archive");
}

static gboolean add_sources(JobSpec *spec, const OptionArgs *args, GError **error)
{
    for (guint i = 2; i < args->operands->len; i++) {
        const char *operand = g_ptr_array_index(args->operands, i);
        if (*operand == '\0')
            return error_set(error, BACKAPP_ERROR_INVALID, "a SOURCE is empty");
        if (store_args_is_url(operand))
            return error_set(error, BACKAPP_ERROR_INVALID,
                             "a SOURCE is a directory; the STORE stands before them: archive create STORE SOURCE...");
        g_ptr_array_add(spec->sources, mirror_options_absolute(operand));
    }
    return spec->sources->len > 0 ||
           error_set(error, BACKAPP_ERROR_INVALID, "a SOURCE is missing: archive create STORE SOURCE...");
}

static JobSpec *build_create(const OptionArgs *args, GError **error)
{
    g_autoptr(JobSpec) spec = job_spec_new(JOB_ARCHIVE);
    store_args_add_destination(spec, g_ptr_array_index(args->operands, 1));
    spec->run_id = g_uuid_string_random();
    if (!add_sources(spec, args, error) || !archive_options_apply(spec, args, error))
        return NULL;
    char **name = &spec->options.archive.name;
    if (!*name)
        *name = default_name();
    if (!archive_check_name(*name, error)) {
        g_prefix_error(error, "--name: ");
        return NULL;
    }
    if (!store_args_passphrase(spec, args, error) || !store_args_complete(spec, error) ||
        !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run_create(const Command *command, const OptionArgs *args)
{
    return run_command_job(command, args, build_create);
}

static const int create_takes[] = {OPT_TYPE,
                                   OPT_LEVEL,
                                   OPT_ZSTD,
                                   OPT_NO_COMPRESS,
                                   OPT_ENCRYPT,
                                   OPT_VOLUME_SIZE,
                                   OPT_FULL_EVERY,
                                   OPT_EXCLUDE,
                                   OPT_INCLUDE,
                                   OPT_ONE_FILE_SYSTEM,
                                   OPT_EXCLUDE_CACHES,
                                   OPT_EXCLUDE_IF_PRESENT,
                                   OPT_EXCLUDE_LARGER_THAN,
                                   OPT_CHECKSUM,
                                   OPT_DRY_RUN,
                                   OPT_VERIFY,
                                   OPT_NO_ACLS,
                                   OPT_NO_XATTRS,
                                   OPT_STORAGE_CLASS,
                                   OPT_SSE,
                                   OPT_SSE_KMS_KEY,
                                   OPT_STATE_DIR,
                                   OPT_JOBS,
                                   OPT_BWLIMIT,
                                   OPT_NICE,
                                   OPT_IONICE,
                                   OPT_VERBOSE,
                                   0};

const ArchiveAction archive_create_action = {.name = "create", .takes = create_takes, .run = run_create};

/* The job needs a name, and only the store knows the one there is. */
static JobSpec *build_reindex(const OptionArgs *args, GError **error)
{
    if (args->operands->len != 3 || *(const char *)g_ptr_array_index(args->operands, 2) == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "archive reindex needs a STORE and a POINT, as 'list' shows them"),
               NULL;
    g_autoptr(JobSpec) spec = job_spec_new(JOB_ARCHIVE_REINDEX);
    store_args_set_source(spec, g_ptr_array_index(args->operands, 1));
    spec->run_id = g_uuid_string_random();
    spec->options.archive.at = g_strdup(g_ptr_array_index(args->operands, 2));
    if (!archive_options_apply(spec, args, error) || !store_args_passphrase(spec, args, error) ||
        !store_args_complete(spec, error) || !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run_reindex(const Command *command, const OptionArgs *args)
{
    return run_command_job(command, args, build_reindex);
}

static const int reindex_takes[] = {OPT_FORCE, OPT_BWLIMIT, OPT_NICE, OPT_IONICE, 0};

const ArchiveAction archive_reindex_action = {.name = "reindex", .takes = reindex_takes, .run = run_reindex};
