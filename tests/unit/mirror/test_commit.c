#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/mirror/commit.h"
#include "engine/mirror/journal.h"
#include "engine/mirror/patch.h"
#include "fs/dir.h"
#include "fs/remove.h"

#define RUN        "run-1"
#define VERSION    "2026-11-21T131500Z"
#define NEW_TIME   1600000000
#define PATCH_SIZE (100 * 1024)
#define STEPS_MAX  1000
#define NOBODY     65534

/* ---- the system calls that change something, counted, so that any of them can be the last one of a process ---- */

static guint steps, fatal_step;

static void step(void)
{
    if (++steps == fatal_step)
        _exit(99);
}

int renameat(int oldfd, const char *old, int newfd, const char *new)
{
    step();
    return (int)syscall(SYS_renameat2, oldfd, old, newfd, new, 0);
}

int unlinkat(int fd, const char *name, int flag)
{
    step();
    return (int)syscall(SYS_unlinkat, fd, name, flag);
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    step();
    return (int)syscall(SYS_mkdirat, fd, path, mode);
}

int fchmod(int fd, mode_t mode)
{
    step();
    return (int)syscall(SYS_fchmod, fd, mode);
}

int futimens(int fd, const struct timespec times[2])
{
    step();
    return (int)syscall(SYS_utimensat, fd, NULL, times, 0);
}

int utimensat(int fd, const char *path, const struct timespec times[2], int flags)
{
    step();
    return (int)syscall(SYS_utimensat, fd, path, times, flags);
}

ssize_t pwrite(int fd, const void *buf, size_t nbytes, off_t offset)
{
    step();
    return (ssize_t)syscall(SYS_pwrite64, fd, buf, nbytes, offset);
}

int ftruncate(int fd, off_t length)
{
    step();
    return (int)syscall(SYS_ftruncate, fd, length);
}

/* A process that dies loses nothing that was written, so the disk need not be waited for. */
int fsync(int fd)
{
    step();
    return 0;
}

int syncfs(int fd)
{
    step();
    return 0;
}

/* ---- journals by hand ---- */

static JournalWriter *start_journal(Scene *scene, const char *versions, gboolean stable)
{
    JournalHeader header = {.run_id = RUN, .versions = versions, .stable_inodes = stable};
    JournalWriter *writer = journal_writer_new(scene->dest.state_fd, &header, NULL);
    assert_non_null(writer);
    return writer;
}

static guint32 type_of(Scene *scene, const char *path)
{
    FileMeta meta;
    return meta_read(scene->dest.root_fd, path, &meta, NULL) ? meta.mode : 0;
}

/* A record about what is in the stage and at the path now. */
static void put(Scene *scene, JournalWriter *writer, JournalOp op, const char *path, guint32 mode)
{
    g_autofree char *staged = g_strdup_printf(".backapp/stage/tree/%s", path);
    JournalRecord record = {.op = op,
                            .path = path,
                            .have_ino = scene_ino(scene, path),
                            .have_mode = type_of(scene, path),
                            .meta = {.mode = mode, .uid = geteuid(), .gid = getegid(), .mtime_s = NEW_TIME}};
    if (op == JOURNAL_PLACE || op == JOURNAL_PATCH)
        record.staged_ino = scene_ino(scene, staged);
    assert_true(journal_put(writer, &record, NULL));
}

static void finish_journal(JournalWriter *writer)
{
    assert_true(journal_commit(writer, NULL));
    journal_writer_free(writer);
}

static void stage(Scene *scene, const char *path, const char *text)
{
    g_autofree char *staged = g_strdup_printf(".backapp/stage/tree/%s", path);
    scene_write(scene, staged, text);
}

static void stage_dir(Scene *scene, const char *path)
{
    g_autofree char *staged = g_strdup_printf(".backapp/stage/tree/%s", path);
    scene_mkdir(scene, staged, 0700);
}

static char *big_text(char middle)
{
    char *text = g_strnfill(PATCH_SIZE, 'x');
    text[PATCH_SIZE / 2] = middle;
    return text;
}

