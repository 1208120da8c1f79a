#include "cli/inner_paths.h"

#include "base/error.h"

#include <string.h>

static char *inner_path(const char *operand)
{
    while (*operand == '/' || g_str_has_prefix(operand, "./"))
        operand++;
    char *path = g_strdup(operand);
    for (gsize length = strlen(path); length > 0 && path[length - 1] == '/'; length--)
        path[length - 1] = '\0';
    return path;
}

gboolean inner_paths_add(JobSpec *spec, const OptionArgs *args, guint first, GError **error)
{
    GPtrArray *paths = spec->options.restore.paths;
    gboolean all = FALSE;
    for (guint i = first; i < args->operands->len; i++) {
        g_autofree char *path = inner_path(g_ptr_array_index(args->operands, i));
        all = all || *path == '\0' || strcmp(path, ".") == 0;
        g_auto(GStrv) parts = g_strsplit(path, "/", -1);
        if (!all &&
            (g_strv_contains((const char *const *)parts, "..") || g_strv_contains((const char *const *)parts, ".")))
            return error_set(error, BACKAPP_ERROR_INVALID, "a PATH is one inside the backup: without '.' and '..'");
        g_ptr_array_add(paths, g_steal_pointer(&path));
    }
    if (all)
        g_ptr_array_set_size(paths, 0);
    return TRUE;
}
