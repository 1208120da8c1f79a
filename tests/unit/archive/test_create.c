/*
 * Points that are made of a source that changes between runs and under them: each is the source, or says where not, and
 * holds nothing that an earlier one has.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/cmocka_all.h"
#include "base/error.h"
#include "create_scene.h"
#include "crypto/tink.h"
#include "store/drivers.h"

#define NOBODY  65534
#define BIG     ((gsize)1200 * 1024)
#define LONG_50 "a-name-of-fifty-bytes-which-make-long-paths-quickly"

static const guint8 KEY[TINK_KEY_BYTES] = "a key that nobody has to guess..";

static void make_odd_tree(const CreateScene *scene)
{
    scene_do(scene,
             "d a; d a/b; d empty; f a/x one; f a-x two; f a.x three; f none ; l a/link ../a-x; l dangling nowhere;"
             "h a/y a/x; h z a/x; l s1 a; h s2 s1; s holes 3000000 700000; s hole 500000 0; p fifo; t socket;"
             "x a/x 1234; x a abc; c 0751 a; c 4755 a.x; u a.x -5; u dangling 77; d d" LONG_50 ";"
             "d d" LONG_50 "/" LONG_50 "; d d" LONG_50 "/" LONG_50 "/" LONG_50 ";"
             "f d" LONG_50 "/" LONG_50 "/" LONG_50 "/" LONG_50 " deep; f \xff\xfe bytes; f A\n line");
    scene_fill(scene, "a/big", 1, BIG);
    if (geteuid() == 0)
        scene_do(scene, "o 12345 a-x; o 12345 dangling");
}

/* A full point is the source, whatever it is packed into. */
static void test_full(void **state)
{
    (void)state;
    static const struct {
        ArchiveCodec codec;
        int level;
        const guint8 *key;
    } ways[] = {{ARCHIVE_GZIP, 1, NULL}, {ARCHIVE_ZSTD, 3, KEY}, {ARCHIVE_PLAIN, 0, NULL}};
    for (guint i = 0; i < G_N_ELEMENTS(ways); i++) {
        CreateScene *scene = create_scene_new(i == 0);
        scene->options.codec = ways[i].codec;
        scene->options.level = ways[i].level;
        scene->options.place.content_key = ways[i].key;
        make_odd_tree(scene);
        scene_run(scene);
        assert_int_equal(scene->stats.type, ARCHIVE_FULL);
        assert_null(scene->stats.parent);
        assert_false(scene->stats.partial);
        assert_int_equal(scene->warnings->len, 0);
        assert_int_equal(scene->stats.volumes, 1);
        assert_int_equal(scene->stats.files_archived, scene->stats.files_total);
        assert_int_equal(scene_objects(scene, ""), 2);
        scene_check(scene);
        create_scene_free(scene);
    }
}

/* Nothing changed: nothing is stored, by inodes and by reading. */
static void test_unchanged(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    make_odd_tree(scene);
    scene_run(scene);
    g_autofree char *first = g_strdup(scene->stats.point);
    for (int i = 0; i < 3; i++) {
        scene->options.checksum = i == 1;
        if (i < 2)
            scene_run(scene);
        else
            scene_run_late(scene); /* nothing is late a second time: the clock had been forward */
        assert_int_equal(scene->stats.type, ARCHIVE_INCREMENTAL);
        if (i == 0)
            assert_string_equal(scene->stats.parent, first);
        assert_int_equal(scene->stats.created + scene->stats.changed + scene->stats.deleted, 0);
        assert_int_equal(scene->stats.files_archived, 0);
        assert_int_equal(scene->stats.volumes, 0);
        assert_int_equal(scene->stats.files_unchanged, scene->stats.files_total);
        scene_check(scene);
    }
    create_scene_free(scene);
}

