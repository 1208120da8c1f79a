#include "cli/command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/inner_paths.h"
#include "cli/job_options.h"
#include "cli/mirror_options.h"
#include "cli/restore_export.h"
#include "cli/run.h"
#include "cli/store_args.h"
#include "cli/terminal.h"
#include "engine/restore/restore.h"
#include "job/engine_store.h"
#include "job/json_name.h"

#include <stdio.h>
#include <string.h>

static const OptionDef options[] = {
    ROW_TO,        ROW_TO_TAR,          ROW_TO_ZIP,         ROW_AT,
    ROW_LIST,      ROW_CONFLICT,        ROW_RESTORE_DELETE, ROW_CHECKSUM,
    ROW_DRY_RUN,   ROW_NO_ACLS,         ROW_NO_XATTRS,      ROW_THAW,
    ROW_THAW_TIER, ROW_MAX_DELETE,      ROW_FORCE,          ROW_RESTORE_CONCURRENCY,
    ROWS_STORE,    ROWS_LIMITS,         ROW_JSON,           ROW_VERBOSE,
    ROW_NAME,      ROW_PASSPHRASE_FILE, OPTION_HELP_ROW,    OPTION_END,
};

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
    if (!inner_paths_add(spec, args, 1, error) || !job_options_apply(spec, args, error) ||
        !store_args_passphrase(spec, args, error) || !store_args_complete(spec, error) ||
        !job_spec_validate(spec, error))
        return NULL;
    return g_steal_pointer(&spec);
}

/* What only a restore does something with is not silently ignored. */
static gboolean check_list(const OptionArgs *args, GError **error)
{
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        gboolean fits = def->id == OPT_LIST || def->id == OPT_JSON || def->id == OPT_NAME ||
                        def->id == OPT_PASSPHRASE_FILE || (def->id >= OPT_ENDPOINT && def->id <= OPT_PATH_STYLE);
        if (!fits)
            return error_set(error, BACKAPP_ERROR_INVALID, "--%s is for a restore: --list only shows points",
                             def->name);
    }
    if (args->operands->len != 1 || *(const char *)g_ptr_array_index(args->operands, 0) == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "--list needs one STORE and nothing else: restore --list STORE");
    return TRUE;
}

static JobSpec *build_list(const OptionArgs *args, GError **error)
{
    if (!check_list(args, error))
        return NULL;
    g_autoptr(JobSpec) spec = job_spec_new(JOB_RESTORE);
    store_args_set_source(spec, g_ptr_array_index(args->operands, 0));
    if (!job_options_apply(spec, args, error) || !store_args_passphrase(spec, args, error) ||
        !store_args_complete(spec, error) || !job_store_validate(&spec->store, "store", error))
        return NULL;
    return g_steal_pointer(&spec);
}

static void print_json(const RestorePoint *point, const char *when)
{
    json_t *line = json_object();
    json_object_set_new(line, "name", json_name_text(point->name));
    json_object_set_new(line, "time", json_string(when));
    if (point->folder)
        json_name_set(line, "folder", point->folder);
    if (point->archive)
        json_name_set(line, "archive", point->archive);
    if (point->problem) {
        json_object_set_new(line, "problem", json_name_text(point->problem));
    } else if (point->known) {
        json_object_set_new(line, "files", json_line_count(point->files));
        json_object_set_new(line, "bytes", json_line_count(point->bytes));
        json_object_set_new(line, "partial", json_boolean(point->partial));
    }
    g_autofree char *text = json_line_print(line);
    fputs(text, stdout);
}

static void print_text(const RestorePoint *point, const char *when)
{
    g_autofree char *name = human_name(point->name, -1);
    g_autofree char *folder = point->folder ? human_name(point->folder, -1) : NULL;
    g_autofree char *archive = point->archive ? human_name(point->archive, -1) : NULL;
    g_autofree char *where = folder    ? g_strdup_printf("  in %s", folder)
                             : archive ? g_strdup_printf("  of %s", archive)
                                       : g_strdup("");
    if (point->problem) {
        g_autofree char *problem = terminal_safe(point->problem);
        printf("%s  %s%s  CANNOT BE USED: %s\n", when, name, where, problem);
        return;
    }
    if (!point->known) {
        printf("%s  %s%s\n", when, name, where);
        return;
    }
    g_autofree char *files = human_count(point->files), *size = human_size(point->bytes);
    printf("%s  %s%s  %s %s, %s%s\n", when, name, where, files, point->files == 1 ? "file" : "files", size,
           point->partial ? ", some could not be read" : "");
}

