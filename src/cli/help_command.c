#include "cli/command.h"

#include "base/error.h"

#include <stdio.h>

static const OptionDef options[] = {OPTION_HELP_ROW, OPTION_END};

static int show_overview(void)
{
    puts("usage: backapp COMMAND [OPTION]... [OPERAND]...\n"
         "\n"
         "Backs up directories.\n"
         "\n"
         "Commands:");
    for (const Command *const *command = command_list(); *command; command++)
        printf("  %-10s %s\n", (*command)->name, (*command)->summary);
    puts("\n"
         "'backapp help COMMAND' shows a command's options; --version shows the version.\n"
         "\n"
         "Exit codes: 0 completed, 1 failed, 2 wrong usage, 3 finished but some source\n"
         "files could not be read as they were, 4 refused by a safety check,\n"
         "130 cancelled.");
    return command_finish_output();
}

static int run(const Command *command, const OptionArgs *args)
{
    if (args->operands->len == 0)
        return show_overview();
    if (args->operands->len > 1) {
        g_autoptr(GError) error = NULL;
        error_set(&error, BACKAPP_ERROR_INVALID, "help takes one COMMAND");
        return command_usage_error(command, error);
    }
    const char *name = g_ptr_array_index(args->operands, 0);
    const Command *wanted = command_find(name);
    return wanted ? command_show_help(wanted) : command_unknown(name);
}

const Command help_command = {
    .name = "help",
    .usage = "help [COMMAND]",
    .summary = "show the commands, or what one of them takes",
    .options = options,
    .run = run,
};
