/*
 * The keys of paths, for test_rclone_names.py: reads zero-terminated paths and prints for each its key and what path that
 * key has again (empty: none), both zero-terminated.
 */
#include "engine/source/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *key_of(const S3Names *names, const char *path)
{
    GString *key = g_string_new(NULL);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (guint i = 0; parts[i] != NULL; i++) {
        g_autofree char *parent = g_strdup(key->str);
        g_string_truncate(key, 0);
        names_child_key(names, parent, parts[i], key);
    }
    return g_string_free(key, FALSE);
}

int main(void)
{
    g_autoptr(S3Names) names = names_new(NULL);
    char *path = NULL;
    size_t size = 0;
    while (getdelim(&path, &size, '\0', stdin) > 0) {
        g_autofree char *key = key_of(names, path);
        g_autofree char *again = names_path(names, key, NULL);
        (void)printf("%s%c%s%c", key, 0, again != NULL ? again : "", 0);
    }
    free(path);
    return ferror(stdout) ? 1 : 0;
}
