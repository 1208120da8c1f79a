#include "sync_scene.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/s3sync/content.h"
#include "engine/source/names.h"
#include "fs/dir.h"
#include "fs/remove.h"

static char *make_dir(const char *parent, const char *name)
{
    char *path = g_build_filename(parent, name, NULL);
    assert_int_equal(mkdir(path, 0700), 0);
    return path;
}

Scene *scene_new(gboolean local)
{
    Scene *scene = g_new0(Scene, 1);
    scene->path = g_dir_make_tmp("backapp-sync-XXXXXX", NULL);
    assert_non_null(scene->path);
    scene->source = make_dir(scene->path, "source");
    scene->state = g_build_filename(scene->path, "state", NULL);
    scene->bucket = make_dir(scene->path, "bucket");
    scene->source_fd = open(scene->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    scene->store = local ? store_local_new(scene->bucket, NULL) : store_memory_new();
    assert_non_null(scene->store);
    scene->collector = collector_new();
    s3sync_options_default(&scene->options);
    scene->options.source = scene->source;
    scene->options.store = scene->store;
    scene->options.prefix = "mirror";
    scene->options.state_dir = scene->state;
    scene->options.sink = &scene->collector->sink;
    scene->options.concurrency = 4;
    return scene;
}

void scene_free(Scene *scene)
{
    scene_unhook(scene);
    s3sync_stats_clear(&scene->stats);
    store_free(scene->store);
    collector_free(scene->collector);
    (void)close(scene->source_fd);
    assert_true(remove_tree(AT_FDCWD, scene->path, FALSE, NULL, NULL));
    g_free(scene->path);
    g_free(scene->source);
    g_free(scene->state);
    g_free(scene->bucket);
    g_free(scene);
}

static guint8 *pattern(gsize size, guint seed)
{
    guint8 *data = g_malloc(size + sizeof(guint64));
    guint64 value = seed * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) + 1;
    for (gsize i = 0; i < size; i += sizeof value) {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        memcpy(data + i, &value, sizeof value);
    }
    return data;
}

static void write_at(Scene *scene, const char *path, gsize offset, const void *data, gsize length, int flags)
{
    g_auto(AutoFd) fd = openat(scene->source_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, data, length, (off_t)offset), length);
    fd_clear(&fd);
}

void scene_file(Scene *scene, const char *path, gsize size, guint seed, gint64 mtime)
{
    g_autofree char *parent = g_path_get_dirname(path);
    if (strcmp(parent, ".") != 0)
        assert_true(dir_make_path(scene->source_fd, parent, 0755, NULL));
    g_autofree guint8 *data = pattern(size, seed);
    write_at(scene, path, 0, data, size, O_TRUNC);
    struct timespec times[2] = {{.tv_sec = mtime, .tv_nsec = 123456000}, {.tv_sec = mtime, .tv_nsec = 123456000}};
    if (mtime != 0)
        assert_int_equal(utimensat(scene->source_fd, path, times, 0), 0);
}

void scene_edit(Scene *scene, const char *path, gsize offset, const char *text)
{
    write_at(scene, path, offset, text, strlen(text), 0);
}

void scene_remove(Scene *scene, const char *path)
{
    assert_int_equal(unlinkat(scene->source_fd, path, 0), 0);
}

gboolean scene_run(Scene *scene, GError **error)
{
    s3sync_stats_clear(&scene->stats);
    return s3sync_run(&scene->options, &scene->stats, error);
}

void scene_sync(Scene *scene)
{
    g_autoptr(GError) error = NULL;
    if (!scene_run(scene, &error))
        fail_msg("the run failed: %s", error->message);
}

gboolean scene_has(Scene *scene, const char *key)
{
    g_autoptr(StoreObject) object = store_head(scene->store, key, NULL, NULL);
    return object != NULL;
}