/* Stages the patch that turns `path` into big_text('N'). */
static void stage_patch(Scene *scene, const char *path)
{
    g_autofree char *old = big_text('O');
    g_autofree char *new = big_text('N');
    g_autofree char *staged = g_strdup_printf(".backapp/stage/tree/%s", path);
    CopyResult result;
    scene_write(scene, path, old);
    scene_write(scene, ".backapp/source", new);
    scene_write(scene, staged, "");
    g_auto(AutoFd) src = openat(scene->dest.root_fd, ".backapp/source", O_RDONLY | O_CLOEXEC);
    g_auto(AutoFd) have = openat(scene->dest.root_fd, path, O_RDONLY | O_CLOEXEC);
    g_auto(AutoFd) patch = openat(scene->dest.root_fd, staged, O_RDWR | O_CLOEXEC);
    assert_true(patch_make(src, have, patch, PATCH_SIZE, NULL, &result, NULL));
    assert_int_equal(unlinkat(scene->dest.root_fd, ".backapp/source", 0), 0);
}

/* One of everything: the old state and a committed run that is not replayed. */
static void build(Scene *scene, const char *versions, gboolean stable)
{
    scene_write(scene, "keep", "keep");
    scene_write(scene, "replace", "old");
    scene_write(scene, "gone", "gone");
    scene_write(scene, "gone-dir/a", "a");
    scene_write(scene, "to-file/x", "x");
    scene_write(scene, "to-dir", "was a file");
    scene_write(scene, "sub/deep/replace", "old");
    scene_write(scene, "sub/deep/gone", "gone");
    scene_write(scene, "sub/touched", "touched");
    scene_write(scene, "linked", "linked");
    stage(scene, "replace", "new");
    stage(scene, "new", "new");
    stage_dir(scene, "new-dir");
    stage(scene, "new-dir/inner", "inner");
    stage(scene, "to-file", "is a file");
    stage_dir(scene, "to-dir");
    stage(scene, "to-dir/k", "k");
    stage(scene, "sub/deep/replace", "new");
    stage(scene, "sub/deep/new", "new");
    stage_patch(scene, "sub/patched");
    /* One inode under both names, as a link to a file that stays. */
    assert_int_equal(linkat(scene->dest.root_fd, "linked", scene->dest.root_fd, ".backapp/stage/tree/linked", 0), 0);
    scene_write(scene, ".backapp/stage/log", "log");
    scene_write(scene, ".backapp/stage.old.0/tree/x", "x");
    JournalWriter *writer = start_journal(scene, versions, stable);
    put(scene, writer, JOURNAL_REMOVE, "gone", 0);
    put(scene, writer, JOURNAL_REMOVE, "gone-dir", 0);
    put(scene, writer, JOURNAL_PLACE, "linked", 0);
    put(scene, writer, JOURNAL_PLACE, "new", 0);
    put(scene, writer, JOURNAL_PLACE, "new-dir", 0);
    put(scene, writer, JOURNAL_PLACE, "replace", 0);
    put(scene, writer, JOURNAL_PLACE, "to-dir", 0);
    put(scene, writer, JOURNAL_PLACE, "to-file", 0);
    put(scene, writer, JOURNAL_DIR, "new-dir", S_IFDIR | 0555);
    put(scene, writer, JOURNAL_DIR, "to-dir", S_IFDIR | 0750);
    put(scene, writer, JOURNAL_PATCH, "sub/patched", S_IFREG | 0440);
    put(scene, writer, JOURNAL_META, "sub/touched", S_IFREG | 04711);
    put(scene, writer, JOURNAL_REMOVE, "sub/deep/gone", 0);
    put(scene, writer, JOURNAL_PLACE, "sub/deep/new", 0);
    put(scene, writer, JOURNAL_PLACE, "sub/deep/replace", 0);
    put(scene, writer, JOURNAL_DIR, "sub/deep", S_IFDIR | 0500);
    put(scene, writer, JOURNAL_DIR, "sub", S_IFDIR | 0711);
    put(scene, writer, JOURNAL_DIR, "", S_IFDIR | 0755);
    finish_journal(writer);
}

static void expect(Scene *scene, const char *path, const char *text)
{
    g_autofree char *got = scene_read(scene, path);
    if (strcmp(got, text) != 0)
        fail_msg("%s holds \"%.40s\", not \"%.40s\"", path, got, text);
}

