#include "engine/restore/mirror_source.h"

#include "base/error.h"
#include "base/human.h"
#include "base/when.h"
#include "engine/restore/mirror_state.h"
#include "engine/restore/points.h"
#include "fs/atomic.h"
#include "fs/copy.h"
#include "fs/dir.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARKER    ".backapp-destination"
#define OWN       ".backapp"
#define VERSIONS  OWN "/versions"
#define STATE_MAX ((gsize)1024 * 1024)
/* "2026-11-21T131500Z" */
#define STAMP_LENGTH 18u
#define PRESENT      "present"

typedef struct {
    RestoreSource source;
    RestoreSourceOptions options;
    int root_fd;
    Spool *spool;
    guint64 granularity_ns; /* of the times of its files */
    SpoolReader *reader;
    GByteArray *arena;
    gboolean pending; /* seek found an entry that next has still to tell */
    S3Entry entry;
} MirrorSource;

/* ---- points ---- */

gboolean mirror_source_is_one(const char *directory)
{
    struct stat st;
    g_autofree char *marker = g_build_filename(directory, MARKER, NULL);
    return lstat(marker, &st) == 0 && S_ISREG(st.st_mode);
}

static int open_root(const char *directory, GError **error)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        (void)error_set_errno(error, errno, "cannot open %s", directory);
    return fd;
}

/* The time in a version's name, and the number behind it (1: none). FALSE if it is none. */
static gboolean parse_stamp(const char *name, gint64 *time, guint64 *number)
{
    g_autofree char *stamp = g_strndup(name, STAMP_LENGTH);
    g_autoptr(GDateTime) parsed = g_date_time_new_from_iso8601(stamp, NULL);
    g_autofree char *again = parsed ? g_date_time_format(parsed, "%Y-%m-%dT%H%M%SZ") : NULL;
    if (g_strcmp0(again, stamp) != 0)
        return FALSE;
    *time = g_date_time_to_unix(parsed);
    *number = 1;
    const char *rest = name + STAMP_LENGTH;
    return *rest == '\0' || (rest[0] == '-' && g_ascii_isdigit(rest[1]) && rest[1] != '0' &&
                             g_ascii_string_to_unsigned(rest + 1, 10, 2, G_MAXUINT32, number, NULL));
}

static int newest_first(gconstpointer a, gconstpointer b)
{
    const RestorePoint *left = *(const RestorePoint *const *)a, *right = *(const RestorePoint *const *)b;
    gint64 time;
    guint64 x = 0, y = 0;
    (void)parse_stamp(left->name, &time, &x);
    (void)parse_stamp(right->name, &time, &y);
    if (left->time != right->time)
        return left->time < right->time ? 1 : -1;
    return x == y ? 0 : x < y ? 1 : -1;
}

static gboolean add_versions(int root_fd, const CancelFlag *cancel, GPtrArray *points, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_auto(AutoFd) fd = dir_open(root_fd, VERSIONS, &local);
    if (fd < 0 && error_is(local, BACKAPP_ERROR_NOT_FOUND))
        return TRUE;
    if (fd < 0) {
        g_propagate_prefixed_error(error, g_steal_pointer(&local), "cannot look at the kept versions: ");
        return FALSE;
    }
    g_auto(DirNames) names = {0};
    if (!dir_names_read(fd, &names, cancel, error))
        return FALSE;
    for (guint i = 0; i < dir_names_count(&names); i++) {
        struct stat st;
        gint64 time;
        guint64 number;
        const char *name = dir_names_get(&names, i);
        if (parse_stamp(name, &time, &number) && fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISDIR(st.st_mode))
            points_add(points, name, time);
    }
    g_ptr_array_sort(points, newest_first);
    return TRUE;
}

/* What the last complete run wrote of itself. */
static void describe_present(int root_fd, RestorePoint *point)
{
    struct stat st;
    g_autofree char *text = NULL;
    gsize length = 0;
    g_auto(AutoFd) own_fd = dir_open(root_fd, OWN, NULL);
    if (fstatat(root_fd, MARKER, &st, AT_SYMLINK_NOFOLLOW) == 0)
        point->time = st.st_mtim.tv_sec;
    json_t *state = own_fd >= 0 && atomic_read(own_fd, "state.json", STATE_MAX, &text, &length, NULL)
                        ? json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL)
                        : NULL;
    const char *completed = json_string_value(json_object_get(state, "completed"));
    g_autoptr(GDateTime) time = completed ? g_date_time_new_from_iso8601(completed, NULL) : NULL;
    json_int_t files = json_integer_value(json_object_get(state, "files")),
               bytes = json_integer_value(json_object_get(state, "bytes"));
    if (time && files >= 0 && bytes >= 0) {
        point->time = g_date_time_to_unix(time);
        point->files = (guint64)files;
        point->bytes = (guint64)bytes;
        point->known = TRUE;
    }
    json_decref(state);
}

