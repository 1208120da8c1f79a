/*
 * Restores out of archives: what a chain tells comes out, links find their content in whichever archive has it, names that
 * lead outside are refused, what is damaged costs only itself.
 */
#include "../archive/archive_scene.h"
#include "../base/cmocka_all.h"
#include "../mirror/collector.h"

#include "base/error.h"
#include "crypto/kdf.h"
#include "crypto/key.h"
#include "crypto/tink.h"
#include "engine/restore/export.h"
#include "engine/restore/restore.h"
#include "store/drivers.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const guint8 master_key[KEY_BYTES] = "the key that opens what is kept";

typedef struct {
    char *path, *target;
    Store *store;
    ArchivePlace place;
    guint8 content_key[TINK_KEY_BYTES];
    Collector *collector;
    RestoreOptions options;
    RestoreStats stats;
} Scene;

static Scene *scene_new(void)
{
    Scene *scene = g_new0(Scene, 1);
    scene->path = g_dir_make_tmp("backapp-unit-XXXXXX", NULL);
    assert_non_null(scene->path);
    scene->target = g_build_filename(scene->path, "target", NULL);
    scene->store = store_memory_new();
    scene->place = (ArchivePlace){.store = scene->store, .name = "docs"};
    scene->collector = collector_new();
    restore_options_default(&scene->options);
    scene->options.source.store = scene->store;
    scene->options.target = scene->target;
    scene->options.sink = &scene->collector->sink;
    scene->options.concurrency = 2;
    return scene;
}

static void scene_free(Scene *scene)
{
    char *argv[] = {(char *)"rm", (char *)"-rf", (char *)"--", scene->path, NULL};
    assert_true(g_spawn_sync(NULL, argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL));
    restore_stats_clear(&scene->stats);
    collector_free(scene->collector);
    store_free(scene->store);
    g_free(scene->target);
    g_free(scene->path);
    g_free(scene);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Scene, scene_free)

static void make_archive(Scene *scene, const SceneFile *files, guint count)
{
    archive_point_free(scene_archive(&scene->place, &(SceneOptions){0}, files, count));
}

static void encrypt(Scene *scene)
{
    kdf_hkdf_sha256(master_key, KEY_BYTES, NULL, 0, KEY_FOR_CONTENT, sizeof KEY_FOR_CONTENT - 1, scene->content_key,
                    TINK_KEY_BYTES);
    scene->place.content_key = scene->content_key;
}

static gboolean restore(Scene *scene, GError **error)
{
    restore_stats_clear(&scene->stats);
    return restore_run(&scene->options, &scene->stats, error);
}

static void restore_well(Scene *scene)
{
    g_autoptr(GError) error = NULL;
    if (!restore(scene, &error))
        fail_msg("%s", error->message);
}

static char *content_of(const Scene *scene, const char *path)
{
    char *content = NULL;
    g_autofree char *whole = g_build_filename(scene->target, path, NULL);
    (void)g_file_get_contents(whole, &content, NULL, NULL);
    return content;
}

static void assert_content(const Scene *scene, const char *path, const char *expected)
{
    g_autofree char *content = content_of(scene, path);
    assert_non_null(content);
    assert_string_equal(content, expected);
}

static struct stat facts_of(const Scene *scene, const char *path)
{
    struct stat st = {0};
    g_autofree char *whole = g_build_filename(scene->target, path, NULL);
    (void)lstat(whole, &st);
    return st;
}

#define DIRECTORY(name)                                                                                                \
    {                                                                                                                  \
        .path = (name), .mode = S_IFDIR | 0750                                                                         \
    }
#define FILE_OF(name, text)                                                                                            \
    {                                                                                                                  \
        .path = (name), .data = (text), .length = sizeof(text) - 1                                                     \
    }

static const SceneFile first_files[] = {
    DIRECTORY(""),
    FILE_OF("a", "one"),
    {.path = "b", .link = "a"},
    DIRECTORY("d"),
    FILE_OF("d/gone", "soon"),
    FILE_OF("d/kept", "kept since the full one"),
    {.path = "fifo", .mode = S_IFIFO | 0600},
    {.path = "l", .mode = S_IFLNK | 0777, .target = "d/kept"},
};