guint scene_count(Scene *scene, const char *prefix)
{
    g_autoptr(StoreList) list = store_list(scene->store, prefix, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    guint count = 0;
    while (store_list_next(list, &object, NULL) > 0)
        count++;
    return count;
}

char *scene_find(Scene *scene, const char *prefix, const char *suffix)
{
    g_autoptr(StoreList) list = store_list(scene->store, prefix, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    while (store_list_next(list, &object, NULL) > 0) {
        if (g_str_has_suffix(object->key, suffix))
            return g_strdup(object->key);
    }
    return NULL;
}

char *scene_get(Scene *scene, const char *key, gsize *length)
{
    g_autoptr(GBytes) bytes = store_get_bytes(scene->store, key, NULL, 64 * 1024 * 1024, NULL, NULL);
    if (bytes == NULL)
        return NULL;
    gconstpointer data = g_bytes_get_data(bytes, length);
    char *copy = g_malloc(*length + 1);
    if (*length > 0)
        memcpy(copy, data, *length);
    copy[*length] = '\0';
    return copy;
}

static gboolean keep_plain(const guint8 *data, gsize length, gpointer user, GError **error)
{
    g_byte_array_append(user, data, (guint)length);
    return TRUE;
}

/* The content of an object as the file had it. */
static GByteArray *content_of(Scene *scene, const S3Keys *keys, const char *key)
{
    gsize length = 0;
    g_autofree char *data = scene_get(scene, key, &length);
    GByteArray *out = g_byte_array_new();
    if (data == NULL)
        fail_msg("the object %s is missing", key);
    if (keys == NULL) {
        g_byte_array_append(out, (const guint8 *)data, (guint)length);
        return out;
    }
    g_autoptr(TinkDecryptor) decryptor = tink_decryptor_new(keys->content);
    assert_true(tink_decryptor_begin(decryptor, S3CONTENT_ASSOCIATED, strlen(S3CONTENT_ASSOCIATED), NULL));
    assert_true(tink_decryptor_update(decryptor, data, length, keep_plain, out, NULL));
    assert_true(tink_decryptor_finish(decryptor, keep_plain, out, NULL));
    return out;
}

/* An entry with an object: the object is the file, to the byte. */
static void check_object(Scene *scene, const S3Keys *keys, const char *prefix, const S3Entry *entry)
{
    g_autofree char *key = g_strconcat(prefix, entry->key, NULL);
    g_autoptr(GByteArray) have = content_of(scene, keys, key);
    g_autofree char *path = g_build_filename(scene->source, entry->path, NULL);
    g_autofree char *want = NULL;
    gsize length = 0;
    assert_true(g_file_get_contents(path, &want, &length, NULL));
    if (have->len != length || (length > 0 && memcmp(have->data, want, length) != 0))
        fail_msg("%s has another content in the bucket", entry->path);
    g_autoptr(StoreObject) object = store_head(scene->store, key, NULL, NULL);
    assert_int_equal(object->size, entry->object_size);
    assert_string_equal(object->etag, entry->etag);
    assert_non_null(object->mtime);
}

static void check_entry(Scene *scene, const S3Entry *entry)
{
    struct stat st;
    const char *name = entry->path[0] != '\0' ? entry->path : ".";
    if (fstatat(scene->source_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        fail_msg("%s is in the tree, not in the source", entry->path);
    assert_int_equal(entry->meta.mode, st.st_mode);
    assert_int_equal(entry->meta.mtime_s, st.st_mtim.tv_sec);
    assert_int_equal(entry->meta.mtime_ns, st.st_mtim.tv_nsec);
    if (S_ISREG(st.st_mode))
        assert_int_equal(entry->meta.size, st.st_size);
    if (S_ISLNK(st.st_mode)) {
        char target[4096];
        ssize_t length = readlinkat(scene->source_fd, name, target, sizeof target);
        assert_true(length >= 0 && strncmp(target, entry->target, (size_t)length) == 0);
    }
}

static guint count_source(int dir_fd, guint *files)
{
    DIR *dir = fdopendir(dup(dir_fd));
    guint count = 0;
    rewinddir(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        count++;
        *files += entry->d_type == DT_REG ? 1 : 0;
        if (entry->d_type == DT_DIR) {
            g_auto(AutoFd) child = openat(dir_fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            count += count_source(child, files);
            fd_clear(&child);
        }
    }
    closedir(dir);
    return count;
}

static guint count_objects(Scene *scene, const char *prefix)
{
    g_autoptr(StoreList) list = store_list(scene->store, prefix, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    guint count = 0;
    while (store_list_next(list, &object, NULL) > 0) {
        const char *key = object->key + strlen(prefix);
        gboolean is_long = g_str_has_prefix(key, ".backapp/long/");
        count += is_long || !names_is_own_key(key) ? 1 : 0;
    }
    return count;
}

void scene_check(Scene *scene, const char *prefix)
{
    g_auto(S3Keys) own = {0};
    const S3Keys *keys = NULL;
    if (scene->options.master_key != NULL) {
        s3keys_derive(scene->options.master_key, &own);
        keys = &own;
    }
    g_autoptr(Store) store = store_prefix_borrow(scene->store, prefix);
    g_autoptr(GPtrArray) roots = tree_list_roots(store, NULL);
    assert_true(roots != NULL && roots->len > 0);
    const TreeRoot *newest = g_ptr_array_index(roots, 0);
    g_autoptr(GError) error = NULL;
    g_autoptr(TreeReader) reader = tree_reader_open(store, newest->key, keys != NULL ? keys->content : NULL, &error);
    if (reader == NULL)
        fail_msg("%s", error->message);
    guint entries = 0;
    guint objects = 0;
    guint files = 0;
    S3Entry entry;
    int got = 0;
    while ((got = tree_reader_next(reader, &entry, &error)) > 0) {
        check_entry(scene, &entry);
        entries += entry.path[0] != '\0' ? 1 : 0;
        objects += entry.key != NULL ? 1 : 0;
        if (entry.key != NULL)
            check_object(scene, keys, prefix, &entry);
    }
    assert_int_equal(got, 0);
    assert_int_equal(entries, count_source(scene->source_fd, &files));
    assert_int_equal(objects, files);
    assert_int_equal(count_objects(scene, prefix), files);
    assert_false(tree_reader_root(reader)->partial);
}

guint64 scene_writes(Scene *scene)
{
    StoreCounts counts = {0};
    store_counts(scene->store, &counts);
    return counts.requests[STORE_REQUEST_PUT] + counts.requests[STORE_REQUEST_COPY] +
           counts.requests[STORE_REQUEST_DELETE];
}

static const StoreOps *real;
static StoreOps hooked;
static atomic_uint passed;
static guint limit;
static gboolean kills;

static gboolean boundary(GError **error)
{
    guint now = atomic_fetch_add(&passed, 1) + 1;
    if (limit == 0 || now < limit)
        return TRUE;
    if (kills)
        (void)kill(getpid(), SIGKILL);
    return error_set(error, BACKAPP_ERROR_TRANSIENT, "the line is cut");
}

static gboolean hook_put(Store *store, const char *key, const StoreBody *body, const StorePut *how, StoreResult *result,
                         GError **error)
{
    return boundary(error) && real->put(store, key, body, how, result, error) && boundary(error);
}

static gboolean hook_get(Store *store, const StoreRange *range, StoreWrite write, gpointer user_data,
                         StoreObject **object, GError **error)
{
    return boundary(error) && real->get(store, range, write, user_data, object, error);
}

static StoreObject *hook_head(Store *store, const char *key, const char *version, GError **error)
{
    return boundary(error) ? real->head(store, key, version, error) : NULL;
}

static StoreList *hook_list(Store *store, const char *prefix, const char *start_after, gboolean versions,
                            GError **error)
{
    return boundary(error) ? real->list(store, prefix, start_after, versions, error) : NULL;
}

static gboolean hook_delete(Store *store, const char *key, const char *version, GError **error)
{
    return boundary(error) && real->delete_one(store, key, version, error) && boundary(error);
}

static gboolean hook_copy(Store *store, const StoreSource *source, const char *key, const StorePut *how,
                          StoreResult *result, GError **error)
{
    return boundary(error) && real->copy(store, source, key, how, result, error) && boundary(error);
}

static char *hook_begin(Store *store, const char *key, const StorePut *how, GError **error)
{
    char *id = boundary(error) ? real->begin(store, key, how, error) : NULL;
    if (id != NULL && !boundary(error))
        g_clear_pointer(&id, g_free);
    return id;
}

static gboolean hook_part(Store *store, const char *key, const char *upload, guint number, const StoreBody *body,
                          char **etag, GError **error)
{
    return boundary(error) && real->part(store, key, upload, number, body, etag, error) && boundary(error);
}

static gboolean hook_copy_part(Store *store, const char *key, const char *upload, guint number,
                               const StoreSource *source, guint64 offset, guint64 length, char **etag, GError **error)
{
    return boundary(error) && real->copy_part(store, key, upload, number, source, offset, length, etag, error) &&
           boundary(error);
}

static gboolean hook_complete(Store *store, const char *key, const char *upload, const StorePart *parts, guint count,
                              const StorePut *how, StoreResult *result, GError **error)
{
    return boundary(error) && real->complete(store, key, upload, parts, count, how, result, error) && boundary(error);
}

void scene_hook(Scene *scene, guint count, gboolean kill)
{
    scene_unhook(scene);
    real = scene->store->ops;
    hooked = *real;
    hooked.put = hook_put;
    hooked.get = hook_get;
    hooked.head = hook_head;
    hooked.list = hook_list;
    hooked.delete_one = hook_delete;
    hooked.delete_many = NULL; /* one by one: each is a boundary */
    hooked.copy = hook_copy;
    hooked.begin = hook_begin;
    hooked.part = hook_part;
    hooked.copy_part = hook_copy_part;
    hooked.complete = hook_complete;
    atomic_store(&passed, 0);
    limit = count;
    kills = kill;
    scene->store->ops = &hooked;
}

guint scene_boundaries(void)
{
    return atomic_load(&passed);
}

void scene_unhook(Scene *scene)
{
    if (scene->store->ops == &hooked)
        scene->store->ops = real;
}
