#include "../fs/scratch.h"
#include "collector.h"

#include "engine/mirror/compare.h"
#include "engine/mirror/preflight.h"

#include <sys/xattr.h>

#define OLD_TIME 1000000000
#define NEW_TIME 1100000000

/* A source, a destination and what a run of one over the other would be. */
typedef struct {
    Scratch *scratch;
    Collector *collector;
    MirrorOptions options;
    MirrorRun run;
    Destination dest;
    PatternList *patterns;
    GArray *source_fds;
    char **folders;
    PlanTotals totals;
    Plan *plan; /* of the last planning */
    GError *error;
} World;

static void make_dir(const World *world, const char *path)
{
    assert_true(dir_make_path(world->scratch->fd, path, 0755, NULL));
}

static void set_time(const World *world, const char *path, time_t seconds)
{
    const struct timespec times[2] = {{.tv_sec = seconds}, {.tv_sec = seconds}};
    assert_int_equal(utimensat(world->scratch->fd, path, times, AT_SYMLINK_NOFOLLOW), 0);
}

/* A file with its parents, all with the same time. */
static void put(const World *world, const char *path, const char *text)
{
    g_autofree char *parent = g_path_get_dirname(path);
    make_dir(world, parent);
    put_file(world->scratch->fd, path, text, strlen(text));
    set_time(world, path, OLD_TIME);
}

static void put_both(const World *world, const char *path, const char *text)
{
    g_autofree char *src = g_strconcat("src/", path, NULL);
    g_autofree char *dst = g_strconcat("dst/", path, NULL);
    put(world, src, text);
    put(world, dst, text);
}

static void hard_link(const World *world, const char *from, const char *to)
{
    assert_int_equal(linkat(world->scratch->fd, from, world->scratch->fd, to, 0), 0);
}

static void set_mode(const World *world, const char *path, mode_t mode)
{
    assert_int_equal(fchmodat(world->scratch->fd, path, mode, 0), 0);
}

/* Gives every directory below the same time: what put them there is no difference. */
static void settle(const World *world, int fd)
{
    g_auto(DirNames) names = {0};
    const struct timespec times[2] = {{.tv_sec = OLD_TIME}, {.tv_sec = OLD_TIME}};
    assert_true(dir_names_read(fd, &names, NULL, NULL));
    for (guint i = 0; i < dir_names_count(&names); i++) {
        AutoFd child = dir_open(fd, dir_names_get(&names, i), NULL);
        if (child >= 0)
            settle(world, child);
    }
    assert_int_equal(futimens(fd, times), 0);
}

static void add_source(World *world, const char *name)
{
    int fd = dir_open(world->scratch->fd, name, NULL);
    assert_true(fd >= 0);
    g_array_append_val(world->source_fds, fd);
}

static World *world_new(void **state)
{
    World *world = g_new0(World, 1);
    world->scratch = *state;
    world->collector = collector_new();
    world->patterns = pattern_list_new();
    world->source_fds = g_array_new(FALSE, FALSE, sizeof(int));
    world->dest = (Destination){.path = world->scratch->path, .root_fd = -1, .state_fd = -1};
    probe_look(-1, "ext4", &world->dest.abilities);
    mirror_options_default(&world->options);
    world->options.patterns = world->patterns;
    world->options.sink = &world->collector->sink;
    make_dir(world, "src");
    make_dir(world, "dst");
    return world;
}

static void world_close(World *world)
{
    for (guint i = 0; i < world->source_fds->len; i++)
        (void)close(g_array_index(world->source_fds, int, i));
    g_array_set_size(world->source_fds, 0);
    fd_clear(&world->dest.root_fd);
    plan_free(g_steal_pointer(&world->plan));
    g_strfreev(g_steal_pointer(&world->folders));
    g_clear_error(&world->error);
}

