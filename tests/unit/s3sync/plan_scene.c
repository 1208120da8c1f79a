#include "plan_scene.h"

#include <string.h>

#include "crypto/digest.h"
#include "crypto/siv.h"

static void ignore_stage(RunSink *sink, const char *name)
{
    (void)sink;
    (void)name;
}

static void ignore_progress(RunSink *sink, const RunProgress *progress)
{
    (void)sink;
    (void)progress;
}

static void keep_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    Scene *scene = (Scene *)((char *)sink - offsetof(Scene, sink));
    (void)message;
    g_ptr_array_add(scene->warnings, g_strdup_printf("%s %s", code, path != NULL ? path : "-"));
}

gboolean scene_warned(const Scene *scene, const char *code_and_path)
{
    return g_ptr_array_find_with_equal_func(scene->warnings, code_and_path, g_str_equal, NULL);
}

Catalogue *scene_catalogue(Scene *scene, const char *prefix)
{
    g_autofree char *name = g_strdelimit(g_strdup(prefix), "/", '_');
    g_autofree char *path = g_strdup_printf("%s/state/catalogue-%s", scene->scratch->path, name);
    gboolean fresh, unfinished;
    g_autoptr(GError) error = NULL;
    Catalogue *catalogue = catalogue_open(path, prefix, &fresh, &unfinished, &error);
    if (catalogue == NULL)
        fail_msg("%s", error->message);
    return catalogue;
}

Scene *scene_new(Scratch *scratch, const char *prefix, gboolean encrypted_names)
{
    static const guint8 NAME_KEY[SIV_KEY_BYTES];
    Scene *scene = g_new0(Scene, 1);
    scene->scratch = scratch;
    assert_true(dir_make_path(scratch->fd, "source", 0755, NULL) && dir_make_path(scratch->fd, "state", 0755, NULL));
    scene->source_fd = dir_open(scratch->fd, "source", NULL);
    scene->whole = store_memory_new();
    scene->prefix = g_strdup(prefix);
    scene->store = store_prefix_new(scene->whole, prefix);
    scene->catalogue = scene_catalogue(scene, prefix);
    scene->names = names_new(encrypted_names ? NAME_KEY : NULL);
    scene->patterns = pattern_list_new();
    scene->warnings = g_ptr_array_new_with_free_func(g_free);
    scene->sink = (RunSink){.stage = ignore_stage, .progress = ignore_progress, .warning = keep_warning};
    scene->options = (S3syncOptions){.sink = &scene->sink, .delete_extraneous = TRUE};
    scene->scan = (ScanOptions){.root_fd = scene->source_fd,
                                .names = scene->names,
                                .patterns = scene->patterns,
                                .metadata = TRUE,
                                .sink = &scene->sink};
    scene->list = TRUE;
    return scene;
}

void scene_free(Scene *scene)
{
    if (scene == NULL)
        return;
    scan_stats_clear(&scene->stats);
    catalogue_free(scene->catalogue);
    catalogue_free(scene->base);
    names_free(scene->names);
    pattern_list_free(scene->patterns);
    store_free(scene->store);
    g_ptr_array_unref(scene->warnings);
    (void)close(scene->source_fd);
    g_free(scene->prefix);
    g_free(scene->base_prefix);
    g_free(scene);
}

void scene_write(Scene *scene, const char *path, const char *content, gint64 mtime)
{
    g_autofree char *parent = g_path_get_dirname(path);
    if (strcmp(parent, ".") != 0)
        assert_true(dir_make_path(scene->source_fd, parent, 0755, NULL));
    const char *base = NULL;
    AutoFd fd = dir_open_parent(scene->source_fd, path, &base, NULL);
    put_file(fd, base, content, strlen(content));
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime}};
    assert_int_equal(utimensat(fd, base, times, 0), 0);
}

void scene_put(Scene *scene, const char *key, const char *content, const char *mtime)
{
    StoreBody body = {.data = content, .length = strlen(content)};
    StorePut how = {.mtime = mtime};
    g_auto(StoreResult) result = {0};
    g_autoptr(GError) error = NULL;
    if (!store_put(scene->store, key, &body, &how, &result, &error))
        fail_msg("%s", error->message);
}

char *scene_get(Scene *scene, const char *key)
{
    g_autoptr(GBytes) bytes = store_get_bytes(scene->store, key, NULL, 1 << 20, NULL, NULL);
    if (bytes == NULL)
        return NULL;
    gsize length = 0;
    const char *data = g_bytes_get_data(bytes, &length);
    return g_strndup(data != NULL ? data : "", length);
}

S3Plan *scene_plan(Scene *scene)
{
    S3PlanInput input = {.options = &scene->options,
                         .store = scene->store,
                         .prefix_length = strlen(scene->prefix),
                         .catalogue = scene->catalogue,
                         .list = scene->list,
                         .base = scene->base,
                         .base_prefix = scene->base_prefix};
    g_autoptr(GError) error = NULL;
    scan_stats_clear(&scene->stats);
    S3Plan *plan = s3plan_make(&input, &scene->scan, &scene->stats, &error);
    if (plan == NULL)
        fail_msg("%s", error->message);
    return plan;
}

