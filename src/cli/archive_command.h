/*
 * The words behind `backapp archive`: one constant ArchiveAction each. archive_command.c has the table of all their options,
 * refuses what an action does not take, and calls it. One thread.
 */
#pragma once

#include "cli/command.h"

typedef struct {
    const char *name;
    /* Ids of the options that it takes beside those of stores, --name, --passphrase-file, --json and --help; 0 ends. */
    const int *takes;
    /* args->operands begins with the action's name. Returns the exit code. */
    int (*run)(const Command *command, const OptionArgs *args);
} ArchiveAction;

extern const ArchiveAction archive_create_action;
extern const ArchiveAction archive_list_action;
extern const ArchiveAction archive_find_action;
extern const ArchiveAction archive_diff_action;
extern const ArchiveAction archive_reindex_action;
extern const ArchiveAction archive_retention_action;