static void world_free(World *world)
{
    world_close(world);
    pattern_list_free(world->patterns);
    g_array_unref(world->source_fds);
    collector_free(world->collector);
    g_free(world);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

static void exclude(World *world, const char *pattern)
{
    assert_true(pattern_list_add(world->patterns, FALSE, pattern, NULL));
}

static void open_destination(World *world)
{
    FileMeta meta;
    world->dest.root_fd = dir_open(world->scratch->fd, "dst", NULL);
    if (world->dest.root_fd < 0)
        return;
    assert_true(meta_read(world->dest.root_fd, "", &meta, NULL));
    world->dest.dev = meta.dev;
    world->dest.mount = meta.mount;
    world->dest.ino = meta.ino;
}

/* Plans from the folders named (one: into dst itself). FALSE with world->error. */
static gboolean try_plan(World *world, const char *const *sources)
{
    world_close(world);
    g_autoptr(GPtrArray) folders = g_ptr_array_new();
    for (guint i = 0; sources[i] != NULL; i++) {
        add_source(world, sources[i]);
        g_ptr_array_add(folders, g_strdup(sources[1] == NULL ? "" : sources[i]));
    }
    g_ptr_array_add(folders, NULL);
    world->folders = (char **)g_ptr_array_free(g_steal_pointer(&folders), FALSE);
    open_destination(world);
    world->run = (MirrorRun){.options = &world->options,
                             .cancel = world->options.cancel,
                             .sink = &world->collector->sink,
                             .dest = &world->dest,
                             .source_fds = world->source_fds,
                             .folders = world->folders,
                             .sources = world->source_fds->len,
                             .jobs = 2,
                             .filter = {.xattrs = world->options.xattrs, .acls = world->options.acls},
                             .parts = META_ALL,
                             .granularity_ns = 1};
    world->plan = plan_new(world->scratch->fd, NULL);
    assert_non_null(world->plan);
    g_ptr_array_set_size(world->collector->items, 0);
    g_ptr_array_set_size(world->collector->warnings, 0);
    return compare_plan(&world->run, world->plan, TRUE, &world->totals, &world->error);
}

static const char *op_name(const PlanEntry *entry)
{
    static const char *const names[] = {"?", "new", "end", "touch", "file", "link", "meta", "remove"};
    return names[entry->op];
}

/* The plan as text: "op path", "*" for what lies in a new directory, "!" for changed metadata of its own. */
static char *plan_text(World *world)
{
    GString *text = g_string_new(NULL);
    g_autoptr(PlanReader) reader = plan_reader_new(world->plan);
    PlanEntry entry;
    int got = 0;
    while ((got = plan_reader_next(reader, &entry, NULL)) > 0) {
        g_string_append_printf(text, "%s%s%s %s", op_name(&entry), (entry.flags & PLAN_IN_NEW) != 0 ? "*" : "",
                               (entry.flags & PLAN_CHANGED) != 0 ? "!" : "", entry.path[0] != '\0' ? entry.path : ".");
        if (entry.target != NULL)
            g_string_append_printf(text, " -> %s", entry.target);
        if (entry.op == PLAN_REMOVE)
            g_string_append_printf(text, " (%u)", (guint)entry.files);
        g_string_append(text, "; ");
    }
    assert_int_equal(got, 0);
    return g_string_free(text, FALSE);
}

static void assert_plan_of(World *world, const char *const *sources, const char *expected)
{
    AutoFd top = dir_open(world->scratch->fd, "", NULL);
    settle(world, top);
    if (!try_plan(world, sources))
        fail_msg("%s", world->error->message);
    g_autofree char *text = plan_text(world);
    assert_string_equal(text, expected);
}

static void assert_plan(World *world, const char *expected)
{
    const char *const sources[] = {"src", NULL};
    assert_plan_of(world, sources, expected);
}

static gboolean is_partial(World *world)
{
    return atomic_load(&world->run.partial);
}

/* ---- what is new, different, gone ---- */

static void test_equal_trees_need_nothing(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "a", "1");
    put_both(world, "d/e/b", "2");
    assert_plan(world, "");
    assert_true(plan_is_empty(world->plan));
    assert_int_equal(world->totals.unchanged, 4);
    assert_int_equal(world->totals.files_total, 2);
    assert_int_equal(world->totals.bytes_total, 2);
    assert_int_equal(world->totals.dest_files, 2);
    assert_int_equal(world->collector->items->len, 0);
}

