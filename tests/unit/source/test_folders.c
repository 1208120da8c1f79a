#include "../base/cmocka_all.h"

#include <string.h>

#include "base/error.h"
#include "engine/source/folders.h"

static void test_folders(void **state)
{
    const char *const one[] = {"/a/b", NULL};
    const char *const several[] = {"/a/b/", "/x/c", "/x/./d/../e", NULL};
    g_auto(GStrv) single = source_folders(one, NULL);
    assert_int_equal(g_strv_length(single), 1);
    assert_string_equal(single[0], "");
    g_auto(GStrv) folders = source_folders(several, NULL);
    assert_int_equal(g_strv_length(folders), 3);
    assert_string_equal(folders[0], "b");
    assert_string_equal(folders[1], "c");
    assert_string_equal(folders[2], "e");
}

static void test_a_single_source_may_be_anything(void **state)
{
    const char *const root[] = {"/", NULL};
    const char *const ours[] = {"/a/.backapp", NULL};
    g_auto(GStrv) first = source_folders(root, NULL);
    g_auto(GStrv) second = source_folders(ours, NULL);
    assert_true(first != NULL && second != NULL);
}

static void test_sources_without_a_folder_are_refused(void **state)
{
    const char *const none[] = {NULL};
    const char *const root[] = {"/a", "/", NULL};
    const char *const ours[] = {"/a", "/b/.backapp-x", NULL};
    const char *const same[] = {"/x/a", "/y/b", "/z/a", NULL};
    const char *const *const lists[] = {none, root, ours, same};
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(source_folders(lists[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
}

static void test_hostile_names_are_shown_safely(void **state)
{
    const char *const lists[][3] = {{"/a/\x1b[2J", "/b/\x1b[2J", NULL}, {"/a", "/b/.backapp\x1b[2J", NULL}};
    for (guint i = 0; i < G_N_ELEMENTS(lists); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(source_folders(lists[i], &error));
        assert_null(strchr(error->message, '\x1b'));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders),
        cmocka_unit_test(test_a_single_source_may_be_anything),
        cmocka_unit_test(test_sources_without_a_folder_are_refused),
        cmocka_unit_test(test_hostile_names_are_shown_safely),
    };
    return cmocka_run_group_tests_name("source/folders", tests, NULL, NULL);
}
