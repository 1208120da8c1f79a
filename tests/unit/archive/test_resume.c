/*
 * Runs that are interrupted, and what the next one makes of it: it goes on behind the complete volumes if it can, else it
 * starts anew and leaves nothing of them; the point is the source either way. A killed run never harms a point.
 */
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "create_scene.h"
#include "crypto/tink.h"
#include "engine/archive/resume.h"
#include "fs/dir.h"
#include "store/drivers.h"

#define MIB    ((gsize)1 << 20)
#define VOLUME (8 * MIB)

static const guint8 KEY[TINK_KEY_BYTES] = "a key that nobody has to guess..";
static const guint8 OTHER_KEY[TINK_KEY_BYTES] = "another one, of somebody else...";

/* ---- the state by itself ---- */

static Resume make_state(void)
{
    Resume resume = {.point = g_new0(ArchivePoint, 1), .volume_size = VOLUME, .tar_end = 2 * MIB, .entries_length = 9};
    ArchivePoint *point = resume.point;
    assert_true(archive_name_parse("2026-11-20T020000Z-incremental.tar.gz.aes", &point->name));
    point->base = archive_base_name(&point->name);
    point->place_name = g_strdup("docs");
    point->numbered = TRUE;
    point->level = -3;
    point->time = 12345;
    point->scan_s = -1;
    point->scan_ns = 999999999;
    point->parent = g_strdup("2026-11-19T020000Z-full.tar.gz.aes");
    memset(point->parent_hash, 7, HASH_BYTES);
    memset(resume.how, 8, HASH_BYTES);
    point->sources = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(point->sources, g_strdup("/a"));
    g_ptr_array_add(point->sources, g_strdup("/b c"));
    resume.volumes = g_array_new(FALSE, TRUE, sizeof(ArchiveVolume));
    ArchiveVolume volume = {.size = 1, .packed_size = 2, .first_member = 3, .part_size = 4, .parts_hash = {5}};
    g_array_append_val(resume.volumes, volume);
    resume.packed_lengths = g_array_new(FALSE, FALSE, sizeof(guint32));
    static const guint32 lengths[] = {70000, 0xFFFFFFFF};
    g_array_append_vals(resume.packed_lengths, lengths, 2);
    return resume;
}

static void test_state(void **state)
{
    (void)state;
    g_autoptr(Store) store = store_memory_new();
    const ArchivePlace place = {.store = store, .name = "docs"}, other = {.store = store, .name = "other"};
    g_autofree char *folder = g_dir_make_tmp("backapp-resume-XXXXXX", NULL);
    g_auto(AutoFd) fd = resume_folder(folder, &place, NULL);
    g_auto(AutoFd) other_fd = resume_folder(folder, &other, NULL);
    assert_true(fd >= 0 && other_fd >= 0);
    g_auto(Resume) saved = make_state(), loaded = {0};
    assert_int_equal(resume_load(fd, &place, &loaded, NULL), 0);
    assert_true(resume_save(fd, &saved, NULL));
    assert_int_equal(resume_load(other_fd, &other, &loaded, NULL), 0);
    assert_int_equal(resume_load(fd, &place, &loaded, NULL), 1);
    const ArchivePoint *a = saved.point, *b = loaded.point;
    assert_string_equal(a->base, b->base);
    assert_string_equal(a->parent, b->parent);
    assert_string_equal(b->place_name, "docs");
    assert_memory_equal(a->parent_hash, b->parent_hash, HASH_BYTES);
    assert_memory_equal(saved.how, loaded.how, HASH_BYTES);
    assert_true(b->numbered && b->level == -3 && b->time == 12345 && b->scan_s == -1 && b->scan_ns == 999999999);
    assert_true(b->name.type == ARCHIVE_INCREMENTAL && b->name.encrypted && b->name.codec == ARCHIVE_GZIP);
    assert_int_equal(b->sources->len, 2);
    assert_string_equal(g_ptr_array_index(b->sources, 1), "/b c");
    assert_int_equal(loaded.volume_size, VOLUME);
    assert_int_equal(loaded.tar_end, 2 * MIB);
    assert_int_equal(loaded.entries_length, 9);
    assert_int_equal(loaded.volumes->len, 1);
    assert_memory_equal(loaded.volumes->data, saved.volumes->data, sizeof(ArchiveVolume));
    assert_int_equal(loaded.packed_lengths->len, 2);
    assert_memory_equal(loaded.packed_lengths->data, saved.packed_lengths->data, 8);
    /* No byte of it may be another, none may be missing. */
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/state", fd);
    g_autofree char *data = NULL;
    gsize length = 0;
    assert_true(g_file_get_contents(path, &data, &length, NULL));
    int file = openat(fd, "state", O_WRONLY | O_CLOEXEC);
    for (gsize i = 0; i < length; i++) {
        g_auto(Resume) bad = {0};
        char byte = (char)(data[i] ^ (1 << (i % 8)));
        assert_int_equal(pwrite(file, &byte, 1, (off_t)i), 1);
        assert_int_equal(resume_load(fd, &place, &bad, NULL), 0);
        assert_int_equal(pwrite(file, data + i, 1, (off_t)i), 1);
    }
    for (gsize i = length; i-- > 0;) {
        g_auto(Resume) bad = {0};
        assert_int_equal(ftruncate(file, (off_t)i), 0);
        assert_int_equal(resume_load(fd, &place, &bad, NULL), 0);
    }
    assert_int_equal(close(file), 0);
    assert_true(resume_forget(fd, NULL) && resume_forget(fd, NULL));
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *one = g_build_filename(folder, name, NULL);
        assert_int_equal(rmdir(one), 0);
    }
    assert_int_equal(rmdir(folder), 0);
}

