/*
 * What our patterns say of a list of paths, for test_patterns.py. Reads lines: "+ PATTERN" and "- PATTERN" add a rule,
 * "i PATTERN" and "x PATTERN" collect a config's includes and excludes, "c" adds the rules these mean, "f PATH" and
 * "d PATH" ask about a file or a directory, "=" begins a new list. Prints a line for each question: 1 if the path is
 * reached (nothing hides it or a directory above it), else 0. Exit code 2 for a line that cannot be understood.
 */
#include "fs/pattern.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    PatternList *list;
    GPtrArray *includes, *excludes;
} Reader;

static gboolean is_reached(const PatternList *list, const char *path, gboolean is_directory)
{
    g_autofree char *parent = g_strdup(path);
    for (char *slash = strchr(parent, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (pattern_list_match(list, parent, TRUE) == PATTERN_EXCLUDE)
            return FALSE;
        *slash = '/';
    }
    return pattern_list_match(list, path, is_directory) != PATTERN_EXCLUDE;
}

static gboolean add_config(Reader *reader, GError **error)
{
    g_ptr_array_add(reader->includes, NULL);
    g_ptr_array_add(reader->excludes, NULL);
    gboolean added = pattern_list_add_config(reader->list, (const char *const *)reader->includes->pdata,
                                             (const char *const *)reader->excludes->pdata, error);
    g_ptr_array_set_size(reader->includes, 0);
    g_ptr_array_set_size(reader->excludes, 0);
    return added;
}

static gboolean read_line(Reader *reader, const char *line, GError **error)
{
    const char *rest = line[0] && line[1] == ' ' ? line + 2 : "";
    switch (line[0]) {
    case '=':
        pattern_list_free(reader->list);
        reader->list = pattern_list_new();
        return TRUE;
    case '+':
    case '-':
        return pattern_list_add(reader->list, line[0] == '+', rest, error);
    case 'i':
        g_ptr_array_add(reader->includes, g_strdup(rest));
        return TRUE;
    case 'x':
        g_ptr_array_add(reader->excludes, g_strdup(rest));
        return TRUE;
    case 'c':
        return add_config(reader, error);
    case 'f':
    case 'd':
        return puts(is_reached(reader->list, rest, line[0] == 'd') ? "1" : "0") >= 0;
    default:
        return FALSE;
    }
}

static int fail(const char *line, const GError *error)
{
    fprintf(stderr, "pattern-match: line \"%s\": %s\n", line, error ? error->message : "cannot be understood");
    return 2;
}

int main(void)
{
    Reader reader = {.list = pattern_list_new(),
                     .includes = g_ptr_array_new_with_free_func(g_free),
                     .excludes = g_ptr_array_new_with_free_func(g_free)};
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    int status = 0;
    while (status == 0 && (length = getline(&line, &room, stdin)) > 0) {
        g_autoptr(GError) error = NULL;
        line[strcspn(line, "\n")] = '\0';
        if (!read_line(&reader, line, &error))
            status = fail(line, error);
    }
    free(line);
    pattern_list_free(reader.list);
    g_ptr_array_unref(reader.includes);
    g_ptr_array_unref(reader.excludes);
    return fflush(stdout) == 0 ? status : 2;
}
