#include "store/local_store.h"

#include "base/error.h"
#include "crypto/digest.h"
#include "fs/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ATTRIBUTE   "user.backapp.object"
#define VERSION     "backapp-object 1"
#define FACTS_MAX   8192
#define NAME_LENGTH (2 * HASH_BYTES + 48)
/* Coarser than this is no file system's clock. */
#define TICK_SECONDS 2

void local_facts_clear(LocalFacts *facts)
{
    g_clear_pointer(&facts->etag, g_free);
    g_clear_pointer(&facts->mtime, g_free);
    g_clear_pointer(&facts->storage_class, g_free);
    g_clear_pointer(&facts->content_type, g_free);
}

void local_facts_set(LocalFacts *facts, const StorePut *how)
{
    facts->mtime = g_strdup(how->mtime);
    facts->storage_class = g_strdup(how->storage_class);
    facts->content_type = g_strdup(how->content_type);
}

static void append_line(GString *text, const char *name, const char *value)
{
    if (value)
        g_string_append_printf(text, "%s=%s\n", name, value);
}

char *local_facts_encode(const LocalFacts *facts, const char *first_line)
{
    GString *text = g_string_new(first_line);
    g_string_append_c(text, '\n');
    append_line(text, "etag", facts->etag);
    append_line(text, "mtime", facts->mtime);
    append_line(text, "class", facts->storage_class);
    append_line(text, "type", facts->content_type);
    return g_string_free(text, FALSE);
}

static void take_line(const char *line, const char *name, char **value)
{
    gsize length = strlen(name);
    if (strncmp(line, name, length) != 0 || line[length] != '=')
        return;
    g_free(*value);
    *value = g_strdup(line + length + 1);
}

gboolean local_facts_decode(const char *text, const char *first_line, LocalFacts *facts)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    if (!lines[0] || strcmp(lines[0], first_line) != 0)
        return FALSE;
    for (guint i = 1; lines[i]; i++) {
        take_line(lines[i], "etag", &facts->etag);
        take_line(lines[i], "mtime", &facts->mtime);
        take_line(lines[i], "class", &facts->storage_class);
        take_line(lines[i], "type", &facts->content_type);
    }
    return TRUE;
}

/* The first line: which bytes the facts belong to. Somebody who edits the file changes its time. */
static char *identity(const struct stat *st)
{
    return g_strdup_printf(VERSION " %" G_GINT64_FORMAT " %" G_GINT64_FORMAT ".%09ld", (gint64)st->st_size,
                           (gint64)st->st_mtim.tv_sec, st->st_mtim.tv_nsec);
}

/* The side file of one object of a key: of no other object that the key ever had. */
static void side_name(const char *key, const struct stat *st, char name[NAME_LENGTH])
{
    g_autofree char *hash = digest_sha256_hex(key, strlen(key));
    (void)snprintf(name, NAME_LENGTH, "%s.%" G_GINT64_MODIFIER "x.%" G_GINT64_MODIFIER "x.%lx", hash,
                   (guint64)st->st_size, (guint64)st->st_mtim.tv_sec, (gulong)st->st_mtim.tv_nsec);
}

static gboolean means_none(int errnum)
{
    return errnum == ENODATA || errnum == ENOTSUP || errnum == ENOSYS || errnum == EPERM || errnum == EACCES;
}

/* The text of the attribute or side file; NULL without an error if there is none. */
static char *read_text(LocalStore *self, const char *key, int fd, const struct stat *st, GError **error)
{
    char value[FACTS_MAX];
    ssize_t got = fgetxattr(fd, ATTRIBUTE, value, sizeof value);
    if (got >= 0)
        return g_strndup(value, (gsize)got);
    if (!means_none(errno) && errno != ERANGE) {
        error_set_errno(error, errno, "cannot read the attributes of an object in %s", self->directory);
        return NULL;
    }
    g_auto(AutoFd) directory = local_open_hidden(self, "facts");
    if (directory < 0)
        return NULL;
    char name[NAME_LENGTH];
    side_name(key, st, name);
    g_autoptr(GError) local = NULL;
    char *text = NULL;
    if (!atomic_read(directory, name, FACTS_MAX, &text, NULL, &local) && !error_is(local, BACKAPP_ERROR_NOT_FOUND))
        g_propagate_error(error, g_steal_pointer(&local));
    return text;
}

