#include "../base/cmocka_all.h"

#include "engine/mirror/links.h"

#include <string.h>

/* A name in the source (inode, number of names) and what is at it in the destination. */
static Found name_of(guint64 ino, guint32 nlink, Verdict verdict, guint64 have_ino, guint64 have_nlink)
{
    return (Found){.kind = FOUND_ENTRY,
                   .verdict = verdict,
                   .want = {.dev = 1, .ino = ino, .nlink = nlink},
                   .have_ino = have_ino,
                   .have_nlink = have_nlink};
}

static void assert_decision(Links *links, const char *path, Found found, LinksDecision expected, const char *target)
{
    const char *got = NULL;
    LinksDecision decision = links_decide(links, path, &found, &got);
    if (decision != expected || g_strcmp0(got, target) != 0)
        fail_msg("%s: decision %d, target %s", path, (int)decision, got != NULL ? got : "none");
}

static void test_files_of_one_name(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "new", name_of(1, 1, VERDICT_NEW, 0, 0), LINKS_COPY, NULL);
    assert_decision(links, "other", name_of(2, 1, VERDICT_REPLACE, 12, 1), LINKS_COPY, NULL);
    assert_decision(links, "meta", name_of(3, 1, VERDICT_META, 13, 1), LINKS_KEEP, NULL);
    assert_decision(links, "same", name_of(4, 1, VERDICT_SAME, 14, 1), LINKS_KEEP, NULL);
}

static void test_a_new_group_is_copied_once(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "a", name_of(1, 3, VERDICT_NEW, 0, 0), LINKS_COPY, NULL);
    assert_decision(links, "d/b", name_of(1, 3, VERDICT_NEW, 0, 0), LINKS_LINK, "a");
    assert_decision(links, "d/c", name_of(1, 3, VERDICT_REPLACE, 9, 1), LINKS_LINK, "a");
}

static void test_groups_on_two_devices_are_two(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    Found other = name_of(1, 2, VERDICT_NEW, 0, 0);
    other.want.dev = 2;
    assert_decision(links, "a", name_of(1, 2, VERDICT_NEW, 0, 0), LINKS_COPY, NULL);
    assert_decision(links, "b", other, LINKS_COPY, NULL);
    assert_decision(links, "c", other, LINKS_LINK, "b");
    assert_decision(links, "d", name_of(1, 2, VERDICT_NEW, 0, 0), LINKS_LINK, "a");
}

static void test_a_group_that_is_right_stays(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "a", name_of(1, 2, VERDICT_SAME, 11, 2), LINKS_KEEP, NULL);
    assert_decision(links, "b", name_of(1, 2, VERDICT_SAME, 11, 2), LINKS_KEEP, NULL);
}

static void test_a_name_more_is_linked_to_what_stays(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "a", name_of(1, 2, VERDICT_SAME, 11, 1), LINKS_KEEP, NULL);
    assert_decision(links, "b", name_of(1, 2, VERDICT_NEW, 0, 0), LINKS_LINK, "a");
    /* An equal file of its own is not yet a link. */
    assert_decision(links, "c", name_of(1, 2, VERDICT_SAME, 12, 1), LINKS_LINK, "a");
}

static void test_a_broken_link_gets_an_inode_of_its_own(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "a", name_of(1, 1, VERDICT_SAME, 11, 2), LINKS_KEEP, NULL);
    assert_decision(links, "b", name_of(2, 1, VERDICT_SAME, 11, 2), LINKS_COPY, NULL);
}

static void test_names_that_change_groups(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "a", name_of(1, 2, VERDICT_SAME, 11, 2), LINKS_KEEP, NULL);
    assert_decision(links, "b", name_of(2, 2, VERDICT_SAME, 11, 2), LINKS_COPY, NULL);
    assert_decision(links, "c", name_of(1, 2, VERDICT_SAME, 12, 2), LINKS_LINK, "a");
    assert_decision(links, "d", name_of(2, 2, VERDICT_SAME, 12, 2), LINKS_LINK, "b");
}

/* Other names of the inode, perhaps in a kept version, would change with it. */
static void test_a_shared_inode_is_never_changed(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "single", name_of(1, 1, VERDICT_META, 11, 2), LINKS_COPY, NULL);
    assert_decision(links, "a", name_of(2, 2, VERDICT_META, 12, 2), LINKS_COPY, NULL);
    assert_decision(links, "b", name_of(2, 2, VERDICT_META, 12, 2), LINKS_LINK, "a");
}

static void test_metadata_of_a_growing_group(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "a", name_of(1, 2, VERDICT_META, 11, 1), LINKS_KEEP, NULL);
    assert_decision(links, "b", name_of(1, 2, VERDICT_NEW, 0, 0), LINKS_LINK, "a");
}

static void test_changed_content_of_a_group(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    assert_decision(links, "a", name_of(1, 2, VERDICT_REPLACE, 11, 2), LINKS_COPY, NULL);
    assert_decision(links, "b", name_of(1, 2, VERDICT_REPLACE, 11, 2), LINKS_LINK, "a");
    /* The old inode is nobody's any more. */
    assert_decision(links, "c", name_of(2, 1, VERDICT_SAME, 11, 3), LINKS_KEEP, NULL);
}

static void test_without_hard_links_every_name_is_a_file(void **state)
{
    g_autoptr(Links) links = links_new(FALSE);
    assert_decision(links, "a", name_of(1, 2, VERDICT_NEW, 0, 0), LINKS_COPY, NULL);
    assert_decision(links, "b", name_of(1, 2, VERDICT_NEW, 0, 0), LINKS_COPY, NULL);
    assert_decision(links, "c", name_of(2, 2, VERDICT_SAME, 11, 2), LINKS_KEEP, NULL);
    assert_decision(links, "d", name_of(2, 2, VERDICT_SAME, 11, 2), LINKS_COPY, NULL);
    assert_decision(links, "e", name_of(3, 2, VERDICT_SAME, 12, 1), LINKS_KEEP, NULL);
}

static void test_targets_live_as_long_as_the_links(void **state)
{
    g_autoptr(Links) links = links_new(TRUE);
    g_autoptr(GPtrArray) targets = g_ptr_array_new();
    for (guint i = 0; i < 2000; i++) {
        g_autofree char *path = g_strdup_printf("%u", i % 1000);
        Found found = name_of(i % 1000 + 1, 2, VERDICT_NEW, 0, 0);
        const char *target = NULL;
        assert_int_equal(links_decide(links, path, &found, &target), i < 1000 ? LINKS_COPY : LINKS_LINK);
        if (i >= 1000)
            g_ptr_array_add(targets, (gpointer)target);
    }
    for (guint i = 0; i < targets->len; i++) {
        g_autofree char *path = g_strdup_printf("%u", i);
        assert_string_equal(g_ptr_array_index(targets, i), path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_of_one_name),
        cmocka_unit_test(test_a_new_group_is_copied_once),
        cmocka_unit_test(test_groups_on_two_devices_are_two),
        cmocka_unit_test(test_a_group_that_is_right_stays),
        cmocka_unit_test(test_a_name_more_is_linked_to_what_stays),
        cmocka_unit_test(test_a_broken_link_gets_an_inode_of_its_own),
        cmocka_unit_test(test_names_that_change_groups),
        cmocka_unit_test(test_a_shared_inode_is_never_changed),
        cmocka_unit_test(test_metadata_of_a_growing_group),
        cmocka_unit_test(test_changed_content_of_a_group),
        cmocka_unit_test(test_without_hard_links_every_name_is_a_file),
        cmocka_unit_test(test_targets_live_as_long_as_the_links),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