/* What each change stores: no more, no less. files: stored, but directories; deleted: entries. */
static void test_changes(void **state)
{
    (void)state;
    static const struct {
        const char *before, *change;
        guint files, deleted;
    } cases[] = {
        {"f a 1", "f b 2", 1, 0},
        {"f a 1", "f a 22", 1, 0},
        {"f a 1; f b 2", "r a", 0, 1},
        {"d d; f d/a 1; d d/e; f d/e/b 2; f dd 3; f d-d 4", "r d", 0, 4},
        {"f a 1", "m a b", 1, 1},
        {"d d; f d/a 1; d d/e", "m d e", 1, 3},
        /* One kind becomes another. */
        {"f a 1; f a-b 2; f a.b 3", "r a; d a; f a/c 4", 1, 1},
        {"d a; f a/c 4; f a-b 2; f a.b 3", "r a; f a 1", 1, 2},
        {"f a 1", "r a; l a b", 1, 0},
        {"l a b", "r a; f a 1", 1, 0},
        {"d b; f b/c 1; l a b", "r a; d a; f a/c 2", 1, 1},
        {"d b; f b/c 1; d a; f a/c 2", "r a; l a b", 1, 2},
        {"l a b", "r a; l a c", 1, 0},
        {"l a b; u a 5; u . 7", "r a; l a c; u a 5; u . 7", 1, 0},
        {"p a", "r a; t a", 1, 0},
        {"p a", "c 0640 a", 1, 0},
        /* Only what is kept beside the content. */
        {"f a 1", "c 0600 a", 1, 0},
        {"f a 1", "x a v", 1, 0},
        {"f a 1", "u a 5", 1, 0},
        {"d a; f a/b 1", "c 0700 a", 0, 0},
        {"d a; f a/b 1", "x a v", 0, 0},
        {"d a; f a/b 1", "u a 5", 0, 0},
        /* Names of one file: all of them, or none. */
        {"f a 1; h b a; h c a; f d 2", "f a 22", 3, 0},
        {"f a 1; h b a; h c a; f d 2", "f c 22", 3, 0},
        {"f a 1; h b a; h c a; f d 2", "c 0600 b", 3, 0},
        {"f a 1; h b a; h c a; f d 2", "r a", 2, 1},
        {"f a 1; h b a; h c a; f d 2", "r b", 2, 1},
        {"f a 1; h b a; h c a; f d 2", "r a; r b", 1, 2},
        {"f b 1; h c b", "h a b", 3, 0},
        {"f b 1; h c b", "m b a", 2, 1},
        {"f b 1; h c b", "m b d", 2, 1},
        {"f b 1; h c b", "r c; f c 2", 2, 0},
        {"f b 1; f c 2", "r c; h c b", 2, 0},
        {"f b 1; h c b", "r b; f b 2", 2, 0},
        {"l b x; h c b", "h d b", 3, 0},
        {"l b x; h c b", "r b", 1, 1},
        {"p b; h c b", "h a b", 3, 0},
        {"t b; h c b", "h a b", 3, 0},
        /* Holes. */
        {"s a 300000 0", "s a 400000 0", 1, 0},
        {"s a 300000 100000", "r a; s a 300000 0", 1, 0},
        {"f a 1", "s a 3000000 900000", 1, 0},
        {"s a 3000000 900000", "f a 1", 1, 0},
    };
    CreateScene *scene = create_scene_new(FALSE);
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        scene->options.type = ARCHIVE_FULL;
        scene_do(scene, cases[i].before);
        scene_run(scene);
        scene->options.type = ARCHIVE_INCREMENTAL;
        scene_do(scene, cases[i].change);
        scene_run(scene);
        scene_check(scene);
        if (scene->stats.files_archived != cases[i].files || scene->stats.deleted != cases[i].deleted)
            fail_msg("%s -> %s: %" G_GUINT64_FORMAT " stored, %" G_GUINT64_FORMAT " deleted", cases[i].before,
                     cases[i].change, scene->stats.files_archived, scene->stats.deleted);
        assert_false(scene->stats.partial);
        /* And on this one. */
        scene_run(scene);
        assert_int_equal(scene->stats.files_archived + scene->stats.deleted, 0);
        scene_check(scene);
        scene_do(scene, "e .");
    }
    create_scene_free(scene);
}

static void test_owner(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skip: owners can be changed by root only\n");
        skip();
    }
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f a 1; l b x; d c");
    scene_run(scene);
    scene_do(scene, "o 4711 a; o 4711 b; o 4711 c");
    scene_run(scene);
    assert_int_equal(scene->stats.files_archived, 2);
    assert_int_equal(scene->stats.changed, 3);
    scene_check(scene);
    create_scene_free(scene);
}

