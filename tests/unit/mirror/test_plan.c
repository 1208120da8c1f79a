#include "../base/cmocka_all.h"

#include "engine/mirror/plan.h"

#include <string.h>
#include <sys/stat.h>

#define MANY 20000

static Plan *make_plan(void)
{
    Plan *plan = plan_new(-1, NULL);
    assert_non_null(plan);
    return plan;
}

static void add(Plan *plan, const PlanEntry *entry)
{
    assert_true(plan_add(plan, entry, NULL));
}

static void assert_same_meta(const FileMeta *a, const FileMeta *b)
{
    assert_int_equal(a->mode, b->mode);
    assert_int_equal(a->uid, b->uid);
    assert_int_equal(a->gid, b->gid);
    assert_int_equal(a->nlink, b->nlink);
    assert_true(a->mtime_s == b->mtime_s && a->mtime_ns == b->mtime_ns);
    assert_true(a->ctime_s == b->ctime_s && a->ctime_ns == b->ctime_ns);
    assert_true(a->size == b->size && a->blocks == b->blocks && a->ino == b->ino);
    assert_true(a->dev == b->dev && a->rdev == b->rdev);
}

static void assert_same_entry(const PlanEntry *a, const PlanEntry *b)
{
    assert_int_equal(a->op, b->op);
    assert_int_equal(a->flags, b->flags);
    assert_int_equal(a->source, b->source);
    assert_string_equal(a->path, b->path);
    assert_true((a->target == NULL) == (b->target == NULL));
    if (a->target != NULL)
        assert_string_equal(a->target, b->target);
    if (a->op != PLAN_REMOVE)
        assert_same_meta(&a->want, &b->want);
    assert_true(a->have_ino == b->have_ino && a->have_mode == b->have_mode);
    assert_true(a->files == b->files && a->bytes == b->bytes);
}

/* Writes the entries and reads them back, twice. */
static void assert_round_trip(const PlanEntry *entries, guint count)
{
    g_autoptr(Plan) plan = make_plan();
    for (guint i = 0; i < count; i++)
        add(plan, &entries[i]);
    assert_true(plan_finish(plan, NULL));
    for (guint round = 0; round < 2; round++) {
        g_autoptr(PlanReader) reader = plan_reader_new(plan);
        PlanEntry entry;
        for (guint i = 0; i < count; i++) {
            assert_int_equal(plan_reader_next(reader, &entry, NULL), 1);
            assert_same_entry(&entry, &entries[i]);
        }
        assert_int_equal(plan_reader_next(reader, &entry, NULL), 0);
        assert_int_equal(plan_reader_next(reader, &entry, NULL), 0);
    }
}

static const FileMeta EXTREME = {.mode = G_MAXUINT32,
                                 .uid = G_MAXUINT32,
                                 .gid = G_MAXUINT32 - 1,
                                 .nlink = G_MAXUINT32,
                                 .mtime_s = G_MININT64,
                                 .ctime_s = G_MAXINT64,
                                 .mtime_ns = 999999999,
                                 .ctime_ns = 1,
                                 .size = G_MAXUINT64,
                                 .blocks = G_MAXUINT64 - 1,
                                 .ino = G_MAXUINT64,
                                 .dev = G_MAXUINT64,
                                 .rdev = G_MAXUINT64};

static void test_every_operation_comes_back(void **state)
{
    const PlanEntry entries[] = {
        {.op = PLAN_FILE, .path = "a", .want = {.mode = S_IFREG | 0644, .size = 5}, .bytes = 5},
        {.op = PLAN_LINK, .path = "b", .target = "a", .want = {.mode = S_IFREG | 0644}, .have_ino = 7, .have_mode = 1},
        {.op = PLAN_META, .path = "c", .flags = PLAN_ATTRS, .want = {.mtime_s = -1}, .have_ino = 8},
        {.op = PLAN_REMOVE, .path = "d", .have_ino = 9, .have_mode = S_IFDIR, .files = 10, .bytes = 11},
        {.op = PLAN_DIR_NEW, .path = "e", .source = 3},
        {.op = PLAN_FILE, .path = "e/f", .flags = PLAN_IN_NEW | PLAN_PATCH, .want = EXTREME},
        {.op = PLAN_DIR_END, .path = "e"},
        {.op = PLAN_DIR_TOUCH, .path = "", .flags = PLAN_CHANGED},
    };
    assert_round_trip(entries, G_N_ELEMENTS(entries));
}

