#include "engine/mirror/sidecar_names.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>

#define LOOKUP_BYTES (64 * 1024)
#define NAME_BYTES   255
#define NAMES_MAX    100000

struct SidecarNames {
    GHashTable *by_id; /* gint64: id, and 2^32 more for groups -> name; "" if it has none */
};

static gint64 number_of(gboolean group, guint32 id)
{
    return (gint64)id | (group ? G_GINT64_CONSTANT(1) << 32 : 0);
}

SidecarNames *sidecar_names_new(void)
{
    SidecarNames *names = g_new0(SidecarNames, 1);
    names->by_id = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    return names;
}

void sidecar_names_free(SidecarNames *names)
{
    if (names == NULL)
        return;
    g_hash_table_destroy(names->by_id);
    g_free(names);
}

static void set(SidecarNames *names, gint64 number, char *name)
{
    g_hash_table_replace(names->by_id, g_memdup2(&number, sizeof number), name);
}

const char *sidecar_names_get(const SidecarNames *names, gboolean group, guint32 id)
{
    gint64 number = number_of(group, id);
    const char *name = g_hash_table_lookup(names->by_id, &number);
    return name != NULL && name[0] != '\0' ? name : NULL;
}

/* What this machine calls an id; NULL if it does not know it. */
static char *look_up(gboolean group, guint32 id)
{
    g_autofree char *buffer = g_malloc(LOOKUP_BYTES);
    struct passwd user;
    struct group of_users;
    struct passwd *found_user = NULL;
    struct group *found_group = NULL;
    if (group)
        return getgrgid_r(id, &of_users, buffer, LOOKUP_BYTES, &found_group) == 0 && found_group != NULL
                   ? g_strdup(of_users.gr_name)
                   : NULL;
    return getpwuid_r(id, &user, buffer, LOOKUP_BYTES, &found_user) == 0 && found_user != NULL ? g_strdup(user.pw_name)
                                                                                               : NULL;
}

gboolean sidecar_names_learn(SidecarNames *names, const SidecarNames *old, gboolean group, guint32 id, GByteArray *out)
{
    gint64 number = number_of(group, id);
    if (g_hash_table_contains(names->by_id, &number) || g_hash_table_size(names->by_id) >= NAMES_MAX)
        return FALSE;
    char *name = look_up(group, id);
    if (name == NULL && old != NULL)
        name = g_strdup(sidecar_names_get(old, group, id));
    gboolean known = name != NULL && strlen(name) <= NAME_BYTES && name[0] != '\0';
    if (known) {
        bytes_put_varint(out, (guint64)number);
        bytes_put_blob(out, name, strlen(name));
    }
    set(names, number, name != NULL ? name : g_strdup(""));
    return known;
}

gboolean sidecar_names_read(SidecarNames *names, BytesReader *in)
{
    guint64 count = bytes_get_varint(in);
    for (guint64 i = 0; i < count && !in->bad; i++) {
        guint64 number = bytes_get_varint(in);
        char *name = bytes_get_string(in, NAME_BYTES);
        if (name == NULL)
            return FALSE;
        set(names, (gint64)number, name);
        if (number >> 33 != 0 || g_hash_table_size(names->by_id) > NAMES_MAX)
            return FALSE;
    }
    return !in->bad;
}
