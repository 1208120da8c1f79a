#include "create_scene.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "engine/archive/members.h"
#include "engine/archive/verify.h"
#include "fs/remove.h"
#include "store/drivers.h"

#define XATTR     "user.scene"
#define XATTR_MAX 256
#define STEP_S    10

atomic_int scene_clock_shift;

int clock_gettime(clockid_t id, struct timespec *time) /* NOLINT: glibc's names are reserved */
{
    long got = syscall(SYS_clock_gettime, id, time);
    if (got == 0 && id == CLOCK_REALTIME)
        time->tv_sec += atomic_load(&scene_clock_shift);
    return (int)got;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) /* NOLINT: likewise */
{
    struct timespec now;
    (void)zone;
    int got = clock_gettime(CLOCK_REALTIME, &now);
    *time = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return got;
}

/* ---- the store ---- */

atomic_uint scene_requests, scene_end_at, scene_completed, scene_enough;
SceneEnd scene_end;
static const StoreOps *real_ops;
static StoreOps spy_ops;

static gboolean is_lock(const char *key)
{
    return strstr(key, ".backapp/") != NULL;
}

/* TRUE if this request is the last one and is to be done before the end. */
static gboolean admit(const char *key, gboolean *last, GError **error)
{
    *last = FALSE;
    if (is_lock(key))
        return TRUE;
    guint number = atomic_fetch_add(&scene_requests, 1) + 1;
    if (number != atomic_load(&scene_end_at))
        return TRUE;
    if (scene_end == SCENE_KILL_BEFORE)
        (void)kill(getpid(), SIGKILL);
    *last = scene_end == SCENE_KILL_BEHIND;
    return *last || error_set(error, BACKAPP_ERROR_DENIED, "request %u is refused", number);
}

/* FALSE if there are enough objects. */
static gboolean admit_object(const char *key, gboolean *last, GError **error)
{
    guint enough = atomic_load(&scene_enough);
    *last = FALSE;
    if (!is_lock(key) && enough > 0 && atomic_load(&scene_completed) >= enough - 1)
        return error_set(error, BACKAPP_ERROR_DENIED, "there are enough objects");
    return admit(key, last, error);
}

static void end_behind(gboolean good, const char *key, gboolean last)
{
    if (good && !is_lock(key))
        atomic_fetch_add(&scene_completed, 1);
    if (last)
        (void)kill(getpid(), SIGKILL);
}

static gboolean spy_put(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                        GError **error)
{
    gboolean last;
    gboolean good = admit_object(key, &last, error) && real_ops->put(store, key, body, how, result, error);
    end_behind(good, key, last);
    return good;
}

static char *spy_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    gboolean last;
    char *id = admit_object(key, &last, error) ? real_ops->begin(store, key, how, error) : NULL;
    end_behind(FALSE, key, last);
    return id;
}

static gboolean spy_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                         char **etag, GError **error)
{
    gboolean last;
    gboolean good = admit(key, &last, error) && real_ops->part(store, key, upload, number, body, etag, error);
    end_behind(FALSE, key, last);
    return good;
}

static gboolean spy_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                             const StorePut *how, StoreResult *result, GError **error)
{
    gboolean last;
    gboolean good =
        admit(key, &last, error) && real_ops->complete(store, key, upload, parts, count, how, result, error);
    end_behind(good, key, last);
    return good;
}

static gboolean spy_delete(Store *store, const char *key, const char *version, GError **error)
{
    gboolean last;
    gboolean good = admit(key, &last, error) && real_ops->delete_one(store, key, version, error);
    end_behind(FALSE, key, last);
    return good;
}

static atomic_bool heads_fail;

static StoreObject *spy_head(Store *store, const char *key, const char *version, GError **error)
{
    if (!atomic_load(&heads_fail))
        return real_ops->head(store, key, version, error);
    (void)error_set(error, BACKAPP_ERROR_TRANSIENT, "no answer");
    return NULL;
}

void scene_heads_fail(gboolean fail)
{
    atomic_store(&heads_fail, fail);
}

