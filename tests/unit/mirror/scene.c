#include "scene.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/dir.h"
#include "fs/meta.h"
#include "fs/remove.h"

static void on_stage(RunSink *sink, const char *name)
{
}

static void on_progress(RunSink *sink, const RunProgress *progress)
{
}

static void on_warning(RunSink *sink, const char *code, const char *path, const char *message)
{
    Scene *scene = (Scene *)sink;
    g_ptr_array_add(scene->warnings, g_strdup_printf("%s %s %s", code, path != NULL ? path : "-", message));
}

Scene *scene_new(void)
{
    Scene *scene = g_new0(Scene, 1);
    scene->sink = (RunSink){.stage = on_stage, .progress = on_progress, .warning = on_warning};
    scene->warnings = g_ptr_array_new_with_free_func(g_free);
    scene->top = g_build_filename(g_get_tmp_dir(), "backapp-unit-XXXXXX", NULL);
    assert_non_null(g_mkdtemp(scene->top));
    scene->dest.path = g_build_filename(scene->top, "dest", NULL);
    assert_int_equal(mkdir(scene->dest.path, 0755), 0);
    scene->dest.root_fd = open(scene->dest.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(scene->dest.root_fd >= 0);
    assert_int_equal(mkdirat(scene->dest.root_fd, ".backapp", 0700), 0);
    scene->dest.state_fd = dir_open(scene->dest.root_fd, ".backapp", NULL);
    assert_true(scene->dest.state_fd >= 0);
    scene->dest.abilities =
        (FsAbilities){.symlinks = TRUE, .hard_links = TRUE, .owners = TRUE, .modes = TRUE, .stable_inodes = TRUE};
    return scene;
}

void scene_free(Scene *scene)
{
    if (scene == NULL)
        return;
    (void)remove_tree(AT_FDCWD, scene->top, FALSE, NULL, NULL);
    fd_clear(&scene->dest.root_fd);
    fd_clear(&scene->dest.state_fd);
    g_free(scene->dest.path);
    g_free(scene->top);
    g_ptr_array_unref(scene->warnings);
    g_free(scene);
}

static void make_parent(Scene *scene, const char *path)
{
    g_autofree char *parent = g_path_get_dirname(path);
    if (strcmp(parent, ".") != 0)
        assert_true(dir_make_path(scene->dest.root_fd, parent, 0755, NULL));
}

guint64 scene_write(Scene *scene, const char *path, const char *text)
{
    make_parent(scene, path);
    g_auto(AutoFd) fd = openat(scene->dest.root_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return scene_ino(scene, path);
}

guint64 scene_mkdir(Scene *scene, const char *path, guint mode)
{
    make_parent(scene, path);
    assert_int_equal(mkdirat(scene->dest.root_fd, path, 0700), 0);
    assert_int_equal(fchmodat(scene->dest.root_fd, path, mode, 0), 0);
    return scene_ino(scene, path);
}

static gboolean look(const Scene *scene, const char *path, FileMeta *meta)
{
    return meta_read(scene->dest.root_fd, path, meta, NULL);
}

char *scene_read(Scene *scene, const char *path)
{
    FileMeta meta;
    if (!look(scene, path, &meta))
        return g_strdup("<none>");
    if (S_ISDIR(meta.mode))
        return g_strdup("<dir>");
    g_autofree char *full = g_build_filename(scene->dest.path, path, NULL);
    char *text = NULL;
    assert_true(g_file_get_contents(full, &text, NULL, NULL));
    return text;
}

guint64 scene_ino(Scene *scene, const char *path)
{
    FileMeta meta;
    return look(scene, path, &meta) ? meta.ino : 0;
}

guint scene_mode(Scene *scene, const char *path)
{
    FileMeta meta;
    return look(scene, path, &meta) ? meta.mode & 07777 : 0;
}

gint64 scene_mtime(Scene *scene, const char *path)
{
    FileMeta meta;
    return look(scene, path, &meta) ? meta.mtime_s : 0;
}

static void list_into(Scene *scene, const char *path, GString *out)
{
    g_auto(AutoFd) fd = dir_open(scene->dest.root_fd, path, NULL);
    g_auto(DirNames) names = {0};
    if (fd < 0)
        return;
    assert_true(dir_names_read(fd, &names, NULL, NULL));
    for (guint i = 0; i < dir_names_count(&names); i++) {
        const char *name = dir_names_get(&names, i);
        g_autofree char *child = path[0] != '\0' ? g_strdup_printf("%s/%s", path, name) : g_strdup(name);
        g_autofree char *text = scene_read(scene, child);
        FileMeta meta;
        assert_true(look(scene, child, &meta));
        g_string_append_printf(out, "%s %o %" G_GINT64_FORMAT " %s\n", child, meta.mode, meta.mtime_s, text);
        if (S_ISDIR(meta.mode))
            list_into(scene, child, out);
    }
}

char *scene_list(Scene *scene, const char *path)
{
    GString *out = g_string_new(NULL);
    list_into(scene, path, out);
    return g_string_free(out, FALSE);
}

guint scene_warned(const Scene *scene, const char *text)
{
    guint count = 0;
    for (guint i = 0; i < scene->warnings->len; i++)
        count += strstr(g_ptr_array_index(scene->warnings, i), text) != NULL;
    return count;
}
