/* The entry point: finds the command, parses its options by its table, runs it. */
#include "cli/command.h"

#include "base/error.h"
#include "base/log.h"

#include <signal.h>
#include <string.h>

static int run_command(const Command *command, int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(OptionArgs) args = options_parse(command->options, argc, argv, &error);
    if (!args)
        return command_usage_error(command, error);
    if (options_has(args, OPTION_HELP))
        return command_show_help(command);
    return command->run(command, args);
}

int main(int argc, char **argv)
{
    /* A reader that went away is an error of write(), seen where it happens, and no reason to die in mid-backup. */
    signal(SIGPIPE, SIG_IGN);
    log_setup(LOG_LEVEL_WARNING, FALSE);
    if (argc < 2) {
        g_autoptr(GError) error = NULL;
        error_set(&error, BACKAPP_ERROR_INVALID, "a command is missing");
        return command_usage_error(NULL, error);
    }
    const char *word = argv[1];
    if (strcmp(word, "--version") == 0)
        return run_command(&version_command, argc - 2, argv + 2);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return run_command(&help_command, argc - 2, argv + 2);
    const Command *command = command_find(word);
    return command ? run_command(command, argc - 2, argv + 2) : command_unknown(word);
}
