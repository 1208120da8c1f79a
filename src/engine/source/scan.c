#include "engine/source/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "engine/source/scan_dir.h"
#include "engine/source/scan_links.h"
#include "fs/dir.h"

#define UNREAD_MAX     100000
#define THREADS_MIN    2
#define THREADS_MAX    8
#define PROGRESS_EVERY 1024
#define ID_BUFFER      (64 * 1024)

/* Lengths of path and key before a directory was entered. */
typedef struct {
    gsize path, key;
} Level;

typedef struct {
    const ScanOptions *options;
    gboolean (*found)(const S3Entry *entry, gpointer user_data, GError **error);
    gpointer user_data;
    ScanStats *stats;
    GString *path, *key;             /* of the present directory; while an entry is handed on: of the entry */
    GString *child_path, *child_key; /* of the last directory handed on: what is entered next */
    GArray *levels;                  /* of Level */
    ScanLinks *links;
    GHashTable *users, *groups; /* id to name, "" if it has none */
    char *id_buffer;
} Scan;

static void scan_clear(Scan *scan)
{
    g_string_free(scan->path, TRUE);
    g_string_free(scan->key, TRUE);
    g_string_free(scan->child_path, TRUE);
    g_string_free(scan->child_key, TRUE);
    g_array_unref(scan->levels);
    scan_links_free(scan->links);
    g_hash_table_unref(scan->users);
    g_hash_table_unref(scan->groups);
    g_free(scan->id_buffer);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Scan, scan_clear)

/* A name by a look-up that is kept; NULL if the id has none. */
static const char *cached_name(Scan *scan, GHashTable *names, guint32 id)
{
    gpointer name = g_hash_table_lookup(names, GUINT_TO_POINTER(id));
    if (name == NULL) {
        struct passwd user, *user_found = NULL;
        struct group group, *group_found = NULL;
        if (names == scan->users && getpwuid_r(id, &user, scan->id_buffer, ID_BUFFER, &user_found) == 0 && user_found)
            name = user_found->pw_name;
        if (names == scan->groups && getgrgid_r(id, &group, scan->id_buffer, ID_BUFFER, &group_found) == 0 &&
            group_found)
            name = group_found->gr_name;
        name = g_strdup(name != NULL ? name : "");
        g_hash_table_insert(names, GUINT_TO_POINTER(id), name);
    }
    return *(const char *)name != '\0' ? name : NULL;
}

/* Lengthens path and key by what was found; name "" is the directory itself. */
static Level go_to(Scan *scan, const Found *found)
{
    Level before = {.path = scan->path->len, .key = scan->key->len};
    if (found->name[0] == '\0')
        return before;
    if (scan->path->len > 0) {
        g_string_append_c(scan->path, '/');
        g_string_append_c(scan->key, '/');
    }
    g_string_append(scan->path, found->name);
    g_string_append(scan->key, found->segment);
    return before;
}

static void go_back(Scan *scan, const Level *before)
{
    g_string_truncate(scan->path, before->path);
    g_string_truncate(scan->key, before->key);
}

static void report_progress(Scan *scan)
{
    RunProgress progress = {.files_done = scan->stats->files, .bytes_done = scan->stats->bytes};
    progress.current_file = scan->path->str;
    if (scan->options->sink != NULL)
        scan->options->sink->progress(scan->options->sink, &progress);
}

static gboolean hand_on(Scan *scan, const Found *found, GError **error)
{
    ScanStats *stats = scan->stats;
    gboolean is_file = S_ISREG(found->meta.mode);
    S3Entry entry = {.path = scan->path->str, .key = is_file ? scan->key->str : NULL, .meta = found->meta};
    entry.user = cached_name(scan, scan->users, found->meta.uid);
    entry.group = cached_name(scan, scan->groups, found->meta.gid);
    entry.target = found->target;
    entry.attrs = found->attrs;
    entry.attrs_length = found->attrs_length;
    if (found->directory) {
        stats->directories++;
        g_string_assign(scan->child_path, scan->path->str);
        g_string_assign(scan->child_key, scan->key->str);
    } else {
        stats->files++;
        stats->bytes += is_file ? found->meta.size : 0;
        entry.link = scan_links_first(scan->links, &found->meta, scan->path->str);
    }
    if ((stats->files + stats->directories) % PROGRESS_EVERY == 0)
        report_progress(scan);
    return scan->found(&entry, scan->user_data, error);
}

/* Nothing may be deleted at this key, or below it. */
static void protect(Scan *scan, gboolean directory)
{
    ScanStats *stats = scan->stats;
    if (stats->unread->len >= UNREAD_MAX)
        stats->all_unread = TRUE;
    else
        g_ptr_array_add(stats->unread, g_strconcat(scan->key->str, directory ? "/" : "", NULL));
}

