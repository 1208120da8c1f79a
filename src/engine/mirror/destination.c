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

#define MARKER_MAX  4096
#define STATE_MAX   (1024 * 1024)
#define ID_MAX      64
#define SOURCES_MAX 10000

static const char *const DRIVE_PLACES[] = {"/media", "/mnt", "/run/media"};

/* The public part first, so that a Destination * is one of these. */
typedef struct {
    Destination public;
    Lock *lock;
} Opened;

/* Opens the directory; makes its last component if its parent is there. root_fd stays -1 in a dry run on nothing. */
static gboolean open_root(Destination *dest, const char *path, const DestinationOptions *options, GError **error)
{
    g_autofree char *name = human_name(path, -1);
    if (path[0] == '\0')
        return error_set(error, BACKAPP_ERROR_INVALID, "the destination is empty: give the path of a directory");
    dest->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dest->root_fd < 0 && errno == ENOTDIR)
        return error_set(error, BACKAPP_ERROR_INVALID, "the destination %s is not a directory", name);
    if (dest->root_fd < 0 && errno == ENOENT && !options->existing_only) {
        g_autofree char *clean = g_canonicalize_filename(path, NULL);
        g_autofree char *parent = g_path_get_dirname(clean);
        struct stat st;
        if (stat(parent, &st) != 0)
            return error_set_errno(error, errno, "the destination %s does not exist, nor does the directory above it",
                                   name);
        if (options->dry_run) {
            dest->path = g_steal_pointer(&clean);
            return TRUE;
        }
        if (mkdir(clean, 0755) != 0)
            return error_set_errno(error, errno, "cannot make the destination %s", name);
        dest->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (dest->root_fd < 0)
        return error_set_errno(error, errno, "cannot open the destination %s", name);
    char *real = realpath(path, NULL);
    dest->path = real != NULL ? g_strdup(real) : g_canonicalize_filename(path, NULL);
    free(real);
    return TRUE;
}