gboolean local_facts_read(LocalStore *self, const char *key, int fd, const struct stat *st, LocalFacts *facts,
                          GError **error)
{
    g_autoptr(GError) local = NULL;
    g_autofree char *text = read_text(self, key, fd, st, &local);
    if (local) {
        g_propagate_error(error, g_steal_pointer(&local));
        return FALSE;
    }
    g_autofree char *first = identity(st);
    if (text)
        (void)local_facts_decode(text, first, facts);
    if (!facts->etag)
        facts->etag = g_strdup_printf(
            "file.%" G_GINT64_MODIFIER "x.%" G_GINT64_MODIFIER "x.%lx.%" G_GINT64_MODIFIER "x", (guint64)st->st_size,
            (guint64)st->st_mtim.tv_sec, (gulong)st->st_mtim.tv_nsec, (guint64)st->st_ino);
    if (!facts->storage_class)
        facts->storage_class = g_strdup("STANDARD");
    return TRUE;
}

gboolean local_facts_write(LocalStore *self, int fd, const LocalFacts *facts, GError **error)
{
    /* Said outright, so that no late write-back of a network file system changes it behind the facts. */
    struct timespec now[2];
    struct stat st;
    (void)clock_gettime(CLOCK_REALTIME, &now[0]);
    now[1] = now[0];
    if (futimens(fd, now) != 0 || fstat(fd, &st) != 0)
        return error_set_errno(error, errno, "cannot set the time of an object in %s", self->directory);
    g_autofree char *first = identity(&st);
    g_autofree char *text = local_facts_encode(facts, first);
    if (fsetxattr(fd, ATTRIBUTE, text, strlen(text), 0) == 0)
        return TRUE;
    if (errno == ENOSPC || errno == EDQUOT || errno == EIO)
        return error_set_errno(error, errno, "cannot write the attributes of an object in %s", self->directory);
    /* Whatever else it says (not supported, too long): there are side files. */
    atomic_store(&self->side_files, TRUE);
    return TRUE;
}

gboolean local_facts_put_side(LocalStore *self, const char *key, int fd, const LocalFacts *facts, GError **error)
{
    if (fgetxattr(fd, ATTRIBUTE, NULL, 0) >= 0)
        return TRUE;
    struct stat st;
    char name[NAME_LENGTH];
    for (guint i = 0;; i++) {
        if (fstat(fd, &st) != 0)
            return error_set_errno(error, errno, "cannot look at an object in %s", self->directory);
        side_name(key, &st, name);
        if (faccessat(self->facts_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) != 0 || i == LOCAL_TRIES)
            break;
        /* An object of the same size and the same tick of a coarse clock. */
        struct timespec later[2] = {st.st_mtim, st.st_mtim};
        later[0].tv_sec += TICK_SECONDS;
        later[1].tv_sec += TICK_SECONDS;
        if (futimens(fd, later) != 0 || fsync(fd) != 0)
            return error_set_errno(error, errno, "cannot set the time of an object in %s", self->directory);
    }
    g_autofree char *first = identity(&st);
    g_autofree char *text = local_facts_encode(facts, first);
    return atomic_write(self->facts_fd, name, text, strlen(text), LOCAL_FILE_MODE, error);
}

void local_facts_drop_side(LocalStore *self, const char *key, const struct stat *old, int new_fd)
{
    if (!atomic_load(&self->side_files))
        return;
    char name[NAME_LENGTH], kept[NAME_LENGTH] = "";
    struct stat st;
    side_name(key, old, name);
    if (new_fd >= 0 && fstat(new_fd, &st) == 0)
        side_name(key, &st, kept);
    if (strcmp(name, kept) == 0)
        return;
    /* One that stays belongs to no object: harmless. */
    (void)unlinkat(self->facts_fd, name, 0);
}