char *scene_describe(S3Plan *plan)
{
    static const char LETTERS[] = "?KUCTYDM";
    g_autoptr(S3PlanReader) reader = s3plan_reader_new(plan);
    GString *text = g_string_new(NULL);
    S3PlanItem item;
    int got;
    while ((got = s3plan_reader_next(reader, &item, NULL)) > 0) {
        if (item.op == S3PLAN_KEEP || item.op == S3PLAN_META)
            continue;
        g_string_append_printf(text, "%s%c %s%s%s", text->len > 0 ? ", " : "", LETTERS[item.op], item.entry.key,
                               item.reason != NULL ? " " : "", item.reason != NULL ? item.reason : "");
    }
    assert_int_equal(got, 0);
    return g_string_free(text, FALSE);
}

void scene_expect(Scene *scene, const char *want)
{
    g_autoptr(S3Plan) plan = scene_plan(scene);
    g_autofree char *have = scene_describe(plan);
    assert_string_equal(have, want);
}

static char *mtime_text(const FileMeta *meta)
{
    return g_strdup_printf("%" G_GINT64_FORMAT ".%09u", meta->mtime_s, meta->mtime_ns);
}

static void put_row(Scene *scene, const S3PlanItem *item, const char *etag, const char *content, gsize length)
{
    CatalogueRow row = {.key = item->entry.key,
                        .object_size = length,
                        .size = item->entry.meta.size,
                        .mtime_s = item->entry.meta.mtime_s,
                        .mtime_ns = item->entry.meta.mtime_ns,
                        .etag = etag,
                        .part_size = 8 << 20};
    row.storage_class = item->storage_class;
    digest_sha256(content, length, row.hash);
    assert_true(catalogue_put(scene->catalogue, &row, NULL));
}

static void upload(Scene *scene, const S3PlanItem *item)
{
    const char *base = NULL;
    AutoFd parent = dir_open_parent(scene->source_fd, item->entry.path, &base, NULL);
    AutoFd fd = openat(parent, base, O_RDONLY | O_CLOEXEC);
    g_autofree char *content = g_malloc0(1 << 16);
    gssize length = read(fd, content, 1 << 16);
    assert_true(length >= 0 && (guint64)length == item->entry.meta.size);
    g_autofree char *mtime = mtime_text(&item->entry.meta);
    StoreBody body = {.data = content, .length = (gsize)length};
    StorePut how = {.mtime = mtime, .storage_class = item->storage_class};
    g_auto(StoreResult) result = {0};
    assert_true(store_put(scene->store, item->entry.key, &body, &how, &result, NULL));
    put_row(scene, item, result.etag, content, (gsize)length);
}

static void check(Scene *scene, const S3PlanItem *item)
{
    g_autofree char *mtime = mtime_text(&item->entry.meta);
    g_autoptr(StoreObject) object = store_head(scene->store, item->entry.key, NULL, NULL);
    assert_non_null(object);
    if (g_strcmp0(object->mtime, mtime) != 0) {
        upload(scene, item);
        return;
    }
    g_autofree char *content = scene_get(scene, item->entry.key);
    put_row(scene, item, object->etag, content, object->size);
}

static void copy(Scene *scene, const S3PlanItem *item)
{
    StoreSource source = {.key = item->source, .if_match = item->source_etag, .size = item->entry.object_size};
    g_autofree char *mtime = mtime_text(&item->entry.meta);
    g_autofree char *key = g_strconcat(scene->prefix, item->entry.key, NULL);
    StorePut how = {.mtime = mtime, .storage_class = item->storage_class};
    g_auto(StoreResult) result = {0};
    g_autoptr(GError) error = NULL;
    if (!store_copy(scene->whole, &source, key, &how, &result, &error))
        fail_msg("%s: %s", item->source, error->message);
    g_autofree char *content = scene_get(scene, item->entry.key);
    put_row(scene, item, result.etag, content, strlen(content));
}

void scene_apply(Scene *scene, S3Plan *plan)
{
    g_autoptr(S3PlanReader) reader = s3plan_reader_new(plan);
    S3PlanItem item;
    while (s3plan_reader_next(reader, &item, NULL) > 0) {
        if (item.op == S3PLAN_UPLOAD || item.op == S3PLAN_TOUCH)
            upload(scene, &item);
        else if (item.op == S3PLAN_CHECK)
            check(scene, &item);
        else if (item.op == S3PLAN_COPY)
            copy(scene, &item);
        else if (item.op == S3PLAN_DELETE)
            assert_true(store_delete(scene->store, item.entry.key, NULL, NULL) &&
                        catalogue_remove(scene->catalogue, item.entry.key, NULL));
    }
    assert_true(catalogue_flush(scene->catalogue, NULL));
}

void scene_run(Scene *scene)
{
    g_autoptr(S3Plan) plan = scene_plan(scene);
    scene_apply(scene, plan);
}