static void test_new_entries_in_order(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/d/x", "12");
    put(world, "src/d/e/y", "345");
    put(world, "src/z", "6");
    put(world, "src/a", "7");
    assert_plan(world, "file a; file z; new d; file* d/x; new* d/e; file* d/e/y; end* d/e; end d; touch .; ");
    assert_int_equal(world->totals.created, 6);
    assert_int_equal(world->totals.copy_files, 4);
    assert_int_equal(world->totals.copy_bytes, 7);
    assert_int_equal(world->totals.new_inodes, 6);
}

static void test_items_are_the_plan(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/d/x", "12");
    put_both(world, "m", "1");
    set_mode(world, "src/m", 0600);
    put(world, "dst/gone/y", "3");
    world->options.delete_extraneous = TRUE;
    assert_plan(world, "remove gone (2); meta m; new d; file* d/x; end d; touch .; ");
    const char *const expected[] = {"delete directory gone 1 2", "metadata file m 0 0", "create directory d 0 0",
                                    "create file d/x 2 0"};
    assert_int_equal(world->collector->items->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < G_N_ELEMENTS(expected); i++)
        assert_string_equal(g_ptr_array_index(world->collector->items, i), expected[i]);
}

static void test_changed_content(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "d/size", "1");
    put_both(world, "d/time", "1");
    put_both(world, "d/same", "1");
    put(world, "src/d/size", "12");
    set_time(world, "src/d/time", NEW_TIME);
    assert_plan(world, "file d/size; file d/time; touch d; ");
    assert_int_equal(world->totals.changed, 2);
    assert_int_equal(world->totals.metadata_changed, 0);
}

static void test_changed_metadata(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "d/file", "1");
    put_both(world, "e/file", "1");
    set_mode(world, "src/d/file", 0600);
    set_mode(world, "src/e", 0700);
    assert_plan(world, "meta d/file; touch! e; ");
    assert_int_equal(world->totals.metadata_changed, 2);
}

static void test_attributes(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "file", "1");
    AutoFd fd = openat(world->scratch->fd, "src/file", O_RDONLY | O_CLOEXEC);
    if (fsetxattr(fd, "user.a", "v", 1, 0) != 0)
        skip();
    assert_plan(world, "meta file; ");
    world->options.xattrs = FALSE;
    assert_plan(world, "");
}

static void test_checksum(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "content", "1");
    put_both(world, "time", "1");
    put(world, "src/content", "2");
    set_time(world, "src/time", NEW_TIME);
    assert_plan(world, "file time; touch .; ");
    world->options.checksum = TRUE;
    assert_plan(world, "file content; meta time; touch .; ");
}

static void test_extraneous_stays_without_delete(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "dst/a", "1");
    put(world, "dst/d/b", "1");
    assert_plan(world, "");
    assert_int_equal(world->totals.dest_files, 1); /* what lies in a directory nobody looks into is not counted */
    world->options.delete_extraneous = TRUE;
    assert_plan(world, "remove a (1); remove d (2); touch .; ");
    assert_int_equal(world->totals.deleted, 3);
    assert_int_equal(world->totals.deleted_files, 2);
    assert_int_equal(world->totals.dest_files, 2);
}

/* ---- rules ---- */

static void test_excluded_is_on_neither_side(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/new.o", "1");
    put_both(world, "both.o", "1");
    put(world, "src/both.o", "other");
    put(world, "dst/old.o", "1");
    put(world, "src/sub/deep", "1");
    put(world, "dst/other/keep.o", "1");
    world->options.delete_extraneous = TRUE;
    exclude(world, "*.o");
    exclude(world, "/sub/");
    assert_plan(world, "");
}

static void test_protected_entries_keep_their_directories(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "dst/d/keep.o", "1");
    put(world, "dst/d/gone", "1");
    put(world, "dst/d/e/gone", "1");
    put(world, "dst/d/f/g/keep.o", "1");
    put(world, "dst/d/f/gone", "1");
    world->options.delete_extraneous = TRUE;
    exclude(world, "*.o");
    assert_plan(world, "remove d/e (2); remove d/gone (1); remove d/f/gone (1); touch .; ");
    assert_int_equal(world->totals.deleted_files, 3);
}

