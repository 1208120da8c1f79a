#include "scene.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/mirror/resume.h"
#include "fs/atomic.h"
#include "fs/dir.h"
#include "fs/facts.h"

#define STATE         ".backapp/"
#define STAGE         STATE "stage/"
#define LOG           STAGE "log"
#define HEADER        96
#define RECORD        16
#define MANY          5000
#define TEXT          "content"
#define OTHER_BOOT    "00000000-0000-0000-0000-000000000000"
#define OTHER_SESSION OTHER_BOOT " u1"

static guint syncs;

/* In place of the C library's: other work on this machine need not wait for the tests. */
int syncfs(int fd)
{
    syncs++;
    return fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

static const AttrsFilter FILTER = {.xattrs = TRUE, .acls = TRUE};

static FileMeta source_meta(void)
{
    return (FileMeta){.mode = S_IFREG | 0644,
                      .dev = 1,
                      .ino = 2,
                      .size = strlen(TEXT),
                      .mtime_s = 3,
                      .mtime_ns = 4,
                      .ctime_s = 5,
                      .ctime_ns = 6};
}

static Resume *open_run(Scene *scene)
{
    g_autoptr(GError) error = NULL;
    Resume *resume = resume_open(&scene->dest, &FILTER, &scene->sink, NULL, &error);
    if (resume == NULL)
        fail_msg("%s", error->message);
    return resume;
}

/* Puts a file into the stage of the run. */
static void stage_text(Scene *scene, const char *path, const char *text)
{
    g_autofree char *whole = g_strconcat(STAGE "tree/", path, NULL);
    scene_write(scene, whole, text);
}

static void stage_file(Scene *scene, Resume *resume, const char *path)
{
    FileMeta meta = source_meta();
    stage_text(scene, path, TEXT);
    assert_true(resume_done(resume, path, &meta, NULL));
}

/* A run that is interrupted when these files are complete. */
static void interrupted_run(Scene *scene, const char *path)
{
    g_autoptr(Resume) resume = open_run(scene);
    stage_file(scene, resume, path);
}

/* Takes a file under its own name into the new stage's top. */
static gboolean take(Resume *resume, const char *path, const FileMeta *meta)
{
    const char *slash = strrchr(path, '/');
    return resume_take(resume, path, meta, resume_tree_fd(resume), slash != NULL ? slash + 1 : path);
}

/* Whether a next run finds the file. */
static gboolean next_takes(Scene *scene, const char *path)
{
    FileMeta meta = source_meta();
    g_autoptr(Resume) resume = open_run(scene);
    return take(resume, path, &meta);
}

static char *read_log(Scene *scene, gsize *length)
{
    char *data = NULL;
    g_auto(AutoFd) fd = dir_open(scene->dest.state_fd, "stage", NULL);
    assert_true(atomic_read(fd, "log", 1024 * 1024, &data, length, NULL));
    return data;
}

static void write_log(Scene *scene, const char *data, gsize length)
{
    g_auto(AutoFd) fd = dir_open(scene->dest.state_fd, "stage", NULL);
    assert_true(atomic_write(fd, "log", data, length, 0600, NULL));
}

/* What marks checkpoint n of a boot in the log (docs/formats/mirror.md). */
typedef struct {
    guint64 high, low;
} Mark;

static Mark make_mark(const char *session, guint n)
{
    g_autofree char *text = g_strdup_printf("checkpoint %s %u", session, n);
    XXH128_hash_t hash = XXH3_128bits(text, strlen(text));
    return (Mark){hash.high64, hash.low64};
}

static void test_a_complete_file_is_used_once(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    interrupted_run(scene, "dir/file");
    guint64 ino = scene_ino(scene, STAGE "tree/dir/file");
    g_autoptr(Resume) resume = open_run(scene);
    assert_int_equal(scene_warned(scene, "note"), 1);
    assert_true(take(resume, "dir/file", &meta));
    g_autofree char *text = scene_read(scene, STAGE "tree/file");
    assert_string_equal(text, TEXT);
    assert_true(scene_ino(scene, STAGE "tree/file") == ino);
    assert_false(take(resume, "dir/file", &meta));
}

static void test_nothing_left_is_not_announced(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    g_autoptr(Resume) resume = open_run(scene);
    assert_false(take(resume, "file", &meta));
    assert_int_equal(scene->warnings->len, 0);
}

static void test_an_unfinished_file_is_not_used(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    {
        g_autoptr(Resume) resume = open_run(scene);
        stage_file(scene, resume, "complete");
        stage_text(scene, "unfinished", TEXT);
    }
    FileMeta meta = source_meta();
    g_autoptr(Resume) resume = open_run(scene);
    assert_false(take(resume, "unfinished", &meta));
    assert_true(take(resume, "complete", &meta));
}

static void test_only_the_very_same_source_counts(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    interrupted_run(scene, "file");
    FileMeta metas[9];
    for (guint i = 0; i < G_N_ELEMENTS(metas); i++)
        metas[i] = source_meta();
    metas[0].dev++;
    metas[1].ino++;
    metas[2].size++;
    metas[3].mtime_s++;
    metas[4].mtime_ns++;
    metas[5].ctime_s++;
    metas[6].ctime_ns++;
    metas[7].mode = S_IFREG | 0600;
    g_autoptr(Resume) resume = open_run(scene);
    for (guint i = 0; i < 8; i++)
        assert_false(take(resume, "file", &metas[i]));
    assert_false(take(resume, "other", &metas[8]));
    assert_true(take(resume, "file", &metas[8]));
}

/* Without its attributes it is not what this run wants. */
static void test_other_attributes_do_not_count(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    const AttrsFilter filters[] = {{.xattrs = TRUE}, {.acls = TRUE}};
    FileMeta meta = source_meta();
    interrupted_run(scene, "file");
    for (guint i = 0; i < 2; i++) {
        g_autoptr(Resume) resume = resume_open(&scene->dest, &filters[i], &scene->sink, NULL, NULL);
        assert_false(take(resume, "file", &meta));
    }
    assert_true(next_takes(scene, "file"));
}

static void test_a_file_of_another_size_is_not_used(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    interrupted_run(scene, "file");
    stage_text(scene, "file", "cut");
    assert_false(next_takes(scene, "file"));
}

static void test_something_else_in_its_place_is_not_used(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    {
        g_autoptr(Resume) resume = open_run(scene);
        assert_true(resume_done(resume, "link", &meta, NULL) && resume_done(resume, "directory", &meta, NULL) &&
                    resume_done(resume, "way/file", &meta, NULL));
        assert_int_equal(symlinkat("seven77", resume_tree_fd(resume), "link"), 0);
        assert_int_equal(mkdirat(resume_tree_fd(resume), "directory", 0700), 0);
        scene_write(scene, "outside/file", TEXT);
        assert_int_equal(symlinkat("../../../outside", resume_tree_fd(resume), "way"), 0);
    }
    g_autoptr(Resume) resume = open_run(scene);
    assert_false(take(resume, "link", &meta));
    assert_false(take(resume, "directory", &meta));
    assert_false(take(resume, "way/file", &meta));
    assert_true(scene_ino(scene, "outside/file") != 0);
}

/* A later run was interrupted in the middle of the same file. */
static void test_the_log_of_one_stage_does_not_speak_for_another(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    interrupted_run(scene, "file");
    Resume *resume = open_run(scene);
    stage_text(scene, "file", "xxxxxxx");
    resume_free(resume);
    assert_true(next_takes(scene, "file"));
    g_autofree char *text = scene_read(scene, STAGE "tree/file");
    assert_string_equal(text, TEXT);
}

/* ---- the machine was started again ---- */

/* The log as a run of another session (boot, mount) would have written it: that session's name, and its marks in place
 * of ours. */
static void pretend_session(Scene *scene, const char *session, gboolean with_marks)
{
    gsize length = 0;
    g_autofree char *log = read_log(scene, &length);
    g_autofree char *own = facts_session(scene->dest.root_fd);
    g_autofree char *header = g_strdup_printf("backapp-stage-2 %-*s\n", HEADER - 17, session);
    assert_int_equal(strlen(header), HEADER);
    assert_true(length >= HEADER);
    memcpy(log, header, HEADER);
    for (guint n = 0; with_marks && n < 10; n++) {
        const Mark ours = make_mark(own, n);
        const Mark theirs = make_mark(session, n);
        for (gsize at = HEADER; at + RECORD <= length; at += RECORD) {
            if (memcmp(log + at, &ours, RECORD) == 0)
                memcpy(log + at, &theirs, RECORD);
        }
    }
    write_log(scene, log, length);
}

static void test_after_a_boot_nothing_without_a_checkpoint(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    interrupted_run(scene, "file");
    pretend_session(scene, OTHER_SESSION, TRUE);
    assert_false(next_takes(scene, "file"));
    assert_int_equal(scene_warned(scene, "note"), 0);
}

/* The drive was out meanwhile. */
static void test_after_another_mount_nothing_without_a_checkpoint(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autofree char *boot_id = facts_boot_id();
    g_autofree char *other_mount = g_strconcat(boot_id, " u1", NULL);
    interrupted_run(scene, "file");
    pretend_session(scene, other_mount, TRUE);
    assert_false(next_takes(scene, "file"));
}

static void test_after_a_boot_what_a_checkpoint_covers(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    syncs = 0;
    {
        g_autoptr(Resume) resume = open_run(scene);
        stage_file(scene, resume, "first");
        assert_true(resume_checkpoint(resume, NULL));
        stage_file(scene, resume, "second");
        assert_true(resume_checkpoint(resume, NULL));
        stage_file(scene, resume, "third");
    }
    assert_int_equal(syncs, 2);
    pretend_session(scene, OTHER_SESSION, TRUE);
    g_autoptr(Resume) resume = open_run(scene);
    assert_true(take(resume, "first", &meta));
    assert_true(take(resume, "second", &meta));
    assert_false(take(resume, "third", &meta));
}

/* A mark says something only about the boot and the place in the order that it names. */
static void test_marks_of_another_boot_say_nothing(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    {
        g_autoptr(Resume) resume = open_run(scene);
        stage_file(scene, resume, "file");
        assert_true(resume_checkpoint(resume, NULL));
    }
    pretend_session(scene, OTHER_SESSION, FALSE);
    g_autoptr(Resume) resume = open_run(scene);
    assert_false(take(resume, "file", &meta));
}

static void test_within_a_boot_marks_do_not_matter(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    {
        g_autoptr(Resume) resume = open_run(scene);
        stage_file(scene, resume, "before");
        assert_true(resume_checkpoint(resume, NULL));
        stage_file(scene, resume, "after");
    }
    g_autoptr(Resume) resume = open_run(scene);
    assert_true(take(resume, "before", &meta));
    assert_true(take(resume, "after", &meta));
}

/* ---- damaged logs ---- */

static void test_damaged_logs(void **state)
{
    for (guint kind = 0; kind < 9; kind++) {
        g_autoptr(Scene) scene = scene_new();
        interrupted_run(scene, "file");
        gsize length = 0;
        g_autofree char *log = read_log(scene, &length);
        g_auto(AutoFd) stage = dir_open(scene->dest.state_fd, "stage", NULL);
        assert_int_equal(length, HEADER + RECORD);
        if (kind == 3)
            log[0] = 'x';
        if (kind == 0)
            write_log(scene, "", 0);
        else if (kind == 1)
            write_log(scene, log, HEADER - 1);
        else if (kind == 2)
            write_log(scene, log, length - 1);
        else if (kind == 3)
            write_log(scene, log, length);
        else
            assert_int_equal(unlinkat(stage, "log", 0), 0);
        if (kind == 5)
            assert_int_equal(mkfifoat(stage, "log", 0600), 0);
        if (kind == 6)
            assert_int_equal(mkdirat(stage, "log", 0700), 0);
        if (kind == 7)
            assert_int_equal(symlinkat("tree/file", stage, "log"), 0);
        if (kind == 8) {
            scene_write(scene, "good", "");
            g_auto(AutoFd) root = dir_open(scene->dest.root_fd, "", NULL);
            assert_true(atomic_write(root, "good", log, length, 0600, NULL));
            assert_int_equal(symlinkat("../../good", stage, "log"), 0);
        }
        assert_false(next_takes(scene, "file"));
    }
}

static void test_a_cut_record_does_not_spoil_those_before(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    {
        g_autoptr(Resume) resume = open_run(scene);
        stage_file(scene, resume, "first");
        stage_file(scene, resume, "second");
    }
    gsize length = 0;
    g_autofree char *log = read_log(scene, &length);
    write_log(scene, log, length - 3);
    g_autoptr(Resume) resume = open_run(scene);
    assert_true(take(resume, "first", &meta));
    assert_false(take(resume, "second", &meta));
}

/* ---- several stages ---- */

static void test_three_generations_are_kept(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    const char *const names[] = {"a", "b", "c", "d"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        interrupted_run(scene, names[i]);
    g_autoptr(Resume) resume = open_run(scene);
    assert_false(take(resume, "a", &meta));
    assert_true(take(resume, "b", &meta));
    assert_true(take(resume, "c", &meta));
    assert_true(take(resume, "d", &meta));
    assert_true(scene_ino(scene, STATE "stage.old.2") != 0);
    assert_true(scene_ino(scene, STATE "stage.old.3") == 0);
    assert_true(resume_drop_old(&scene->dest, NULL, NULL));
    g_autofree char *list = scene_list(scene, ".backapp");
    assert_null(strstr(list, "stage.old"));
    assert_true(scene_ino(scene, STAGE "tree/b") != 0);
}

static void test_what_was_taken_is_taken_again(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    interrupted_run(scene, "file");
    for (guint i = 0; i < 5; i++) {
        g_autoptr(Resume) resume = open_run(scene);
        assert_true(take(resume, "file", &meta));
        assert_true(resume_done(resume, "file", &meta, NULL));
    }
}

static void test_many_files(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    FileMeta meta = source_meta();
    {
        g_autoptr(Resume) resume = open_run(scene);
        for (guint i = 0; i < MANY; i++) {
            g_autofree char *name = g_strdup_printf("file%u", i);
            if (i % 500 == 0)
                stage_text(scene, name, TEXT);
            assert_true(resume_done(resume, name, &meta, NULL));
        }
    }
    g_autoptr(Resume) resume = open_run(scene);
    for (guint i = 0; i < MANY; i += 500) {
        g_autofree char *name = g_strdup_printf("file%u", i);
        assert_true(take(resume, name, &meta));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_complete_file_is_used_once),
        cmocka_unit_test(test_nothing_left_is_not_announced),
        cmocka_unit_test(test_an_unfinished_file_is_not_used),
        cmocka_unit_test(test_only_the_very_same_source_counts),
        cmocka_unit_test(test_other_attributes_do_not_count),
        cmocka_unit_test(test_a_file_of_another_size_is_not_used),
        cmocka_unit_test(test_something_else_in_its_place_is_not_used),
        cmocka_unit_test(test_the_log_of_one_stage_does_not_speak_for_another),
        cmocka_unit_test(test_after_a_boot_nothing_without_a_checkpoint),
        cmocka_unit_test(test_after_another_mount_nothing_without_a_checkpoint),
        cmocka_unit_test(test_after_a_boot_what_a_checkpoint_covers),
        cmocka_unit_test(test_marks_of_another_boot_say_nothing),
        cmocka_unit_test(test_within_a_boot_marks_do_not_matter),
        cmocka_unit_test(test_damaged_logs),
        cmocka_unit_test(test_a_cut_record_does_not_spoil_those_before),
        cmocka_unit_test(test_three_generations_are_kept),
        cmocka_unit_test(test_what_was_taken_is_taken_again),
        cmocka_unit_test(test_many_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