static gboolean check_writable(const Destination *dest, const DestinationOptions *options, GError **error)
{
    if (options->dry_run || dest->root_fd < 0)
        return TRUE;
    if (dest->facts.read_only)
        return error_set(error, BACKAPP_ERROR_DENIED,
                         "cannot write %s: its file system is mounted read-only; mount it writable", dest->path);
    if (faccessat(dest->root_fd, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return error_set_errno(error, errno, "cannot write %s", dest->path);
    return TRUE;
}

/* Reads the marker's id. NOT_FOUND if there is none. */
static char *read_marker(const Destination *dest, GError **error)
{
    g_autofree char *data = NULL;
    gsize length = 0;
    if (!atomic_read(dest->root_fd, DESTINATION_MARKER, MARKER_MAX, &data, &length, error))
        return NULL;
    json_t *json = json_loadb(data, length, JSON_REJECT_DUPLICATES, NULL);
    const char *id = json_string_value(json_object_get(json, "id"));
    char *copy = id != NULL && id[0] != '\0' && strlen(id) <= ID_MAX ? g_strdup(id) : NULL;
    json_decref(json);
    if (copy == NULL)
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

/* TRUE if the path lies where drives are mounted and no mount is there: neither it nor anything between it and that
 * place. */
static gboolean looks_unmounted(const char *path)
{
    gboolean drive_place = FALSE;
    for (guint i = 0; i < G_N_ELEMENTS(DRIVE_PLACES); i++) {
        gsize length = strlen(DRIVE_PLACES[i]);
        drive_place |= strncmp(path, DRIVE_PLACES[i], length) == 0 && path[length] == '/';
    }
    gboolean in_fstab = FALSE;
    g_autofree char *at = g_strdup(path);
    while (!g_str_equal(at, "/")) {
        if (facts_is_mount_point(at))
            return FALSE;
        in_fstab |= facts_in_fstab(at, NULL);
        char *parent = g_path_get_dirname(at);
        g_free(at);
        at = parent;
    }
    return drive_place || in_fstab;
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
    if (dest->root_fd >= 0) {
        dest->id = read_marker(dest, &local);
        if (dest->id == NULL && !error_is(local, BACKAPP_ERROR_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return FALSE;
        }
    }
    if (options->force || options->existing_only)
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

/* Removes what a directory inherits from a parent with default ACLs or setgid. */
static gboolean make_plain(int fd, const char *path, GError **error)
{
    if (fremovexattr(fd, "system.posix_acl_default") != 0 && errno != ENODATA && errno != EOPNOTSUPP)
        return error_set_errno(error, errno, "cannot remove the inherited ACL of %s/.backapp", path);
    if (fremovexattr(fd, "system.posix_acl_access") != 0 && errno != ENODATA && errno != EOPNOTSUPP)
        return error_set_errno(error, errno, "cannot remove the inherited ACL of %s/.backapp", path);
    if (geteuid() == 0 && fchown(fd, 0, getegid()) != 0 && errno != EPERM)
        return error_set_errno(error, errno, "cannot own %s/.backapp", path);
    if (fchmod(fd, 0700) != 0 && errno != EPERM)
        return error_set_errno(error, errno, "cannot set the mode of %s/.backapp", path);
    return TRUE;
}

static gboolean open_state_dir(Destination *dest, const DestinationOptions *options, GError **error)
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
    return !made || make_plain(dest->state_fd, dest->path, error);
}

static gboolean read_facts(Destination *dest, GError **error)
{
    FileMeta meta;
    if (dest->root_fd < 0)
        return TRUE;
    if (!facts_read(dest->root_fd, &dest->facts, error) || !meta_read(dest->root_fd, "", &meta, error))
        return FALSE;
    dest->dev = meta.dev;
    dest->mount = meta.mount;
    return TRUE;
}

/* What writes: lock, marker, probe. */
static gboolean take_over(Opened *opened, const DestinationOptions *options, RunSink *sink, GError **error)
{
    Destination *dest = &opened->public;
    if (options->dry_run) {
        probe_assume(dest->facts.type, &dest->abilities);
        return TRUE;
    }
    opened->lock = lock_take(dest->state_fd, dest->path, sink, error);
    if (opened->lock == NULL)
        return FALSE;
    if (dest->id == NULL && !options->existing_only && !write_marker(dest, error))
        return FALSE;
    return probe_abilities(dest->state_fd, dest->facts.type, &dest->abilities, error);
}

gboolean destination_open(const char *path, const DestinationOptions *options, RunSink *sink, Destination **dest,
                          gboolean *refused, GError **error)
{
    Opened *opened = g_new0(Opened, 1);
    g_autoptr(Destination) public = &opened->public;
    public->root_fd = public->state_fd = -1;
    *refused = FALSE;
    *dest = NULL;
    g_autofree char *clean = g_canonicalize_filename(path, NULL);
    /* Before the last component is made: an unmounted drive must not be written to. */
    if (path[0] != '\0' && !options->existing_only && !options->force && access(clean, F_OK) != 0 &&
        looks_unmounted(clean))
        return refuse(
            refused, error,
            "the drive is not mounted: %s is a place for drives, but no file system is mounted there; mount the "
            "drive, or pass --force to write there all the same",
            clean);
    if (!open_root(public, path, options, error) || !read_facts(public, error) ||
        !check_identity(public, options, refused, error) || !check_writable(public, options, error) ||
        !open_state_dir(public, options, error) || !take_over(opened, options, sink, error))
        return FALSE;
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
    g_free(dest->path);
    g_free(dest->id);
    g_free(opened);
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
    json_t *json = json_pack("{s:i, s:s, s:o}", "version", 1, "completed", completed, "sources", list);
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

char **destination_load_sources(Destination *dest)
{
    g_autofree char *data = NULL;
    gsize length = 0;
    if (dest->state_fd < 0 || !atomic_read(dest->state_fd, "state.json", STATE_MAX, &data, &length, NULL))
        return NULL;
    json_t *json = json_loadb(data, length, JSON_REJECT_DUPLICATES, NULL);
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
