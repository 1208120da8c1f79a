#include "base/error.h"
#include "store/local_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* An entry in the arena of a DirNames is a byte and a name. The byte is made to say: */
#define IS_FILE 1
#define IS_DIR  2
#define ESCAPED 4 /* behind the name, which is part of keys, comes its path */

#define PIECES_MAX 8 /* names longer than so many pieces are longer than a key */
#define KEY_MAX    1024

/* One directory that is being listed: its entries in the order of the keys that they stand for. */
typedef struct {
    char *path;   /* relative to the store */
    gsize prefix; /* length of the key's part that it stands for */
    int fd;       /* -1 while a directory below is listed, so that descriptors stay few */
    DirNames names;
    guint next;
} Level;

typedef struct {
    StoreList base;
    LocalStore *store;
    char *prefix, *after;
    GArray *levels;
    GString *key; /* of the entry at hand */
    StoreObject object;
    LocalFacts facts;
    gboolean begun;
    char *last; /* the key of before */
} LocalList;

static void level_clear(gpointer data)
{
    Level *level = data;
    g_clear_pointer(&level->path, g_free);
    fd_clear(&level->fd);
    dir_names_clear(&level->names);
}

static const guint8 *entry_at(const DirNames *names, guint i)
{
    return names->arena->data + g_array_index(names->offsets, guint32, i);
}