static void expect_meta(Scene *scene, const char *path, guint mode)
{
    if (scene_mode(scene, path) != mode || scene_mtime(scene, path) != NEW_TIME)
        fail_msg("%s has mode %o and time %" G_GINT64_FORMAT, path, scene_mode(scene, path), scene_mtime(scene, path));
}

static void expect_new_state(Scene *scene)
{
    g_autofree char *patched = big_text('N');
    expect(scene, "keep", "keep");
    expect(scene, "replace", "new");
    expect(scene, "gone", "<none>");
    expect(scene, "gone-dir", "<none>");
    expect(scene, "new", "new");
    expect(scene, "new-dir/inner", "inner");
    expect(scene, "to-file", "is a file");
    expect(scene, "to-dir/k", "k");
    expect(scene, "sub/deep/replace", "new");
    expect(scene, "sub/deep/new", "new");
    expect(scene, "sub/deep/gone", "<none>");
    expect(scene, "sub/patched", patched);
    expect(scene, "linked", "linked");
    expect_meta(scene, "sub/patched", 0440);
    expect_meta(scene, "sub/touched", 04711);
    expect_meta(scene, "new-dir", 0555);
    expect_meta(scene, "to-dir", 0750);
    expect_meta(scene, "sub/deep", 0500);
    expect_meta(scene, "sub", 0711);
    expect_meta(scene, ".", 0755);
    expect(scene, ".backapp/journal", "<none>");
    expect(scene, ".backapp/stage", "<none>");
    expect(scene, ".backapp/stage.old.0", "<none>");
    expect(scene, ".backapp/old", "<none>");
    expect(scene, ".backapp/found", "<none>");
}

static void replay(Scene *scene)
{
    g_autoptr(GError) error = NULL;
    gboolean replayed = FALSE;
    if (!commit_replay(&scene->dest, &scene->sink, NULL, &replayed, &error))
        fail_msg("%s", error->message);
    assert_true(replayed);
}

/* ---- tests ---- */

static void test_a_run_is_completed(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, "", TRUE);
    guint64 patched = scene_ino(scene, "sub/patched");
    guint64 linked = scene_ino(scene, "linked");
    replay(scene);
    expect_new_state(scene);
    assert_int_equal(scene_ino(scene, "sub/patched"), patched);
    assert_int_equal(scene_ino(scene, "linked"), linked);
    expect(scene, ".backapp/versions", "<none>");
    assert_int_equal(scene->warnings->len, 0);
    gboolean replayed = TRUE;
    g_autofree char *before = scene_list(scene, "");
    assert_true(commit_replay(&scene->dest, &scene->sink, NULL, &replayed, NULL));
    assert_false(replayed);
    g_autofree char *after = scene_list(scene, "");
    assert_string_equal(before, after);
}

static void test_it_works_without_stable_inodes(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, "", FALSE);
    replay(scene);
    expect_new_state(scene);
    assert_int_equal(scene->warnings->len, 0);
}

static void expect_versions(Scene *scene)
{
    static const char folder[] = ".backapp/versions/" VERSION;
    static const char *const kept[][2] = {{"replace", "old"},       {"gone", "gone"},
                                          {"gone-dir/a", "a"},      {"to-file/x", "x"},
                                          {"to-dir", "was a file"}, {"sub/deep/replace", "old"},
                                          {"sub/deep/gone", "gone"}};
    for (guint i = 0; i < G_N_ELEMENTS(kept); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", folder, kept[i][0]);
        expect(scene, path, kept[i][1]);
    }
    g_autofree char *list = scene_list(scene, folder);
    g_auto(GStrv) lines = g_strsplit(list, "\n", -1);
    /* Those, the two directories that went as a whole, two parents, and the empty line at the end: nothing twice. */
    assert_int_equal(g_strv_length(lines), G_N_ELEMENTS(kept) + 2 + 2 + 1);
    assert_int_equal(scene_mode(scene, ".backapp/versions/" VERSION "/sub"), 0700);
}

static void test_versions_keep_what_is_displaced(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, VERSION, TRUE);
    replay(scene);
    expect_new_state(scene);
    expect_versions(scene);
}

