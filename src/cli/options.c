#include "cli/options.h"

#include "base/error.h"
#include "base/human.h"

#include <string.h>

/* Longer words are not compared: the table of distances is quadratic. */
#define WORD_MAX 40

/* Edits (insert, remove, replace, swap of neighbours) that turn a into b; both at most WORD_MAX bytes. */
static guint distance(const char *a, const char *b)
{
    guint rows[3][WORD_MAX + 1];
    guint *before = rows[0], *last = rows[1], *now = rows[2];
    guint length_a = (guint)strlen(a), length_b = (guint)strlen(b);
    for (guint j = 0; j <= length_b; j++)
        before[j] = last[j] = j;
    for (guint i = 1; i <= length_a; i++) {
        now[0] = i;
        for (guint j = 1; j <= length_b; j++) {
            guint replace = last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
            now[j] = MIN(replace, MIN(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = MIN(now[j], before[j - 2] + 1);
        }
        guint *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[length_b];
}

const char *options_nearest(const char *typed, const char *const *words)
{
    const char *nearest = NULL;
    gsize length = strlen(typed);
    if (length == 0 || length > WORD_MAX)
        return NULL;
    guint best = MAX(1U, (guint)length / 3);
    for (; *words; words++) {
        if (strlen(*words) > WORD_MAX)
            continue;
        /* What was cut short is meant, however much is missing. */
        guint far = length >= 2 && g_str_has_prefix(*words, typed) ? 0 : distance(typed, *words);
        if (far < best || (far == best && !nearest)) {
            best = far;
            nearest = *words;
        }
    }
    return nearest;
}

static const OptionDef *find_long(const OptionDef *defs, const char *name, gsize length)
{
    for (; defs->name; defs++)
        if (strlen(defs->name) == length && memcmp(defs->name, name, length) == 0)
            return defs;
    return NULL;
}

static const OptionDef *find_letter(const OptionDef *defs, char letter)
{
    for (; defs->name; defs++)
        if (defs->letter == letter)
            return defs;
    return NULL;
}

static gboolean unknown_long(const OptionDef *defs, const char *name, gsize length, GError **error)
{
    g_autoptr(GPtrArray) words = g_ptr_array_new();
    for (; defs->name; defs++)
        g_ptr_array_add(words, (gpointer)defs->name);
    g_ptr_array_add(words, NULL);
    g_autofree char *typed = g_strndup(name, length);
    g_autofree char *shown = human_name(typed, -1);
    const char *nearest = options_nearest(typed, (const char *const *)words->pdata);
    if (nearest)
        return error_set(error, BACKAPP_ERROR_INVALID, "unknown option --%s: did you mean --%s?", shown, nearest);
    return error_set(error, BACKAPP_ERROR_INVALID, "unknown option --%s", shown);
}

static void add_use(OptionArgs *args, const OptionDef *def, const char *value)
{
    OptionUse use = {.def = def, .value = value};
    g_array_append_val(args->uses, use);
}

/* Takes argv[*at], an option of the form --name, and its value. */
static gboolean take_long(const OptionDef *defs, int argc, char **argv, int *at, OptionArgs *args, GError **error)
{
    const char *name = argv[*at] + 2;
    gsize length = strcspn(name, "=");
    const char *value = name[length] == '=' ? name + length + 1 : NULL;
    const OptionDef *def = find_long(defs, name, length);
    if (!def)
        return unknown_long(defs, name, length, error);
    if (!def->value && value)
        return error_set(error, BACKAPP_ERROR_INVALID, "option --%s takes no value", def->name);
    if (def->value && !value) {
        if (*at + 1 >= argc)
            return error_set(error, BACKAPP_ERROR_INVALID, "option --%s needs a value: --%s %s", def->name, def->name,
                             def->value);
        value = argv[++*at];
    }
    add_use(args, def, value);
    return TRUE;
}

/* Takes a word of the form -vh: every letter a flag. */
static gboolean take_letters(const OptionDef *defs, const char *word, OptionArgs *args, GError **error)
{
    for (const char *letter = word + 1; *letter; letter++) {
        const OptionDef *def = find_letter(defs, *letter);
        if (!def) {
            g_autofree char *shown = human_name(word, -1);
            return error_set(error, BACKAPP_ERROR_INVALID,
                             "unknown option %s (a name that starts with a dash is written ./%s)", shown, shown);
        }
        add_use(args, def, NULL);
    }
    return TRUE;
}

OptionArgs *options_parse(const OptionDef *defs, int argc, char **argv, GError **error)
{
    g_autoptr(OptionArgs) args = g_new0(OptionArgs, 1);
    args->uses = g_array_new(FALSE, TRUE, sizeof(OptionUse));
    args->operands = g_ptr_array_new();
    gboolean ended = FALSE;
    for (int i = 0; i < argc; i++) {
        if (ended || argv[i][0] != '-' || argv[i][1] == '\0')
            g_ptr_array_add(args->operands, argv[i]);
        else if (strcmp(argv[i], "--") == 0)
            ended = TRUE;
        else if (argv[i][1] == '-') {
            if (!take_long(defs, argc, argv, &i, args, error))
                return NULL;
        } else if (!take_letters(defs, argv[i], args, error))
            return NULL;
    }
    return g_steal_pointer(&args);
}

gboolean options_has(const OptionArgs *args, int id)
{
    for (guint i = 0; i < args->uses->len; i++)
        if (g_array_index(args->uses, OptionUse, i).def->id == id)
            return TRUE;
    return FALSE;
}

const char *options_value(const OptionArgs *args, int id)
{
    for (guint i = args->uses->len; i > 0; i--) {
        const OptionUse *use = &g_array_index(args->uses, OptionUse, i - 1);
        if (use->def->id == id)
            return use->value;
    }
    return NULL;
}

/* Appends text at column `indent`, broken between words before column 79. The first line starts where `out` stands. */
static void append_wrapped(GString *out, const char *text, guint indent)
{
    g_auto(GStrv) words = g_strsplit(text, " ", -1);
    guint column = indent;
    for (char **word = words; *word; word++) {
        guint length = (guint)strlen(*word);
        if (column > indent && column + 1 + length > 79) {
            g_string_append_printf(out, "\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            g_string_append_c(out, ' ');
            column++;
        }
        g_string_append(out, *word);
        column += length;
    }
    g_string_append_c(out, '\n');
}

char *options_describe(const OptionDef *defs)
{
    const guint indent = 30;
    GString *out = g_string_new(NULL);
    for (; defs->name; defs++) {
        gsize start = out->len;
        if (defs->letter)
            g_string_append_printf(out, "  -%c, --%s", defs->letter, defs->name);
        else
            g_string_append_printf(out, "  --%s", defs->name);
        if (defs->value)
            g_string_append_printf(out, " %s", defs->value);
        guint column = (guint)(out->len - start);
        if (column + 2 > indent)
            g_string_append_printf(out, "\n%*s", (int)indent, "");
        else
            g_string_append_printf(out, "%*s", (int)(indent - column), "");
        append_wrapped(out, defs->help, indent);
    }
    return g_string_free(out, FALSE);
}

void options_args_free(OptionArgs *args)
{
    if (!args)
        return;
    g_array_unref(args->uses);
    g_ptr_array_unref(args->operands);
    g_free(args);
}
