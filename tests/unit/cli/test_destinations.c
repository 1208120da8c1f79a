#include "../base/cmocka_all.h"

#include "base/error.h"
#include "cli/destinations.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *root;

static char *below(const char *name)
{
    return g_build_filename(root, name, NULL);
}

static char *record_path(void)
{
    return below("state/backapp/destinations");
}

static void write_record(const char *text)
{
    g_autofree char *path = record_path();
    assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void test_nothing_known(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_null(destinations_lookup("/nowhere", &error));
    assert_null(error);
}

static void test_record_and_lookup(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *plain = below("mirror"), *odd = below("odd \n%41 \xff\xfe name ü");
    assert_true(destinations_record(plain, "id-1", &error));
    assert_true(destinations_record(odd, "id-2", &error));
    assert_true(destinations_record(plain, "id-3", &error));
    g_autofree char *first = destinations_lookup(plain, &error);
    g_autofree char *second = destinations_lookup(odd, &error);
    assert_string_equal(first, "id-3");
    assert_string_equal(second, "id-2");
    g_autofree char *slash = g_strconcat(plain, "/./", NULL);
    g_autofree char *same = destinations_lookup(slash, &error);
    assert_string_equal(same, "id-3");
    g_autofree char *path = record_path();
    GStatBuf info;
    assert_int_equal(g_stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
}

static void test_symlink_into_an_absent_drive(void **state)
{
    g_autofree char *drive = below("drive"), *inside = below("drive/backup"), *link = below("link");
    assert_int_equal(g_mkdir_with_parents(inside, 0700), 0);
    assert_int_equal(symlink(inside, link), 0);
    assert_true(destinations_record(link, "id-4", NULL));
    g_autofree char *by_link = destinations_lookup(link, NULL), *direct = destinations_lookup(inside, NULL);
    assert_string_equal(by_link, "id-4");
    assert_string_equal(direct, "id-4");
    /* The drive goes away: the link dangles, and the folder below the mount point is not there. */
    assert_int_equal(g_rmdir(inside), 0);
    g_autofree char *dangling = destinations_lookup(link, NULL), *absent = destinations_lookup(inside, NULL);
    assert_string_equal(dangling, "id-4");
    assert_string_equal(absent, "id-4");
    assert_int_equal(g_rmdir(drive), 0);
}

static void test_way_through_a_symlink(void **state)
{
    g_autofree char *drive = below("drive"), *inside = below("drive/backup"), *way = below("way");
    g_autofree char *link = below("other"), *by_way = below("way/drive/backup"), *link_by_way = below("way/other");
    assert_int_equal(g_mkdir_with_parents(inside, 0700), 0);
    assert_int_equal(symlink(".", way), 0);
    assert_int_equal(symlink(inside, link), 0);
    assert_true(destinations_record(link_by_way, "id-7", NULL));
    /* The same places under names that were not recorded, and the drive is gone. */
    assert_int_equal(g_rmdir(inside), 0);
    g_autofree char *resolved = destinations_lookup(by_way, NULL), *given = destinations_lookup(link_by_way, NULL);
    assert_string_equal(resolved, "id-7");
    assert_string_equal(given, "id-7");
    assert_int_equal(g_rmdir(drive), 0);
}

static void test_damaged_record(void **state)
{
    g_autoptr(GError) error = NULL;
    write_record("something else\n");
    assert_null(destinations_lookup("/x", &error));
    assert_true(error_is(error, BACKAPP_ERROR_CORRUPT));
    assert_non_null(strstr(error->message, "state/backapp/destinations"));
    g_clear_error(&error);
    assert_false(destinations_record("/x", "id", &error));
    g_clear_error(&error);
    /* Lines that make no sense are passed over, the others count. */
    write_record("backapp destinations 1\n\nx\n /a\nid relative\nid %zz\nid-5 /kept\nid-6 /cut");
    g_autofree char *kept = destinations_lookup("/kept", &error);
    assert_string_equal(kept, "id-5");
    g_autofree char *cut = destinations_lookup("/cut", &error);
    assert_string_equal(cut, "id-6");
}

static void test_bad_id(void **state)
{
    static const char *const ids[] = {"", "two words", "line\nbreak"};
    for (guint i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(destinations_record("/x", ids[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
}

static int make_root(void **state)
{
    root = g_dir_make_tmp("backapp-destinations-XXXXXX", NULL);
    g_autofree char *home = below("state");
    return root && g_setenv("XDG_STATE_HOME", home, TRUE) ? 0 : -1;
}

static int remove_root(void **state)
{
    static const char *const names[] = {"state/backapp/destinations", "state/backapp/destinations.lock", "link", "way",
                                        "other"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = below(names[i]);
        (void)g_unlink(path);
    }
    g_autofree char *folder = below("state/backapp"), *home = below("state");
    (void)g_rmdir(folder);
    (void)g_rmdir(home);
    int result = g_rmdir(root);
    g_free(root);
    return result;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_known),
        cmocka_unit_test(test_record_and_lookup),
        cmocka_unit_test(test_symlink_into_an_absent_drive),
        cmocka_unit_test(test_way_through_a_symlink),
        cmocka_unit_test(test_damaged_record),
        cmocka_unit_test(test_bad_id),
    };
    return cmocka_run_group_tests_name("unit/cli/destinations", tests, make_root, remove_root);
}