static void test_left_out_by_size_tag_and_name(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/large", "12345678");
    put(world, "src/small", "1");
    put(world, "src/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\nmore");
    put(world, "src/nocache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc5");
    put(world, "src/marked/.nobackup", "");
    put(world, "dst/cache/kept", "1");
    world->options.delete_extraneous = TRUE;
    world->options.exclude_larger_than = 4;
    world->options.exclude_caches = TRUE;
    world->options.exclude_if_present = ".nobackup";
    assert_plan(world, "file small; new nocache; end nocache; touch .; ");
    assert_int_equal(collector_warned(world->collector, "skipped large"), 1);
    assert_false(is_partial(world));
}

static void test_our_own_names(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/.backapp/x", "1");
    put(world, "src/.backapp-destination", "1");
    put(world, "src/d/.backapp", "1");
    put(world, "dst/.backapp/journal", "1");
    put(world, "dst/.backapp-tmp", "1");
    world->options.delete_extraneous = TRUE;
    assert_plan(world, "new d; file* d/.backapp; end d; touch .; ");
    assert_int_equal(collector_warned(world->collector, "note .backapp"), 2);
    assert_false(is_partial(world));
}

/* ---- types ---- */

static void test_files_give_way_to_directories_and_links(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/a/x", "1");
    put(world, "dst/a", "1");
    put(world, "src/b/x", "1");
    assert_int_equal(symlinkat("a", world->scratch->fd, "dst/b"), 0);
    assert_int_equal(symlinkat("a", world->scratch->fd, "src/c"), 0);
    set_time(world, "src/c", OLD_TIME);
    put(world, "dst/c", "1");
    assert_int_equal(mkfifoat(world->scratch->fd, "src/d", 0644), 0);
    put(world, "dst/d", "1");
    assert_plan(world, "file c; file d; new a; file* a/x; end a; new b; file* b/x; end b; touch .; ");
    assert_int_equal(world->totals.changed, 4);
    assert_int_equal(world->totals.created, 2);
}

static void test_a_directory_gives_way_only_if_it_may(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/empty", "1");
    make_dir(world, "dst/empty");
    put(world, "src/full", "1");
    put(world, "dst/full/d/x", "1");
    put(world, "src/one", "1");
    put(world, "dst/one/x", "1");
    assert_plan(world, "file empty; touch .; ");
    assert_int_equal(collector_warned(world->collector, "skipped full"), 1);
    assert_int_equal(collector_warned(world->collector, "skipped one"), 1);
    assert_true(is_partial(world));
    world->options.delete_extraneous = TRUE;
    assert_plan(world, "file empty; file full; file one; touch .; ");
    assert_int_equal(world->totals.deleted_files, 2);
    assert_int_equal(world->totals.deleted, 3);
    assert_false(is_partial(world));
    exclude(world, "x");
    assert_plan(world, "file empty; touch .; ");
    assert_int_equal(collector_warned(world->collector, "excluded files"), 2);
    assert_true(is_partial(world));
}

static void test_symlinks_by_target(void **state)
{
    g_autoptr(World) world = world_new(state);
    const char *const names[][2] = {{"src/same", "t"}, {"dst/same", "t"}, {"src/other", "t"}, {"dst/other", "tt"}};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        assert_int_equal(symlinkat(names[i][1], world->scratch->fd, names[i][0]), 0);
        set_time(world, names[i][0], OLD_TIME);
    }
    assert_plan(world, "file other; touch .; ");
}

/* ---- hard links ---- */

static void test_hard_links_made(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/a", "1");
    make_dir(world, "src/d");
    hard_link(world, "src/a", "src/b");
    hard_link(world, "src/a", "src/d/c");
    assert_plan(world, "file a; link b -> a; new d; link* d/c -> a; end d; touch .; ");
    assert_int_equal(world->totals.copy_files, 1);
    world->options.hard_links = FALSE;
    assert_plan(world, "file a; file b; new d; file* d/c; end d; touch .; ");
}

static void test_hard_links_kept_and_extended(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "a", "1");
    hard_link(world, "src/a", "src/b");
    hard_link(world, "dst/a", "dst/b");
    assert_plan(world, "");
    assert_int_equal(world->totals.unchanged, 2);
    hard_link(world, "src/a", "src/c");
    assert_plan(world, "link c -> a; touch .; ");
}