/* ---- runs ---- */

/* Not compressed, so that a volume is 8 MiB of tar. */
static CreateScene *scene_of_volumes(gboolean local)
{
    CreateScene *scene = create_scene_new(local);
    scene->options.codec = ARCHIVE_PLAIN;
    scene->options.level = 0;
    scene->options.volume_size = VOLUME;
    return scene;
}

/* The next run ends when so many volumes are complete. */
static void interrupt(CreateScene *scene, guint volumes)
{
    guint points = scene_objects(scene, ".index");
    atomic_store(&scene_completed, 0);
    atomic_store(&scene_enough, volumes + 1);
    scene_run_fails(scene, BACKAPP_ERROR_DENIED);
    assert_int_equal(atomic_load(&scene_completed), volumes);
    atomic_store(&scene_enough, 0);
    atomic_store(&scene_completed, 0);
    assert_int_equal(scene_objects(scene, ".index"), points);
}

/* The point is right, nothing lies beside it, nothing is left on this machine. */
static void check_end(CreateScene *scene)
{
    scene_check(scene);
    assert_int_equal(scene_objects(scene, ""), scene->stats.volumes + 1);
    g_autoptr(GDir) dir = g_dir_open(scene->state, 0, NULL);
    const char *name = g_dir_read_name(dir);
    g_autofree char *folder = g_build_filename(scene->state, name, NULL);
    assert_int_equal(rmdir(folder), 0); /* it was empty */
    g_autoptr(GPtrArray) uploads = store_list_uploads(scene->store, "", NULL);
    assert_int_equal(uploads->len, 0);
}

/* Files of 3 MiB around a large one that every volume ends in; b and z are one file, c is two. */
static void make_source(const CreateScene *scene, gsize middle, gboolean sparse)
{
    scene_fill(scene, "a", 1, 3 * MIB);
    scene_do(scene, "d d; f d/e 1; l s d/e; f b text; h z b; f t text");
    scene_fill(scene, "m", 2, middle);
    scene_fill(scene, "n", 3, 1 * MIB);
    if (sparse) {
        g_autofree char *path = scene_path(scene, "m");
        assert_int_equal(truncate(path, (off_t)(middle + 2 * MIB)), 0);
    }
}

typedef struct {
    const char *what;
    guint fill; /* of m, bytes; 0: not */
} Change;

