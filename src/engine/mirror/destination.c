#include "engine/mirror/destination.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/error.h"
#include "base/human.h"
#include "engine/mirror/lock.h"
#include "fs/atomic.h"
#include "fs/dir.h"
#include "fs/meta.h"

#define MARKER_VERSION 1
#define MARKER_MAX     4096
#define STATE_MAX      (1024 * 1024)
#define ID_MAX         64
#define SOURCES_MAX    10000

#define ID_CHARACTERS "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_."

static const char *const DRIVE_PLACES[] = {"/media", "/mnt", "/run/media"};

/* The public part first, so that a Destination * is one of these. */
typedef struct {
    Destination public;
    Lock *lock;
    AutoFd parent_fd; /* of a directory that is not there yet; else -1 */
    char *base;       /* its name in there */
} Opened;

/* The directory is not there: finds the one it would be made in. *path is where it will be, symlinks resolved, so that
 * what is said of an absent drive's place holds for a link into it too. */
static gboolean open_parent(Opened *opened, const char *path, const char *name, GError **error)
{
    g_autofree char *trimmed = g_strdup(path);
    for (gsize length = strlen(trimmed); length > 1 && trimmed[length - 1] == '/'; length--)
        trimmed[length - 1] = '\0';
    g_autofree char *base = g_path_get_basename(trimmed);
    g_autofree char *parent = g_path_get_dirname(trimmed);
    struct stat st;
    if (lstat(trimmed, &st) == 0)
        return error_set(
            error, BACKAPP_ERROR_NOT_FOUND,
            "the destination %s is a symbolic link to something that does not exist: mount the drive it is "
            "on, or remove the link",
            name);
    opened->parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (opened->parent_fd < 0 || g_str_equal(base, ".") || g_str_equal(base, ".."))
        return error_set_errno(error, ENOENT, "the destination %s does not exist, nor does the directory above it",
                               name);
    char *real = realpath(parent, NULL);
    g_autofree char *clean = g_canonicalize_filename(parent, NULL);
    opened->public.path = g_build_filename(real != NULL ? real : clean, base, NULL);
    opened->base = g_steal_pointer(&base);
    free(real);
    return TRUE;
}

/* Opens the directory, or the one that it will be made in. */
static gboolean open_root(Opened *opened, const char *path, const DestinationOptions *options, GError **error)
{
    Destination *dest = &opened->public;
    g_autofree char *name = human_name(path, -1);
    if (path[0] == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "the destination is empty: give the path of a directory");
    dest->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dest->root_fd < 0 && errno == ENOTDIR)
        return error_set(error, BACKAPP_ERROR_INVALID, "the destination %s is not a directory", name);
    if (dest->root_fd < 0 && errno == ENOENT && !options->existing_only)
        return open_parent(opened, path, name, error);
    if (dest->root_fd < 0)
        return error_set_errno(error, errno, "cannot open the destination %s", name);
    char *real = realpath(path, NULL);
    dest->path = real != NULL ? g_strdup(real) : g_canonicalize_filename(path, NULL);
    free(real);
    return TRUE;
}