static void test_hard_links_broken(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "a", "1");
    put(world, "src/b", "1");
    hard_link(world, "dst/a", "dst/b");
    assert_plan(world, "file b; touch .; ");
}

static void test_changed_groups_are_made_anew(void **state)
{
    g_autoptr(World) world = world_new(state);
    put_both(world, "a", "1");
    hard_link(world, "src/a", "src/b");
    hard_link(world, "dst/a", "dst/b");
    set_mode(world, "src/a", 0600);
    assert_plan(world, "file a; link b -> a; touch .; ");
}

/* ---- several sources, no destination ---- */

static void test_several_sources(void **state)
{
    g_autoptr(World) world = world_new(state);
    const char *const sources[] = {"one", "two", NULL};
    put(world, "one/a", "1");
    put(world, "two/a", "1");
    put(world, "two/b.o", "1");
    put(world, "dst/two/a", "1");
    put(world, "dst/two/gone", "1");
    put(world, "dst/stays", "1");
    world->options.delete_extraneous = TRUE;
    exclude(world, "/b.o");
    assert_plan_of(world, sources, "new one; file* one/a; end one; remove two/gone (1); touch two; ");
    assert_int_equal(world->totals.files_total, 2);
    put(world, "dst/one", "a file in the folder's place");
    assert_plan_of(world, sources, "new one; file* one/a; end one; remove two/gone (1); touch two; ");
}

static void test_links_across_sources(void **state)
{
    g_autoptr(World) world = world_new(state);
    const char *const sources[] = {"one", "two", NULL};
    put(world, "one/a", "1");
    make_dir(world, "two");
    hard_link(world, "one/a", "two/b");
    assert_plan_of(world, sources, "new one; file* one/a; end one; new two; link* two/b -> one/a; end two; ");
}

static void test_a_missing_destination(void **state)
{
    g_autoptr(World) world = world_new(state);
    put(world, "src/a", "1");
    put(world, "src/d/b", "1");
    world->options.dry_run = TRUE;
    world->options.delete_extraneous = TRUE;
    assert_int_equal(unlinkat(world->scratch->fd, "dst", AT_REMOVEDIR), 0);
    assert_plan(world, "file a; new d; file* d/b; end d; touch! .; ");
    assert_int_equal(world->totals.dest_files, 0);
    assert_int_equal(world->totals.deleted, 0);
}

/* ---- boundaries ---- */

static gboolean plan_src(World *world)
{
    const char *const sources[] = {"src", NULL};
    return try_plan(world, sources);
}

/* A plan that has to be refused, by the name of what is in the way. */
static gboolean is_boundary(World *world, const char *name)
{
    g_autofree char *part = g_strconcat("/", name, " lies on another file system", NULL);
    return !plan_src(world) && error_is(world->error, BACKAPP_ERROR_CONFLICT) &&
           strstr(world->error->message, part) != NULL;
}

static int child_nested_mount(Scratch *scratch)
{
    void *state = scratch;
    g_autoptr(World) world = world_new(&state);
    put_both(world, "d/sub/x", "1");
    put(world, "dst/extra/sub/x", "1");
    put(world, "src/other", "1");
    if (!mount_private_tmpfs(scratch, "dst/d/sub", "size=1m") ||
        !mount_private_tmpfs(scratch, "dst/extra/sub", "size=1m"))
        return CHILD_SKIPS;
    CHECK(is_boundary(world, "d/sub"));
    world->options.delete_extraneous = TRUE;
    exclude(world, "/d/sub");
    CHECK(is_boundary(world, "extra/sub"));
    world->options.delete_extraneous = FALSE;
    CHECK(plan_src(world));
    world->options.delete_extraneous = TRUE;
    exclude(world, "/extra/sub");
    CHECK(plan_src(world));
    return 0;
}

static void test_a_mount_in_the_destination_is_refused(void **state)
{
    RUN_CHILD(child_nested_mount, *state);
}

