/* The parallel walk: its output must be in depth-first order whatever the number of threads. */
#include "fs/walk.h"

#include <string.h>

#include "../base/cmocka_all.h"
#include "base/error.h"

/* A made-up tree: each directory at depth < levels has `width` children and some records before, between and after
 * them. */
typedef struct {
    guint levels, width;
    gsize record_size;
    guint records; /* in the root, beside the few that every directory has */
    const char *fail_at;
    CancelFlag *cancel_in_visit;
    GString *seen;
} Tree;

static guint depth_of(const char *path)
{
    guint depth = path[0] != '\0' ? 1 : 0;
    for (const char *c = path; *c != '\0'; c++)
        depth += *c == '/' ? 1 : 0;
    return depth;
}

static gboolean visit(WalkDir *dir, gpointer user_data, GError **error)
{
    Tree *tree = user_data;
    const char *path = walk_dir_path(dir);
    guint depth = depth_of(path);
    if (tree->fail_at != NULL && g_str_equal(path, tree->fail_at))
        return error_set(error, BACKAPP_ERROR_DENIED, "no way into %s", path);
    if (tree->cancel_in_visit != NULL && depth == 2)
        cancel_set(tree->cancel_in_visit);
    if (walk_dir_tag(dir) != depth)
        return error_set(error, BACKAPP_ERROR_INTERNAL, "wrong tag");
    g_autofree char *filler = g_strnfill(tree->record_size, 'x');
    g_autofree char *first = g_strdup_printf("<%s%s", path, filler);
    if (!walk_dir_put(dir, first, strlen(first), error) || !walk_dir_put(dir, "", 0, error))
        return FALSE;
    for (guint i = 0; depth == 0 && i < tree->records; i++) {
        g_autofree char *text = g_strdup_printf("#%u%s", i, filler);
        if (!walk_dir_put(dir, text, strlen(text), error))
            return FALSE;
    }
    for (guint i = 0; depth < tree->levels && i < tree->width; i++) {
        g_autofree char *name = g_strdup_printf("c%u", i);
        walk_dir_child(dir, name, depth + 1);
        if (!walk_dir_put(dir, name, strlen(name), error))
            return FALSE;
    }
    return TRUE;
}

static gboolean record(const guint8 *data, gsize length, gpointer user_data, GError **error)
{
    Tree *tree = user_data;
    g_string_append_len(tree->seen, (const char *)data, (gssize)MIN(length, 40));
    g_string_append_c(tree->seen, '\n');
    return TRUE;
}

static gboolean enter(const char *path, guint tag, gpointer user_data, GError **error)
{
    g_string_append_printf(((Tree *)user_data)->seen, "enter %s %u\n", path, tag);
    return TRUE;
}

static gboolean leave(const char *path, guint tag, gpointer user_data, GError **error)
{
    g_string_append_printf(((Tree *)user_data)->seen, "leave %s %u\n", path, tag);
    return TRUE;
}

static gboolean run(Tree *tree, guint threads, const CancelFlag *cancel, GError **error)
{
    WalkFuncs funcs = {
        .visit = visit, .record = record, .enter = enter, .leave = leave, .visit_data = tree, .user_data = tree};
    if (tree->seen != NULL)
        g_string_free(tree->seen, TRUE);
    tree->seen = g_string_new(NULL);
    return walk_run(threads, 0, -1, &funcs, cancel, error);
}

static void test_small_order(void **state)
{
    (void)state;
    Tree tree = {.levels = 1, .width = 2};
    assert_true(run(&tree, 1, NULL, NULL));
    assert_string_equal(tree.seen->str,
                        "enter  0\n<\n\nenter c0 1\n<c0\n\nleave c0 1\nc0\nenter c1 1\n<c1\n\nleave c1 1\n"
                        "c1\nleave  0\n");
    g_string_free(tree.seen, TRUE);
}

static void test_same_for_any_threads(void **state)
{
    (void)state;
    Tree tree = {.levels = 4, .width = 6, .record_size = 10};
    assert_true(run(&tree, 1, NULL, NULL));
    g_autofree char *expected = g_strdup(tree.seen->str);
    for (guint threads = 2; threads <= 8; threads *= 2) {
        assert_true(run(&tree, threads, NULL, NULL));
        assert_string_equal(tree.seen->str, expected);
    }
    g_string_free(tree.seen, TRUE);
}

/* More than a megabyte of records in a directory goes through a temporary file, more than the window makes threads
 * wait. */
static void test_many_records(void **state)
{
    (void)state;
    Tree tree = {.levels = 2, .width = 40, .record_size = 20000, .records = 200};
    assert_true(run(&tree, 1, NULL, NULL));
    g_autofree char *expected = g_strdup(tree.seen->str);
    assert_true(run(&tree, 4, NULL, NULL));
    assert_string_equal(tree.seen->str, expected);
    g_string_free(tree.seen, TRUE);
}

static void test_more_than_the_window(void **state)
{
    (void)state;
    Tree tree = {.levels = 1, .width = 9000};
    assert_true(run(&tree, 3, NULL, NULL));
    assert_non_null(strstr(tree.seen->str, "leave c8999 1\nc8999\nleave  0\n"));
    g_string_free(tree.seen, TRUE);
}

static void test_deep(void **state)
{
    (void)state;
    Tree tree = {.levels = 2000, .width = 1};
    assert_true(run(&tree, 2, NULL, NULL));
    g_string_free(tree.seen, TRUE);
}

static void test_error_in_visit(void **state)
{
    (void)state;
    Tree tree = {.levels = 3, .width = 5, .fail_at = "c3/c1"};
    for (guint threads = 1; threads <= 4; threads++) {
        g_autoptr(GError) error = NULL;
        assert_false(run(&tree, threads, NULL, &error));
        assert_true(error_is(error, BACKAPP_ERROR_DENIED));
        assert_null(strstr(tree.seen->str, "leave c3 1"));
    }
    g_string_free(tree.seen, TRUE);
}

static void test_cancel(void **state)
{
    (void)state;
    CancelFlag cancel = {0};
    Tree tree = {.levels = 3, .width = 5, .cancel_in_visit = &cancel};
    g_autoptr(GError) error = NULL;
    assert_false(run(&tree, 2, &cancel, &error));
    assert_true(error_is(error, BACKAPP_ERROR_CANCELLED));
    g_string_free(tree.seen, TRUE);
}

static void test_record_limit(void **state)
{
    (void)state;
    Tree tree = {.levels = 0, .record_size = 2 * 1024 * 1024};
    g_autoptr(GError) error = NULL;
    assert_false(run(&tree, 1, NULL, &error));
    g_string_free(tree.seen, TRUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_order),  cmocka_unit_test(test_same_for_any_threads),
        cmocka_unit_test(test_many_records), cmocka_unit_test(test_more_than_the_window),
        cmocka_unit_test(test_deep),         cmocka_unit_test(test_error_in_visit),
        cmocka_unit_test(test_cancel),       cmocka_unit_test(test_record_limit),
    };
    return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