static Store *spy(Store *store)
{
    real_ops = store->ops;
    spy_ops = *real_ops;
    spy_ops.put = spy_put;
    spy_ops.head = spy_head;
    spy_ops.begin = spy_begin;
    spy_ops.part = spy_part;
    spy_ops.complete = spy_complete;
    spy_ops.delete_one = spy_delete;
    store->ops = &spy_ops;
    atomic_store(&scene_requests, 0);
    atomic_store(&scene_end_at, 0);
    atomic_store(&scene_completed, 0);
    atomic_store(&scene_enough, 0);
    return store;
}

/* ---- the sink ---- */

static CreateScene *scene_of(RunSink *sink)
{
    return (CreateScene *)(gpointer)((char *)sink - G_STRUCT_OFFSET(CreateScene, sink));
}

static void on_stage(RunSink *sink, const char *name)
{
    CreateScene *scene = scene_of(sink);
    scene->stage = name;
    if (scene->hook && strcmp(name, "archive") == 0)
        scene->hook(scene, NULL, TRUE);
}

static void on_progress(RunSink *sink, const RunProgress *progress)
{
    CreateScene *scene = scene_of(sink);
    if (scene->hook && g_strcmp0(scene->stage, "archive") == 0)
        scene->hook(scene, progress->current_file, FALSE);
}

static void on_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    CreateScene *scene = scene_of(sink);
    assert_non_null(message);
    g_ptr_array_add(scene->warnings, g_strdup_printf("%s %s", code, path ? path : ""));
}

/* ---- the scene ---- */

CreateScene *create_scene_new(gboolean local)
{
    CreateScene *scene = g_new0(CreateScene, 1);
    atomic_store(&scene_clock_shift, 0);
    scene->root = g_dir_make_tmp("backapp-create-XXXXXX", NULL);
    assert_non_null(scene->root);
    assert_int_equal(chmod(scene->root, 0755), 0);
    scene->source = g_build_filename(scene->root, "source", NULL);
    scene->state = g_build_filename(scene->root, "state", NULL);
    g_autofree char *objects = g_build_filename(scene->root, "store", NULL);
    assert_int_equal(mkdir(scene->source, 0755), 0);
    assert_true(!local || mkdir(objects, 0700) == 0);
    scene->store = spy(local ? store_local_new(objects, NULL) : store_memory_new());
    scene->warnings = g_ptr_array_new_with_free_func(g_free);
    scene->sink = (RunSink){.stage = on_stage, .progress = on_progress, .warning = on_warning};
    scene->paths[0] = scene->source;
    archive_options_default(&scene->options);
    scene->options.sources = scene->paths;
    scene->options.place = (ArchivePlace){.store = scene->store, .name = "docs"};
    scene->options.level = 1;
    scene->options.threads = 1;
    scene->options.state_dir = scene->state;
    scene->options.cancel = &scene->cancel;
    scene->options.sink = &scene->sink;
    return scene;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    return type == FTW_DP || type == FTW_D || type == FTW_DNR ? rmdir(path) : unlink(path);
}

static int remove_below(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return ftw->level > 0 ? remove_one(path, st, type, ftw) : 0;
}

void create_scene_free(CreateScene *scene)
{
    store_free(scene->store);
    archive_stats_clear(&scene->stats);
    assert_int_equal(nftw(scene->root, remove_one, 20, FTW_DEPTH | FTW_PHYS), 0);
    g_ptr_array_unref(scene->warnings);
    g_free(scene->root);
    g_free(scene->source);
    g_free(scene->state);
    g_free(scene);
}

static gboolean run(CreateScene *scene, GError **error)
{
    archive_stats_clear(&scene->stats);
    g_ptr_array_set_size(scene->warnings, 0);
    scene->hooked = 0;
    return archive_create(&scene->options, &scene->stats, error);
}

void scene_run_late(CreateScene *scene)
{
    g_autoptr(GError) error = NULL;
    if (!run(scene, &error))
        fail_msg("the run failed: %s", error->message);
    assert_true(scene->options.dry_run == (scene->stats.point == NULL));
}

void scene_run(CreateScene *scene)
{
    atomic_fetch_add(&scene_clock_shift, STEP_S);
    scene_run_late(scene);
}

