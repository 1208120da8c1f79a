/*
 * Patterns and a path from the input's lines: the first line is the path (a slash at its end: a directory), each other
 * line a rule, "+" or "-" and the pattern. What must hold: the same answer twice; a config of the same patterns
 * answers as its rules do one by one, read back; a plain pattern (no wildcard, no slash) matches exactly its name.
 */
#include "fs/pattern.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The rules of `list` once more, each in a list of its own: the first that says something decides. */
static PatternResult match_one_by_one(const PatternList *list, const char *path, gboolean is_directory)
{
    for (guint i = 0; i < pattern_list_length(list); i++) {
        gboolean include = FALSE;
        const char *pattern = pattern_list_rule(list, i, &include);
        g_autoptr(PatternList) one = pattern_list_new();
        g_assert_true(pattern_list_add(one, include, pattern, NULL));
        PatternResult result = pattern_list_match(one, path, is_directory);
        g_assert_true(result == PATTERN_NONE || result == (include ? PATTERN_INCLUDE : PATTERN_EXCLUDE));
        const char *slash = strrchr(path, '/');
        if (!strpbrk(pattern, "*?[/"))
            g_assert_true((result != PATTERN_NONE) == (strcmp(pattern, slash ? slash + 1 : path) == 0));
        if (result != PATTERN_NONE)
            return result;
    }
    return PATTERN_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autofree char *text = g_strndup((const char *)data, size);
    g_auto(GStrv) lines = g_strsplit(text, "\n", 64);
    if (!lines[0] || !*lines[0])
        return 0;
    char *path = lines[0];
    size_t length = strlen(path);
    gboolean is_directory = length > 1 && path[length - 1] == '/';
    if (is_directory)
        path[length - 1] = '\0';

    g_autoptr(PatternList) list = pattern_list_new();
    g_autoptr(GPtrArray) includes = g_ptr_array_new();
    g_autoptr(GPtrArray) excludes = g_ptr_array_new();
    for (char **line = lines + 1; *line; line++) {
        gboolean include = **line == '+';
        if (**line && pattern_list_add(list, include, *line + 1, NULL))
            g_ptr_array_add(include ? includes : excludes, *line + 1);
    }
    g_ptr_array_add(includes, NULL);
    g_ptr_array_add(excludes, NULL);
    g_assert_true(pattern_list_match(list, path, is_directory) == match_one_by_one(list, path, is_directory));

    g_autoptr(PatternList) config = pattern_list_new();
    if (pattern_list_add_config(config, (const char *const *)includes->pdata, (const char *const *)excludes->pdata,
                                NULL))
        g_assert_true(pattern_list_match(config, path, is_directory) == match_one_by_one(config, path, is_directory));
    else
        g_assert_true(pattern_list_length(config) == 0);
    return 0;
}
