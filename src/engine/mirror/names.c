#include "engine/mirror/names.h"

#include <string.h>
#include <sys/stat.h>

/* What Windows' file systems forbid anywhere in a name. */
#define FORBIDDEN "\"*:<>?\\|"

struct NamesSeen {
    GHashTable *folded;
};

NamesSeen *names_seen_new(const FsAbilities *abilities)
{
    if (abilities->case_sensitive)
        return NULL;
    NamesSeen *seen = g_new0(NamesSeen, 1);
    seen->folded = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return seen;
}

void names_seen_free(NamesSeen *seen)
{
    if (seen == NULL)
        return;
    g_hash_table_destroy(seen->folded);
    g_free(seen);
}

static gboolean is_legal(const char *name)
{
    gsize length = strlen(name);
    if (!g_utf8_validate(name, -1, NULL) || strpbrk(name, FORBIDDEN) != NULL)
        return FALSE;
    for (const char *c = name; *c != '\0'; c++) {
        if ((guchar)*c < 0x20)
            return FALSE;
    }
    return length > 0 && name[length - 1] != '.' && name[length - 1] != ' ';
}

static gboolean collides(NamesSeen *seen, const char *name)
{
    char *folded = g_utf8_validate(name, -1, NULL) ? g_utf8_casefold(name, -1) : g_strdup(name);
    return !g_hash_table_add(seen->folded, folded);
}

const char *names_problem(const FsAbilities *abilities, NamesSeen *seen, const char *name, const FileMeta *meta)
{
    if (!abilities->any_name && !is_legal(name))
        return "the destination's file system does not allow this name";
    if (seen != NULL && collides(seen, name))
        return "the destination's file system takes this name for the same as another one that differs only in case";
    if (S_ISREG(meta->mode) && meta->size > abilities->max_file_size)
        return "it is larger than a file may be on the destination's file system";
    return NULL;
}