/* Prints the points; TRUE in *sound if all can be used. */
static gboolean list_points(const JobSpec *spec, gboolean json, gboolean *sound, GError **error)
{
    guint8 key[32] = {0};
    g_autoptr(Store) store = engine_open_store(&spec->store, NULL, NULL, error);
    gboolean has_key = FALSE;
    if (!store || !engine_master_key(spec, store, key, &has_key, error))
        return FALSE;
    g_autofree char *directory = engine_store_directory(&spec->store);
    const RestoreSourceOptions from = {
        .store = store, .directory = directory, .name = spec->options.archive.name, .master_key = has_key ? key : NULL};
    g_autoptr(GPtrArray) points = restore_points(&from, error);
    explicit_bzero(key, sizeof key);
    if (!points)
        return FALSE;
    if (points->len == 0)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND,
                         "the store holds no backup that can be restored here: no restore point, no archive and no "
                         "mirror lies in it or in the folders right below it");
    *sound = TRUE;
    for (guint i = 0; i < points->len && !ferror(stdout); i++) {
        const RestorePoint *point = g_ptr_array_index(points, i);
        g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(point->time);
        g_autofree char *when = time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("?");
        *sound = *sound && !point->problem;
        if (json)
            print_json(point, when);
        else
            print_text(point, when);
    }
    return TRUE;
}

static int run_list(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = build_list(args, &error);
    if (!spec)
        return command_usage_error(command, error);
    gboolean sound = FALSE;
    gboolean fine = list_points(spec, options_has(args, OPT_JSON), &sound, &error);
    int code = command_finish_output();
    if (fine)
        return code != 0 || sound ? code : job_status_exit_code(JOB_PARTIAL);
    g_autofree char *message = terminal_safe(error->message);
    fprintf(stderr, "backapp: failed: %s\n", message);
    return job_status_exit_code(JOB_FAILED);
}

static JobSpec *build_export(const OptionArgs *args, GError **error)
{
    if (!restore_export_check(args, error))
        return NULL;
    if (args->operands->len == 0 || *(const char *)g_ptr_array_index(args->operands, 0) == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "restore needs a STORE: restore STORE [PATH]... --to-tar FILE"),
               NULL;
    g_autoptr(JobSpec) spec = job_spec_new(JOB_RESTORE);
    store_args_set_source(spec, g_ptr_array_index(args->operands, 0));
    if (!inner_paths_add(spec, args, 1, error) || !job_options_apply(spec, args, error) ||
        !store_args_passphrase(spec, args, error) || !store_args_complete(spec, error) ||
        !job_store_validate(&spec->store, "store", error))
        return NULL;
    return g_steal_pointer(&spec);
}

static int run_export(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = build_export(args, &error);
    return spec ? restore_export_run(spec, args) : command_usage_error(command, error);
}

static int run(const Command *command, const OptionArgs *args)
{
    if (options_has(args, OPT_LIST))
        return run_list(command, args);
    return restore_export_wanted(args) ? run_export(command, args) : run_command_job(command, args, build);
}

const Command restore_command = {
    .name = "restore",
    .usage = "restore [OPTION]... STORE [PATH]... --to DIR\nrestore [OPTION]... STORE [PATH]... --to-tar FILE\n"
             "restore --list [OPTION]... STORE",
    .summary = "get files back from a store",
    .details = "STORE is s3://BUCKET/PREFIX or a directory: one that s3sync, two-stage or\n"
               "archive wrote to, or a mirror with its kept versions.\n"
               "Without a PATH everything is restored. What is already right in DIR is not\n"
               "fetched again, so a restore that was interrupted can be repeated. Nothing is\n"
               "ever written outside DIR.\n"
               "\n"
               "--list shows the points of STORE that --at can name. If it has none of its own,\n"
               "as where each date lies in a folder of its own, those of the folders below it:\n"
               "STORE/FOLDER is then what to restore from.",
    .options = options,
    .run = run,
};
