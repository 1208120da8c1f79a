#include "engine/mirror/links.h"

#include <string.h>

/* A hard-linked inode of a source. */
typedef struct {
    InodeKey inode;   /* first: a Group is looked up by it */
    guint64 kept_ino; /* the destination's inode that stays for it; 0: it is made anew */
    char path[];      /* its first name */
} Group;

struct Links {
    gboolean hard_links;
    GHashTable *groups; /* Group, owned, as a set */
    GHashTable *taken;  /* inode numbers of the destination that have more than one name and an owner; guint64 */
};

Links *links_new(gboolean hard_links)
{
    Links *links = g_new0(Links, 1);
    links->hard_links = hard_links;
    links->groups = g_hash_table_new_full(inode_key_hash, inode_key_equal, g_free, NULL);
    links->taken = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    return links;
}

void links_free(Links *links)
{
    if (links == NULL)
        return;
    g_hash_table_destroy(links->groups);
    g_hash_table_destroy(links->taken);
    g_free(links);
}

/* An inode of the destination with several names may stay under this one if no other name has taken it, and if nothing
 * about it has to change: other names of it (also outside the mirror, or in a kept version) would change too. */
static LinksDecision decide_shared(Links *links, const Found *found)
{
    if (found->verdict != VERDICT_SAME)
        return LINKS_COPY;
    gint64 ino = (gint64)found->have_ino;
    if (g_hash_table_contains(links->taken, &ino))
        return LINKS_COPY;
    g_hash_table_add(links->taken, g_memdup2(&ino, sizeof ino));
    return LINKS_KEEP;
}

static LinksDecision decide_alone(Links *links, const Found *found)
{
    if (found->verdict == VERDICT_NEW || found->verdict == VERDICT_REPLACE)
        return LINKS_COPY;
    return found->have_nlink > 1 ? decide_shared(links, found) : LINKS_KEEP;
}

static Group *add_group(Links *links, const Group *wanted, const char *path)
{
    gsize length = strlen(path) + 1;
    Group *group = g_malloc(sizeof *group + length);
    *group = *wanted;
    memcpy(group->path, path, length);
    g_hash_table_add(links->groups, group);
    return group;
}

const char *links_first_name(Links *links, const char *path, const FileMeta *want)
{
    if (want->nlink <= 1)
        return NULL;
    Group wanted = {.inode = {want->dev, want->ino}};
    const Group *group = g_hash_table_lookup(links->groups, &wanted);
    if (group != NULL)
        return group->path;
    add_group(links, &wanted, path);
    return NULL;
}

LinksDecision links_decide(Links *links, const char *path, const Found *found, const char **target)
{
    if (!links->hard_links || found->want.nlink <= 1)
        return decide_alone(links, found);
    Group wanted = {.inode = {found->want.dev, found->want.ino}};
    Group *group = g_hash_table_lookup(links->groups, &wanted);
    if (group == NULL) {
        LinksDecision decision = decide_alone(links, found);
        wanted.kept_ino = decision == LINKS_KEEP ? found->have_ino : 0;
        add_group(links, &wanted, path);
        return decision;
    }
    if (group->kept_ino != 0 && group->kept_ino == found->have_ino)
        return LINKS_KEEP;
    *target = group->path;
    return LINKS_LINK;
}
