#include "engine/source/entry.h"

#include <string.h>

#include "base/error.h"

#define PATH_BYTES_MAX  (8 * 1024 * 1024)
#define TEXT_BYTES_MAX  (64 * 1024)
#define ATTRS_BYTES_MAX (32 * 1024 * 1024)

enum {
    HAS_KEY = 1 << 0,     /* a key of its own; */
    KEY_IS_PATH = 1 << 1, /* or the same bytes as the path */
    HAS_USER = 1 << 2,
    HAS_GROUP = 1 << 3,
    HAS_TARGET = 1 << 4,
    HAS_LINK = 1 << 5,
    HAS_ATTRS = 1 << 6,
    HAS_OBJECT = 1 << 7, /* size and what follows */
    HAS_ETAG = 1 << 8,
    HAS_VERSION = 1 << 9,
    HAS_HASH = 1 << 10,
    ALL_FLAGS = (1 << 11) - 1,
};

static guint flag_if(gconstpointer present, guint flag)
{
    return present != NULL ? flag : 0;
}

static guint flags_of(const S3Entry *entry)
{
    guint flags = flag_if(entry->user, HAS_USER) | flag_if(entry->group, HAS_GROUP) |
                  flag_if(entry->target, HAS_TARGET) | flag_if(entry->link, HAS_LINK) | flag_if(entry->etag, HAS_ETAG) |
                  flag_if(entry->version, HAS_VERSION);
    if (entry->key != NULL)
        flags |= strcmp(entry->key, entry->path) == 0 ? KEY_IS_PATH : HAS_KEY;
    if (entry->attrs != NULL && entry->attrs_length > 0)
        flags |= HAS_ATTRS;
    if (entry->object_size > 0)
        flags |= HAS_OBJECT;
    if (entry->part_size > 0)
        flags |= HAS_HASH;
    return flags;
}

/* With its zero byte, so that reading needs no copy. */
static void put_text(GByteArray *out, guint flags, guint flag, const char *text)
{
    if ((flags & flag) != 0)
        bytes_put_blob(out, text, strlen(text) + 1);
}

void entry_encode(const S3Entry *entry, const char *previous_path, GByteArray *out)
{
    guint flags = flags_of(entry);
    gsize shared = 0;
    while (entry->path[shared] != '\0' && entry->path[shared] == previous_path[shared])
        shared++;
    bytes_put_varint(out, flags);
    bytes_put_varint(out, shared);
    bytes_put_blob(out, entry->path + shared, strlen(entry->path + shared));
    put_text(out, flags, HAS_KEY, entry->key);
    meta_encode(&entry->meta, out);
    put_text(out, flags, HAS_USER, entry->user);
    put_text(out, flags, HAS_GROUP, entry->group);
    put_text(out, flags, HAS_TARGET, entry->target);
    put_text(out, flags, HAS_LINK, entry->link);
    if ((flags & HAS_ATTRS) != 0)
        bytes_put_blob(out, entry->attrs, entry->attrs_length);
    if ((flags & HAS_OBJECT) != 0)
        bytes_put_varint(out, entry->object_size);
    put_text(out, flags, HAS_ETAG, entry->etag);
    put_text(out, flags, HAS_VERSION, entry->version);
    if ((flags & HAS_HASH) != 0) {
        bytes_put_varint(out, entry->part_size);
        g_byte_array_append(out, entry->hash, HASH_BYTES);
    }
}

/* A pointer into the reader's bytes; NULL if the flag is not set, or bad. */
static const char *get_text(BytesReader *in, guint flags, guint flag, gsize max)
{
    if ((flags & flag) == 0)
        return NULL;
    gsize length = 0;
    const guint8 *bytes = bytes_get_blob(in, max, &length);
    if (bytes != NULL && length > 0 && memchr(bytes, 0, length) == bytes + length - 1)
        return (const char *)bytes;
    in->bad = TRUE;
    return NULL;
}

/* The path, made in arena of what it shares with the one before and its own rest. */
static const char *get_path(BytesReader *in, const char *previous_path, GByteArray *arena)
{
    guint64 shared = bytes_get_varint(in);
    gsize length = 0;
    const guint8 *rest = bytes_get_blob(in, PATH_BYTES_MAX, &length);
    gsize before = strlen(previous_path);
    if (rest == NULL || shared > before || shared + length > PATH_BYTES_MAX ||
        (length > 0 && memchr(rest, 0, length) != NULL)) {
        in->bad = TRUE;
        return NULL;
    }
    /* The path before may lie in the arena, which moves when it grows. */
    const char *arena_start = (const char *)arena->data;
    gboolean inside = arena->len > 0 && previous_path >= arena_start && previous_path < arena_start + arena->len;
    gsize at_in_arena = inside ? (gsize)(previous_path - arena_start) : 0;
    guint start = arena->len;
    g_byte_array_set_size(arena, start + (guint)(shared + length) + 1);
    if (inside)
        previous_path = (const char *)arena->data + at_in_arena;
    guint8 *path = arena->data + start;
    memcpy(path, previous_path, shared);
    memcpy(path + shared, rest, length);
    path[shared + length] = '\0';
    return (const char *)path;
}

static void get_hash(BytesReader *in, S3Entry *entry)
{
    entry->part_size = bytes_get_varint(in);
    if (in->bad || in->end - in->at < HASH_BYTES || entry->part_size == 0) {
        in->bad = TRUE;
        return;
    }
    memcpy(entry->hash, in->at, HASH_BYTES);
    in->at += HASH_BYTES;
}

gboolean entry_decode(BytesReader *in, const char *previous_path, GByteArray *arena, S3Entry *entry, GError **error)
{
    *entry = (S3Entry){0};
    guint64 flags = bytes_get_varint(in);
    guint known = (guint)(flags & ALL_FLAGS);
    if (flags != known || (known & (HAS_KEY | KEY_IS_PATH)) == (HAS_KEY | KEY_IS_PATH))
        in->bad = TRUE;
    entry->path = get_path(in, previous_path, arena);
    entry->key = (known & KEY_IS_PATH) != 0 ? entry->path : get_text(in, known, HAS_KEY, PATH_BYTES_MAX);
    meta_decode(in, &entry->meta);
    entry->user = get_text(in, known, HAS_USER, TEXT_BYTES_MAX);
    entry->group = get_text(in, known, HAS_GROUP, TEXT_BYTES_MAX);
    entry->target = get_text(in, known, HAS_TARGET, TEXT_BYTES_MAX);
    entry->link = get_text(in, known, HAS_LINK, PATH_BYTES_MAX);
    if ((known & HAS_ATTRS) != 0) {
        entry->attrs = bytes_get_blob(in, ATTRS_BYTES_MAX, &entry->attrs_length);
        in->bad |= entry->attrs_length == 0;
    }
    if ((known & HAS_OBJECT) != 0)
        entry->object_size = bytes_get_varint(in);
    entry->etag = get_text(in, known, HAS_ETAG, TEXT_BYTES_MAX);
    entry->version = get_text(in, known, HAS_VERSION, TEXT_BYTES_MAX);
    if ((known & HAS_HASH) != 0)
        get_hash(in, entry);
    if (!in->bad)
        return TRUE;
    *entry = (S3Entry){0};
    return error_set(error, BACKAPP_ERROR_CORRUPT, "an entry of the list of files is damaged");
}
