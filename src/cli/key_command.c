#include "cli/command.h"

#include "base/error.h"
#include "base/human.h"
#include "cli/job_options.h"
#include "cli/passphrase.h"
#include "cli/store_args.h"
#include "cli/terminal.h"
#include "crypto/digest.h"
#include "crypto/key.h"
#include "job/engine_store.h"
#include "job/event.h"
#include "job/json_name.h"
#include "store/keyring.h"

#include <stdio.h>
#include <string.h>

enum { OPT_NEW_PASSPHRASE_FILE = 1000, OPT_IMPORT };

static const OptionDef options[] = {
    ROW_PASSPHRASE_FILE,
    {"new-passphrase-file", 0, "FILE", "add: the passphrase that is added is FILE's first line.",
     OPT_NEW_PASSPHRASE_FILE},
    {"import", 0, NULL, "create: keep the key in BACKUP_ENCRYPTION_KEY instead of a new one.", OPT_IMPORT},
    {"force", 0, NULL, "remove: even the last one.", OPT_FORCE},
    ROWS_STORE,
    {"json", 0, NULL, "create, add and list: print JSON, one object a line.", OPT_JSON},
    OPTION_HELP_ROW,
    OPTION_END,
};

/* What an action works on. */
typedef struct {
    const OptionArgs *args;
    JobSpec *spec;
    Store *store;
    Passphrase variable; /* BACKUP_PASSPHRASE */
    gboolean json;
} Work;

static void work_clear(Work *work)
{
    store_free(work->store);
    job_spec_free(work->spec);
    passphrase_free(work->variable);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Work, work_clear)

static char *opening(const Work *work, const char *prompt, gboolean twice, GError **error)
{
    const PassphraseSource source = {.file = options_value(work->args, OPT_PASSPHRASE_FILE),
                                     .option = "passphrase-file",
                                     .variable = "BACKUP_PASSPHRASE",
                                     .given = work->variable,
                                     .prompt = prompt,
                                     .twice = twice};
    return passphrase_get(&source, error);
}

static void print_made(const Work *work, const char *id)
{
    if (work->json) {
        json_t *line = json_object();
        json_object_set_new(line, "id", json_string(id));
        g_autofree char *text = json_line_print(line);
        fputs(text, stdout);
        return;
    }
    g_autofree char *url = human_name(work->store->url, -1);
    printf(
        "key %s is in %s\nWithout a passphrase that opens a key nothing that is encrypted there can be read again.\n",
        id, url);
}

static gboolean create(Work *work, GError **error)
{
    g_autoptr(Key) master = NULL;
    if (!options_has(work->args, OPT_IMPORT))
        master = key_generate();
    else if (work->spec->encryption_key)
        master = key_from_base64(work->spec->encryption_key, "BACKUP_ENCRYPTION_KEY", error);
    else
        (void)error_set(error, BACKAPP_ERROR_INVALID, "--import: there is no key in BACKUP_ENCRYPTION_KEY");
    g_auto(Passphrase) passphrase = master ? opening(work, "New passphrase", TRUE, error) : NULL;
    /* Nothing is made before it is known what for. */
    work->store = passphrase ? engine_open_target(&work->spec->store, FALSE, NULL, NULL, error) : NULL;
    g_autofree char *id = work->store ? keyring_create(work->store, master, passphrase, error) : NULL;
    if (id)
        print_made(work, id);
    return id != NULL;
}

static gboolean add(Work *work, GError **error)
{
    const PassphraseSource source = {.file = options_value(work->args, OPT_NEW_PASSPHRASE_FILE),
                                     .option = "new-passphrase-file",
                                     .variable = "BACKUP_NEW_PASSPHRASE",
                                     .prompt = "New passphrase",
                                     .twice = TRUE};
    g_auto(Passphrase) passphrase = opening(work, "Passphrase that opens a key", FALSE, error);
    g_auto(Passphrase) added = passphrase ? passphrase_get(&source, error) : NULL;
    g_autofree char *id = added ? keyring_add(work->store, passphrase, added, error) : NULL;
    if (id)
        print_made(work, id);
    return id != NULL;
}

static gboolean remove_key(Work *work, GError **error)
{
    return keyring_remove(work->store, g_ptr_array_index(work->args->operands, 2), options_has(work->args, OPT_FORCE),
                          error);
}

static gboolean list(Work *work, GError **error)
{
    g_autoptr(GPtrArray) records = keyring_list(work->store, error);
    if (!records)
        return FALSE;
    for (guint i = 0; i < records->len; i++) {
        const KeyringRecord *record = g_ptr_array_index(records, i);
        g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(record->created);
        g_autofree char *when = time ? g_date_time_format(time, "%Y-%m-%dT%H:%M:%SZ") : g_strdup("?");
        if (!work->json) {
            printf("%s  %s\n", record->id, when);
            continue;
        }
        json_t *line = json_object();
        json_object_set_new(line, "id", json_string(record->id));
        json_object_set_new(line, "created", json_string(when));
        g_autofree char *text = json_line_print(line);
        fputs(text, stdout);
    }
    return TRUE;
}

