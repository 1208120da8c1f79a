#include "cli/destinations.h"

#include "base/error.h"
#include "fs/atomic.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define RECORD_NAME   "destinations"
#define RECORD_HEADER "backapp destinations 1"
#define RECORD_MAX    (4 * 1024 * 1024)
#define ID_MAX        128

static char *record_dir(void)
{
    return g_build_filename(g_get_user_state_dir(), "backapp", NULL);
}

/* The path with the symlinks of its longest part that exists resolved: where an absent drive's folder would be. */
static char *resolve(const char *path)
{
    g_autofree char *head = g_canonicalize_filename(path, NULL);
    g_autofree char *tail = g_strdup("");
    for (;;) {
        char *real = realpath(head, NULL);
        if (real) {
            char *whole = *tail ? g_build_filename(real, tail, NULL) : g_strdup(real);
            free(real);
            return whole;
        }
        if (strcmp(head, "/") == 0)
            return g_canonicalize_filename(path, NULL);
        g_autofree char *name = g_path_get_basename(head);
        char *up = g_path_get_dirname(head);
        char *longer = *tail ? g_build_filename(name, tail, NULL) : g_strdup(name);
        g_free(tail);
        tail = longer;
        g_free(head);
        head = up;
    }
}

/* Takes one line "ID PATH" into the table; what is no such line is passed over. */
static void parse_line(GHashTable *table, const char *line)
{
    const char *space = strchr(line, ' ');
    if (!space || space == line || space - line > ID_MAX)
        return;
    g_autofree char *path = g_uri_unescape_string(space + 1, NULL);
    if (path && *path == '/')
        g_hash_table_replace(table, g_steal_pointer(&path), g_strndup(line, (gsize)(space - line)));
}

/* The record as a table path -> id; empty if there is none yet. */
static GHashTable *load(int dir_fd, GError **error)
{
    g_autoptr(GHashTable) table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    g_autofree char *text = NULL;
    gsize length = 0;
    g_autoptr(GError) local = NULL;
    if (!atomic_read(dir_fd, RECORD_NAME, RECORD_MAX, &text, &length, &local)) {
        if (error_is(local, BACKAPP_ERROR_NOT_FOUND))
            return g_steal_pointer(&table);
        g_propagate_error(error, g_steal_pointer(&local));
        return NULL;
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    if (!lines[0] || strcmp(lines[0], RECORD_HEADER) != 0) {
        error_set(error, BACKAPP_ERROR_CORRUPT, "it does not begin with '%s': move it away to start a new one",
                  RECORD_HEADER);
        return NULL;
    }
    for (char **line = lines + 1; *line; line++)
        parse_line(table, *line);
    return g_steal_pointer(&table);
}

static gboolean save(int dir_fd, GHashTable *table, GError **error)
{
    g_autoptr(GList) paths = g_list_sort(g_hash_table_get_keys(table), (GCompareFunc)strcmp);
    g_autoptr(GString) text = g_string_new(RECORD_HEADER "\n");
    for (GList *at = paths; at; at = at->next) {
        g_autofree char *escaped = g_uri_escape_string(at->data, "/ ", TRUE);
        g_string_append_printf(text, "%s %s\n", (const char *)g_hash_table_lookup(table, at->data), escaped);
    }
    return atomic_write(dir_fd, RECORD_NAME, text->str, text->len, 0600, error);
}

char *destinations_lookup(const char *path, GError **error)
{
    g_autofree char *dir = record_dir();
    g_auto(AutoFd) dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        if (errno != ENOENT)
            error_set_errno(error, errno, "cannot open %s", dir);
        return NULL;
    }
    g_autoptr(GHashTable) table = load(dir_fd, error);
    if (!table) {
        g_prefix_error(error, "cannot read %s/" RECORD_NAME ": ", dir);
        return NULL;
    }
    g_autofree char *real = resolve(path);
    const char *id = g_hash_table_lookup(table, real);
    if (!id) {
        /* The last component may be a symlink into the drive that is absent. */
        g_autofree char *given = g_canonicalize_filename(path, NULL);
        id = g_hash_table_lookup(table, given);
    }
    return g_strdup(id);
}

static gboolean record_in(int dir_fd, const char *path, const char *id, GError **error)
{
    g_auto(AutoFd) lock_fd = openat(dir_fd, RECORD_NAME ".lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock_fd < 0)
        return error_set_errno(error, errno, "cannot create its lock file");
    int locked;
    do
        locked = flock(lock_fd, LOCK_EX);
    while (locked != 0 && errno == EINTR);
    if (locked != 0)
        return error_set_errno(error, errno, "cannot lock it");
    g_autoptr(GHashTable) table = load(dir_fd, error);
    if (!table)
        return FALSE;
    g_autofree char *real = resolve(path);
    g_autofree char *given = g_canonicalize_filename(path, NULL);
    const char *old_real = g_hash_table_lookup(table, real), *old_given = g_hash_table_lookup(table, given);
    if (g_strcmp0(old_real, id) == 0 && g_strcmp0(old_given, id) == 0)
        return TRUE;
    g_hash_table_replace(table, g_steal_pointer(&real), g_strdup(id));
    g_hash_table_replace(table, g_steal_pointer(&given), g_strdup(id));
    return save(dir_fd, table, error);
}

gboolean destinations_record(const char *path, const char *id, GError **error)
{
    g_autofree char *dir = record_dir();
    if (strlen(id) == 0 || strlen(id) > ID_MAX || strpbrk(id, " \n"))
        return error_set(error, BACKAPP_ERROR_INVALID, "the destination's id is not one word");
    if (g_mkdir_with_parents(dir, 0700) != 0)
        return error_set_errno(error, errno, "cannot create %s", dir);
    g_auto(AutoFd) dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0)
        return error_set_errno(error, errno, "cannot open %s", dir);
    if (record_in(dir_fd, path, id, error))
        return TRUE;
    g_prefix_error(error, "cannot write %s/" RECORD_NAME ": ", dir);
    return FALSE;
}

static void warn_record(const GError *error)
{
    fprintf(stderr, "warning: the record of known destinations: %s\n", error->message);
}

char *destinations_known_id(const char *path)
{
    g_autoptr(GError) error = NULL;
    char *id = destinations_lookup(path, &error);
    if (error)
        warn_record(error);
    return id;
}

void destinations_remember(const char *path, const char *id)
{
    g_autoptr(GError) error = NULL;
    if (!destinations_record(path, id, &error))
        warn_record(error);
}
