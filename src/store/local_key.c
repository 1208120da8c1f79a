#include "store/local_store.h"

#include <string.h>

#define NAME_BYTES  255 /* NAME_MAX of every file system that matters; some have less and say so */
#define MARK_BYTES  (sizeof LOCAL_FILE - 1)
#define PIECE_BYTES 240

gboolean local_name_is_plain(const char *name, gsize length)
{
    gboolean dots = (length == 1 && name[0] == '.') || (length == 2 && name[0] == '.' && name[1] == '.');
    gboolean ours = length >= sizeof LOCAL_OURS - 1 && memcmp(name, LOCAL_OURS, sizeof LOCAL_OURS - 1) == 0;
    return length > 0 && length <= NAME_BYTES && !dots && !ours;
}

/* How many bytes of UTF-8 make a piece: whole characters, since some file systems take no halves. */
static gsize piece_length(const char *at)
{
    gsize length = PIECE_BYTES;
    while (((guchar)at[length] & 0xc0) == 0x80)
        length--;
    return length;
}

static void append_escaped(GString *path, const char *component, gsize length, gboolean directory)
{
    while (length + MARK_BYTES > NAME_BYTES) {
        gsize piece = piece_length(component);
        g_string_append(path, LOCAL_PIECE);
        g_string_append_len(path, component, (gssize)piece);
        g_string_append_c(path, '/');
        component += piece;
        length -= piece;
    }
    g_string_append(path, directory ? LOCAL_DIRECTORY : LOCAL_FILE);
    g_string_append_len(path, component, (gssize)length);
}

char *local_component_escape(const char *component, gsize length, gboolean directory)
{
    GString *path = g_string_new(NULL);
    append_escaped(path, component, length, directory);
    return g_string_free(path, FALSE);
}

char *local_name_aside(const char *name)
{
    return local_component_escape(name, strlen(name), FALSE);
}

/* Appends the directories that the first `length` bytes of a key name; all of them end in a slash. */
static GString *directories(const char *key, gsize length)
{
    GString *path = g_string_sized_new(length + 64);
    for (const char *at = key; at < key + length;) {
        const char *slash = memchr(at, '/', (gsize)(key + length - at));
        gsize n = (gsize)(slash - at);
        if (local_name_is_plain(at, n))
            g_string_append_len(path, at, (gssize)n);
        else
            append_escaped(path, at, n, TRUE);
        g_string_append_c(path, '/');
        at = slash + 1;
    }
    return path;
}

char *local_key_path(const char *key, gboolean aside)
{
    const char *slash = strrchr(key, '/');
    const char *name = slash ? slash + 1 : key;
    gsize length = strlen(name);
    gboolean plain = local_name_is_plain(name, length);
    if (!plain && !aside)
        return NULL;
    GString *path = directories(key, (gsize)(name - key));
    if (aside)
        append_escaped(path, name, length, FALSE);
    else
        g_string_append(path, name);
    return g_string_free(path, FALSE);
}

char *local_key_directory(const char *key, gsize length)
{
    GString *path = directories(key, length);
    if (path->len > 0)
        g_string_truncate(path, path->len - 1);
    return g_string_free(path, FALSE);
}