/* Of the first archive only what has changed: a and b together, since they are one file. */
static const SceneFile second_files[] = {
    FILE_OF("a", "two, longer"), {.path = "b", .link = "a"},      {.path = "d/gone", .deleted = TRUE},
    FILE_OF("e", "new"),         {.path = "z", .link = "d/kept"},
};

static void make_chain(Scene *scene, ArchivePoint **full, ArchivePoint **newer)
{
    *full =
        scene_archive(&scene->place, &(SceneOptions){.codec = ARCHIVE_ZSTD}, first_files, G_N_ELEMENTS(first_files));
    const SceneOptions options = {.type = ARCHIVE_INCREMENTAL, .time = 1763690400, .parent = *full};
    *newer = scene_archive(&scene->place, &options, second_files, G_N_ELEMENTS(second_files));
}

static void test_a_chain(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(ArchivePoint) full = NULL, newer = NULL;
    make_chain(scene, &full, &newer);
    restore_well(scene);
    assert_false(scene->stats.partial);
    assert_string_equal(scene->stats.point, newer->base);
    assert_int_equal(scene->stats.files_restored, 7);
    assert_content(scene, "a", "two, longer");
    assert_content(scene, "d/kept", "kept since the full one");
    assert_content(scene, "e", "new");
    assert_int_equal(facts_of(scene, "a").st_ino, facts_of(scene, "b").st_ino);
    assert_int_equal(facts_of(scene, "z").st_ino, facts_of(scene, "d/kept").st_ino);
    assert_true(S_ISFIFO(facts_of(scene, "fifo").st_mode) && S_ISLNK(facts_of(scene, "l").st_mode));
    assert_int_equal(facts_of(scene, "d").st_mode, S_IFDIR | 0750);
    assert_int_equal(facts_of(scene, "d/gone").st_mode, 0);
    /* Again: nothing to do, whether by time or by content. */
    for (guint checksum = 0; checksum < 2; checksum++) {
        scene->options.checksum = checksum != 0;
        restore_well(scene);
        assert_int_equal(scene->stats.files_restored, 0);
        assert_int_equal(scene->stats.files_unchanged, 7);
    }
    /* Back to the full one, exactly. */
    scene->options.source.at = full->base;
    scene->options.delete_extraneous = TRUE;
    restore_well(scene);
    assert_content(scene, "a", "one");
    assert_content(scene, "d/gone", "soon");
    assert_int_equal(facts_of(scene, "e").st_mode, 0);
    assert_int_equal(facts_of(scene, "a").st_ino, facts_of(scene, "b").st_ino);
    assert_int_equal(scene->stats.files_deleted, 2);
}

static void test_a_further_name_alone(void **state)
{
    static const char *const paths[][2] = {{"b", NULL}, {"z", NULL}};
    static const char *const contents[] = {"two, longer", "kept since the full one"};
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(ArchivePoint) full = NULL, newer = NULL;
    make_chain(scene, &full, &newer);
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        scene->options.paths = paths[i];
        restore_well(scene);
        assert_int_equal(scene->stats.files_restored, 1);
        assert_content(scene, paths[i][0], contents[i]);
    }
    static const char *const none[] = {"d/gone", NULL};
    g_autoptr(GError) error = NULL;
    scene->options.paths = none;
    assert_false(restore(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND) && strstr(error->message, "d/gone"));
}

static void test_checksums_find_what_time_hides(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(ArchivePoint) full = NULL, newer = NULL;
    make_chain(scene, &full, &newer);
    restore_well(scene);
    g_autofree char *file = g_build_filename(scene->target, "d/kept", NULL);
    struct stat st = facts_of(scene, "d/kept");
    assert_true(g_file_set_contents(file, "KEPT since the full one", -1, NULL));
    const struct timespec times[] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, file, times, 0), 0);
    scene->options.checksum = TRUE;
    restore_well(scene);
    assert_content(scene, "d/kept", "kept since the full one");
}