static void test_every_volume(void **state)
{
    (void)state;
    /* Every second one is sparse and encrypted. */
    static const Change changes[] = {
        {"", 0},
        {"", 0},
        {"", 2 * VOLUME - 2 * MIB}, /* the one in which the volume ends, as long as before */
        {"", 2 * VOLUME - 2 * MIB},
        {"", 5 * MIB}, /* shorter */
        {"r m", 0},    /* gone */
        {"r m", 0},
        {"r b", 0},                                                 /* the first name of two */
        {"r a; r d/e; r d; f n 1; f z other; r t; d t; f aa 1", 0}, /* others, those in the complete volumes too */
        {"r m; l m d", 0},
    };
    for (guint i = 0; i < G_N_ELEMENTS(changes); i++) {
        guint volumes = i % 4 / 2 + 1;
        const Change *change = &changes[i];
        CreateScene *scene = scene_of_volumes(FALSE);
        if (i % 2 == 1)
            scene->options.place.content_key = KEY;
        make_source(scene, volumes * VOLUME - 2 * MIB, i % 2 == 1);
        interrupt(scene, volumes);
        assert_int_equal(scene_objects(scene, ""), volumes);
        scene_do(scene, change->what);
        if (change->fill > 0)
            scene_fill(scene, "m", 9, change->fill);
        scene_run(scene);
        assert_in_range(scene->stats.resumed_bytes, volumes * VOLUME, volumes * (VOLUME + MIB));
        assert_true(scene_warned(scene, "note "));
        assert_false(scene->stats.partial);
        /* Those volumes were not sent again: what was is the rest, and the index. */
        assert_int_equal(scene_objects(scene, "") - volumes, atomic_load(&scene_completed));
        check_end(scene);
        if (change->fill == 0 && *change->what == '\0')
            assert_true(scene->stats.bytes_archived < 2 * MIB);
        g_autofree char *point = g_strdup(scene->stats.point);
        scene_run(scene);
        assert_int_equal(scene->stats.files_archived + scene->stats.deleted, 0);
        scene_check_tar(scene, point);
        create_scene_free(scene);
    }
}

/* Interrupted over and over. */
static void test_again_and_again(void **state)
{
    (void)state;
    CreateScene *scene = scene_of_volumes(FALSE);
    make_source(scene, 15 * MIB, FALSE);
    interrupt(scene, 1);
    scene_fill(scene, "m", 7, 16 * MIB);
    interrupt(scene, 1);
    scene_do(scene, "r a; f b 2");
    interrupt(scene, 0);
    interrupt(scene, 1);
    scene_do(scene, "f new 1");
    scene_run(scene);
    assert_true(scene->stats.resumed_bytes >= 3 * VOLUME);
    check_end(scene);
    create_scene_free(scene);
}

/* A volume ends in the middle of a header. */
static void test_in_a_header(void **state)
{
    (void)state;
    CreateScene *scene = scene_of_volumes(FALSE);
    /* Long paths make long headers. */
    g_autoptr(GString) folder = g_string_new("d");
    scene_do(scene, "f 0 first; d d");
    for (guint i = 0; i < 5; i++) {
        g_string_append_printf(folder, "/%0240d", i);
        g_autofree char *words = g_strdup_printf("d %s", folder->str);
        scene_do(scene, words);
    }
    for (guint i = 0; i < 3500; i++) {
        g_autofree char *name = g_strdup_printf("%s/%u", folder->str, i), *words = g_strdup_printf("h %s 0", name);
        if (i % 3 > 0)
            scene_do(scene, words);
        else
            scene_write(scene, name, i % 2 ? "text" : "");
    }
    for (guint i = 0; i < 2; i++) {
        interrupt(scene, 1);
        scene_run(scene);
        assert_in_range(scene->stats.resumed_bytes, VOLUME, VOLUME + MIB);
        check_end(scene);
        scene_check_tar(scene, scene->stats.point);
        scene_delete_object(scene, ".index");
        scene_delete_object(scene, ".vol0001");
        scene_delete_object(scene, ".vol0002");
        scene->options.place.content_key = KEY;
    }
    create_scene_free(scene);
}