static gboolean export(Work *work, GError **error)
{
    g_auto(Passphrase) passphrase = opening(work, "Passphrase", FALSE, error);
    g_autoptr(Key) master = passphrase ? keyring_unlock(work->store, passphrase, error) : NULL;
    if (!master)
        return FALSE;
    char *text = digest_base64(key_bytes(master), KEY_BYTES);
    printf("%s\n", text);
    passphrase_free(text);
    return TRUE;
}

typedef struct {
    const char *name;
    gboolean makes_store, takes_id;
    int options[4]; /* that it takes beside those of stores; 0 ends */
    gboolean (*run)(Work *work, GError **error);
} Action;

static const Action actions[] = {
    {"create", TRUE, FALSE, {OPT_PASSPHRASE_FILE, OPT_IMPORT, OPT_JSON}, create},
    {"add", FALSE, FALSE, {OPT_PASSPHRASE_FILE, OPT_NEW_PASSPHRASE_FILE, OPT_JSON}, add},
    {"remove", FALSE, TRUE, {OPT_FORCE}, remove_key},
    {"list", FALSE, FALSE, {OPT_JSON}, list},
    {"export", FALSE, FALSE, {OPT_PASSPHRASE_FILE}, export},
};

/* An option that would be ignored is a mistake. */
static gboolean check_options(const OptionArgs *args, const Action *action, GError **error)
{
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        gboolean taken = def->id >= OPT_ENDPOINT && def->id <= OPT_PATH_STYLE;
        for (guint j = 0; j < G_N_ELEMENTS(action->options) && !taken; j++)
            taken = action->options[j] == def->id;
        if (!taken)
            return error_set(error, BACKAPP_ERROR_INVALID, "key %s does not take --%s", action->name, def->name);
    }
    return TRUE;
}

static const Action *find_action(const OptionArgs *args, GError **error)
{
    guint count = args->operands->len;
    const char *name = count > 0 ? g_ptr_array_index(args->operands, 0) : "";
    const Action *found = NULL;
    for (guint i = 0; i < G_N_ELEMENTS(actions); i++)
        if (strcmp(actions[i].name, name) == 0)
            found = &actions[i];
    if (!found)
        (void)error_set(error, BACKAPP_ERROR_INVALID,
                        "key needs one of create, add, remove, list and export, and a STORE");
    else if (count < 2 || *(const char *)g_ptr_array_index(args->operands, 1) == '\0')
        (void)error_set(error, BACKAPP_ERROR_INVALID, "key %s needs a STORE", name);
    else if (found->takes_id && count != 3)
        (void)error_set(error, BACKAPP_ERROR_INVALID, "key remove needs a STORE and an ID, as 'key list' shows them");
    else if (!found->takes_id && count > 2)
        (void)error_set(error, BACKAPP_ERROR_INVALID, "key %s takes no more than a STORE", name);
    else
        return check_options(args, found, error) ? found : NULL;
    return NULL;
}

static gboolean prepare(Work *work, GError **error)
{
    work->spec = job_spec_new(JOB_RESTORE);
    store_args_set_source(work->spec, g_ptr_array_index(work->args->operands, 1));
    work->variable = passphrase_take("BACKUP_PASSPHRASE");
    return job_options_apply(work->spec, work->args, error) && store_args_complete(work->spec, error) &&
           job_store_validate(&work->spec->store, "store", error);
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    g_auto(Work) work = {.args = args, .json = options_has(args, OPT_JSON)};
    const Action *action = find_action(args, &error);
    if (!action || !prepare(&work, &error))
        return command_usage_error(command, error);
    if (!action->makes_store)
        work.store = engine_open_store(&work.spec->store, NULL, NULL, &error);
    gboolean fine = (work.store || action->makes_store) && action->run(&work, &error);
    int code = command_finish_output();
    if (fine)
        return code;
    g_autofree char *message = terminal_safe(error->message);
    fprintf(stderr, "backapp: %s\n", message);
    return job_status_exit_code(error_is(error, BACKAPP_ERROR_CANCELLED) ? JOB_CANCELLED : JOB_FAILED);
}

const Command key_command = {
    .name = "key",
    .usage = "key create|add|list|export [OPTION]... STORE\nkey remove [OPTION]... STORE ID",
    .summary = "the keys of a store that passphrases open",
    .details = "A store has one random master key, which lies there wrapped by one or several\n"
               "passphrases. create makes it, add wraps it by another passphrase, remove takes\n"
               "one away, list shows them, export prints the master key in base64, as\n"
               "BACKUP_ENCRYPTION_KEY takes it: keep it where nobody else reads it.\n"
               "\n"
               "The passphrase that opens a key is the first line of --passphrase-file, or\n"
               "BACKUP_PASSPHRASE, or is asked for at the terminal; a new one likewise\n"
               "(--new-passphrase-file, BACKUP_NEW_PASSPHRASE). It is never an argument.",
    .options = options,
    .run = run,
};