/* FILE, DIRECTORY, or 0 for what is no object. */
static guint8 kind_of(int dir_fd, const char *name, guint8 type)
{
    struct stat st;
    if (type == DT_UNKNOWN && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        type = S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_LNK;
    return type == DT_DIR ? IS_DIR : type == DT_REG ? IS_FILE : 0;
}

/* Adds an entry whose name is not what it stands for. */
static void add_escaped(DirNames *names, guint8 kind, const char *component, const char *path)
{
    /* Only what we would have written so: else one key could have two files. */
    gsize length = strlen(component);
    g_autofree char *expected = local_component_escape(component, length, kind == IS_DIR);
    if (strcmp(expected, path) != 0 || (kind == IS_DIR && local_name_is_plain(component, length)))
        return;
    guint32 offset = names->arena->len;
    guint8 byte = kind | ESCAPED;
    if (length + strlen(path) + 3 > G_MAXUINT32 - offset)
        return;
    g_byte_array_append(names->arena, &byte, 1);
    g_byte_array_append(names->arena, (const guint8 *)component, (guint)length + 1);
    g_byte_array_append(names->arena, (const guint8 *)path, (guint)strlen(path) + 1);
    g_array_append_val(names->offsets, offset);
}

/* Adds what a name that begins as ours stands for: an object, a directory, or pieces of longer names. */
static gboolean decode(int dir_fd, const char *name, guint8 type, const char *component, const char *path, guint depth,
                       DirNames *into, GError **error)
{
    guint8 kind = kind_of(dir_fd, name, type);
    gboolean piece = g_str_has_prefix(name, LOCAL_PIECE);
    gboolean known = (kind == IS_FILE && g_str_has_prefix(name, LOCAL_FILE)) ||
                     (kind == IS_DIR && (piece || g_str_has_prefix(name, LOCAL_DIRECTORY)));
    if (!known)
        return TRUE;
    g_autofree char *whole = g_strconcat(component, name + strlen(LOCAL_FILE), NULL);
    g_autofree char *whole_path = g_strconcat(path, name, NULL);
    if (!piece) {
        add_escaped(into, kind, whole, whole_path);
        return TRUE;
    }
    if (depth >= PIECES_MAX)
        return TRUE;
    g_auto(DirNames) names = {0};
    g_auto(AutoFd) fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || error_set_errno(error, errno, "cannot list %s", name);
    if (!dir_names_read(fd, &names, NULL, error))
        return FALSE;
    g_autofree char *below = g_strconcat(whole_path, "/", NULL);
    for (guint i = 0; i < dir_names_count(&names); i++)
        if (!decode(fd, dir_names_get(&names, i), dir_names_type(&names, i), whole, below, depth + 1, into, error))
            return FALSE;
    return TRUE;
}

/* Orders entries as their keys: a directory's go on with a slash. Plain ones come before escaped ones of the same key. */
static int compare_entries(const void *a, const void *b, void *arena)
{
    const guint8 *x = (const guint8 *)arena + *(const guint32 *)a, *y = (const guint8 *)arena + *(const guint32 *)b;
    const guint8 *p = x + 1, *q = y + 1;
    while (*p && *p == *q)
        p++, q++;
    int left = *p ? *p : x[0] & IS_DIR ? '/' : 0;
    int right = *q ? *q : y[0] & IS_DIR ? '/' : 0;
    return left != right ? left - right : (x[0] & ESCAPED) - (y[0] & ESCAPED);
}

/* Turns the names of a directory into entries, in their order. */
static gboolean make_entries(int fd, DirNames *names, GError **error)
{
    guint count = dir_names_count(names), kept = 0;
    GArray *offsets = names->offsets;
    gboolean sorted = TRUE;
    g_auto(DirNames) escaped = {.arena = g_byte_array_new(), .offsets = g_array_new(FALSE, FALSE, sizeof(guint32))};
    for (guint i = 0; i < count; i++) {
        guint32 offset = g_array_index(offsets, guint32, i);
        const char *name = dir_names_get(names, i);
        guint8 type = dir_names_type(names, i);
        if (!local_name_is_plain(name, strlen(name))) {
            if (!decode(fd, name, type, "", "", 0, &escaped, error))
                return FALSE;
            continue;
        }
        guint8 kind = kind_of(fd, name, type);
        if (!kind)
            continue;
        names->arena->data[offset] = kind;
        sorted = sorted && kind == IS_FILE;
        g_array_index(offsets, guint32, kept++) = offset;
    }
    g_array_set_size(offsets, kept);
    guint32 shift = names->arena->len;
    for (guint i = 0; i < escaped.offsets->len && escaped.arena->len <= G_MAXUINT32 - shift; i++) {
        guint32 offset = shift + g_array_index(escaped.offsets, guint32, i);
        g_array_append_val(offsets, offset);
        sorted = FALSE;
    }
    if (offsets->len > kept)
        g_byte_array_append(names->arena, escaped.arena->data, escaped.arena->len);
    if (!sorted)
        qsort_r(offsets->data, offsets->len, sizeof(guint32), compare_entries, names->arena->data);
    return TRUE;
}

/* Goes into a directory. One that is gone, or never was, holds nothing. */
static gboolean push(LocalList *list, char *path, gsize prefix, GError **error)
{
    Level level = {.path = path, .prefix = prefix, .fd = dir_open(list->store->root_fd, path, NULL)};
    if (level.fd < 0) {
        gboolean none = errno == ENOENT || errno == ENOTDIR || errno == ELOOP;
        if (!none)
            error_set_errno(error, errno, "cannot list %s in %s", path, list->store->directory);
        level_clear(&level);
        return none;
    }
    if (!dir_names_read(level.fd, &level.names, NULL, error) || !make_entries(level.fd, &level.names, error)) {
        level_clear(&level);
        return FALSE;
    }
    if (list->levels->len > 0)
        fd_clear(&g_array_index(list->levels, Level, list->levels->len - 1).fd);
    g_array_append_val(list->levels, level);
    return TRUE;
}

/* Whether keys that begin with (or are) list->key are asked for. */
static gboolean is_wanted(const LocalList *list, gboolean directory)
{
    const char *key = list->key->str;
    gsize length = list->key->len, prefix = strlen(list->prefix);
    if (!directory && (length < prefix || length > KEY_MAX))
        return FALSE;
    if (strncmp(key, list->prefix, MIN(length, prefix)) != 0)
        return FALSE;
    if (!list->after)
        return TRUE;
    return directory ? strncmp(key, list->after, length) >= 0 : strcmp(key, list->after) > 0;
}

/* Opens the object at hand. -1 without an error if it is gone. */
static int open_entry(LocalList *list, Level *level, const char *path, struct stat *st, GError **error)
{
    const char *name = strrchr(path, '/');
    if (level->fd < 0)
        level->fd = dir_open(list->store->root_fd, level->path, NULL);
    if (level->fd >= 0 && !name) {
        g_auto(AutoFd) fd = openat(level->fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, st) == 0 && S_ISREG(st->st_mode))
            return fd_steal(&fd);
    }
    /* In pieces, moved aside meanwhile, or gone. */
    g_autoptr(GError) local = NULL;
    int fd = local_open(list->store, list->key->str, st, &local);
    if (fd < 0 && !error_is(local, BACKAPP_ERROR_NOT_FOUND))
        g_propagate_error(error, g_steal_pointer(&local));
    return fd;
}