/* Without attributes there are none. */
static void test_no_attributes(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    IndexEntry entry;
    scene_do(scene, "f a 1; x a v; d b; x b v");
    scene->options.xattrs = scene->options.acls = FALSE;
    scene_run(scene);
    assert_true(scene_find(scene, "a", &entry));
    assert_int_equal(entry.entry.attrs_length, 0);
    assert_true(scene_find(scene, "b", &entry));
    assert_int_equal(entry.entry.attrs_length, 0);
    create_scene_free(scene);
}

/* Changes a byte in a way that its inode does not show: a page that is written to already. */
typedef struct {
    char *map;
    gsize length;
} Secret;

static Secret secret_open(const CreateScene *scene, const char *path)
{
    g_autofree char *whole = scene_path(scene, path);
    struct stat st = {0};
    int fd = open(whole, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    Secret secret = {.length = (gsize)st.st_size};
    secret.map = mmap(NULL, secret.length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(secret.map != MAP_FAILED);
    secret.map[0] ^= 1;
    assert_int_equal(close(fd), 0);
    return secret;
}

/* FALSE if the inode shows it after all (the page had been written back meanwhile). */
static gboolean secret_change(const CreateScene *scene, const char *path, Secret *secret)
{
    g_autofree char *whole = scene_path(scene, path);
    struct stat before, after;
    assert_int_equal(stat(whole, &before), 0);
    secret->map[0] ^= 2;
    assert_int_equal(munmap(secret->map, secret->length), 0);
    assert_int_equal(stat(whole, &after), 0);
    return before.st_ctim.tv_nsec == after.st_ctim.tv_nsec && before.st_ctim.tv_sec == after.st_ctim.tv_sec;
}

/* A file that was changed just before the parent looked at it is read, and stored if it is another. */
static void test_late(void **state)
{
    (void)state;
    gboolean secret_kept = FALSE;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f a 1111; f b 2222; f c 3; h d c; f e ; f f 4444; h g f");
    Secret secret = secret_open(scene, "a"), group = secret_open(scene, "f");
    scene_run_late(scene);
    secret_kept = secret_change(scene, "a", &secret) && secret_change(scene, "f", &group);
    scene_run_late(scene);
    /* a, and all names of f. */
    assert_int_equal(scene->stats.files_archived, 3);
    assert_int_equal(scene->stats.files_unchanged, 4);
    scene_check(scene);
    if (!secret_kept) {
        print_message("skip: this file system shows each change\n");
        create_scene_free(scene);
        skip();
    }
    create_scene_free(scene);
}

/* With checksums every file is read, whatever its inode tells; without them that is not seen. */
static void test_checksum(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "f a 1111; f b 2222");
    Secret secret = secret_open(scene, "a");
    scene_run(scene);
    gboolean secret_kept = secret_change(scene, "a", &secret);
    scene_run(scene);
    assert_int_equal(scene->stats.files_archived, secret_kept ? 0 : 1);
    scene->options.checksum = TRUE;
    scene_run(scene);
    assert_int_equal(scene->stats.files_archived, secret_kept ? 1 : 0);
    scene_check(scene);
    create_scene_free(scene);
    if (!secret_kept) {
        print_message("skip: this file system shows each change\n");
        skip();
    }
}

/* ---- under the run ---- */

static const char *words;        /* what the hooks do */
static guint fill_seed, fill_to; /* 0: nothing is filled */
static guint times;              /* how often */

static void change(CreateScene *scene)
{
    scene_do(scene, words);
    if (fill_to > 0)
        scene_fill(scene, "big", ++fill_seed, fill_to);
}

/* When the archive begins. */
static void at_start(CreateScene *scene, const char *path, gboolean first)
{
    (void)path;
    if (first)
        change(scene);
}

/* When a piece of a file was read: `times` times in a run, in different readings. */
static void in_between(CreateScene *scene, const char *path, gboolean first)
{
    if (!first && !path && scene->hooked % 2 == 0 && scene->hooked / 2 < times)
        change(scene);
    scene->hooked += !first && !path ? 1 : 0;
}

/* Each case: the only large file is changed after its first piece. */
static void test_changed_under(void **state)
{
    (void)state;
    static const struct {
        const char *words;
        guint fill;
        gboolean gone;
    } cases[] = {
        {"", BIG, FALSE},                 /* the same size */
        {"", BIG + 5000, FALSE},          /* larger */
        {"", 1000, FALSE},                /* smaller */
        {"f new x; m new big", 0, FALSE}, /* another file */
        {"r big", 0, TRUE},               /* gone */
        {"r big; l big other", 0, TRUE},  /* no file any more */
        {"r big; d big; f big/x 1", 0, TRUE},
        {"r big; s big 2000000 0", 0, FALSE}, /* a hole */
    };
    for (guint i = 0; i < 2 * G_N_ELEMENTS(cases); i++) {
        gboolean known = i % 2 == 1; /* the parent has it */
        CreateScene *scene = create_scene_new(FALSE);
        scene_do(scene, "f a 1; f z 2; f big 3");
        /* Its further name tells of it too. */
        if (*cases[i / 2].words == '\0')
            scene_do(scene, "h zlink big");
        if (known) {
            scene_fill(scene, "big", 1, BIG);
            scene_run(scene);
        }
        scene_fill(scene, "big", 2, BIG);
        words = cases[i / 2].words;
        fill_to = cases[i / 2].fill;
        times = 1;
        scene->hook = in_between;
        scene_run(scene);
        scene->hook = NULL;
        g_autofree char *point = g_strdup(scene->stats.point);
        assert_false(scene->stats.partial);
        assert_int_equal(scene->stats.changed_during_read, 0);
        assert_int_equal(scene->stats.vanished, cases[i / 2].gone ? 1 : 0);
        assert_int_equal(scene_find(scene, "big", NULL), !cases[i / 2].gone);
        if (strstr(words, "r ") == NULL && strstr(words, "f ") == NULL)
            scene_check(scene);
        /* The next run finds what came meanwhile, and all is right. */
        scene_run(scene);
        scene_check(scene);
        scene_run(scene);
        assert_int_equal(scene->stats.files_archived, 0);
        scene_check_tar(scene, point);
        create_scene_free(scene);
    }
}

/* A file that never holds still is kept as it was got hold of, which is said, and stored by the next run. */
static void test_changes_on(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_fill(scene, "big", 1, BIG);
    scene_do(scene, "h zlink big");
    words = "";
    fill_to = BIG;
    times = 100;
    scene->hook = in_between;
    scene_run(scene);
    scene->hook = NULL;
    assert_true(scene->stats.partial);
    assert_int_equal(scene->stats.changed_during_read, 1);
    assert_true(scene_warned(scene, "changed big"));
    IndexEntry entry;
    assert_true(scene_find(scene, "big", &entry));
    assert_int_equal(entry.flags & INDEX_CHANGED, INDEX_CHANGED);
    gsize length = 0;
    g_free(scene_content(scene, "big", &length)); /* its hash is right all the same */
    assert_int_equal(length, BIG);
    scene_run(scene);
    assert_false(scene->stats.partial);
    assert_int_equal(scene->stats.files_archived, 2);
    scene_check(scene);
    create_scene_free(scene);
}

/* Gone between the look and the reading: what is new is not in the point, what was known is deleted. */
static void test_vanished(void **state)
{
    (void)state;
    CreateScene *scene = create_scene_new(FALSE);
    scene_do(scene, "d d; f d/known 1; f stays 2; f x 3");
    scene_run(scene);
    scene_do(scene, "f d/known 11; f new 3; d e; f e/new 4; f y 5");
    words = "r d; r new; r e/new; r y; l y x";
    fill_to = 0;
    scene->hook = at_start;
    scene_run(scene);
    scene->hook = NULL;
    assert_int_equal(scene->stats.vanished, 4);
    assert_int_equal(scene_deletions(scene), 1);
    assert_false(scene->stats.partial);
    assert_true(scene_warned(scene, "vanished new"));
    assert_false(scene_find(scene, "d/known", NULL));
    assert_false(scene_find(scene, "new", NULL));
    assert_false(scene_find(scene, "e/new", NULL));
    assert_true(scene_find(scene, "e", NULL));
    assert_false(scene_find(scene, "y", NULL));
    scene_run(scene);
    scene_check(scene);
    create_scene_free(scene);
}

/* The first name of a file is gone when it should be read: the others keep its content. */
static void test_first_name_vanished(void **state)
{
    (void)state;
    for (guint i = 0; i < 4; i++) {
        CreateScene *scene = create_scene_new(FALSE);
        scene_do(scene, "f a text; h b a; h c a; f other 1");
        if (i % 2 == 1) {
            scene_run(scene);
            scene_do(scene, "c 0600 a");
        }
        words = i < 2 ? "r a" : "r a; r b";
        fill_to = 0;
        scene->hook = at_start;
        scene_run(scene);
        scene->hook = NULL;
        gsize length = 0;
        g_autofree guint8 *content = scene_content(scene, i < 2 ? "b" : "c", &length);
        assert_memory_equal(content, "text", length);
        assert_int_equal(length, 4);
        IndexEntry entry;
        assert_false(scene_find(scene, "a", NULL));
        assert_int_equal(scene_find(scene, "b", NULL), i < 2);
        assert_true(scene_find(scene, "c", &entry));
        assert_int_equal(entry.entry.link != NULL, i < 2);
        assert_int_equal(scene->stats.vanished, i < 2 ? 1 : 2);
        scene_run(scene);
        scene_check(scene);
        create_scene_free(scene);
    }
}

/* What cannot be read: the parent's stays, the rest is as it is, and the point says that it is partial. */
static void test_unreadable(void **state)
{
    (void)state;
    if (geteuid() != 0) {
        print_message("skip: only root can become nobody\n");
        skip();
    }
    CreateScene *scene = create_scene_new(FALSE);
    scene->options.state_dir = NULL;
    scene_do(scene, "f a old; d d; f d/x 1; d d/e; f d/e/y 2; d n; f n/x 1; d n/e; f n/e/y 1; f n-b 5; f z 1; f gone 1;"
                    "f g1 group; h g2 g1; d l; h l/g3 g1");
    scene_run(scene);
    /* d cannot be listed; of what n holds nothing can be asked; a and the group cannot be opened. */
    scene_do(scene, "f a newer; f new 1; c 0600 a; c 0600 new; c 0000 d; c 0744 n; r gone; f z 22; c 0600 g1");
    assert_int_equal(seteuid(NOBODY), 0);
    scene_run(scene);
    assert_int_equal(seteuid(0), 0);
    assert_true(scene->stats.partial);
    assert_true(scene_warned(scene, "unreadable a"));
    assert_true(scene_warned(scene, "unreadable new"));
    assert_true(scene_warned(scene, "unreadable d"));
    assert_true(scene_warned(scene, "unreadable n/e"));
    assert_true(scene_warned(scene, "unreadable g2"));
    assert_int_equal(scene->stats.deleted, 1);
    static const char *const there[] = {"a", "d", "d/x", "d/e", "d/e/y", "n", "n/x", "n/e", "n/e/y", "z", "g1", "g2"};
    for (guint i = 0; i < G_N_ELEMENTS(there); i++)
        if (!scene_find(scene, there[i], NULL))
            fail_msg("%s is lost", there[i]);
    assert_false(scene_find(scene, "new", NULL));
    gsize length = 0;
    g_free(scene_content(scene, "a", &length));
    assert_int_equal(length, 3);
    g_free(scene_content(scene, "z", &length));
    assert_int_equal(length, 2);
    scene_do(scene, "c 0755 d; c 0755 n");
    scene_run(scene);
    assert_false(scene->stats.partial);
    scene_check(scene);
    create_scene_free(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),     cmocka_unit_test(test_unchanged),           cmocka_unit_test(test_changes),
        cmocka_unit_test(test_owner),    cmocka_unit_test(test_no_attributes),       cmocka_unit_test(test_late),
        cmocka_unit_test(test_checksum), cmocka_unit_test(test_changed_under),       cmocka_unit_test(test_changes_on),
        cmocka_unit_test(test_vanished), cmocka_unit_test(test_first_name_vanished), cmocka_unit_test(test_unreadable),
    };
    return cmocka_run_group_tests_name("archive_create", tests, NULL, NULL);
}