/* Replays in a child that dies at its n-th changing system call; TRUE if it did. */
static gboolean replay_until(Scene *scene, guint n)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        gboolean replayed = FALSE;
        steps = 0;
        fatal_step = n;
        _exit(commit_replay(&scene->dest, &scene->sink, NULL, &replayed, NULL) && replayed ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 99);
    return WEXITSTATUS(status) == 99;
}

/* Kills a replay at each step (or each stride-th) in turn; a second one must give the same as an undisturbed one. */
static void kill_everywhere(const char *versions, gboolean stable, guint stride)
{
    guint n = 1;
    gboolean died = TRUE;
    for (; died && n < STEPS_MAX; n += stride) {
        g_autoptr(Scene) scene = scene_new();
        build(scene, versions, stable);
        died = replay_until(scene, n);
        gboolean replayed = FALSE;
        g_autoptr(GError) error = NULL;
        if (!commit_replay(&scene->dest, &scene->sink, NULL, &replayed, &error))
            fail_msg("after step %u: %s", n, error->message);
        /* Killed while cleaning up, the stage is left for the next run to set aside. */
        assert_true(remove_tree(scene->dest.state_fd, "stage", FALSE, NULL, NULL));
        assert_true(remove_tree(scene->dest.state_fd, "stage.old.0", FALSE, NULL, NULL));
        expect_new_state(scene);
        if (versions[0] != '\0')
            expect_versions(scene);
    }
    /* Fewer would mean that the calls are not the ones counted here. */
    assert_true(n > 40 && n < STEPS_MAX);
}

static void test_killed_anywhere_it_is_completed_by_the_next(void **state)
{
    kill_everywhere("", TRUE, 1);
}

static void test_killed_anywhere_with_versions(void **state)
{
    kill_everywhere(VERSION, TRUE, 1);
}

static void test_killed_anywhere_without_stable_inodes(void **state)
{
    kill_everywhere(VERSION, FALSE, 3);
}

