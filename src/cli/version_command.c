#include "cli/command.h"

#include "base/error.h"

#include <stdio.h>

static const OptionDef options[] = {OPTION_HELP_ROW, OPTION_END};

static int run(const Command *command, const OptionArgs *args)
{
    if (args->operands->len > 0) {
        g_autoptr(GError) error = NULL;
        error_set(&error, BACKAPP_ERROR_INVALID, "version takes no operands");
        return command_usage_error(command, error);
    }
    puts("backapp " BACKAPP_VERSION);
    return command_finish_output();
}

const Command version_command = {
    .name = "version",
    .usage = "version",
    .summary = "show the program's version",
    .options = options,
    .run = run,
};