/* The present state, then the kept versions, newest first. */
static gboolean list_points(int root_fd, const CancelFlag *cancel, GPtrArray *points, GError **error)
{
    g_autoptr(GPtrArray) versions = points_new();
    if (!add_versions(root_fd, cancel, versions, error))
        return FALSE;
    describe_present(root_fd, points_add(points, PRESENT, 0));
    for (guint i = 0; i < versions->len; i++) {
        const RestorePoint *version = g_ptr_array_index(versions, i);
        points_add(points, version->name, version->time);
    }
    return TRUE;
}

gboolean mirror_source_list(const RestoreSourceOptions *options, GPtrArray *points, GError **error)
{
    g_auto(AutoFd) root_fd = open_root(options->directory, error);
    return root_fd >= 0 && list_points(root_fd, options->cancel, points, error);
}

/* The point whose state held at a time: the oldest version that was made then or later, else the present. */
static gboolean choose(const GPtrArray *points, const char *at, guint *number, gboolean *too_old, GError **error)
{
    gint64 until = 0;
    *number = 0;
    *too_old = FALSE;
    if (!at || strcmp(at, "latest") == 0)
        return TRUE;
    for (guint i = 0; i < points->len; i++)
        if (strcmp(((const RestorePoint *)g_ptr_array_index(points, i))->name, at) == 0) {
            *number = i;
            return TRUE;
        }
    if (!when_parse(at, &until))
        return points_no_name(at, error);
    for (guint i = 1; i < points->len; i++)
        if (((const RestorePoint *)g_ptr_array_index(points, i))->time >= until)
            *number = i;
    *too_old = *number + 1 == points->len && until < ((const RestorePoint *)g_ptr_array_index(points, *number))->time;
    return TRUE;
}

/* ---- opening ---- */

static void note(const RestoreSourceOptions *options, const char *message)
{
    if (options->sink)
        options->sink->warning(options->sink, "note", NULL, message);
}

