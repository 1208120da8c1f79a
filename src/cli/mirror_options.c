#include "cli/mirror_options.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/command.h"
#include "engine/mirror/rsync_engine.h"

#include <limits.h>
#include <string.h>

#define PATTERN_MAX  4095
#define JOBS_MAX     256
#define DAYS_MAX     36500
#define VERSIONS_MAX 100000
#define BWLIMIT_MAX  (G_GUINT64_CONSTANT(1) << 40)

enum {
    OPT_DELETE = OPTION_FIRST,
    OPT_EXCLUDE,
    OPT_INCLUDE,
    OPT_CHECKSUM,
    OPT_DRY_RUN,
    OPT_KEEP_VERSIONS,
    OPT_INPLACE,
    OPT_VERIFY,
    OPT_NO_ACLS,
    OPT_NO_XATTRS,
    OPT_NO_HARD_LINKS,
    OPT_ONE_FILE_SYSTEM,
    OPT_EXCLUDE_CACHES,
    OPT_EXCLUDE_IF_PRESENT,
    OPT_EXCLUDE_LARGER_THAN,
    OPT_MAX_DELETE,
    OPT_FORCE,
    OPT_CONFIRM,
    OPT_BWLIMIT,
    OPT_NICE,
    OPT_IONICE,
    OPT_ENGINE,
    OPT_JOBS,
    OPT_VERBOSE,
};