/* ---- archives that nobody's backup wrote ---- */

static void assert_refused(Scene *scene, const SceneFile *files, guint count)
{
    static const char *const formats[] = {"restore", "tar", "zip"};
    g_autofree char *outside = g_build_filename(scene->path, "outside", NULL);
    make_archive(scene, files, count);
    for (guint i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autoptr(GError) error = NULL;
        g_autofree char *file = g_build_filename(scene->path, formats[i], NULL);
        int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        const RestoreExportOptions options = {.source = scene->options.source,
                                              .format = i == 2 ? RESTORE_ZIP : RESTORE_TAR,
                                              .fd = fd,
                                              .sink = scene->options.sink};
        restore_stats_clear(&scene->stats);
        assert_false(i == 0 ? restore(scene, &error) : restore_export(&options, &scene->stats, &error));
        (void)close(fd);
        assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
        assert_int_not_equal(access(outside, F_OK), 0);
    }
}

static void test_no_name_leads_outside(void **state)
{
    static const char *const paths[] = {"../outside",  "/outside", "./outside", "d//outside", "d/../../outside",
                                        "d/./outside", "..",       ".",         "d/..",       "//outside"};
    for (guint i = 0; i < G_N_ELEMENTS(paths); i++) {
        g_autoptr(Scene) scene = scene_new();
        const SceneFile file = FILE_OF(paths[i], "evil"), folder = {.path = paths[i], .mode = S_IFDIR | 0700},
                        symlink = {.path = paths[i], .mode = S_IFLNK | 0777, .target = "/"};
        assert_refused(scene, &file, 1);
        g_autoptr(Scene) other = scene_new();
        assert_refused(other, &folder, 1);
        g_autoptr(Scene) third = scene_new();
        assert_refused(third, &symlink, 1);
    }
}

static void test_no_link_leads_outside(void **state)
{
    static const char *const links[] = {"../outside", "/etc/passwd", "d/../../outside", "..", ""};
    for (guint i = 0; i < G_N_ELEMENTS(links); i++) {
        g_autoptr(Scene) scene = scene_new();
        const SceneFile files[] = {DIRECTORY(""), {.path = "x", .link = links[i]}};
        assert_refused(scene, files, G_N_ELEMENTS(files));
    }
}

/* A symbolic link and, below it, files: an index may have both, in either order of what is first. */
static void test_no_symlink_is_written_through(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *elsewhere = g_build_filename(scene->path, "elsewhere", NULL);
    g_autofree char *victim = g_build_filename(elsewhere, "outside", NULL);
    assert_int_equal(g_mkdir(elsewhere, 0700), 0);
    const SceneFile files[] = {
        DIRECTORY(""),
        {.path = "d", .mode = S_IFLNK | 0777, .target = "../elsewhere"},
        FILE_OF("d/outside", "evil"),
        {.path = "d/pipe", .mode = S_IFIFO | 0600},
        {.path = "h", .link = "d/outside"},
    };
    make_archive(scene, files, G_N_ELEMENTS(files));
    for (guint i = 0; i < 2; i++) {
        (void)restore(scene, NULL);
        assert_int_not_equal(access(victim, F_OK), 0);
    }
    g_autofree char *pipe = g_build_filename(elsewhere, "pipe", NULL);
    assert_int_not_equal(access(pipe, F_OK), 0);
}

