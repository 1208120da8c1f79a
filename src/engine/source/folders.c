#include "engine/source/folders.h"

#include "base/error.h"
#include "base/human.h"

/* What begins so is ours in a destination's root. */
#define OWN_NAMES ".backapp"

char **source_folders(const char *const *sources, GError **error)
{
    g_autoptr(GPtrArray) folders = g_ptr_array_new_with_free_func(g_free);
    guint count = g_strv_length((char **)sources);
    if (count == 0) {
        error_set(error, BACKAPP_ERROR_INVALID, "no source is given");
        return NULL;
    }
    for (guint i = 0; i < count; i++) {
        g_autofree char *clean = g_canonicalize_filename(sources[i], NULL);
        g_autofree char *base = count == 1 ? g_strdup("") : g_path_get_basename(clean);
        g_autofree char *name = human_name(base, -1);
        g_autofree char *shown = human_name(sources[i], -1);
        if (count > 1 && (g_str_equal(base, "/") || g_str_has_prefix(base, OWN_NAMES))) {
            error_set(error, BACKAPP_ERROR_INVALID,
                      "the source %s cannot be one of several: it would have no folder of its own", shown);
            return NULL;
        }
        for (guint j = 0; j < folders->len; j++) {
            if (count > 1 && g_str_equal(g_ptr_array_index(folders, j), base)) {
                error_set(error, BACKAPP_ERROR_INVALID,
                          "two sources would share the folder %s: rename one, or back them up to places of their own",
                          name);
                return NULL;
            }
        }
        g_ptr_array_add(folders, g_steal_pointer(&base));
    }
    g_ptr_array_add(folders, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&folders), FALSE);
}
