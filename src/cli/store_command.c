#include "cli/command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/job_options.h"
#include "cli/store_args.h"
#include "cli/terminal.h"
#include "job/engine_store.h"
#include "job/json_name.h"
#include "store/store_test.h"

#include <stdio.h>
#include <string.h>

enum { OPT_LONG = 1000 };

static const OptionDef options[] = {
    ROWS_STORE,
    {"long", 'l', NULL, "ls: show size, time and storage class too.", OPT_LONG},
    {"json", 0, NULL, "ls and test: print one JSON object a line.", OPT_JSON},
    OPTION_HELP_ROW,
    OPTION_END,
};

/* A store and what of it is meant: for ls a beginning of keys, for cat and rm a key. */
typedef struct {
    JobSpec *spec;
    Store *store;
    char *rest;
    gboolean whole; /* the store is the operand as it stands, its folder included */
    gboolean json, detailed;
} Place;

static void place_clear(Place *place)
{
    store_free(place->store);
    job_spec_free(place->spec);
    g_free(place->rest);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Place, place_clear)

/* What the command line says, checked; with a KEY the whole operand is the store, without one the last part of a path is
 * the key. FALSE with INVALID. */
static gboolean prepare(const OptionArgs *args, gboolean wants_key, Place *place, GError **error)
{
    const char *operand = g_ptr_array_index(args->operands, 1);
    const char *key = args->operands->len > 2 ? g_ptr_array_index(args->operands, 2) : NULL;
    place->spec = job_spec_new(JOB_RESTORE);
    gboolean bucket = g_str_has_prefix(operand, "s3:");
    g_autofree char *folder = bucket || !wants_key || key ? g_strdup(operand) : g_path_get_dirname(operand);
    store_args_set_source(place->spec, folder);
    if (!job_options_apply(place->spec, args, error) || !store_args_complete(place->spec, error) ||
        !job_store_validate(&place->spec->store, "store", error))
        return FALSE;
    const char *behind = bucket ? strchr(operand + strlen("s3://"), '/') : NULL;
    if (wants_key && (key ? !*key : bucket && (!behind || !behind[1])))
        return error_set(error, BACKAPP_ERROR_INVALID, "a key is missing: which object of the store is meant?");
    place->rest = key ? g_strdup(key) : wants_key && !bucket ? g_path_get_basename(operand) : g_strdup("");
    place->whole = !bucket || key;
    return TRUE;
}

/* A listing and a key are looked up in the whole bucket, so that a beginning that is no folder is found too. */
static gboolean open_place(Place *place, gboolean test, GError **error)
{
    if (place->whole || test) {
        place->store = engine_open_store(&place->spec->store, NULL, NULL, error);
        return place->store != NULL;
    }
    g_clear_pointer(&place->rest, g_free);
    place->store = engine_open_bucket(&place->spec->store, NULL, NULL, &place->rest, error);
    return place->store != NULL;
}

static void print_object(const Place *place, const StoreObject *object)
{
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(object->modified);
    g_autofree char *when = time ? g_date_time_format_iso8601(time) : g_strdup("?");
    if (place->json) {
        json_t *line = json_object();
        json_name_set(line, "key", object->key);
        json_object_set_new(line, "size", json_line_count(object->size));
        json_object_set_new(line, "modified", json_string(when));
        json_object_set_new(line, "etag", json_name_text(object->etag ? object->etag : ""));
        json_object_set_new(line, "storageClass", json_name_text(object->storage_class ? object->storage_class : ""));
        g_autofree char *text = json_line_print(line);
        fputs(text, stdout);
        return;
    }
    g_autofree char *shown = human_name(object->key, -1);
    if (place->detailed) {
        g_autofree char *size = human_size(object->size);
        printf("%12s  %s  %-12s %s\n", size, when, object->storage_class ? object->storage_class : "", shown);
    } else
        printf("%s\n", shown);
}

static gboolean list(const Place *place, GError **error)
{
    g_autoptr(StoreList) objects = store_list(place->store, place->rest, NULL, FALSE, error);
    if (!objects)
        return FALSE;
    const StoreObject *object;
    int more;
    while ((more = store_list_next(objects, &object, error)) > 0 && !ferror(stdout))
        print_object(place, object);
    return more >= 0;
}