void scene_run_fails(CreateScene *scene, int code)
{
    g_autoptr(GError) error = NULL;
    atomic_fetch_add(&scene_clock_shift, STEP_S);
    assert_false(run(scene, &error));
    if (error->code != code)
        fail_msg("another error: %d %s", error->code, error->message);
    assert_null(scene->stats.point);
}

gboolean scene_warned(const CreateScene *scene, const char *code_and_path)
{
    for (guint i = 0; i < scene->warnings->len; i++)
        if (g_str_equal(g_ptr_array_index(scene->warnings, i), code_and_path))
            return TRUE;
    return FALSE;
}

static GPtrArray *keys_of(CreateScene *scene)
{
    GPtrArray *keys = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(StoreList) list = store_list(scene->store, "docs/", NULL, FALSE, NULL);
    const StoreObject *object;
    assert_non_null(list);
    while (store_list_next(list, &object, NULL) > 0)
        g_ptr_array_add(keys, g_strdup(object->key));
    return keys;
}

guint scene_objects(CreateScene *scene, const char *suffix)
{
    guint count = 0;
    g_autoptr(GPtrArray) keys = keys_of(scene);
    for (guint i = 0; i < keys->len; i++)
        count += g_str_has_suffix(g_ptr_array_index(keys, i), suffix) && !is_lock(g_ptr_array_index(keys, i));
    return count;
}

void scene_delete_object(CreateScene *scene, const char *suffix)
{
    guint count = 0;
    g_autoptr(GPtrArray) keys = keys_of(scene);
    for (guint i = 0; i < keys->len; i++)
        if (g_str_has_suffix(g_ptr_array_index(keys, i), suffix)) {
            assert_true(store_delete(scene->store, g_ptr_array_index(keys, i), NULL, NULL));
            count++;
        }
    assert_int_equal(count, 1);
}

/* ---- proof ---- */

typedef struct {
    guint8 *data;
    guint64 size;
} Content;

static gboolean take(gpointer user_data, guint64 offset, const void *data, gsize length, GError **error)
{
    Content *content = user_data;
    (void)error;
    assert_true(offset <= content->size && length <= content->size - offset);
    if (length > 0)
        memcpy(content->data + offset, data, length);
    return TRUE;
}

static void read_content(Members *members, guint number, const IndexEntry *entry, Content *content)
{
    g_autoptr(GError) error = NULL;
    content->size = entry->entry.meta.size;
    content->data = g_malloc0(content->size + 1);
    if (!members_content(members, number, entry, take, content, &error))
        fail_msg("%s: %s", entry->entry.path, error->message);
}

/* Where a path of the archive lies. */
static char *real_path(const CreateScene *scene, const char *path)
{
    if (!scene->paths[1])
        return g_build_filename(scene->source, path, NULL);
    for (guint i = 0; scene->paths[i]; i++) {
        g_autofree char *folder = g_path_get_basename(scene->paths[i]);
        gsize length = strlen(folder);
        if (strncmp(folder, path, length) == 0 && (path[length] == '\0' || path[length] == '/'))
            return g_build_filename(scene->paths[i], path + length, NULL);
    }
    fail_msg("%s is of no source", path);
    return NULL;
}

static void check_attribute(const char *path, const S3Entry *entry)
{
    char value[XATTR_MAX];
    ssize_t length = lgetxattr(path, XATTR, value, sizeof value);
    assert_int_equal(length > 0, entry->attrs != NULL);
    if (length > 0 && entry->attrs != NULL)
        assert_non_null(memmem(entry->attrs, entry->attrs_length, value, (size_t)length));
}

static GHashTable *seen; /* paths of the point so far */

static void check_same_file(const CreateScene *scene, const char *path, const struct stat *st, const S3Entry *entry)
{
    g_autofree char *first = real_path(scene, entry->link);
    struct stat other;
    if (lstat(first, &other) != 0 || other.st_ino != st->st_ino)
        fail_msg("%s is no link to %s", path, entry->link);
    assert_true(g_hash_table_contains(seen, entry->link));
}

