#include "engine/restore/existing.h"

#include "base/error.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const Attrs *existing_entry_attrs(const S3Entry *entry, GError **error)
{
    if (!entry->attrs || entry->attrs_length == 0)
        return attrs_empty();
    BytesReader in = bytes_reader(entry->attrs, entry->attrs_length);
    return attrs_decode(&in, error);
}

/* An inode with several names, and the content that it was found to have. */
typedef struct {
    InodeKey key;
    guint8 hash[HASH_BYTES];
} Proven;

GHashTable *existing_proven_new(void)
{
    return g_hash_table_new_full(inode_key_hash, inode_key_equal, g_free, NULL);
}

static gboolean is_proven(RestoreRun *run, const S3Entry *entry, const FileMeta *have)
{
    const InodeKey key = {have->dev, have->ino};
    g_mutex_lock(&run->lock);
    const Proven *proven = g_hash_table_lookup(run->proven, &key);
    gboolean same = proven && memcmp(proven->hash, entry->hash, HASH_BYTES) == 0;
    g_mutex_unlock(&run->lock);
    return same;
}

static void remember_proven(RestoreRun *run, const S3Entry *entry, const FileMeta *have)
{
    Proven *proven = g_new0(Proven, 1);
    proven->key = (InodeKey){have->dev, have->ino};
    memcpy(proven->hash, entry->hash, HASH_BYTES);
    g_mutex_lock(&run->lock);
    g_hash_table_add(run->proven, proven);
    g_mutex_unlock(&run->lock);
}

/* Reads a file of the right size, unless it was read under another name. What cannot be read is fetched anew. */
static gboolean same_content(RestoreRun *run, int dir_fd, const char *base, const S3Entry *entry, const FileMeta *have,
                             gboolean *right, GError **error)
{
    g_autoptr(GError) local = NULL;
    gboolean shared = have->nlink > 1 && entry->part_size > 0;
    *right = shared && is_proven(run, entry, have);
    if (*right)
        return TRUE;
    g_auto(AutoFd) fd = openat(dir_fd, base, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0 && !restore_source_matches(run->source, entry, fd, run->options->cancel, right, &local)) {
        *right = FALSE;
        if (error_is(local, BACKAPP_ERROR_CANCELLED)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
        restore_note(run, entry->path, local->message);
    }
    if (*right && shared)
        remember_proven(run, entry, have);
    return TRUE;
}

/* TRUE in *right if what makes it the same thing (content, link target, device number) is equal. */
static gboolean same_thing(RestoreRun *run, int dir_fd, const char *base, const S3Entry *entry, const FileMeta *have,
                           gboolean *right, GError **error)
{
    const FileMeta *want = &entry->meta;
    *right = FALSE;
    if ((want->mode & S_IFMT) != (have->mode & S_IFMT))
        return TRUE;
    if (S_ISLNK(want->mode)) {
        const char *wanted = entry->target ? entry->target : "";
        gsize length = strlen(wanted);
        g_autofree char *target = g_malloc(length + 2);
        ssize_t got = readlinkat(dir_fd, base, target, length + 2);
        *right = got == (ssize_t)length && memcmp(target, wanted, length) == 0;
        return TRUE;
    }
    if (!S_ISREG(want->mode)) {
        *right = (!S_ISBLK(want->mode) && !S_ISCHR(want->mode)) || want->rdev == have->rdev;
        return TRUE;
    }
    if (want->size != have->size)
        return TRUE;
    if (!run->options->checksum || !restore_source_knows(run->source, entry)) {
        *right = meta_same_mtime(want, have, run->granularity_ns);
        return TRUE;
    }
    return same_content(run, dir_fd, base, entry, have, right, error);
}

static gboolean same_metadata(RestoreRun *run, int dir_fd, const char *base, const S3Entry *entry, const FileMeta *have,
                              gboolean *right, GError **error)
{
    MetaParts parts = meta_difference(&entry->meta, have, run->granularity_ns);
    *right = parts == 0;
    if (!*right || (!run->filter.xattrs && !run->filter.acls))
        return TRUE;
    const Attrs *want ATTRS_AUTO = existing_entry_attrs(entry, error);
    if (!want)
        return FALSE;
    const Attrs *present ATTRS_AUTO = attrs_read(dir_fd, base, -1, &run->filter, NULL);
    *right = present && attrs_equal(want, present);
    return TRUE;
}

Existing existing_policy(const RestoreRun *run, const S3Entry *entry, const FileMeta *have)
{
    const FileMeta *want = &entry->meta;
    switch (run->options->conflict) {
    case RESTORE_SKIP:
        return EXISTING_LEAVE;
    case RESTORE_RENAME:
        return EXISTING_ASIDE;
    case RESTORE_IF_NEWER:
        return want->mtime_s > have->mtime_s || (want->mtime_s == have->mtime_s && want->mtime_ns > have->mtime_ns)
                   ? EXISTING_REPLACE
                   : EXISTING_LEAVE;
    case RESTORE_OVERWRITE:
        break;
    }
    return EXISTING_REPLACE;
}

gboolean existing_compare(RestoreRun *run, int dir_fd, const char *base, const S3Entry *entry, const guint64 *inode,
                          Existing *existing, FileMeta *have, GError **error)
{
    FileMeta found = {0};
    have = have ? have : &found;
    g_autoptr(GError) local = NULL;
    if (!meta_read(dir_fd, base, have, &local)) {
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
            *existing = EXISTING_NONE;
            return TRUE;
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    if (S_ISDIR(entry->meta.mode) && S_ISDIR(have->mode)) {
        *existing = EXISTING_META;
        return TRUE;
    }
    gboolean right = FALSE;
    if (!same_thing(run, dir_fd, base, entry, have, &right, error))
        return FALSE;
    if (!right || (inode && *inode != have->ino)) {
        *existing = existing_policy(run, entry, have);
        return TRUE;
    }
    if (!same_metadata(run, dir_fd, base, entry, have, &right, error))
        return FALSE;
    *existing = right ? EXISTING_RIGHT : EXISTING_META;
    return TRUE;
}
