#include "cli/mirror_options.h"

#include "base/error.h"
#include "cli/job_options.h"
#include "engine/mirror/rsync_engine.h"

#include <limits.h>
#include <string.h>

const OptionDef mirror_option_defs[] = {
    ROW_DELETE,
    ROW_EXCLUDE,
    ROW_INCLUDE,
    ROW_CHECKSUM,
    ROW_DRY_RUN,
    ROW_KEEP_VERSIONS,
    ROW_INPLACE,
    ROW_VERIFY,
    ROW_NO_ACLS,
    ROW_NO_XATTRS,
    ROW_NO_HARD_LINKS,
    ROW_ONE_FILE_SYSTEM,
    ROW_EXCLUDE_CACHES,
    ROW_EXCLUDE_IF_PRESENT,
    ROW_EXCLUDE_LARGER_THAN,
    ROW_MAX_DELETE,
    ROW_FORCE,
    ROW_CONFIRM,
    ROW_BWLIMIT,
    ROW_NICE,
    ROW_IONICE,
    ROW_ENGINE,
    ROW_JOBS,
    ROW_RECOVER,
    ROW_JSON,
    ROW_VERBOSE,
    OPTION_HELP_ROW,
    OPTION_END,
};

char *mirror_options_absolute(const char *path)
{
    if (*path == '/' || rsync_is_remote(path))
        return g_strdup(path);
    g_autofree char *cwd = g_get_current_dir();
    while (g_str_has_prefix(path, "./"))
        for (path++; *path == '/';)
            path++;
    g_autofree char *whole = *path && strcmp(path, ".") != 0 ? g_build_filename(cwd, path, NULL) : g_strdup(cwd);
    /* In a directory that is too deep, or was removed, only the relative name can be opened. */
    if (!g_path_is_absolute(whole) || strlen(whole) >= PATH_MAX)
        return g_strdup(*path ? path : ".");
    return g_steal_pointer(&whole);
}

/* What a recovery understands beside its DEST. */
static gboolean check_recover(const OptionArgs *args, GError **error)
{
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        switch (def->id) {
        case OPT_RECOVER:
        case OPT_JSON:
        case OPT_VERBOSE:
        case OPT_FORCE:
        case OPT_NICE:
        case OPT_IONICE:
            break;
        default:
            return error_set(error, BACKAPP_ERROR_INVALID, "--recover cannot be combined with --%s", def->name);
        }
    }
    if (args->operands->len == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "--recover needs the destination: mirror --recover DEST");
    if (args->operands->len > 1)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--recover takes only DEST and no sources: it completes a run that is already committed");
    return TRUE;
}

static gboolean check_operands(const OptionArgs *args, GError **error)
{
    guint count = args->operands->len;
    if (options_has(args, OPT_RECOVER)) {
        if (!check_recover(args, error))
            return FALSE;
    } else if (count == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "mirror needs a SOURCE and a DEST");
    else if (count == 1)
        return error_set(error, BACKAPP_ERROR_INVALID, "DEST is missing: mirror SOURCE... DEST");
    for (guint i = 0; i < count; i++)
        if (*(const char *)g_ptr_array_index(args->operands, i) == '\0')
            return error_set(error, BACKAPP_ERROR_INVALID, "%s is empty", i + 1 < count ? "a SOURCE" : "DEST");
    return TRUE;
}

/* A destination on another host has no other engine than rsync. */
static gboolean choose_engine(JobSpec *spec, const OptionArgs *args, const char *destination, GError **error)
{
    if (!rsync_is_remote(destination))
        return TRUE;
    if (g_strcmp0(options_value(args, OPT_ENGINE), "native") == 0)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "a destination on another host needs --engine rsync (a local path with a colon in it is "
                         "written with ./ before it)");
    spec->options.engine_rsync = TRUE;
    /* The worker gets it as a secret of the spec; its own environment shall not hold it. */
    spec->rsync_password = g_strdup(g_getenv("RSYNC_PASSWORD"));
    g_unsetenv("RSYNC_PASSWORD");
    return TRUE;
}

JobSpec *mirror_options_build(const OptionArgs *args, GError **error)
{
    if (!check_operands(args, error))
        return NULL;
    g_autoptr(JobSpec) spec = job_spec_new(options_has(args, OPT_RECOVER) ? JOB_RECOVER : JOB_MIRROR);
    if (!job_options_apply(spec, args, error))
        return NULL;
    guint last = args->operands->len - 1;
    const char *destination = g_ptr_array_index(args->operands, last);
    if (!choose_engine(spec, args, destination, error))
        return NULL;
    for (guint i = 0; i < last; i++)
        g_ptr_array_add(spec->sources, mirror_options_absolute(g_ptr_array_index(args->operands, i)));
    JobDestination entry = {.path = mirror_options_absolute(destination)};
    g_array_append_val(spec->destinations, entry);
    g_free(spec->run_id);
    spec->run_id = g_uuid_string_random();
    if (!job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

gboolean mirror_options_check_local(const char *destination, GError **error)
{
    return !rsync_is_remote(destination) ||
           error_set(error, BACKAPP_ERROR_INVALID,
                     "two-stage copies the mirror on to a store, so DEST must be on this machine (a local path with a "
                     "colon in it is written with ./ before it)");
}