/* Calls `test` as somebody who is not root. */
static void run_as_nobody(void (*test)(Scene *scene))
{
    g_autoptr(Scene) scene = scene_new();
    if (geteuid() != 0) {
        test(scene);
        return;
    }
    assert_int_equal(chown(scene->top, NOBODY, NOBODY), 0);
    assert_int_equal(fchown(scene->dest.root_fd, NOBODY, NOBODY), 0);
    assert_int_equal(fchown(scene->dest.state_fd, NOBODY, NOBODY), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (setresgid(NOBODY, NOBODY, NOBODY) != 0 || setresuid(NOBODY, NOBODY, NOBODY) != 0)
            _exit(3);
        test(scene);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void forbid(Scene *scene, const char *path, guint mode)
{
    assert_int_equal(fchmodat(scene->dest.root_fd, path, mode, 0), 0);
}

/* Directories that are read-only for their owner. */
static void replay_forbidden(Scene *scene)
{
    build(scene, VERSION, TRUE);
    forbid(scene, "gone-dir", 0500);
    forbid(scene, "to-file", 0500);
    forbid(scene, "sub/patched", 0400);
    forbid(scene, "sub/deep", 0000);
    forbid(scene, "sub", 0500);
    forbid(scene, ".", 0500);
    replay(scene);
    expect_new_state(scene);
    expect_versions(scene);
    assert_int_equal(scene_mode(scene, ".backapp/versions/" VERSION "/gone-dir"), 0500);
}

static void test_permissions_that_are_in_the_way(void **state)
{
    run_as_nobody(replay_forbidden);
}

static void replay_missing_parent(Scene *scene)
{
    scene_write(scene, "sub/old", "old");
    stage(scene, "sub/new", "new");
    JournalWriter *writer = start_journal(scene, "", TRUE);
    put(scene, writer, JOURNAL_PLACE, "sub/new", 0);
    put(scene, writer, JOURNAL_DIR, "sub", S_IFDIR | 0711);
    put(scene, writer, JOURNAL_DIR, "", S_IFDIR | 0500);
    finish_journal(writer);
    assert_true(remove_tree(scene->dest.root_fd, "sub", FALSE, NULL, NULL));
    forbid(scene, ".", 0500);
    replay(scene);
    expect(scene, "sub/new", "new");
    expect_meta(scene, "sub", 0711);
    expect_meta(scene, ".", 0500);
}

static void test_a_forbidden_parent_of_a_missing_one(void **state)
{
    run_as_nobody(replay_missing_parent);
}

static void test_an_error_keeps_the_journal(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(GError) error = NULL;
    gboolean replayed = FALSE;
    build(scene, "", TRUE);
    assert_int_equal(unlinkat(scene->dest.root_fd, ".backapp/stage/tree/replace", 0), 0);
    assert_false(commit_replay(&scene->dest, &scene->sink, NULL, &replayed, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_non_null(strstr(error->message, "replace"));
    assert_non_null(strstr(error->message, "--recover"));
    assert_false(replayed);
    assert_true(scene_ino(scene, ".backapp/journal") != 0);
    expect(scene, "replace", "old");
}

static void test_a_staged_entry_that_is_another_is_refused(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    g_autoptr(GError) error = NULL;
    gboolean replayed = FALSE;
    build(scene, "", TRUE);
    scene_write(scene, ".backapp/stage/tree/other", "other");
    assert_int_equal(
        renameat(scene->dest.root_fd, ".backapp/stage/tree/other", scene->dest.root_fd, ".backapp/stage/tree/new"), 0);
    assert_false(commit_replay(&scene->dest, &scene->sink, NULL, &replayed, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    expect(scene, "new", "<none>");
}

/* Puts another file at `path`, with an inode of its own. */
static void change_behind_our_back(Scene *scene, const char *path)
{
    g_autofree char *other = g_strdup_printf("%s.other", path);
    scene_write(scene, other, "somebody else's");
    assert_int_equal(renameat(scene->dest.root_fd, other, scene->dest.root_fd, path), 0);
}

static void test_what_others_put_there_is_kept(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, "", TRUE);
    change_behind_our_back(scene, "replace");
    change_behind_our_back(scene, "gone");
    change_behind_our_back(scene, "sub/deep/new");
    change_behind_our_back(scene, "sub/touched");
    change_behind_our_back(scene, "sub/patched");
    replay(scene);
    expect(scene, "replace", "new");
    expect(scene, "gone", "<none>");
    expect(scene, "sub/deep/new", "new");
    expect(scene, ".backapp/found/" RUN "/replace", "somebody else's");
    expect(scene, ".backapp/found/" RUN "/gone", "somebody else's");
    expect(scene, ".backapp/found/" RUN "/sub/deep/new", "somebody else's");
    expect(scene, "sub/touched", "somebody else's");
    expect(scene, "sub/patched", "somebody else's");
    assert_int_equal(scene_mode(scene, "sub/touched"), 0644);
    assert_int_equal(scene->warnings->len, 5);
    assert_int_equal(scene_warned(scene, "note sub/touched"), 1);
    assert_int_equal(scene_warned(scene, "note gone"), 1);
}

static void test_found_things_do_not_replace_each_other(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    scene_write(scene, ".backapp/found/" RUN "/replace", "found before");
    build(scene, "", TRUE);
    change_behind_our_back(scene, "replace");
    replay(scene);
    expect(scene, ".backapp/found/" RUN "/replace", "found before");
    expect(scene, ".backapp/found/" RUN "/replace~2", "somebody else's");
}

static void test_without_stable_inodes_a_new_name_is_not_overwritten(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, "", FALSE);
    scene_write(scene, "new", "somebody else's");
    replay(scene);
    expect(scene, "new", "new");
    expect(scene, ".backapp/found/" RUN "/new", "somebody else's");
}

static void test_a_parent_that_was_removed_is_made_again(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, "", TRUE);
    assert_true(remove_tree(scene->dest.root_fd, "sub", FALSE, NULL, NULL));
    replay(scene);
    expect(scene, "sub/deep/replace", "new");
    expect_meta(scene, "sub/deep", 0500);
    expect(scene, "replace", "new");
    assert_true(scene_warned(scene, "note sub/deep ") == 1);
}

static void test_a_parent_that_became_a_file_is_kept_aside(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, "", TRUE);
    assert_true(remove_tree(scene->dest.root_fd, "sub", FALSE, NULL, NULL));
    scene_write(scene, "sub", "now a file");
    replay(scene);
    expect(scene, "sub/deep/replace", "new");
    expect(scene, ".backapp/found/" RUN "/sub", "now a file");
    expect_meta(scene, "sub", 0711);
}

static void test_a_torn_journal_is_thrown_away(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    build(scene, "", TRUE);
    g_autofree char *before = scene_list(scene, "sub");
    g_auto(AutoFd) fd = openat(scene->dest.state_fd, "journal", O_RDWR | O_CLOEXEC);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size - 1), 0);
    scene_write(scene, ".backapp/old/earlier/precious", "displaced before");
    gboolean replayed = TRUE;
    assert_true(commit_replay(&scene->dest, &scene->sink, NULL, &replayed, NULL));
    assert_false(replayed);
    g_autofree char *after = scene_list(scene, "sub");
    assert_string_equal(before, after);
    expect(scene, "replace", "old");
    expect(scene, ".backapp/journal", "<none>");
    /* What is staged can still be used by the next run; what had been displaced is not rubbish. */
    expect(scene, ".backapp/stage/tree/replace", "new");
    expect(scene, ".backapp/old", "<none>");
    g_autofree char *found = scene_list(scene, ".backapp/found");
    assert_non_null(strstr(found, "earlier/precious"));
    assert_int_equal(scene->warnings->len, 2);
}