/* A link whose first name is another link, itself, a folder, or nothing. */
static void test_links_that_lead_nowhere(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    const SceneFile files[] = {DIRECTORY(""),
                               FILE_OF("a", "one"),
                               {.path = "b", .link = "c"},
                               {.path = "c", .link = "b"},
                               {.path = "d", .link = "d"},
                               {.path = "e", .link = "nothing"}};
    make_archive(scene, files, G_N_ELEMENTS(files));
    (void)restore(scene, NULL);
    assert_content(scene, "a", "one");
    static const char *const names[] = {"b", "c", "d", "e"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        assert_int_equal(facts_of(scene, names[i]).st_mode, 0);
    assert_true(scene->stats.partial);
}

static void test_damage_costs_only_itself(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    const gsize length = 3 * ARCHIVE_MEMBER_BYTES;
    g_autofree guint8 *big = scene_bytes(1, length, FALSE);
    const SceneFile files[] = {
        DIRECTORY(""), FILE_OF("a", "first"), {.path = "big", .data = big, .length = length}, FILE_OF("z", "last")};
    g_autoptr(ArchivePoint) point = scene_archive(&scene->place, &(SceneOptions){0}, files, G_N_ELEMENTS(files));
    g_autofree char *key = archive_volume_key(point, 0);
    scene_flip(scene->store, key, (gint64)length / 2);
    restore_well(scene);
    assert_true(scene->stats.partial);
    assert_int_equal(scene->stats.damaged, 1);
    assert_int_equal(facts_of(scene, "big").st_mode, 0);
    assert_content(scene, "a", "first");
    assert_content(scene, "z", "last");
    assert_int_equal(collector_warned(scene->collector, "damaged big"), 1);
}

static void test_what_is_encrypted_needs_its_key(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(ArchivePoint) full = NULL, newer = NULL;
    encrypt(scene);
    make_chain(scene, &full, &newer);
    g_autoptr(GError) error = NULL;
    assert_false(restore(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_DENIED));
    guint8 wrong[KEY_BYTES] = "another";
    g_autoptr(GError) other = NULL;
    scene->options.source.master_key = wrong;
    assert_false(restore(scene, &other));
    assert_true(error_is(other, BACKAPP_ERROR_DENIED));
    scene->options.source.master_key = master_key;
    restore_well(scene);
    assert_content(scene, "a", "two, longer");
}

static void test_names_and_points(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(ArchivePoint) full = NULL, newer = NULL;
    make_chain(scene, &full, &newer);
    g_autoptr(GPtrArray) points = restore_points(&scene->options.source, NULL);
    assert_int_equal(points->len, 2);
    const RestorePoint *newest = g_ptr_array_index(points, 0);
    assert_string_equal(newest->name, newer->base);
    assert_string_equal(newest->archive, "docs");
    assert_true(newest->known && !newest->problem);
    scene->place.name = "music";
    const SceneFile files[] = {DIRECTORY(""), FILE_OF("song", "la")};
    make_archive(scene, files, G_N_ELEMENTS(files));
    g_autoptr(GPtrArray) all = restore_points(&scene->options.source, NULL);
    assert_int_equal(all->len, 3);
    g_autoptr(GError) error = NULL;
    assert_false(restore(scene, &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    assert_true(strstr(error->message, "docs, music") && strstr(error->message, "--name"));
    scene->options.source.name = "music";
    restore_well(scene);
    assert_content(scene, "song", "la");
    g_autoptr(GPtrArray) own = restore_points(&scene->options.source, NULL);
    assert_int_equal(own->len, 1);
    scene->options.source.name = "films";
    g_autoptr(GError) missing = NULL;
    assert_false(restore(scene, &missing));
    assert_true(error_is(missing, BACKAPP_ERROR_NOT_FOUND));
}

static void test_a_broken_chain_is_named(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(ArchivePoint) full = NULL, newer = NULL;
    make_chain(scene, &full, &newer);
    g_autofree char *key = archive_index_key("docs", full->base);
    assert_true(store_delete(scene->store, key, NULL, NULL));
    g_autoptr(GError) error = NULL;
    assert_false(restore(scene, &error));
    assert_non_null(strstr(error->message, full->base));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_chain),
        cmocka_unit_test(test_a_further_name_alone),
        cmocka_unit_test(test_checksums_find_what_time_hides),
        cmocka_unit_test(test_no_name_leads_outside),
        cmocka_unit_test(test_no_link_leads_outside),
        cmocka_unit_test(test_no_symlink_is_written_through),
        cmocka_unit_test(test_links_that_lead_nowhere),
        cmocka_unit_test(test_damage_costs_only_itself),
        cmocka_unit_test(test_what_is_encrypted_needs_its_key),
        cmocka_unit_test(test_names_and_points),
        cmocka_unit_test(test_a_broken_chain_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
