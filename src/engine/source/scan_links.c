#include "engine/source/scan_links.h"

#include <string.h>

typedef struct {
    InodeKey inode; /* first: a Group is looked up by it */
    guint32 left;   /* names still to come */
    char path[];
} Group;

struct ScanLinks {
    GHashTable *groups; /* Group, owned, as a set */
    Group *done;        /* the last one of which all names were seen: its path may be in use */
};

ScanLinks *scan_links_new(void)
{
    ScanLinks *links = g_new0(ScanLinks, 1);
    links->groups = g_hash_table_new_full(inode_key_hash, inode_key_equal, g_free, NULL);
    return links;
}

void scan_links_free(ScanLinks *links)
{
    if (links == NULL)
        return;
    g_hash_table_destroy(links->groups);
    g_free(links->done);
    g_free(links);
}

static Group *group_new(const Group *key, guint32 left, const char *path)
{
    gsize length = strlen(path) + 1;
    Group *group = g_malloc(sizeof *group + length);
    *group = *key;
    group->left = left;
    memcpy(group->path, path, length);
    return group;
}

const char *scan_links_first(ScanLinks *links, const FileMeta *meta, const char *path)
{
    if (meta->nlink <= 1)
        return NULL;
    Group wanted = {.inode = {meta->dev, meta->ino}};
    Group *group = g_hash_table_lookup(links->groups, &wanted);
    if (group == NULL) {
        g_hash_table_add(links->groups, group_new(&wanted, meta->nlink - 1, path));
        return NULL;
    }
    if (--group->left == 0) {
        g_hash_table_steal(links->groups, group);
        g_free(links->done);
        links->done = group;
    }
    return group->path;
}
