/*
 * Command-line options from a table: the parser, the nearest name for a misspelt one, and the text of --help all read
 * the same OptionDef rows. Pure functions on argv, which stays the caller's and must outlive the OptionArgs. One
 * thread.
 *
 * Options and operands may come in any order; `--` ends the options; values are given as `--name VALUE` or
 * `--name=VALUE`. Names are not abbreviated. The order of options is kept (rules of --exclude and --include need it).
 */
#pragma once

#include <glib.h>

/* One row; a table ends with a row whose name is NULL. */
typedef struct {
    const char *name;  /* without the dashes */
    char letter;       /* short form, '\0' if none; only for flags */
    const char *value; /* what the value is called in --help ("PATTERN"); NULL: a flag */
    const char *help;  /* one or two sentences */
    int id;            /* the command's own enum */
} OptionDef;

/* One use of an option on the command line. */
typedef struct {
    const OptionDef *def;
    const char *value; /* NULL for a flag */
} OptionUse;

typedef struct {
    GArray *uses;        /* of OptionUse, as they came */
    GPtrArray *operands; /* of const char *, borrowed from argv */
} OptionArgs;

/* Parses argc strings (without the program's and the command's name). NULL with INVALID: unknown option (with the
 * nearest one), a value that is missing or not wanted. */
OptionArgs *options_parse(const OptionDef *defs, int argc, char **argv, GError **error);

/* TRUE if the option was given. */
gboolean options_has(const OptionArgs *args, int id);

/* The value of the last use; NULL if it was not given. */
const char *options_value(const OptionArgs *args, int id);

/* The rows as text for --help, wrapped at 79 columns. The caller frees. */
char *options_describe(const OptionDef *defs);

/* The word of the NULL-terminated list that is nearest to what was typed, or NULL if none is near. */
const char *options_nearest(const char *typed, const char *const *words);

void options_args_free(OptionArgs *args);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(OptionArgs, options_args_free)