static void check_entry(CreateScene *scene, Members *members, guint number, const IndexEntry *entry)
{
    const S3Entry *of = &entry->entry;
    g_autofree char *path = real_path(scene, of->path);
    struct stat st;
    if (lstat(path, &st) != 0)
        fail_msg("the point has %s, the source has not", of->path);
    if (of->meta.mode != st.st_mode || of->meta.uid != st.st_uid || of->meta.gid != st.st_gid ||
        of->meta.mtime_s != st.st_mtim.tv_sec || of->meta.mtime_ns != (guint32)st.st_mtim.tv_nsec)
        fail_msg("%s is not as in the source", of->path);
    check_attribute(path, of);
    assert_int_equal((entry->flags & INDEX_CHANGED), 0);
    if (of->link) {
        check_same_file(scene, path, &st, of);
    } else if (S_ISLNK(st.st_mode)) {
        g_autofree char *target = g_file_read_link(path, NULL);
        assert_string_equal(of->target, target);
    } else if (S_ISREG(st.st_mode)) {
        Content content;
        g_autofree char *text = NULL;
        gsize length = 0;
        read_content(members, number, entry, &content);
        assert_true(g_file_get_contents(path, &text, &length, NULL));
        if (length != content.size || memcmp(text, content.data, length) != 0)
            fail_msg("the content of %s is another", of->path);
        g_free(content.data);
    }
}

static guint walked;
static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)path;
    (void)st;
    (void)type;
    (void)ftw;
    walked++;
    return 0;
}

static Chain *open_newest(CreateScene *scene)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *base = chain_choose(&scene->options.place, NULL, NULL, &error);
    Chain *chain = base ? chain_open(&scene->options.place, base, NULL, NULL, &error) : NULL;
    if (!chain)
        fail_msg("no chain: %s", error->message);
    return chain;
}

void scene_check(CreateScene *scene)
{
    g_autoptr(Chain) chain = open_newest(scene);
    g_autoptr(Members) members = members_new(&scene->options.place, chain, 0, NULL, NULL);
    g_autoptr(ChainReader) reader = chain_read(chain, NULL, FALSE, NULL);
    assert_true(members && reader);
    IndexEntry entry;
    guint number = 0, count = 0;
    int got;
    seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (; (got = chain_reader_next(reader, &entry, &number, NULL)) == 1; count++) {
        check_entry(scene, members, number, &entry);
        g_hash_table_add(seen, g_strdup(entry.entry.path));
    }
    g_hash_table_unref(seen);
    assert_int_equal(got, 0);
    walked = 0;
    for (guint i = 0; scene->paths[i]; i++)
        assert_int_equal(nftw(scene->paths[i], count_one, 20, FTW_PHYS), 0);
    if (count != walked)
        fail_msg("the point has %u entries, the source %u", count, walked);
}

/* TRUE: it is there, and found in members of the chain. */
static gboolean find(Chain *chain, const char *path, IndexEntry *entry, guint *number, ChainReader **reader)
{
    *reader = chain_read(chain, NULL, FALSE, NULL);
    int got;
    while ((got = chain_reader_next(*reader, entry, number, NULL)) == 1)
        if (g_str_equal(entry->entry.path, path))
            return TRUE;
    assert_int_equal(got, 0);
    return FALSE;
}

void scene_check_tar(CreateScene *scene, const char *point)
{
    ArchivePoint *again = NULL;
    GError *error = NULL;
    if (!archive_reindex(&scene->options.place, point, TRUE, NULL, &scene->sink, &again, &error))
        fail_msg("the tar cannot be read: %s", error->message);
    assert_true(again->entries >= 1);
    if (again->name.type == ARCHIVE_FULL)
        assert_false(again->partial);
    archive_point_free(again);
}

guint64 scene_deletions(CreateScene *scene)
{
    g_autoptr(Chain) chain = open_newest(scene);
    return index_point(chain_index(chain, 0))->deletions;
}

gboolean scene_find(CreateScene *scene, const char *path, IndexEntry *entry)
{
    g_autoptr(Chain) chain = open_newest(scene);
    g_autoptr(ChainReader) reader = NULL;
    IndexEntry local;
    guint number = 0;
    return find(chain, path, entry ? entry : &local, &number, &reader);
}