static void test_paths_of_any_bytes_and_length(void **state)
{
    g_autofree char *deep = g_strnfill(100000, 'x');
    for (gsize i = 200; i < 100000; i += 200)
        deep[i] = '/';
    g_autofree char *deeper = g_strconcat(deep, "/y", NULL);
    const PlanEntry entries[] = {
        {.op = PLAN_FILE, .path = deep},        {.op = PLAN_LINK, .path = deeper, .target = deep},
        {.op = PLAN_FILE, .path = "\xff\xfe"},  {.op = PLAN_FILE, .path = "\xff"},
        {.op = PLAN_FILE, .path = "new\nline"}, {.op = PLAN_LINK, .path = "new", .target = ""},
        {.op = PLAN_FILE, .path = "new"},       {.op = PLAN_FILE, .path = ""},
        {.op = PLAN_FILE, .path = deeper},
    };
    assert_round_trip(entries, G_N_ELEMENTS(entries));
}

/* More than the buffers hold. */
static void test_many_entries(void **state)
{
    g_autofree PlanEntry *entries = g_new0(PlanEntry, MANY);
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < MANY; i++) {
        g_ptr_array_add(paths, g_strdup_printf("directory%u/file%u", i / 100, i));
        entries[i] = (PlanEntry){.op = PLAN_FILE, .path = g_ptr_array_index(paths, i), .bytes = i, .have_ino = i};
    }
    assert_round_trip(entries, MANY);
}

static void test_an_empty_plan(void **state)
{
    g_autoptr(Plan) plan = make_plan();
    assert_true(plan_is_empty(plan));
    assert_true(plan_finish(plan, NULL));
    g_autoptr(PlanReader) reader = plan_reader_new(plan);
    PlanEntry entry;
    assert_int_equal(plan_reader_next(reader, &entry, NULL), 0);
    g_autoptr(Plan) other = make_plan();
    add(other, &(PlanEntry){.op = PLAN_FILE, .path = "a"});
    assert_false(plan_is_empty(other));
}

static char *hash_of(const PlanEntry *entry)
{
    g_autoptr(Plan) plan = make_plan();
    add(plan, entry);
    return plan_hash(plan);
}

static PlanEntry base_entry(void)
{
    return (PlanEntry){.op = PLAN_LINK,
                       .path = "path",
                       .target = "target",
                       .want = {.mode = S_IFREG | 0644, .size = 1, .mtime_s = 2, .mtime_ns = 3, .ctime_s = 4, .ino = 5},
                       .have_ino = 6,
                       .have_mode = S_IFREG | 0600,
                       .files = 7,
                       .bytes = 8};
}

/* What a user agreed to is exactly what the hash is over. */
static void test_hash_covers_what_would_be_done(void **state)
{
    PlanEntry base = base_entry();
    PlanEntry others[13];
    for (guint i = 0; i < G_N_ELEMENTS(others); i++)
        others[i] = base_entry();
    others[0].op = PLAN_META;
    others[1].flags = PLAN_ATTRS;
    others[2].path = "pathx";
    others[3].target = "targetx";
    others[4].want.mode++;
    others[5].want.uid++;
    others[6].want.gid++;
    others[7].want.mtime_s++;
    others[8].want.mtime_ns++;
    others[9].want.size++;
    others[10].have_mode = S_IFDIR | 0600;
    others[11].files++;
    others[12].bytes++;
    g_autofree char *expected = hash_of(&base);
    assert_int_equal(strlen(expected), 32);
    assert_int_equal(strspn(expected, "0123456789abcdef"), 32);
    for (guint i = 0; i < G_N_ELEMENTS(others); i++) {
        g_autofree char *hash = hash_of(&others[i]);
        assert_string_not_equal(hash, expected);
    }
}

/* A dry run and the run after it see other inode numbers and times of reading, but do the same. */
static void test_hash_leaves_out_what_only_identifies(void **state)
{
    PlanEntry base = base_entry();
    PlanEntry same = base_entry();
    same.want.ino++;
    same.want.dev++;
    same.want.ctime_s++;
    same.want.ctime_ns++;
    same.want.nlink++;
    same.have_ino++;
    same.have_mode = S_IFREG | 0644;
    same.flags = PLAN_IN_NEW | PLAN_PATCH;
    g_autofree char *expected = hash_of(&base);
    g_autofree char *hash = hash_of(&same);
    assert_string_equal(hash, expected);
}

/* The border between a path and what follows it is part of the hash. */
static void test_hash_tells_path_from_target(void **state)
{
    PlanEntry first = base_entry();
    PlanEntry second = base_entry();
    first.path = "ab";
    first.target = "c";
    second.path = "a";
    second.target = "bc";
    g_autofree char *a = hash_of(&first);
    g_autofree char *b = hash_of(&second);
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_comes_back),
        cmocka_unit_test(test_paths_of_any_bytes_and_length),
        cmocka_unit_test(test_many_entries),
        cmocka_unit_test(test_an_empty_plan),
        cmocka_unit_test(test_hash_covers_what_would_be_done),
        cmocka_unit_test(test_hash_leaves_out_what_only_identifies),
        cmocka_unit_test(test_hash_tells_path_from_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
