#include "cli/command.h"

#include "base/error.h"
#include "cli/archive_look.h"
#include "cli/archive_options.h"
#include "cli/mirror_options.h"
#include "cli/run.h"
#include "cli/store_args.h"

#include <sys/stat.h>

static const OptionDef options[] = {
    ROW_FULL,   ROW_VERIFY_AT, ROW_NAME,    ROW_JOBS, ROW_READ_BACK,   ROW_CONCURRENCY, ROW_PASSPHRASE_FILE,
    ROWS_STORE, ROW_STATE_DIR, ROWS_LIMITS, ROW_JSON, OPTION_HELP_ROW, OPTION_END,
};

/* What DEST turns out to be. */
typedef enum { MIRROR = 1 << 0, SYNCED = 1 << 1, ARCHIVES = 1 << 2 } Kind;

static gboolean has(const char *directory, const char *name)
{
    struct stat st;
    g_autofree char *path = g_build_filename(directory, name, NULL);
    return lstat(path, &st) == 0;
}

/* Whether the store holds the lists that s3sync makes of what it stores: 1, 0; -1 with an error. */
static int holds_lists(Store *store, GError **error)
{
    const StoreObject *object;
    g_autoptr(StoreList) list = store_list(store, ".backapp/tree/", NULL, FALSE, error);
    return list ? store_list_next(list, &object, error) : -1;
}

/* Asks the store. What is none of ours, or not there, is left to the engine to say. */
static gboolean find_kind(const JobSpec *spec, Kind *kind, GError **error)
{
    if (!engine_store_is_there(&spec->store, NULL))
        return TRUE;
    g_autoptr(Store) store = engine_open_store(&spec->store, NULL, NULL, error);
    int lists = store ? holds_lists(store, error) : -1;
    if (lists > 0)
        *kind = SYNCED;
    if (lists != 0)
        return lists > 0;
    g_autoptr(GPtrArray) places = archive_places(store, NULL, error);
    if (places && places->len > 0)
        *kind = ARCHIVES;
    return places != NULL;
}

/* What only makes sense for another kind is not silently ignored. */
static gboolean check_options(const OptionArgs *args, Kind kind, GError **error)
{
    static const struct {
        int id;
        guint kinds;
        const char *what;
    } rules[] = {
        {OPT_JOBS, MIRROR | ARCHIVES, "mirrors and archives; this store takes --concurrency"},
        {OPT_READ_BACK, SYNCED | ARCHIVES, "stores; of a mirror every file is read"},
        {OPT_FULL, SYNCED | ARCHIVES, "stores; of a mirror every file is read"},
        {OPT_CONCURRENCY, SYNCED, "stores that s3sync wrote"},
        {OPT_STATE_DIR, SYNCED, "stores that s3sync wrote"},
        {OPT_AT, ARCHIVES, "archives; here there is only one state to prove"},
        {OPT_NAME, ARCHIVES, "archives"},
        {OPT_PASSPHRASE_FILE, SYNCED | ARCHIVES, "stores; this directory is none"},
    };
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        gboolean of_store = def->id >= OPT_ENDPOINT && def->id <= OPT_PATH_STYLE;
        if (of_store && kind == MIRROR)
            return error_set(error, BACKAPP_ERROR_INVALID, "--%s is for stores; this directory is none", def->name);
        for (guint j = 0; j < G_N_ELEMENTS(rules); j++)
            if (rules[j].id == def->id && (rules[j].kinds & kind) == 0)
                return error_set(error, BACKAPP_ERROR_INVALID, "--%s is for %s", def->name, rules[j].what);
    }
    return TRUE;
}

/* Makes of a spec whose store is DEST the job for what it is. FALSE with INVALID. */
static gboolean settle(JobSpec *spec, const char *place, Kind kind, GError **error)
{
    JobOptions *job = &spec->options;
    spec->type = kind == ARCHIVES ? JOB_ARCHIVE_VERIFY : JOB_VERIFY;
    if (kind == ARCHIVES) {
        job->archive.at = g_steal_pointer(&job->restore.at);
        job->archive.full = job->archive.full || job->s3.read_back;
    } else if (kind == SYNCED) {
        job->s3.read_back = job->s3.verify = job->s3.read_back || job->archive.full;
    } else {
        job_store_clear(&spec->store);
        JobDestination entry = {.path = mirror_options_absolute(place)};
        g_array_append_val(spec->destinations, entry);
    }
    /* What is there already stays; the folder for catalogues is made now. */
    return (kind != SYNCED || store_args_complete(spec, error)) && job_spec_validate(spec, error);
}

/* The command line as a job that reads the store DEST, with its keys if it may be one. *asks: it has to be found out what
 * it is. */
static JobSpec *build(const OptionArgs *args, Kind *kind, gboolean *asks, GError **error)
{
    const char *place = args->operands->len > 0 ? g_ptr_array_index(args->operands, 0) : "";
    if (args->operands->len != 1)
        return error_set(error, BACKAPP_ERROR_INVALID, "verify needs one destination: verify DEST"), NULL;
    if (*place == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "DEST is empty"), NULL;
    g_autofree char *directory = store_args_is_url(place) ? NULL : mirror_options_absolute(place);
    /* A mirror says that it is one; anything else may be a store. */
    gboolean marked = directory && has(directory, ".backapp-destination");
    /* Until it is known what it is: a job of this type needs no folder for catalogues, so none is made. */
    g_autoptr(JobSpec) spec = job_spec_new(JOB_ARCHIVE_VERIFY);
    spec->run_id = g_uuid_string_random();
    store_args_set_source(spec, place);
    if (!job_options_apply(spec, args, error))
        return NULL;
    spec->options.archive.full = options_has(args, OPT_FULL);
    *kind = spec->options.archive.name ? ARCHIVES : directory ? MIRROR : SYNCED;
    *asks = !marked && !spec->options.archive.name;
    if (marked && !check_options(args, MIRROR, error))
        return NULL;
    return marked || (store_args_passphrase(spec, args, error) && store_args_complete(spec, error))
               ? g_steal_pointer(&spec)
               : NULL;
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    Kind kind = MIRROR;
    gboolean asks = FALSE;
    g_autoptr(JobSpec) spec = build(args, &kind, &asks, &error);
    if (!spec)
        return command_usage_error(command, error);
    if (asks && !find_kind(spec, &kind, &error))
        return archive_look_end(FALSE, error);
    if (!check_options(args, kind, &error))
        return command_usage_error(command, error);
    if (!settle(spec, g_ptr_array_index(args->operands, 0), kind, &error))
        return command_usage_error(command, error);
    g_auto(RunOutcome) outcome = {0};
    return run_job(spec, options_has(args, OPT_JSON), &outcome);
}

const Command verify_command = {
    .name = "verify",
    .usage = "verify [OPTION]... DEST",
    .summary = "prove a mirror, archives, or a store against what was recorded",
    .details = "DEST is a mirror, or a store: s3://BUCKET/PREFIX, file:///DIR, or a directory\n"
               "that s3sync or archive wrote to. Of a store the list is compared with what was\n"
               "recorded, of archives every index of the point's chain is read too; with --full\n"
               "every byte is read and every file's hash compared.\n"
               "\n"
               "Of a mirror every file is read. A file without a recorded hash is\n"
               "compared with its source, where that is unchanged, and recorded; otherwise it is\n"
               "reported as not yet proven. The exit code is 1 if a file is damaged or missing.",
    .options = options,
    .run = run,
};