guint8 *scene_content(CreateScene *scene, const char *path, gsize *length)
{
    g_autoptr(Chain) chain = open_newest(scene);
    g_autoptr(ChainReader) reader = NULL;
    g_autoptr(Members) members = members_new(&scene->options.place, chain, 0, NULL, NULL);
    IndexEntry entry;
    guint number = 0;
    Content content;
    assert_true(find(chain, path, &entry, &number, &reader));
    read_content(members, number, &entry, &content);
    *length = content.size;
    return content.data;
}

/* ---- the source ---- */

char *scene_path(const CreateScene *scene, const char *path)
{
    return g_build_filename(scene->source, path, NULL);
}

void scene_write(const CreateScene *scene, const char *path, const char *text)
{
    g_autofree char *whole = scene_path(scene, path);
    int fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    assert_int_equal(close(fd), 0);
}

void scene_fill(const CreateScene *scene, const char *path, guint seed, gsize length)
{
    g_autofree char *whole = scene_path(scene, path);
    g_autofree guint32 *data = g_new(guint32, length / 4 + 1);
    guint32 state = seed * 2654435761u + 1;
    for (gsize i = 0; i <= length / 4; i++)
        data[i] = state = state * 1664525u + 1013904223u;
    int fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0 && write(fd, data, length) == (ssize_t)length);
    assert_int_equal(close(fd), 0);
}

static void make_sparse(const char *path, const char *size, const char *every)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    off_t length = (off_t)g_ascii_strtoull(size, NULL, 10), step = (off_t)g_ascii_strtoull(every, NULL, 10);
    assert_true(fd >= 0 && ftruncate(fd, length) == 0);
    for (off_t at = step; step > 0 && at < length; at += step)
        assert_int_equal(pwrite(fd, "x", 1, at), 1);
    assert_int_equal(close(fd), 0);
}

static void make_special(const char *path, gboolean socket_wanted)
{
    if (!socket_wanted) {
        assert_int_equal(mkfifo(path, 0600), 0);
        return;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *folder = g_path_get_dirname(path), *base = g_path_get_basename(path);
    g_autofree char *before = g_get_current_dir();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_strlcpy(address.sun_path, base, sizeof address.sun_path);
    assert_int_equal(chdir(folder), 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)(const void *)&address, sizeof address), 0);
    assert_int_equal(chdir(before), 0);
    assert_int_equal(close(fd), 0);
}

static void do_one(const CreateScene *scene, char **words)
{
    g_autofree char *path = scene_path(scene, words[1]);
    const char *more = words[2] != NULL ? words[2] : "";
    g_autofree char *other = scene_path(scene, more);
    int got = 0;
    switch (words[0][0]) {
    case 'd':
        got = mkdir(path, 0755);
        break;
    case 'f':
        scene_write(scene, words[1], more);
        break;
    case 'l':
        got = symlink(more, path);
        break;
    case 'h':
        got = linkat(AT_FDCWD, other, AT_FDCWD, path, 0);
        break;
    case 'r':
        got = nftw(path, remove_one, 20, FTW_DEPTH | FTW_PHYS);
        break;
    case 'e':
        got = nftw(path, remove_below, 20, FTW_DEPTH | FTW_PHYS);
        break;
    case 'm':
        got = rename(path, other);
        break;
    case 'c':
        got = chmod(other, (mode_t)g_ascii_strtoull(words[1], NULL, 8));
        break;
    case 'o':
        got = lchown(other, (uid_t)g_ascii_strtoull(words[1], NULL, 10), 12);
        break;
    case 'x':
        got = setxattr(path, XATTR, more, strlen(more), 0) != 0 && errno != EOPNOTSUPP ? -1 : 0;
        break;
    case 's':
        make_sparse(path, more, words[3]);
        break;
    case 'u': {
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = (time_t)g_ascii_strtoll(more, NULL, 10)}};
        got = utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
        break;
    }
    default:
        make_special(path, words[0][0] == 't');
        break;
    }
    if (got != 0)
        fail_msg("%s %s: %s", words[0], words[1], g_strerror(errno));
}

void scene_do(const CreateScene *scene, const char *words)
{
    g_auto(GStrv) all = g_strsplit(words, ";", -1);
    for (guint i = 0; all[i]; i++) {
        g_auto(GStrv) one = g_strsplit(g_strstrip(all[i]), " ", 4);
        if (one[0])
            do_one(scene, one);
    }
}