static void warn(Scan *scan, const char *code, const char *message)
{
    if (scan->options->sink != NULL)
        scan->options->sink->warning(scan->options->sink, code, scan->path->str, message);
}

static void note_problem(Scan *scan, const Found *found)
{
    ScanStats *stats = scan->stats;
    const char *message = found->message != NULL ? found->message : "";
    switch (found->kind) {
    case FOUND_VANISHED:
        stats->vanished++;
        warn(scan, "vanished", "it was gone when it should be read");
        break;
    case FOUND_UNREADABLE:
        stats->unreadable++;
        stats->partial = TRUE;
        warn(scan, "unreadable", message);
        break;
    case FOUND_SKIPPED:
        stats->skipped++;
        warn(scan, "skipped", message);
        break;
    case FOUND_UNKEPT:
        warn(scan, "metadata", message);
        return;
    case FOUND_LEFT_OUT:
    case FOUND_ENTRY:
    default:
        break;
    }
    protect(scan, found->directory);
}

static gboolean take_record(const guint8 *data, gsize length, gpointer user_data, GError **error)
{
    Scan *scan = user_data;
    Found found;
    gboolean good = TRUE;
    if (!scan_dir_decode(data, length, &found, error))
        return FALSE;
    Level before = go_to(scan, &found);
    if (found.kind == FOUND_ENTRY)
        good = hand_on(scan, &found, error);
    else
        note_problem(scan, &found);
    go_back(scan, &before);
    return good;
}

static gboolean enter(const char *path, guint tag, gpointer user_data, GError **error)
{
    Scan *scan = user_data;
    (void)tag;
    if (path[0] == '\0')
        return TRUE;
    if (strcmp(path, scan->child_path->str) != 0)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "scan: entered a directory that was not handed on");
    Level before = {.path = scan->path->len, .key = scan->key->len};
    g_array_append_val(scan->levels, before);
    g_string_assign(scan->path, scan->child_path->str);
    g_string_assign(scan->key, scan->child_key->str);
    return TRUE;
}

static gboolean leave(const char *path, guint tag, gpointer user_data, GError **error)
{
    Scan *scan = user_data;
    (void)tag;
    (void)error;
    if (path[0] == '\0')
        return TRUE;
    go_back(scan, &g_array_index(scan->levels, Level, scan->levels->len - 1));
    g_array_set_size(scan->levels, scan->levels->len - 1);
    return TRUE;
}

static gboolean open_temp(const char *directory, int *fd, GError **error)
{
    if (directory == NULL)
        return TRUE;
    *fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd >= 0 || error_set_errno(error, errno, "cannot open the directory for temporary files %s", directory);
}

static gboolean walk(Scan *scan, GError **error)
{
    g_auto(AutoFd) temp_fd = -1;
    if (!open_temp(scan->options->temp_dir, &temp_fd, error))
        return FALSE;
    ScanVisits visits = {.options = scan->options, .temp_fd = temp_fd};
    WalkFuncs funcs = {.visit = scan_dir_visit,
                       .record = take_record,
                       .enter = enter,
                       .leave = leave,
                       .visit_data = &visits,
                       .user_data = scan};
    guint threads = scan->options->threads;
    if (threads == 0)
        threads = CLAMP(g_get_num_processors(), THREADS_MIN, THREADS_MAX);
    return walk_run(threads, 0, temp_fd, &funcs, scan->options->cancel, error);
}

gboolean scan_run(const ScanOptions *options,
                  gboolean (*found)(const S3Entry *entry, gpointer user_data, GError **error), gpointer user_data,
                  ScanStats *stats, GError **error)
{
    *stats = (ScanStats){.unread = g_ptr_array_new_with_free_func(g_free)};
    g_auto(Scan) scan = {.options = options, .found = found, .user_data = user_data, .stats = stats};
    scan.path = g_string_new(NULL);
    scan.key = g_string_new(NULL);
    scan.child_path = g_string_new(NULL);
    scan.child_key = g_string_new(NULL);
    scan.levels = g_array_new(FALSE, FALSE, sizeof(Level));
    scan.links = scan_links_new();
    scan.users = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    scan.groups = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    scan.id_buffer = g_malloc(ID_BUFFER);
    return walk(&scan, error);
}

void scan_stats_clear(ScanStats *stats)
{
    if (stats->unread != NULL)
        g_ptr_array_unref(stats->unread);
    stats->unread = NULL;
}