/* An incremental point goes on too, on the parent that it had. */
static void test_incremental(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f b 1; h c b; d d; f d/x 1; f z 2; f zz 3; f back 4");
    scene_run(scene);
    g_autofree char *full = g_strdup(scene->stats.point);
    scene->options.codec = ARCHIVE_PLAIN;
    scene->options.level = 0;
    scene->options.volume_size = VOLUME;
    scene_fill(scene, "m", 2, 9 * MIB);
    scene_do(scene, "r d; f b 11; r zz; r back");
    interrupt(scene, 1);
    scene_do(scene, "f back 5; f z 22; d d");
    scene_run(scene);
    assert_true(scene->stats.resumed_bytes >= VOLUME);
    assert_string_equal(scene->stats.parent, full);
    assert_int_equal(scene->stats.type, ARCHIVE_INCREMENTAL);
    scene_check(scene);
    IndexEntry entry;
    assert_true(scene_find(scene, "c", &entry));
    /* b and c were stored before the interruption, back and z are new, d/x and zz are deleted. */
    assert_int_equal(scene->stats.volumes, 2);
    scene_run(scene);
    assert_int_equal(scene->stats.files_archived + scene->stats.deleted, 0);
    scene_check(scene);
    create_scene_free(scene);
}

/* Hard links that had to be read anew are a group before and behind an interruption. */
static void test_group(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f b 1; h z b");
    scene_fill(scene, "m", 2, 9 * MIB);
    scene_run(scene);
    scene->options.type = ARCHIVE_DIFFERENTIAL;
    scene->options.codec = ARCHIVE_PLAIN;
    scene->options.level = 0;
    scene->options.volume_size = VOLUME;
    scene_do(scene, "c 0600 b");
    scene_fill(scene, "m", 3, 9 * MIB);
    interrupt(scene, 1);
    scene_run(scene);
    assert_true(scene->stats.resumed_bytes >= VOLUME);
    scene_check(scene);
    IndexEntry entry;
    assert_true(scene_find(scene, "z", &entry));
    assert_int_equal(entry.flags, INDEX_STORED);
    assert_non_null(entry.entry.link);
    create_scene_free(scene);
}

/* ---- what cannot be gone on with ---- */

static void change_state_file(const CreateScene *scene, const char *name, gboolean cut)
{
    g_autoptr(GDir) dir = g_dir_open(scene->state, 0, NULL);
    g_autofree char *path = g_build_filename(scene->state, g_dir_read_name(dir), name, NULL);
    g_autofree char *data = NULL;
    gsize length = 0;
    assert_true(g_file_get_contents(path, &data, &length, NULL));
    data[length / 2] ^= 4;
    assert_true(g_file_set_contents(path, data, (gssize)(cut ? length / 2 : length), NULL));
}

static void test_anew(void **state)
{
    (void)state;
    enum {
        LEVEL,
        CODEC,
        SIZE,
        KEYED,
        OTHER,
        XATTRS,
        SOURCES,
        TIME,
        BACK,
        MISSING,
        SHORT,
        LIST,
        LIST_CUT,
        STATE,
        CASES
    };
    for (guint i = 0; i < CASES; i++) {
        CreateScene *scene = scene_of_volumes(FALSE);
        g_autofree char *other = scene_path(scene, "d");
        scene_do(scene, "d d; f d/x 1");
        scene_fill(scene, "m", 2, VOLUME);
        scene->options.place.content_key = i == OTHER ? OTHER_KEY : NULL;
        interrupt(scene, 1);
        guint left = i == STATE ? 1 : 0; /* nobody knows of it any more: it goes as unfinished one day */
        if (i == LEVEL)
            scene->options.codec = ARCHIVE_GZIP, scene->options.level = 2;
        else if (i == CODEC)
            scene->options.codec = ARCHIVE_ZSTD, scene->options.level = 1;
        else if (i == SIZE)
            scene->options.volume_size = VOLUME + 1;
        else if (i == KEYED || i == OTHER)
            scene->options.place.content_key = KEY;
        else if (i == XATTRS)
            scene->options.xattrs = FALSE;
        else if (i == SOURCES)
            scene->paths[1] = other;
        else if (i == TIME)
            atomic_fetch_add(&scene_clock_shift, 8 * 86400);
        else if (i == BACK)
            atomic_fetch_sub(&scene_clock_shift, 86400);
        else if (i == MISSING)
            scene_delete_object(scene, ".vol0001");
        else if (i == LIST || i == LIST_CUT)
            change_state_file(scene, "entries", i == LIST_CUT);
        else if (i == STATE)
            change_state_file(scene, "state", FALSE);
        if (i == SHORT) {
            g_autofree char *key = NULL;
            g_autoptr(StoreList) list = store_list(scene->store, "docs/2", NULL, FALSE, NULL);
            const StoreObject *object = NULL;
            assert_int_equal(store_list_next(list, &object, NULL), 1);
            key = g_strdup(object->key);
            StoreBody body = {.data = "short", .length = 5};
            assert_true(store_put(scene->store, key, &body, NULL, NULL, NULL));
        }
        scene_run(scene);
        if (scene->stats.resumed_bytes != 0)
            fail_msg("case %u goes on", i);
        assert_int_equal(scene_objects(scene, ""), scene->stats.volumes + 1 + left);
        scene_check(scene);
        create_scene_free(scene);
    }
}

