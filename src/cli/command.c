#include "cli/command.h"

#include "base/human.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const Command *const commands[] = {&mirror_command,  &two_stage_command,
                                          &s3sync_command,  &archive_command,
                                          &restore_command, &ls_command,
                                          &verify_command,  &drill_command,
                                          &store_command,   &key_command,
                                          &worker_command,  &version_command,
                                          &help_command,    NULL};

const Command *const *command_list(void)
{
    return commands;
}

const Command *command_find(const char *name)
{
    for (const Command *const *command = commands; *command; command++)
        if (strcmp((*command)->name, name) == 0)
            return *command;
    return NULL;
}

int command_unknown(const char *name)
{
    const char *names[G_N_ELEMENTS(commands)] = {NULL};
    for (guint i = 0; commands[i]; i++)
        names[i] = commands[i]->name;
    g_autofree char *shown = human_name(name, -1);
    const char *nearest = options_nearest(name, names);
    if (nearest)
        fprintf(stderr, "backapp: there is no command '%s': did you mean '%s'?\n", shown, nearest);
    else
        fprintf(stderr, "backapp: there is no command '%s': 'backapp help' lists them\n", shown);
    return EXIT_USAGE;
}

int command_usage_error(const Command *command, const GError *error)
{
    fprintf(stderr, "backapp: %s\n", error->message);
    if (command)
        fprintf(stderr, "'backapp help %s' shows what it takes.\n", command->name);
    else
        fputs("'backapp help' shows what it takes.\n", stderr);
    return EXIT_USAGE;
}

int command_finish_output(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    /* Whoever read through a pipe and went away has what they wanted. */
    if (errno == EPIPE)
        return 0;
    fprintf(stderr, "backapp: cannot write to standard output: %s\n", g_strerror(errno));
    return 1;
}

int command_show_help(const Command *command)
{
    g_auto(GStrv) usages = g_strsplit(command->usage, "\n", -1);
    for (guint i = 0; usages[i]; i++)
        printf("%s backapp %s\n", i == 0 ? "usage:" : "      ", usages[i]);
    if (command->details)
        printf("\n%s\n", command->details);
    g_autofree char *options = options_describe(command->options);
    printf("\nOptions:\n%s", options);
    return command_finish_output();
}