static void test_an_unfinished_journal_is_removed(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    gboolean replayed = TRUE;
    scene_write(scene, ".backapp/journal.new", "unfinished");
    scene_write(scene, ".backapp/old/run-0/x", "rubbish of a run that was killed while it cleaned up");
    scene_write(scene, ".backapp/stage/log", "log");
    assert_true(commit_replay(&scene->dest, &scene->sink, NULL, &replayed, NULL));
    assert_false(replayed);
    expect(scene, ".backapp/journal.new", "<none>");
    expect(scene, ".backapp/old", "<none>");
    expect(scene, ".backapp/stage/log", "log");
    assert_int_equal(scene->warnings->len, 0);
}

static void test_cancelling_only_stops_the_cleaning(void **state)
{
    g_autoptr(Scene) scene = scene_new();
    CancelFlag cancel = {0};
    gboolean replayed = FALSE;
    build(scene, "", TRUE);
    cancel_set(&cancel);
    assert_true(commit_replay(&scene->dest, &scene->sink, &cancel, &replayed, NULL));
    assert_true(replayed);
    assert_int_equal(scene_warned(scene, "could not be removed yet"), 1);
    /* No second name of a file of the mirror stays behind. */
    expect(scene, ".backapp/stage/tree/linked", "<none>");
    assert_true(commit_replay(&scene->dest, &scene->sink, NULL, &replayed, NULL));
    assert_true(remove_tree(scene->dest.state_fd, "stage", FALSE, NULL, NULL));
    assert_true(remove_tree(scene->dest.state_fd, "stage.old.0", FALSE, NULL, NULL));
    expect_new_state(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_run_is_completed),
        cmocka_unit_test(test_it_works_without_stable_inodes),
        cmocka_unit_test(test_versions_keep_what_is_displaced),
        cmocka_unit_test(test_killed_anywhere_it_is_completed_by_the_next),
        cmocka_unit_test(test_killed_anywhere_with_versions),
        cmocka_unit_test(test_killed_anywhere_without_stable_inodes),
        cmocka_unit_test(test_permissions_that_are_in_the_way),
        cmocka_unit_test(test_a_forbidden_parent_of_a_missing_one),
        cmocka_unit_test(test_an_error_keeps_the_journal),
        cmocka_unit_test(test_a_staged_entry_that_is_another_is_refused),
        cmocka_unit_test(test_what_others_put_there_is_kept),
        cmocka_unit_test(test_found_things_do_not_replace_each_other),
        cmocka_unit_test(test_without_stable_inodes_a_new_name_is_not_overwritten),
        cmocka_unit_test(test_a_parent_that_was_removed_is_made_again),
        cmocka_unit_test(test_a_parent_that_became_a_file_is_kept_aside),
        cmocka_unit_test(test_a_torn_journal_is_thrown_away),
        cmocka_unit_test(test_an_unfinished_journal_is_removed),
        cmocka_unit_test(test_cancelling_only_stops_the_cleaning),
    };
    return cmocka_run_group_tests_name("unit/mirror/commit", tests, NULL, NULL);
}