static gboolean write_out(gpointer user_data, const void *data, gsize length, GError **error)
{
    return fwrite(data, 1, length, stdout) == length ||
           error_set_errno(error, errno, "cannot write to standard output");
}

static gboolean cat(const Place *place, GError **error)
{
    const StoreRange range = {.key = place->rest, .length = G_MAXUINT64};
    return store_get(place->store, &range, write_out, NULL, NULL, error);
}

static gboolean rm(const Place *place, GError **error)
{
    /* Deleting what is not there is no error of a store, but here it is a typing mistake. */
    g_autoptr(StoreObject) object = store_head(place->store, place->rest, NULL, error);
    return object && store_delete(place->store, place->rest, NULL, error);
}

static void print_check(const Place *place, const StoreTestItem *item)
{
    const char *state = store_test_state_name(item->state);
    g_autofree char *message = terminal_safe(item->message);
    if (!place->json) {
        printf("%-8s %-12s %s\n", state, item->check, message);
        return;
    }
    json_t *line = json_object();
    json_object_set_new(line, "check", json_string(item->check));
    json_object_set_new(line, "state", json_string(state));
    json_object_set_new(line, "message", json_name_text(item->message));
    g_autofree char *text = json_line_print(line);
    fputs(text, stdout);
}

static gboolean test(const Place *place, GError **error)
{
    g_autoptr(GPtrArray) items = store_test_run(place->store, error);
    if (!items)
        return FALSE;
    for (guint i = 0; i < items->len; i++)
        print_check(place, g_ptr_array_index(items, i));
    return store_test_is_usable(items) ||
           error_set(error, BACKAPP_ERROR_DENIED, "the store cannot be used like this: what is missing is named above");
}

static const struct {
    const char *name;
    gboolean wants_key;
    gboolean (*run)(const Place *place, GError **error);
} actions[] = {
    {"test", FALSE, test},
    {"ls", FALSE, list},
    {"cat", TRUE, cat},
    {"rm", TRUE, rm},
};

/* The action that the first operand names; -1 with an error if the operands are not as the usage says. */
static int find_action(const OptionArgs *args, GError **error)
{
    const char *name = args->operands->len > 0 ? g_ptr_array_index(args->operands, 0) : "";
    int found = -1;
    for (guint i = 0; i < G_N_ELEMENTS(actions); i++)
        if (strcmp(actions[i].name, name) == 0)
            found = (int)i;
    if (found < 0)
        (void)error_set(error, BACKAPP_ERROR_INVALID, "store needs one of test, ls, cat and rm, and a STORE");
    else if (args->operands->len < 2 || *(const char *)g_ptr_array_index(args->operands, 1) == '\0')
        (void)error_set(error, BACKAPP_ERROR_INVALID, "store %s needs a STORE", name);
    else if (args->operands->len > (found == 0 ? 2 : 3))
        (void)error_set(error, BACKAPP_ERROR_INVALID, "store %s takes no more than a STORE%s", name,
                        found == 0   ? ""
                        : found == 1 ? " and a PREFIX"
                                     : " and a KEY");
    else
        return found;
    return -1;
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_auto(Place) place = {.json = options_has(args, OPT_JSON), .detailed = options_has(args, OPT_LONG)};
    int action = find_action(args, &error);
    if (action < 0 || !prepare(args, actions[action].wants_key, &place, &error))
        return command_usage_error(command, error);
    gboolean fine = open_place(&place, action == 0, &error) && actions[action].run(&place, &error);
    int code = command_finish_output();
    if (fine)
        return code;
    g_autofree char *message = terminal_safe(error->message);
    fprintf(stderr, "backapp: %s\n", message);
    return 1;
}

const Command store_command = {
    .name = "store",
    .usage = "store test [OPTION]... STORE\nstore ls [OPTION]... STORE [PREFIX]\nstore cat|rm [OPTION]... STORE [KEY]",
    .summary = "look at a store: what works there, its objects",
    .details = "STORE is s3://BUCKET/PREFIX or a directory. test tries everything that backups\n"
               "need with a probe object and says what is missing. ls lists keys that begin with\n"
               "the prefix, cat prints an object, rm deletes one.",
    .options = options,
    .run = run,
};