/* Fills list->object. 1; 0: it is none, go on; -1 on error. */
static int describe(LocalList *list, Level *level, const char *path, GError **error)
{
    const char *key = list->key->str;
    if (g_strcmp0(key, list->last) == 0 || !g_utf8_validate(key, (gssize)list->key->len, NULL))
        return 0;
    struct stat st;
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) fd = open_entry(list, level, path, &st, &local);
    local_facts_clear(&list->facts);
    if (fd < 0 || !local_facts_read(list->store, key, fd, &st, &list->facts, &local)) {
        int result = local ? -1 : 0;
        if (local)
            g_propagate_error(error, g_steal_pointer(&local));
        return result;
    }
    g_free(list->last);
    list->last = g_strdup(key);
    list->object = (StoreObject){.key = list->last,
                                 .size = (guint64)st.st_size,
                                 .modified = st.st_mtim.tv_sec,
                                 .etag = list->facts.etag,
                                 .storage_class = list->facts.storage_class,
                                 .latest = TRUE};
    return 1;
}

/* Looks at the next entry of the last level. As describe. */
static int take_entry(LocalList *list, GError **error)
{
    Level *level = &g_array_index(list->levels, Level, list->levels->len - 1);
    if (level->next >= dir_names_count(&level->names)) {
        g_array_set_size(list->levels, list->levels->len - 1);
        return 0;
    }
    const guint8 *entry = entry_at(&level->names, level->next++);
    const char *component = (const char *)entry + 1;
    const char *path = entry[0] & ESCAPED ? component + strlen(component) + 1 : component;
    gboolean directory = (entry[0] & IS_DIR) != 0;
    g_string_truncate(list->key, level->prefix);
    g_string_append(list->key, component);
    if (directory)
        g_string_append_c(list->key, '/');
    if (!is_wanted(list, directory))
        return 0;
    if (!directory)
        return describe(list, level, path, error);
    if (list->key->len >= KEY_MAX)
        return 0;
    char *below = level->path[0] ? g_strconcat(level->path, "/", path, NULL) : g_strdup(path);
    return push(list, below, list->key->len, error) ? 0 : -1;
}

/* Begins in the directory that all keys with the prefix are in. */
static gboolean begin(LocalList *list, GError **error)
{
    const char *slash = strrchr(list->prefix, '/');
    gsize length = slash ? (gsize)(slash + 1 - list->prefix) : 0;
    list->begun = TRUE;
    g_string_append_len(list->key, list->prefix, (gssize)length);
    return push(list, local_key_directory(list->prefix, length), length, error);
}

static int list_next(StoreList *base, const StoreObject **object, GError **error)
{
    LocalList *list = (LocalList *)base;
    if (!list->begun && !begin(list, error))
        return -1;
    while (list->levels->len > 0) {
        int got = take_entry(list, error);
        if (got < 0)
            return -1;
        if (got > 0) {
            *object = &list->object;
            return 1;
        }
    }
    return 0;
}

static void list_free(StoreList *base)
{
    LocalList *list = (LocalList *)base;
    g_array_unref(list->levels);
    g_string_free(list->key, TRUE);
    local_facts_clear(&list->facts);
    g_free(list->prefix);
    g_free(list->after);
    g_free(list->last);
    g_free(list);
}

StoreList *local_list(Store *store, const char *prefix, const char *start_after, gboolean versions, GError **error)
{
    LocalList *list = g_new0(LocalList, 1);
    list->base = (StoreList){.next = list_next, .free = list_free};
    list->store = (LocalStore *)store;
    store_tally_request(&list->store->tally, STORE_REQUEST_LIST);
    list->prefix = g_strdup(prefix);
    list->after = g_strdup(start_after);
    list->levels = g_array_new(FALSE, TRUE, sizeof(Level));
    g_array_set_clear_func(list->levels, level_clear);
    list->key = g_string_new(NULL);
    return &list->base;
}