const OptionDef mirror_option_defs[] = {
    {"delete", 0, NULL, "Delete from DEST what the source no longer has.", OPT_DELETE},
    {"exclude", 0, "PATTERN", "Leave out what matches the rsync PATTERN; may be repeated, the first match decides.",
     OPT_EXCLUDE},
    {"include", 0, "PATTERN", "Keep what matches the PATTERN although a later --exclude would leave it out.",
     OPT_INCLUDE},
    {"checksum", 0, NULL, "Compare the content of files, not only size and time.", OPT_CHECKSUM},
    {"dry-run", 0, NULL, "Print what would be done and change nothing.", OPT_DRY_RUN},
    {"keep-versions", 0, "DAYS[,COUNT]",
     "Keep what is replaced or deleted for DAYS days, and the newest COUNT versions however old.", OPT_KEEP_VERSIONS},
    {"inplace", 0, NULL, "Of large files rewrite only the blocks that differ.", OPT_INPLACE},
    {"verify", 0, NULL, "Afterwards read source and mirror, compare them, and record the hashes.", OPT_VERIFY},
    {"no-acls", 0, NULL, "Do not keep access control lists.", OPT_NO_ACLS},
    {"no-xattrs", 0, NULL, "Do not keep extended attributes.", OPT_NO_XATTRS},
    {"no-hard-links", 0, NULL, "Copy each name of a hard-linked file as a file of its own.", OPT_NO_HARD_LINKS},
    {"one-file-system", 0, NULL, "Do not go into other file systems that are mounted in the source.",
     OPT_ONE_FILE_SYSTEM},
    {"exclude-caches", 0, NULL, "Leave out directories that a CACHEDIR.TAG marks as a cache.", OPT_EXCLUDE_CACHES},
    {"exclude-if-present", 0, "NAME", "Leave out directories that hold a file called NAME.", OPT_EXCLUDE_IF_PRESENT},
    {"exclude-larger-than", 0, "SIZE", "Leave out files larger than SIZE (100M, 1.5G; units of 1024).",
     OPT_EXCLUDE_LARGER_THAN},
    {"max-delete", 0, "PERCENT",
     "Refuse a run that would delete more than PERCENT of the mirror (default 50), if that is 100 files or more.",
     OPT_MAX_DELETE},
    {"force", 0, NULL, "Go on in spite of every safety check.", OPT_FORCE},
    {"confirm", 0, "HASH", "Go on with exactly the plan that was refused with this HASH.", OPT_CONFIRM},
    {"bwlimit", 0, "KBPS", "Copy at most KBPS units of 1024 bytes a second (0: no limit).", OPT_BWLIMIT},
    {"nice", 0, "N", "Run with this CPU niceness, 0 to 19.", OPT_NICE},
    {"ionice", 0, "CLASS", "Run with this I/O priority: idle or best-effort (its lowest level).", OPT_IONICE},
    {"engine", 0, "ENGINE", "native (default), or rsync: the rsync program, without transaction and versions.",
     OPT_ENGINE},
    {"jobs", 0, "N", "Work with N threads (default: by the number of processors).", OPT_JOBS},
    {"recover", 0, NULL, "Only complete an interrupted run in DEST.", MIRROR_OPTION_RECOVER},
    {"json", 0, NULL, "Print the run's events, one JSON object a line.", MIRROR_OPTION_JSON},
    {"verbose", 'v', NULL, "Show each item that is created, changed or deleted.", OPT_VERBOSE},
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

static gboolean add_rule(JobSpec *spec, gboolean include, const char *pattern, GError **error)
{
    const char *option = include ? "--include" : "--exclude";
    if (*pattern == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "the pattern of %s is empty", option);
    if (strlen(pattern) > PATTERN_MAX)
        return error_set(error, BACKAPP_ERROR_INVALID, "a pattern of %s is too long: %u bytes are allowed", option,
                         PATTERN_MAX);
    JobRule rule = {.include = include, .pattern = g_strdup(pattern)};
    g_array_append_val(spec->options.rules, rule);
    return TRUE;
}

/* "DAYS" or "DAYS,COUNT". */
static gboolean set_keep_versions(JobOptions *options, const char *value, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", 2);
    guint64 days = 0, count = 0;
    if (!human_parse_number(parts[0] ? parts[0] : "", 0, DAYS_MAX, "DAYS of --keep-versions", &days, error))
        return FALSE;
    if (parts[0] && parts[1] &&
        !human_parse_number(parts[1], 0, VERSIONS_MAX, "COUNT of --keep-versions", &count, error))
        return FALSE;
    if (days == 0 && count == 0)
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--keep-versions needs a number of days, as in 30, or of versions, as in 0,5");
    options->keep_versions_days = (guint)days;
    options->keep_versions_count = (guint)count;
    return TRUE;
}

static gboolean set_exclude_if_present(JobOptions *options, const char *value, GError **error)
{
    if (*value == '\0' || strlen(value) > NAME_MAX || strchr(value, '/'))
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--exclude-if-present needs the name of a file, without a slash");
    g_free(options->exclude_if_present);
    options->exclude_if_present = g_strdup(value);
    return TRUE;
}

static gboolean set_larger_than(JobOptions *options, const char *value, GError **error)
{
    if (!human_parse_size(value, &options->exclude_larger_than, error)) {
        g_prefix_error(error, "--exclude-larger-than: ");
        return FALSE;
    }
    if (options->exclude_larger_than == 0)
        return error_set(error, BACKAPP_ERROR_INVALID, "--exclude-larger-than needs a size above 0");
    return TRUE;
}

static gboolean set_number(guint *target, const char *value, guint64 min, guint64 max, const char *what, GError **error)
{
    guint64 number = 0;
    if (!human_parse_number(value, min, max, what, &number, error))
        return FALSE;
    *target = (guint)number;
    return TRUE;
}

static gboolean set_confirm(JobOptions *options, const char *value, GError **error)
{
    gsize length = strspn(value, "0123456789abcdef");
    if (length < 8 || length > 128 || value[length] != '\0')
        return error_set(error, BACKAPP_ERROR_INVALID,
                         "--confirm needs the hash of the plan, as the refusal printed it");
    g_free(options->confirm);
    options->confirm = g_strdup(value);
    return TRUE;
}

static gboolean set_ionice(JobLimits *limits, const char *value, GError **error)
{
    if (strcmp(value, "idle") == 0)
        *limits = (JobLimits){limits->nice, 3, 0, limits->memory, limits->bandwidth};
    else if (strcmp(value, "best-effort") == 0)
        *limits = (JobLimits){limits->nice, 2, 7, limits->memory, limits->bandwidth};
    else {
        g_autofree char *shown = human_name(value, -1);
        return error_set(error, BACKAPP_ERROR_INVALID, "--ionice must be idle or best-effort, not '%s'", shown);
    }
    return TRUE;
}

static gboolean set_engine(JobOptions *options, const char *value, GError **error)
{
    if (strcmp(value, "native") != 0 && strcmp(value, "rsync") != 0) {
        g_autofree char *shown = human_name(value, -1);
        return error_set(error, BACKAPP_ERROR_INVALID, "--engine must be native or rsync, not '%s'", shown);
    }
    options->engine_rsync = strcmp(value, "rsync") == 0;
    return TRUE;
}

static gboolean set_bwlimit(JobLimits *limits, const char *value, GError **error)
{
    guint64 units = 0;
    if (!human_parse_number(value, 0, BWLIMIT_MAX, "--bwlimit", &units, error))
        return FALSE;
    limits->bandwidth = units * 1024;
    return TRUE;
}

static gboolean set_nice(JobLimits *limits, const char *value, GError **error)
{
    guint64 nice = 0;
    if (!human_parse_number(value, 0, 19, "--nice", &nice, error))
        return FALSE;
    limits->nice = (int)nice;
    return TRUE;
}

static void apply_flag(JobOptions *options, int id)
{
    switch (id) {
    case OPT_DELETE:
        options->delete_extraneous = TRUE;
        break;
    case OPT_CHECKSUM:
        options->checksum = TRUE;
        break;
    case OPT_DRY_RUN:
        options->dry_run = options->items = TRUE;
        break;
    case OPT_INPLACE:
        options->inplace = TRUE;
        break;
    case OPT_VERIFY:
        options->verify = TRUE;
        break;
    case OPT_NO_ACLS:
        options->acls = FALSE;
        break;
    case OPT_NO_XATTRS:
        options->xattrs = FALSE;
        break;
    case OPT_NO_HARD_LINKS:
        options->hard_links = FALSE;
        break;
    case OPT_ONE_FILE_SYSTEM:
        options->one_file_system = TRUE;
        break;
    case OPT_EXCLUDE_CACHES:
        options->exclude_caches = TRUE;
        break;
    case OPT_FORCE:
        options->force = TRUE;
        break;
    case OPT_VERBOSE:
        options->items = TRUE;
        break;
    default: /* what the command itself looks at */
        break;
    }
}

static gboolean apply(JobSpec *spec, const OptionUse *use, GError **error)
{
    JobOptions *options = &spec->options;
    const char *value = use->value;
    switch (use->def->id) {
    case OPT_EXCLUDE:
        return add_rule(spec, FALSE, value, error);
    case OPT_INCLUDE:
        return add_rule(spec, TRUE, value, error);
    case OPT_KEEP_VERSIONS:
        return set_keep_versions(options, value, error);
    case OPT_EXCLUDE_IF_PRESENT:
        return set_exclude_if_present(options, value, error);
    case OPT_EXCLUDE_LARGER_THAN:
        return set_larger_than(options, value, error);
    case OPT_MAX_DELETE:
        return set_number(&options->max_delete_percent, value, 0, 100, "--max-delete", error);
    case OPT_CONFIRM:
        return set_confirm(options, value, error);
    case OPT_BWLIMIT:
        return set_bwlimit(&spec->limits, value, error);
    case OPT_NICE:
        return set_nice(&spec->limits, value, error);
    case OPT_IONICE:
        return set_ionice(&spec->limits, value, error);
    case OPT_ENGINE:
        return set_engine(options, value, error);
    case OPT_JOBS:
        return set_number(&options->jobs, value, 1, JOBS_MAX, "--jobs", error);
    default:
        apply_flag(options, use->def->id);
        return TRUE;
    }
}

/* What a recovery understands beside its DEST. */
static gboolean check_recover(const OptionArgs *args, GError **error)
{
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        switch (def->id) {
        case MIRROR_OPTION_RECOVER:
        case MIRROR_OPTION_JSON:
        case OPT_VERBOSE:
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
    if (options_has(args, MIRROR_OPTION_RECOVER)) {
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
    g_autoptr(JobSpec) spec = job_spec_new(options_has(args, MIRROR_OPTION_RECOVER) ? JOB_RECOVER : JOB_MIRROR);
    for (guint i = 0; i < args->uses->len; i++)
        if (!apply(spec, &g_array_index(args->uses, OptionUse, i), error))
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