/* Makes the directory if it is not there, now that nothing speaks against it. */
static gboolean make_root(Opened *opened, const DestinationOptions *options, GError **error)
{
    Destination *dest = &opened->public;
    if (dest->root_fd >= 0 || options->dry_run)
        return TRUE;
    if (mkdirat(opened->parent_fd, opened->base, 0755) != 0 && errno != EEXIST)
        return error_set_errno(error, errno, "cannot make the destination %s", dest->path);
    dest->root_fd = openat(opened->parent_fd, opened->base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return dest->root_fd >= 0 || error_set_errno(error, errno, "cannot open the destination %s", dest->path);
}

/* TRUE for a mirror of our own that has its source's mode without u+w: the replay makes it writable for as long as it needs. */
static gboolean is_own_mirror(int fd)
{
    FileMeta meta;
    gboolean own = meta_read(fd, "", &meta, NULL) && meta.uid == geteuid() &&
                   faccessat(fd, DESTINATION_STATE_DIR, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    errno = EACCES;
    return own;
}

static gboolean check_writable(const Opened *opened, const DestinationOptions *options, GError **error)
{
    const Destination *dest = &opened->public;
    int fd = dest->root_fd >= 0 ? dest->root_fd : opened->parent_fd;
    if (options->dry_run)
        return TRUE;
    if (dest->facts.read_only)
        return error_set(error, BACKAPP_ERROR_DENIED,
                         "cannot write %s: its file system is mounted read-only; mount it writable", dest->path);
    if (faccessat(fd, ".", W_OK | X_OK, AT_EACCESS) == 0 || (errno == EACCES && is_own_mirror(fd)))
        return TRUE;
    return error_set_errno(error, errno, "cannot write %s", dest->path);
}

/* An id goes into messages and into records, so it is one plain word. */
static gboolean is_id(const char *id)
{
    gsize length = strlen(id);
    return length > 0 && length <= ID_MAX && strspn(id, ID_CHARACTERS) == length;
}

/* Reads the marker's id. NOT_FOUND if there is none. */
static char *read_marker(const Destination *dest, GError **error)
{
    g_autofree char *data = NULL;
    g_autoptr(GError) local = NULL;
    gsize length = 0;
    if (!atomic_read(dest->root_fd, DESTINATION_MARKER, MARKER_MAX, &data, &length, &local)) {
        gboolean strange = error_is(local, BACKAPP_ERROR_CONFLICT) || error_is(local, BACKAPP_ERROR_INVALID);
        if (strange)
            error_set(error, BACKAPP_ERROR_INVALID, "%s/%s is not a plain file: move it away", dest->path,
                      DESTINATION_MARKER);
        else
            g_propagate_prefixed_error(error, g_steal_pointer(&local), "the destination %s: ", dest->path);
        return NULL;
    }
    json_t *json = json_loadb(data, length, JSON_REJECT_DUPLICATES, NULL);
    const char *id = json_string_value(json_object_get(json, "id"));
    json_int_t version = json_integer_value(json_object_get(json, "version"));
    char *copy = id != NULL && is_id(id) && version == MARKER_VERSION ? g_strdup(id) : NULL;
    json_decref(json);
    if (copy == NULL && version > MARKER_VERSION)
        error_set(error, BACKAPP_ERROR_INVALID,
                  "%s/%s has version %" JSON_INTEGER_FORMAT ": use a newer BackApp for it", dest->path,
                  DESTINATION_MARKER, version);
    else if (copy == NULL)
        error_set(error, BACKAPP_ERROR_CORRUPT,
                  "%s/%s is damaged: if this is the right drive, remove that file and run again with --force",
                  dest->path, DESTINATION_MARKER);
    return copy;
}

static gboolean write_marker(Destination *dest, GError **error)
{
    g_autofree char *id = g_uuid_string_random();
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *created = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    g_autofree char *text = g_strdup_printf("{\"version\":1,\"id\":\"%s\",\"created\":\"%s\"}\n", id, created);
    if (!atomic_write(dest->root_fd, DESTINATION_MARKER, text, strlen(text), 0644, error)) {
        g_prefix_error(error, "cannot mark the destination %s: ", dest->path);
        return FALSE;
    }
    dest->id = g_steal_pointer(&id);
    return TRUE;
}

static gboolean is_drive_place(const char *path)
{
    for (guint i = 0; i < G_N_ELEMENTS(DRIVE_PLACES); i++) {
        if (g_str_equal(path, DRIVE_PLACES[i]))
            return TRUE;
    }
    return FALSE;
}

/* TRUE if the path lies where drives are mounted and no mount is there: neither it nor anything between it and that
 * place. What is mounted above the place does not count: /run, which holds /run/media, is a file system of its own. */
static gboolean looks_unmounted(const char *path)
{
    g_autofree char *at = g_strdup(path);
    while (!g_str_equal(at, "/")) {
        if (facts_is_mount_point(at))
            return FALSE;
        if (is_drive_place(at) || facts_in_fstab(at, NULL))
            return TRUE;
        char *parent = g_path_get_dirname(at);
        g_free(at);
        at = parent;
    }
    return FALSE;
}

static gboolean refuse(gboolean *refused, GError **error, const char *format, ...) G_GNUC_PRINTF(3, 4);
static gboolean refuse(gboolean *refused, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *message = g_strdup_vprintf(format, args);
    va_end(args);
    *refused = TRUE;
    return error_set(error, BACKAPP_ERROR_CONFLICT, "%s", message);
}

/* Is this the drive that is meant? */
static gboolean check_identity(Destination *dest, const DestinationOptions *options, gboolean *refused, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_clear_pointer(&dest->id, g_free);
    if (dest->root_fd >= 0) {
        dest->id = read_marker(dest, &local);
        if (dest->id == NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    /* What only looks at a mirror that is there takes any, unless it was said which. */
    if (options->force || (options->existing_only && options->expected_id == NULL))
        return TRUE;
    if (dest->id == NULL && options->expected_id != NULL)
        return refuse(
            refused, error,
            "the drive is not mounted: %s was a BackApp destination before and has no %s now; mount the drive, "
            "or pass --force to begin anew there",
            dest->path, DESTINATION_MARKER);
    if (dest->id == NULL && looks_unmounted(dest->path))
        return refuse(
            refused, error,
            "the drive is not mounted: %s is a place for drives, but no file system is mounted there; mount the "
            "drive, or pass --force to write there all the same",
            dest->path);
    if (dest->id != NULL && options->expected_id != NULL && !g_str_equal(dest->id, options->expected_id))
        return refuse(
            refused, error,
            "another drive is mounted at %s: its id is %s, expected was %s; mount the right one, or pass --force "
            "to adopt this one",
            dest->path, dest->id, options->expected_id);
    return TRUE;
}

/* Where all files belong to whoever mounted the drive, the answer is EPERM whether there is an ACL or not. */
static gboolean remove_acl(int fd, const char *name, const char *path, GError **error)
{
    if (fremovexattr(fd, name) == 0 || errno == ENODATA || errno == EOPNOTSUPP)
        return TRUE;
    int saved = errno;
    if (saved == EPERM && fgetxattr(fd, name, NULL, 0) < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
        return TRUE;
    return error_set_errno(error, saved, "cannot remove the inherited ACL of %s/.backapp", path);
}

/* Removes what a directory inherits from a parent with default ACLs or setgid. */
static gboolean make_plain(int fd, const char *path, GError **error)
{
    if (!remove_acl(fd, "system.posix_acl_default", path, error) ||
        !remove_acl(fd, "system.posix_acl_access", path, error))
        return FALSE;
    if (geteuid() == 0 && fchown(fd, 0, getegid()) != 0 && errno != EPERM)
        return error_set_errno(error, errno, "cannot own %s/.backapp", path);
    if (fchmod(fd, 0700) != 0 && errno != EPERM)
        return error_set_errno(error, errno, "cannot set the mode of %s/.backapp", path);
    return TRUE;
}

/* Root must not replay a journal that another user may have written: it could give away files or make programs setuid. Where the
 * file system keeps no owners of its own there is nothing to go by. */
static gboolean check_owner(const Destination *dest, const FileMeta *meta, const DestinationOptions *options,
                            gboolean *refused, GError **error)
{
    static const char *const with_owners[] = {"ext4", "xfs", "btrfs", "tmpfs", "f2fs", "zfs", "bcachefs", NULL};
    if (geteuid() != 0 || meta->uid == 0 || options->force || options->dry_run ||
        !g_strv_contains(with_owners, dest->facts.type))
        return TRUE;
    return refuse(refused, error,
                  "%s/%s belongs to user %u, not to root: run as that user, or pass --force if you trust what is in it",
                  dest->path, DESTINATION_STATE_DIR, meta->uid);
}

static gboolean open_state_dir(Destination *dest, const DestinationOptions *options, gboolean *refused, GError **error)
{
    if (dest->root_fd < 0)
        return TRUE;
    gboolean made = FALSE;
    if (!options->dry_run && !options->existing_only) {
        made = mkdirat(dest->root_fd, DESTINATION_STATE_DIR, 0700) == 0;
        if (!made && errno != EEXIST)
            return error_set_errno(error, errno, "cannot make %s/%s", dest->path, DESTINATION_STATE_DIR);
    }
    dest->state_fd = openat(dest->root_fd, DESTINATION_STATE_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dest->state_fd < 0 && errno == ENOENT && options->dry_run)
        return TRUE;
    if (dest->state_fd < 0 && errno == ENOENT)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s is not a BackApp mirror: it has no %s", dest->path,
                         DESTINATION_STATE_DIR);
    if (dest->state_fd < 0 && (errno == ENOTDIR || errno == ELOOP))
        return error_set(error, BACKAPP_ERROR_INVALID, "%s/%s is not a directory: move it away", dest->path,
                         DESTINATION_STATE_DIR);
    if (dest->state_fd < 0)
        return error_set_errno(error, errno, "cannot open %s/%s", dest->path, DESTINATION_STATE_DIR);
    FileMeta meta;
    if (!meta_read(dest->state_fd, "", &meta, error))
        return FALSE;
    if (meta.dev != dest->dev || meta.mount != dest->mount)
        return error_set(error, BACKAPP_ERROR_CONFLICT,
                         "%s/%s lies on another file system than %s, so nothing can be moved in at once: unmount it",
                         dest->path, DESTINATION_STATE_DIR, dest->path);
    if (!check_owner(dest, &meta, options, refused, error))
        return FALSE;
    return !made || make_plain(dest->state_fd, dest->path, error);
}

static gboolean read_facts(Opened *opened, GError **error)
{
    Destination *dest = &opened->public;
    FileMeta meta;
    if (dest->root_fd < 0)
        return facts_read(opened->parent_fd, &dest->facts, error);
    if (!facts_read(dest->root_fd, &dest->facts, error) || !meta_read(dest->root_fd, "", &meta, error))
        return FALSE;
    dest->dev = meta.dev;
    dest->mount = meta.mount;
    dest->ino = meta.ino;
    return TRUE;
}

/* On a full disk nothing can be tried, but what makes space has to go on: a run that was committed, an old stage. */
static gboolean find_abilities(Destination *dest, RunSink *sink, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (probe_abilities(dest->state_fd, dest->facts.type, &dest->abilities, &local))
        return TRUE;
    if (!error_is(local, BACKAPP_ERROR_NO_SPACE)) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "the destination %s: ", dest->path);
        return FALSE;
    }
    sink->warning(sink, "note", NULL,
                  "the destination is full; what its file system can hold is assumed from the type of it");
    probe_look(dest->root_fd, dest->facts.type, &dest->abilities);
    return TRUE;
}

/* What writes: lock, marker, probe. */
static gboolean take_over(Opened *opened, const DestinationOptions *options, RunSink *sink, gboolean *refused,
                          GError **error)
{
    Destination *dest = &opened->public;
    if (options->dry_run) {
        probe_look(dest->root_fd, dest->facts.type, &dest->abilities);
        return TRUE;
    }
    opened->lock = lock_take(dest->state_fd, dest->facts.type, dest->path, sink, error);
    if (opened->lock == NULL)
        return FALSE;
    /* Again, for another first run may have marked it while this one had no lock. */
    if (!check_identity(dest, options, refused, error))
        return FALSE;
    if (dest->id == NULL && !options->existing_only && !write_marker(dest, error))
        return FALSE;
    return find_abilities(dest, sink, error);
}

/* Our own first files change the directory's mtime, though nothing of the mirror has changed yet. */
static void keep_time(int root_fd, const FileMeta *before)
{
    FileMeta now;
    if (meta_read(root_fd, "", &now, NULL) && !meta_same_mtime(before, &now, 1))
        (void)meta_apply(root_fd, "", -1, before, META_MTIME, NULL, NULL);
}

gboolean destination_open(const char *path, const DestinationOptions *options, RunSink *sink, Destination **dest,
                          gboolean *refused, GError **error)
{
    Opened *opened = g_new0(Opened, 1);
    g_autoptr(Destination) public = &opened->public;
    public->root_fd = public->state_fd = opened->parent_fd = -1;
    *refused = FALSE;
    *dest = NULL;
    if (!open_root(opened, path, options, error))
        return FALSE;
    FileMeta before;
    gboolean was_there = public->root_fd >= 0 && meta_read(public->root_fd, "", &before, NULL);
    /* The directory is made last: an absent drive's place must not be written to. */
    if (!read_facts(opened, error) || !check_identity(public, options, refused, error) ||
        !check_writable(opened, options, error) || !make_root(opened, options, error) || !read_facts(opened, error) ||
        !open_state_dir(public, options, refused, error) || !take_over(opened, options, sink, refused, error))
        return FALSE;
    if (was_there && !options->dry_run)
        keep_time(public->root_fd, &before);
    *dest = g_steal_pointer(&public);
    return TRUE;
}

void destination_close(Destination *dest)
{
    if (dest == NULL)
        return;
    Opened *opened = (Opened *)dest;
    lock_release(opened->lock);
    fd_clear(&dest->state_fd);
    fd_clear(&dest->root_fd);
    fd_clear(&opened->parent_fd);
    g_free(opened->base);
    g_free(dest->path);
    g_free(dest->id);
    g_free(opened);
}

/* state.json; NULL if there is none that can be read. */
static json_t *read_state(const Destination *dest)
{
    g_autofree char *data = NULL;
    gsize length = 0;
    if (dest->state_fd < 0 || !atomic_read(dest->state_fd, "state.json", STATE_MAX, &data, &length, NULL))
        return NULL;
    return json_loadb(data, length, JSON_REJECT_DUPLICATES, NULL);
}

/* TRUE if state.json says the same already but for the time: then it is not written again, which saves two syncs. */
static gboolean is_saved(const Destination *dest, const json_t *state)
{
    json_t *old = read_state(dest);
    json_t *same = json_copy((json_t *)state);
    gboolean saved = old != NULL && same != NULL &&
                     json_object_set(same, "completed", json_object_get(old, "completed")) == 0 &&
                     json_equal(old, same);
    json_decref(same);
    json_decref(old);
    return saved;
}

gboolean destination_save_state(Destination *dest, const char *const *sources, GError **error)
{
    json_t *list = json_array();
    for (guint i = 0; sources[i] != NULL; i++) {
        g_autofree char *absolute = g_canonicalize_filename(sources[i], NULL);
        g_autofree char *encoded = g_base64_encode((const guchar *)absolute, strlen(absolute));
        json_t *entry =
            g_utf8_validate(absolute, -1, NULL) ? json_string(absolute) : json_pack("{s:s}", "b64", encoded);
        json_array_append_new(list, entry);
    }
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *completed = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    json_t *json = json_pack("{s:i, s:s, s:I, s:I, s:o}", "version", 1, "completed", completed, "files",
                             (json_int_t)dest->known_files, "bytes", (json_int_t)dest->known_bytes, "sources", list);
    if (json != NULL && is_saved(dest, json)) {
        json_decref(json);
        return TRUE;
    }
    char *text = json != NULL ? json_dumps(json, JSON_INDENT(1)) : NULL;
    json_decref(json);
    if (text == NULL)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "cannot describe the run for %s/.backapp/state.json",
                         dest->path);
    gboolean good = atomic_write(dest->state_fd, "state.json", text, strlen(text), 0600, error);
    free(text);
    return good;
}

static char *load_source(const json_t *entry)
{
    const char *text = json_string_value(entry);
    if (text != NULL)
        return g_strdup(text);
    const char *encoded = json_string_value(json_object_get(entry, "b64"));
    gsize length = 0;
    g_autofree guchar *bytes = encoded != NULL ? g_base64_decode(encoded, &length) : NULL;
    return bytes != NULL && length > 0 && memchr(bytes, 0, length) == NULL ? g_strndup((const char *)bytes, length)
                                                                           : NULL;
}

void destination_load_totals(Destination *dest)
{
    json_t *json = read_state(dest);
    dest->known_files = (guint64)MAX(0, json_integer_value(json_object_get(json, "files")));
    dest->known_bytes = (guint64)MAX(0, json_integer_value(json_object_get(json, "bytes")));
    json_decref(json);
}

char **destination_load_sources(Destination *dest)
{
    json_t *json = read_state(dest);
    json_t *list = json_object_get(json, "sources");
    g_autoptr(GPtrArray) sources = g_ptr_array_new_with_free_func(g_free);
    for (gsize i = 0; i < json_array_size(list) && i < SOURCES_MAX; i++) {
        char *source = load_source(json_array_get(list, i));
        if (source != NULL)
            g_ptr_array_add(sources, source);
    }
    json_decref(json);
    if (sources->len == 0)
        return NULL;
    g_ptr_array_add(sources, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&sources), FALSE);
}