static int child_nested_file(Scratch *scratch)
{
    void *state = scratch;
    g_autoptr(World) world = world_new(&state);
    put_both(world, "file", "1");
    put(world, "dst/extra/file", "1");
    put(world, "elsewhere", "1");
    g_autofree char *elsewhere = g_build_filename(scratch->path, "elsewhere", NULL);
    g_autofree char *file = g_build_filename(scratch->path, "dst/file", NULL);
    g_autofree char *extra = g_build_filename(scratch->path, "dst/extra/file", NULL);
    make_dir(world, "unused");
    if (!mount_private_tmpfs(scratch, "unused", "size=1m") || mount(elsewhere, file, NULL, MS_BIND, NULL) != 0)
        return CHILD_SKIPS;
    CHECK(is_boundary(world, "file"));
    CHECK(umount2(file, MNT_DETACH) == 0 && mount(elsewhere, extra, NULL, MS_BIND, NULL) == 0);
    CHECK(plan_src(world));
    world->options.delete_extraneous = TRUE;
    CHECK(is_boundary(world, "extra/file"));
    return 0;
}

static void test_a_mount_on_a_file_is_refused(void **state)
{
    RUN_CHILD(child_nested_file, *state);
}

static int child_source_mounts(Scratch *scratch)
{
    void *state = scratch;
    g_autoptr(World) world = world_new(&state);
    make_dir(world, "src/mounted");
    make_dir(world, "src/bound");
    if (!mount_private_tmpfs(scratch, "src/mounted", "size=1m"))
        return CHILD_SKIPS;
    put(world, "src/mounted/x", "1");
    world->options.one_file_system = TRUE;
    CHECK(plan_src(world));
    g_autofree char *stopped = plan_text(world);
    CHECK(strstr(stopped, "new mounted") != NULL && strstr(stopped, "mounted/x") == NULL);
    world->options.one_file_system = FALSE;
    CHECK(plan_src(world));
    g_autofree char *whole = plan_text(world);
    CHECK(strstr(whole, "file* mounted/x") != NULL);
    g_autofree char *from = g_build_filename(scratch->path, "dst", NULL);
    g_autofree char *to = g_build_filename(scratch->path, "src/bound", NULL);
    CHECK(mount(from, to, NULL, MS_BIND, NULL) == 0);
    CHECK(!plan_src(world) && error_is(world->error, BACKAPP_ERROR_INVALID));
    CHECK(strstr(world->error->message, "lies inside the source, as bound") != NULL);
    exclude(world, "/bound");
    CHECK(plan_src(world));
    return 0;
}

static void test_mounts_in_the_source(void **state)
{
    RUN_CHILD(child_source_mounts, *state);
}

static int child_unreadable(Scratch *scratch)
{
    void *state = scratch;
    g_autoptr(World) world = world_new(&state);
    put(world, "src/locked/x", "1");
    put(world, "dst/locked/kept", "1");
    put(world, "dst/gone", "1");
    set_mode(world, "src/locked", 0);
    CHECK(fchmod(scratch->fd, 01777) == 0 && become_nobody());
    world->options.delete_extraneous = TRUE;
    CHECK(plan_src(world));
    CHECK(collector_warned(world->collector, "unreadable locked") == 1 && is_partial(world));
    g_autofree char *text = plan_text(world);
    CHECK(strstr(text, "remove gone") != NULL && strstr(text, "kept") == NULL);
    return 0;
}

static void test_what_cannot_be_read_is_not_deleted(void **state)
{
    Scratch *scratch = *state;
    RUN_CHILD(child_unreadable, scratch);
    assert_int_equal(fchmodat(scratch->fd, "src/locked", 0700, 0), 0);
}

static void test_cancel(void **state)
{
    g_autoptr(World) world = world_new(state);
    CancelFlag cancel = {0};
    put(world, "src/a", "1");
    cancel_set(&cancel);
    world->options.cancel = &cancel;
    assert_false(plan_src(world));
    assert_true(error_is(world->error, BACKAPP_ERROR_CANCELLED));
}

/* ---- the checks after planning ---- */

static gboolean check(World *world, const PlanTotals *totals, gboolean *refused)
{
    g_clear_error(&world->error);
    return preflight_check(&world->run, totals, "hash", refused, &world->error);
}