static gboolean is_there(int root_fd, const char *name)
{
    struct stat st;
    return fstatat(root_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
}

static void tell_limits(const MirrorSource *self, gboolean is_version, gboolean too_old)
{
    const RestoreSourceOptions *options = &self->options;
    if (is_there(self->root_fd, OWN "/journal"))
        note(options, "an interrupted run has not been completed: what it changes may be restored in part; "
                      "'backapp mirror --recover' completes it");
    else if (is_there(self->root_fd, OWN "/lock"))
        note(options, "a run is at work on this mirror, or was interrupted: what it changes may be restored in part");
    if (too_old)
        note(options, "older versions than this one were not kept: the state may be one of a later time");
    if (is_version)
        note(options, "this is what was kept of an earlier state: files that were made later cannot be told from those "
                      "that were there, and metadata that changed alone is that of now");
}

static void mirror_free(RestoreSource *source)
{
    MirrorSource *self = (MirrorSource *)source;
    g_clear_pointer(&self->reader, spool_reader_free);
    g_clear_pointer(&self->spool, spool_free);
    g_byte_array_unref(self->arena);
    fd_clear(&self->root_fd);
    g_free(self);
}

static int read_entry(MirrorSource *self, GError **error)
{
    const guint8 *data;
    gsize length;
    if (!self->reader)
        self->reader = spool_reader_new(self->spool);
    int more = spool_reader_next(self->reader, &data, &length, error);
    if (more <= 0)
        return more;
    BytesReader in = bytes_reader(data, length);
    g_byte_array_set_size(self->arena, 0);
    return entry_decode(&in, "", self->arena, &self->entry, error) ? 1 : -1;
}

static int mirror_next(RestoreSource *source, RestoreEntry *entry, GError **error)
{
    MirrorSource *self = (MirrorSource *)source;
    int more = self->pending ? 1 : read_entry(self, error);
    self->pending = FALSE;
    *entry = (RestoreEntry){.entry = self->entry};
    return more;
}

/* The entries are read from the first again: they come from this machine's memory or disk. */
static gboolean mirror_seek(RestoreSource *source, const char *path, GError **error)
{
    MirrorSource *self = (MirrorSource *)source;
    gsize length = strlen(path);
    int more;
    self->pending = FALSE;
    g_clear_pointer(&self->reader, spool_reader_free);
    while (cancel_check(self->options.cancel, error) && (more = read_entry(self, error)) != 0) {
        if (more < 0)
            return FALSE;
        const char *found = self->entry.path;
        self->pending =
            length == 0 || (strncmp(found, path, length) == 0 && (found[length] == '\0' || found[length] == '/'));
        if (self->pending)
            return TRUE;
    }
    return !cancel_is_set(self->options.cancel) &&
           error_set(error, BACKAPP_ERROR_NOT_FOUND, "%s is not in this restore point", path);
}

/* The file that an entry tells of, as long as it is the same. */
static int open_content(const MirrorSource *self, const S3Entry *entry, FileMeta *meta, GError **error)
{
    const char *base;
    if (!entry->key) {
        (void)error_set(error, BACKAPP_ERROR_NOT_FOUND, "the mirror has no content of it");
        return -1;
    }
    g_auto(AutoFd) dir_fd = dir_open_parent(self->root_fd, entry->key, &base, error);
    if (dir_fd < 0)
        return -1;
    g_auto(AutoFd) fd = openat(dir_fd, base, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        (void)error_set_errno(error, errno, "cannot open it in the mirror");
        return -1;
    }
    if (!meta_read(fd, "", meta, error))
        return -1;
    if (!S_ISREG(meta->mode) || meta->size != entry->meta.size ||
        !meta_same_mtime(meta, &entry->meta, self->granularity_ns)) {
        (void)error_set(error, BACKAPP_ERROR_NOT_FOUND, "it was replaced in the mirror since the restore began");
        return -1;
    }
    return fd_steal(&fd);
}

typedef struct {
    RestoreFetch *fetch;
    const S3Entry *entry;
} Progress;

static void add_progress(guint64 bytes, gpointer user_data)
{
    const Progress *progress = user_data;
    if (progress->fetch->progress)
        progress->fetch->progress(progress->fetch->user_data, progress->entry, bytes);
}

static gboolean mirror_fetch(RestoreSource *source, const RestoreEntry *from, RestoreFetch *fetch, GError **error)
{
    MirrorSource *self = (MirrorSource *)source;
    FileMeta meta;
    CopyResult result;
    Progress progress = {fetch, &from->entry};
    const CopyOptions copying = {.cancel = self->options.cancel, .progress = add_progress, .user_data = &progress};
    g_auto(AutoFd) fd = open_content(self, &from->entry, &meta, error);
    if (fd < 0)
        return FALSE;
    if (ftruncate(fetch->fd, 0) < 0)
        return error_set_errno(error, errno, "cannot write %s", from->entry.path);
    if (!copy_data(fd, fetch->fd, meta.size, meta.blocks, &copying, &result, error))
        return FALSE;
    if (result.shrunk)
        return error_set(error, BACKAPP_ERROR_NOT_FOUND, "it became shorter in the mirror while it was read");
    /* With holes its size no longer tells whether its content reached the disk. */
    return result.copied == meta.size || result.copied == 0 || fdatasync(fetch->fd) == 0 ||
           error_set_errno(error, errno, "cannot write %s", from->entry.path);
}

static gboolean mirror_matches(RestoreSource *source, const S3Entry *entry, int fd, gboolean *equal, GError **error)
{
    MirrorSource *self = (MirrorSource *)source;
    FileMeta meta, have;
    g_auto(AutoFd) content = open_content(self, entry, &meta, error);
    *equal = FALSE;
    if (content < 0 || !meta_read(fd, "", &have, error))
        return FALSE;
    return have.size != meta.size || copy_same_content(content, fd, meta.size, self->options.cancel, equal, error);
}

static const RestoreSourceOps mirror_ops = {
    .seek = mirror_seek, .next = mirror_next, .fetch = mirror_fetch, .matches = mirror_matches, .free = mirror_free};

static void clear_layer(gpointer data)
{
    g_free(((MirrorLayer *)data)->path);
}

/* The chosen version and those after it, then what is there now. */
static GArray *layers_of(const GPtrArray *points, guint number)
{
    GArray *layers = g_array_new(FALSE, TRUE, sizeof(MirrorLayer));
    g_array_set_clear_func(layers, clear_layer);
    for (guint i = number; i > 0; i--) {
        const RestorePoint *version = g_ptr_array_index(points, i);
        MirrorLayer layer = {.path = g_strconcat(VERSIONS "/", version->name, NULL)};
        g_array_append_val(layers, layer);
    }
    MirrorLayer present = {.path = g_strdup(""), .present = TRUE};
    g_array_append_val(layers, present);
    return layers;
}

RestoreSource *mirror_source_open(const RestoreSourceOptions *options, GError **error)
{
    MirrorSource *self = g_new0(MirrorSource, 1);
    self->source = (RestoreSource){.ops = &mirror_ops, .kind = RESTORE_FROM_MIRROR};
    self->arena = g_byte_array_new();
    self->options = *options;
    self->root_fd = open_root(options->directory, error);
    g_autoptr(RestoreSource) source = &self->source;
    g_autoptr(GPtrArray) points = points_new();
    guint number;
    gboolean too_old;
    if (self->root_fd < 0 || !list_points(self->root_fd, options->cancel, points, error) ||
        !choose(points, options->at, &number, &too_old, error))
        return NULL;
    tell_limits(self, number > 0, too_old);
    g_autoptr(GArray) layers = layers_of(points, number);
    const RestorePoint *chosen = g_ptr_array_index(points, number);
    source->point = (RestorePoint){.name = g_strdup(chosen->name),
                                   .time = chosen->time,
                                   .files = chosen->files,
                                   .bytes = chosen->bytes,
                                   .known = chosen->known};
    self->spool =
        mirror_state_merge(self->root_fd, layers, options, &source->point.partial, &self->granularity_ns, error);
    return self->spool ? g_steal_pointer(&source) : NULL;
}