/* ---- killed ---- */

/* A run in a process of its own, which ends at that request. TRUE if it came to its end before. */
static gboolean run_in_child(CreateScene *scene, guint at, SceneEnd how)
{
    scene_end = how;
    atomic_store(&scene_requests, 0);
    atomic_store(&scene_end_at, at);
    atomic_fetch_add(&scene_clock_shift, 10);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ArchiveStats stats = {0};
        (void)alarm(60);
        _exit(archive_create(&scene->options, &stats, NULL) ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    atomic_store(&scene_end_at, 0);
    assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
    return WIFEXITED(status);
}

static void test_killed(void **state)
{
    (void)state;
    gboolean ended = FALSE;
    guint resumed = 0;
    for (guint at = 1; !ended; at++) {
        assert_in_range(at, 1, 12);
        CreateScene *scene = scene_of_volumes(TRUE);
        scene_fill(scene, "m", 2, 9 * MIB);
        scene_do(scene, "f a 1; f z 2");
        ended = run_in_child(scene, (at + 1) / 2, at % 2 ? SCENE_KILL_BEFORE : SCENE_KILL_BEHIND);
        guint points = scene_objects(scene, ".index"), volumes = scene_objects(scene, "") - points;
        if (points > 0)
            scene_check(scene);
        scene_do(scene, "f z 3");
        scene_run(scene);
        scene_check(scene);
        resumed += scene->stats.resumed_bytes > 0 ? 1 : 0;
        if (points == 0) {
            assert_int_equal(scene->stats.type, ARCHIVE_FULL);
            /* A volume that was complete before that was written down goes too. */
            assert_int_equal(scene_objects(scene, ""), scene->stats.volumes + 1);
        } else {
            /* What is left of the state of a point is no reason to touch its volumes. */
            assert_int_equal(scene->stats.type, ARCHIVE_INCREMENTAL);
            assert_int_equal(scene->stats.files_archived, 1);
            assert_int_equal(scene_objects(scene, ""), volumes + 1 + 2);
        }
        create_scene_free(scene);
    }
    assert_true(resumed >= 2);
}

/* A store that does not answer is no reason to throw volumes away: those of a point whose end was not noted, or those that
 * can be gone on with. */
static void test_no_answer(void **state)
{
    (void)state;
    for (guint i = 0; i < 2; i++) {
        CreateScene *scene = scene_of_volumes(TRUE);
        scene_fill(scene, "m", 2, VOLUME);
        if (i == 0)
            interrupt(scene, 1);
        else
            assert_false(run_in_child(scene, 3, SCENE_KILL_BEHIND));
        guint before = scene_objects(scene, "");
        scene_heads_fail(TRUE);
        scene_run_fails(scene, BACKAPP_ERROR_TRANSIENT);
        scene_heads_fail(FALSE);
        assert_int_equal(scene_objects(scene, ""), before);
        scene_run(scene);
        scene_check(scene);
        assert_int_equal(scene->stats.resumed_bytes > 0, i == 0);
        create_scene_free(scene);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state),       cmocka_unit_test(test_every_volume), cmocka_unit_test(test_again_and_again),
        cmocka_unit_test(test_in_a_header), cmocka_unit_test(test_incremental),  cmocka_unit_test(test_group),
        cmocka_unit_test(test_anew),        cmocka_unit_test(test_killed),       cmocka_unit_test(test_no_answer),
    };
    return cmocka_run_group_tests_name("archive_resume", tests, NULL, NULL);
}
