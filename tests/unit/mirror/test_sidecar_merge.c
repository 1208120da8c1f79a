/* Bringing a sidecar up to date: what is the same, changes, goes, stays, or was lost. */
#include "engine/mirror/sidecar_merge.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../base/cmocka_all.h"
#include "collector.h"
#include "fs/remove.h"

typedef struct {
    char *top;
    Destination dest;
    MirrorOptions options;
    MirrorRun run;
    Collector *collector;
    PatternList *patterns;
    char *folders[2];
    GString *gone, *states;
    gboolean changed;
} World;

static World *world_new(void)
{
    World *world = g_new0(World, 1);
    world->top = g_dir_make_tmp("backapp-merge-XXXXXX", NULL);
    world->dest = (Destination){.path = world->top, .root_fd = -1};
    world->dest.state_fd = open(world->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(world->dest.state_fd >= 0);
    world->dest.abilities = (FsAbilities){.hard_links = TRUE, .mtime_granularity_ns = 2};
    world->collector = collector_new();
    world->patterns = pattern_list_new();
    world->folders[0] = g_strdup("");
    mirror_options_default(&world->options);
    world->options.patterns = world->patterns;
    world->run = (MirrorRun){.options = &world->options,
                             .sink = &world->collector->sink,
                             .dest = &world->dest,
                             .sources = 1,
                             .folders = world->folders,
                             .sidecar = TRUE};
    world->gone = g_string_new(NULL);
    world->states = g_string_new(NULL);
    return world;
}

static void world_free(World *world)
{
    close(world->dest.state_fd);
    assert_true(remove_tree(AT_FDCWD, world->top, FALSE, NULL, NULL));
    collector_free(world->collector);
    pattern_list_free(world->patterns);
    g_string_free(world->gone, TRUE);
    g_string_free(world->states, TRUE);
    g_free(world->folders[0]);
    g_free(world->top);
    g_free(world);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

static gboolean note_gone(const char *path, guint32 mode, gboolean whole, gpointer user_data, GError **error)
{
    World *world = user_data;
    g_string_append_printf(world->gone, "%s%s ", path, whole ? "*" : "");
    return TRUE;
}

static void put(World *world, SidecarMerge *merge, const SidecarRecord *record)
{
    static const char states[] = "=~+?";
    SidecarState state = SIDECAR_SAME;
    gboolean stale = FALSE;
    assert_true(sidecar_merge_put(merge, record, NULL, 0, &state, &stale, NULL));
    g_string_append_printf(world->states, "%c%s%s ", states[state], record->path, stale ? "!" : "");
}

/* A tree as text: names with "/" are directories, with "@" symlinks, ":" keeps and "-" removes what is there, and a digit
 * at the end is the time. */
static void put_tree(World *world, SidecarMerge *merge, const char *tree)
{
    g_auto(GStrv) words = g_strsplit(tree, " ", -1);
    for (char **word = words; *word != NULL; word++) {
        gsize last = strlen(*word) - 1;
        SidecarRecord record = {.path = *word, .meta = {.mode = S_IFREG | 0644, .size = 3}};
        if ((*word)[0] == ':') {
            sidecar_merge_keep(merge, *word + 1);
            continue;
        }
        if ((*word)[0] == '-') {
            sidecar_merge_remove(merge, *word + 1);
            continue;
        }
        if (g_ascii_isdigit((*word)[last]))
            record.meta.mtime_ns = (guint32)((*word)[last] - '0');
        if ((*word)[last] == '/')
            record.meta.mode = S_IFDIR | 0755;
        if ((*word)[last] == '@') {
            record.meta.mode = S_IFLNK | 0777;
            record.target = "target";
        }
        (*word)[last + (g_ascii_isalpha((*word)[last]) ? 1 : 0)] = '\0';
        put(world, merge, &record);
    }
}

/* One run over a tree, committed. */
static void run(World *world, const char *tree)
{
    g_string_truncate(world->gone, 0);
    g_string_truncate(world->states, 0);
    g_autoptr(SidecarMerge) merge = sidecar_merge_new(&world->run, note_gone, world, NULL);
    assert_non_null(merge);
    put_tree(world, merge, tree);
    assert_true(sidecar_merge_finish(merge, &world->changed, NULL));
    assert_int_equal(faccessat(world->dest.state_fd, SIDECAR_NEW_NAME, F_OK, 0) == 0,
                     world->changed && !world->options.dry_run);
    assert_true(sidecar_replay(&world->dest, NULL));
}

/* The paths in the sidecar. */
static char *paths(World *world)
{
    GString *text = g_string_new(NULL);
    g_autoptr(SidecarReader) reader = sidecar_reader_open(&world->dest, SIDECAR_NAME, NULL);
    SidecarRecord record;
    int got = -1;
    while (reader != NULL && (got = sidecar_reader_next(reader, &record, NULL)) > 0)
        g_string_append_printf(text, "%s%s ", record.path, S_ISDIR(record.meta.mode) ? "/" : "");
    assert_int_equal(got, 0);
    return g_string_free(text, FALSE);
}

static void assert_paths(World *world, const char *expected)
{
    g_autofree char *found = paths(world);
    assert_string_equal(found, expected);
}

static void test_first_and_unchanged(void **state)
{
    g_autoptr(World) world = world_new();
    run(world, "/ a1 l@ d/ d/x2");
    assert_true(world->changed);
    assert_string_equal(world->states->str, "? ?a ?l ?d ?d/x ");
    run(world, "/ a1 l@ d/ d/x2");
    assert_false(world->changed);
    assert_string_equal(world->states->str, "= =a =l =d =d/x ");
    assert_paths(world, "/ a l d/ d/x ");
    /* A time that differs in what the drive does not keep. */
    run(world, "/ a1 b1 l@ d/ d/x3");
    assert_string_equal(world->states->str, "= =a +b =l =d ~d/x! ");
    assert_paths(world, "/ a b l d/ d/x ");
}

static void test_dry_run_writes_nothing(void **state)
{
    g_autoptr(World) world = world_new();
    run(world, "/ a1");
    world->options.dry_run = TRUE;
    run(world, "/ a2 b1");
    assert_true(world->changed);
    assert_string_equal(world->states->str, "= ~a! +b ");
    assert_paths(world, "/ a ");
}

static void test_what_the_source_no_longer_has(void **state)
{
    g_autoptr(World) world = world_new();
    run(world, "/ a1 l@ z1 d/ d/l@ d/x1 e/ e/l@");
    run(world, "/ z1");
    assert_false(world->changed);
    world->options.delete_extraneous = TRUE;
    /* e goes as a whole; d/l is protected by a rule. */
    assert_true(pattern_list_add(world->patterns, FALSE, "/d/l", NULL));
    run(world, "/ -e z1");
    assert_string_equal(world->gone->str, "l e/l* ");
    assert_paths(world, "/ z d/l ");
}

static void test_what_could_not_be_read_stays(void **state)
{
    g_autoptr(World) world = world_new();
    world->options.delete_extraneous = TRUE;
    run(world, "/ a1 l@ d/ d/l@ d/s/ d/s/x1 e/ e/l@");
    run(world, "/ :l :d");
    assert_string_equal(world->gone->str, "e/l ");
    assert_paths(world, "/ l d/ d/l d/s/ d/s/x ");
    /* The source's root could not be read at all. */
    run(world, ":");
    assert_false(world->changed);
}

static void test_other_types_under_a_name(void **state)
{
    g_autoptr(World) world = world_new();
    run(world, "/ n@ d/ d/l@");
    g_autoptr(SidecarMerge) merge = sidecar_merge_new(&world->run, note_gone, world, NULL);
    put_tree(world, merge, "/ -d d1");
    assert_true(sidecar_merge_directory(merge, "n", NULL));
    put_tree(world, merge, "n/ n/x1");
    assert_true(sidecar_merge_finish(merge, &world->changed, NULL));
    assert_int_equal(sidecar_merge_only_records(merge), 2);
    assert_true(sidecar_replay(&world->dest, NULL));
    assert_string_equal(world->gone->str, "d/l* ");
    assert_paths(world, "/ d n/ n/x ");
}

/* Damage is met in the middle of a run: what came before it stays as it was. */
static void test_damage(void **state)
{
    g_autoptr(World) world = world_new();
    g_autoptr(GString) tree = g_string_new("/");
    for (guint i = 0; i < 12000; i++) /* several blocks */
        g_string_append_printf(tree, " file%06ux", i);
    run(world, tree->str);
    g_autofree char *before = paths(world);
    struct stat st;
    int fd = openat(world->dest.state_fd, SIDECAR_NAME, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    assert_int_equal(pwrite(fd, "????", 4, st.st_size - 40), 4);
    assert_int_equal(close(fd), 0);
    run(world, tree->str);
    assert_int_equal(collector_warned(world->collector, "written anew"), 1);
    assert_true(world->changed);
    assert_non_null(strstr(world->states->str, "=file000001x"));
    assert_non_null(strstr(world->states->str, "?file011999x"));
    assert_paths(world, before);
    run(world, tree->str);
    assert_false(world->changed);
}

/* Where the file system lacks only attributes, only what has some needs a record. */
static void test_only_what_needs_one_has_a_record(void **state)
{
    g_autoptr(World) world = world_new();
    world->dest.abilities =
        (FsAbilities){.symlinks = TRUE, .hard_links = TRUE, .owners = TRUE, .modes = TRUE, .fifos = TRUE};
    run(world, "/ a1 l@");
    assert_false(world->changed);
    assert_int_equal(faccessat(world->dest.state_fd, SIDECAR_NAME, F_OK, 0), -1);
    world->dest.abilities.symlinks = FALSE;
    run(world, "/ a1 l@");
    assert_paths(world, "l ");
    world->dest.abilities.symlinks = TRUE;
    run(world, "/ a1 l@");
    assert_string_equal(world->states->str, "= =a ~l ");
    assert_paths(world, "");
    const AttrsFilter all = {.xattrs = TRUE, .acls = TRUE};
    const AttrsFilter none = {0};
    assert_true(sidecar_is_needed(&world->dest.abilities, &all));
    assert_false(sidecar_is_needed(&world->dest.abilities, &none));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_and_unchanged),
        cmocka_unit_test(test_dry_run_writes_nothing),
        cmocka_unit_test(test_what_the_source_no_longer_has),
        cmocka_unit_test(test_what_could_not_be_read_stays),
        cmocka_unit_test(test_other_types_under_a_name),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_only_what_needs_one_has_a_record),
    };
    return cmocka_run_group_tests_name("sidecar_merge", tests, NULL, NULL);
}
