#include "cli/archive_command.h"

#include "base/error.h"
#include "cli/archive_options.h"
#include "cli/retention_options.h"

#include <string.h>

static const OptionDef options[] = {
    ROWS_ARCHIVE_CREATE, ROWS_RETENTION, ROW_NAME,    ROW_PASSPHRASE_FILE, ROW_ARCHIVE_FORCE, ROWS_STORE,
    ROWS_LIMITS,         ROW_JSON,       ROW_VERBOSE, OPTION_HELP_ROW,     OPTION_END,
};

static const ArchiveAction *const actions[] = {
    &archive_create_action, &archive_list_action,    &archive_find_action,
    &archive_diff_action,   &archive_reindex_action, &archive_retention_action,
};

static const ArchiveAction *find_action(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(actions); i++)
        if (strcmp(actions[i]->name, name) == 0)
            return actions[i];
    return NULL;
}

static gboolean takes(const ArchiveAction *action, int id)
{
    if (id == OPT_NAME || id == OPT_PASSPHRASE_FILE || id == OPT_JSON || (id >= OPT_ENDPOINT && id <= OPT_PATH_STYLE))
        return TRUE;
    for (const int *taken = action->takes; *taken; taken++)
        if (*taken == id)
            return TRUE;
    return FALSE;
}

static const ArchiveAction *choose(const OptionArgs *args, GError **error)
{
    const char *name = args->operands->len > 0 ? g_ptr_array_index(args->operands, 0) : "";
    const ArchiveAction *action = find_action(name);
    if (!action) {
        (void)error_set(error, BACKAPP_ERROR_INVALID,
                        "archive needs one of create, list, find, diff, retention and reindex, and a STORE");
        return NULL;
    }
    /* What would be ignored is a mistake. */
    for (guint i = 0; i < args->uses->len; i++) {
        const OptionDef *def = g_array_index(args->uses, OptionUse, i).def;
        if (!takes(action, def->id)) {
            (void)error_set(error, BACKAPP_ERROR_INVALID, "archive %s does not take --%s", name, def->name);
            return NULL;
        }
    }
    if (args->operands->len < 2 || *(const char *)g_ptr_array_index(args->operands, 1) == '\0') {
        (void)error_set(error, BACKAPP_ERROR_INVALID, "archive %s needs a STORE", name);
        return NULL;
    }
    return action;
}

static int run(const Command *command, const OptionArgs *args)
{
    g_autoptr(GError) error = NULL;
    const ArchiveAction *action = choose(args, &error);
    return action ? action->run(command, args) : command_usage_error(command, error);
}

const Command archive_command = {
    .name = "archive",
    .usage = "archive create [OPTION]... STORE SOURCE...\n"
             "archive list [OPTION]... STORE\n"
             "archive find [OPTION]... STORE PATTERN\n"
             "archive diff [OPTION]... STORE POINT POINT\n"
             "archive retention [OPTION]... STORE\n"
             "archive reindex [OPTION]... STORE POINT",
    .summary = "make tar archives in a store, and look at them",
    .details = "STORE is s3://BUCKET/PREFIX or a directory. create makes a point: a tar of the\n"
               "SOURCEs, or of what changed since an earlier point, compressed, encrypted if\n"
               "asked for, and beside it an index. tar reads what is not encrypted.\n"
               "\n"
               "list shows the points, find where and when there was something that matches the\n"
               "rsync PATTERN, diff what changed from one POINT to another. retention\n"
               "removes points that no rule keeps, and none that another needs. reindex makes\n"
               "the index of an archive anew that lost it. 'backapp restore' gets files back,\n"
               "'backapp ls' shows what a point holds, 'backapp verify' proves it.\n"
               "\n"
               "A POINT is latest, a date (2026-11-20), a time (2026-11-20T02:00:00Z), or a name\n"
               "as list shows it, of which the beginning is enough.",
    .options = options,
    .run = run,
};
