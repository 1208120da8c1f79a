/*
 * The commands of the program: one constant Command a file, and the list of all of them. main.c parses the options by
 * the command's table, answers --help and calls run. One thread.
 */
#pragma once

#include "cli/options.h"

/* What the shell sees beside the run's own codes 0, 1, 3, 4 and 130 (job/event.h). */
enum { EXIT_USAGE = 2 };

/* The option that every command has: ids of a command's own options start above it. */
enum { OPTION_HELP = 1, OPTION_FIRST };

/* clang-format off */
#define OPTION_HELP_ROW {"help", 'h', NULL, "Show this help.", OPTION_HELP}
#define OPTION_END      {.name = NULL}
/* clang-format on */

typedef struct Command Command;
struct Command {
    const char *name;
    const char *usage;   /* lines after "usage: ", separated by newlines */
    const char *summary; /* a few words for the list of commands */
    const char *details; /* paragraphs of --help, wrapped at 80 columns; may be NULL */
    const OptionDef *options;
    int (*run)(const Command *command, const OptionArgs *args); /* returns the exit code */
};

extern const Command mirror_command;
extern const Command two_stage_command;
extern const Command s3sync_command;
extern const Command archive_command;
extern const Command restore_command;
extern const Command ls_command;
extern const Command verify_command;
extern const Command drill_command;
extern const Command store_command;
extern const Command key_command;
extern const Command worker_command;
extern const Command version_command;
extern const Command help_command;

/* All commands in the order of help, NULL-terminated; static. */
const Command *const *command_list(void);

/* The command of this name, or NULL. */
const Command *command_find(const char *name);

/* Says on standard error that there is no such command, with the nearest one. Returns EXIT_USAGE. */
int command_unknown(const char *name);

/* Says on standard error what is wrong with the command line and where help is. command may be NULL. Returns
 * EXIT_USAGE. */
int command_usage_error(const Command *command, const GError *error);

/* Writes the command's help to standard output. Returns the exit code: 1 if that cannot be written. */
int command_show_help(const Command *command);

/* Flushes standard output. Returns 0, or 1 after saying why it could not be written. */
int command_finish_output(void);