static void test_too_many_deletions(void **state)
{
    g_autoptr(World) world = world_new(state);
    gboolean refused = FALSE;
    PlanTotals half = {.files_total = 100, .deleted_files = 100, .dest_files = 200};
    PlanTotals more = {.files_total = 99, .deleted_files = 100, .dest_files = 199};
    PlanTotals few = {.files_total = 1, .deleted_files = 99, .dest_files = 100};
    PlanTotals emptied = {.files_total = 0, .deleted_files = 1, .dest_files = 1};
    PlanTotals nothing = {.files_total = 0};
    assert_true(plan_src(world));
    assert_true(check(world, &half, &refused) && check(world, &few, &refused) && check(world, &nothing, &refused));
    const PlanTotals *const bad[] = {&more, &emptied};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        assert_false(check(world, bad[i], &refused));
        assert_true(refused && error_is(world->error, BACKAPP_ERROR_CONFLICT));
        world->options.confirm = "hash";
        assert_true(check(world, bad[i], &refused));
        world->options.confirm = "other";
        assert_false(check(world, bad[i], &refused));
        assert_true(refused && strstr(world->error->message, "not the one that was confirmed") != NULL);
        assert_non_null(strstr(world->error->message, "--confirm hash"));
        assert_true(check(world, &few, &refused));
        assert_false(refused);
        world->options.force = TRUE;
        assert_true(check(world, bad[i], &refused));
        world->options.force = FALSE;
        world->options.confirm = NULL;
    }
    world->options.max_delete_percent = 100;
    assert_true(check(world, &more, &refused));
    assert_false(refused);
}

static void test_too_little_space(void **state)
{
    g_autoptr(World) world = world_new(state);
    gboolean refused = FALSE;
    PlanTotals large = {.files_total = 1, .copy_space = G_MAXINT64};
    PlanTotals many = {.files_total = 1, .new_inodes = G_MAXINT64};
    FsFacts facts;
    assert_true(plan_src(world));
    assert_true(facts_read(world->scratch->fd, &facts, NULL));
    assert_false(check(world, &large, &refused));
    assert_true(!refused && error_is(world->error, BACKAPP_ERROR_NO_SPACE));
    assert_int_equal(check(world, &many, &refused), facts.free_inodes == G_MAXUINT64);
    world->options.force = TRUE;
    assert_false(check(world, &large, &refused));
    world->options.dry_run = TRUE;
    assert_true(check(world, &large, &refused));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCRATCH_TEST(test_equal_trees_need_nothing),
        SCRATCH_TEST(test_new_entries_in_order),
        SCRATCH_TEST(test_items_are_the_plan),
        SCRATCH_TEST(test_changed_content),
        SCRATCH_TEST(test_changed_metadata),
        SCRATCH_TEST(test_attributes),
        SCRATCH_TEST(test_checksum),
        SCRATCH_TEST(test_extraneous_stays_without_delete),
        SCRATCH_TEST(test_excluded_is_on_neither_side),
        SCRATCH_TEST(test_protected_entries_keep_their_directories),
        SCRATCH_TEST(test_left_out_by_size_tag_and_name),
        SCRATCH_TEST(test_our_own_names),
        SCRATCH_TEST(test_files_give_way_to_directories_and_links),
        SCRATCH_TEST(test_a_directory_gives_way_only_if_it_may),
        SCRATCH_TEST(test_symlinks_by_target),
        SCRATCH_TEST(test_hard_links_made),
        SCRATCH_TEST(test_hard_links_kept_and_extended),
        SCRATCH_TEST(test_hard_links_broken),
        SCRATCH_TEST(test_changed_groups_are_made_anew),
        SCRATCH_TEST(test_several_sources),
        SCRATCH_TEST(test_links_across_sources),
        SCRATCH_TEST(test_a_missing_destination),
        SCRATCH_TEST(test_a_mount_in_the_destination_is_refused),
        SCRATCH_TEST(test_a_mount_on_a_file_is_refused),
        SCRATCH_TEST(test_mounts_in_the_source),
        SCRATCH_TEST(test_what_cannot_be_read_is_not_deleted),
        SCRATCH_TEST(test_cancel),
        SCRATCH_TEST(test_too_many_deletions),
        SCRATCH_TEST(test_too_little_space),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
