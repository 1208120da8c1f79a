/* Lists: order, prefix, start, paging. */
#include "contract.h"

#include "base/pool.h"

static void test_order_is_that_of_the_bytes_of_keys(void **state)
{
    CONTRACT;
    const char *const names[] = {"a-b", "a.txt", "a/x", "a/y", "a0", "a", "B", "\xc3\xa9", "z", "a/x/y", "a/x-y", "~"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        put_text(store, key_of(contract, names[i]), "x");
    g_autofree char *all = list_names(contract, "", NULL);
    assert_string_equal(all, "B a a-b a.txt a/x a/x-y a/x/y a/y a0 z ~ \xc3\xa9");
}

static void test_prefixes(void **state)
{
    CONTRACT;
    const char *const names[] = {"dir", "dir/", "dir/a", "dir/ab", "dir/b/c", "dir2/x", "di", "e"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        put_text(store, key_of(contract, names[i]), "x");
    const struct {
        const char *prefix, *expected;
    } cases[] = {
        {"dir/", "dir/ dir/a dir/ab dir/b/c"},
        {"dir/a", "dir/a dir/ab"},
        {"dir", "dir dir/ dir/a dir/ab dir/b/c dir2/x"},
        {"dir/b/", "dir/b/c"},
        {"dir/b/c", "dir/b/c"},
        {"dir/b/cd", ""},
        {"x", ""},
        {"e/", ""},
        {"none/at/all/", ""},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = list_names(contract, cases[i].prefix, NULL);
        assert_string_equal(got, cases[i].expected);
    }
}

static void test_starting_after_a_key(void **state)
{
    CONTRACT;
    const char *const names[] = {"a", "a/b", "a/c", "a/c/d", "b", "c/d", "c/e"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        put_text(store, key_of(contract, names[i]), "x");
    const struct {
        const char *prefix, *after, *expected;
    } cases[] = {
        {"", "a", "a/b a/c a/c/d b c/d c/e"},
        {"", "a/b", "a/c a/c/d b c/d c/e"},
        {"", "a/bb", "a/c a/c/d b c/d c/e"},
        {"", "a/c", "a/c/d b c/d c/e"},
        {"", "a/z", "b c/d c/e"},
        {"", "c/d", "c/e"},
        {"", "c/e", ""},
        {"", "z", ""},
        {"", "", "a a/b a/c a/c/d b c/d c/e"},
        {"a/", "a/b", "a/c a/c/d"},
        {"a/", "a", "a/b a/c a/c/d"},
        {"a/", "b", ""},
        {"c/", "a/c", "c/d c/e"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = list_names(contract, cases[i].prefix, cases[i].after);
        assert_string_equal(got, cases[i].expected);
    }
}

static void test_listed_facts(void **state)
{
    CONTRACT;
    const char *key = key_of(contract, "facts");
    put_text(store, key, "seven77");
    g_autoptr(StoreObject) head = store_head(store, key, NULL, NULL);
    g_autoptr(StoreList) list = store_list(store, contract->folder, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    WORKS(store_list_next(list, &object, &error) == 1);
    assert_string_equal(object->key, key);
    assert_int_equal(object->size, 7);
    assert_string_equal(object->etag, head->etag);
    assert_string_equal(object->storage_class, "STANDARD");
    assert_in_range(object->modified - head->modified + 2, 0, 4);
    assert_true(object->latest);
    assert_false(object->delete_marker);
    g_autoptr(StoreObject) copy = store_object_copy(object);
    assert_int_equal(store_list_next(list, &object, NULL), 0);
    assert_int_equal(store_list_next(list, &object, NULL), 0);
    assert_string_equal(copy->key, key);
}

/* More than two pages; $BACKAPP_TEST_SHORT asks for less, where another run shows the paging. */
#define MANY_MOST  2500
#define MANY_SHORT 400

static void put_one(gpointer item, gpointer user_data)
{
    Contract *contract = user_data;
    g_autofree char *key = g_strdup_printf("%s%s", contract->folder, (char *)item);
    StoreBody body = {.data = "x", .length = 1};
    if (!store_put(contract->store, key, &body, NULL, NULL, NULL))
        (void)fprintf(stderr, "cannot write %s\n", key);
    g_free(item);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_more_than_one_page(void **state)
{
    CONTRACT;
    const guint many = g_getenv("BACKAPP_TEST_SHORT") ? MANY_SHORT : MANY_MOST;
    const guint last = many * 3 / 5;
    g_autoptr(GPtrArray) expected = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(Pool) pool = pool_new("contract", 8, 16, put_one, contract, NULL);
    for (guint i = 0; i < many; i++) {
        char *name = g_strdup_printf("%s%u", i % 2 ? "d/" : i % 5 ? "d.x" : "e/f/", i * 7919 % 10007);
        g_ptr_array_add(expected, name);
        pool_push(pool, g_strdup(name));
    }
    pool_wait(pool);
    g_ptr_array_sort(expected, compare_names);
    g_autoptr(StoreList) list = store_list(store, contract->folder, NULL, FALSE, NULL);
    const StoreObject *object = NULL;
    for (guint i = 0; i < many; i++) {
        WORKS(store_list_next(list, &object, &error) == 1);
        assert_string_equal(object->key + strlen(contract->folder), g_ptr_array_index(expected, i));
    }
    assert_int_equal(store_list_next(list, &object, NULL), 0);
    g_autoptr(StoreList) rest =
        store_list(store, contract->folder, key_of(contract, g_ptr_array_index(expected, many - last)), FALSE, NULL);
    for (guint i = many - last + 1; i < many; i++) {
        WORKS(store_list_next(rest, &object, &error) == 1);
        assert_string_equal(object->key + strlen(contract->folder), g_ptr_array_index(expected, i));
    }
    assert_int_equal(store_list_next(rest, &object, NULL), 0);
}

static void test_a_list_may_be_left_early(void **state)
{
    CONTRACT;
    for (guint i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);
        put_text(store, key_of(contract, name), "x");
    }
    for (guint taken = 0; taken < 3; taken++) {
        g_autoptr(StoreList) list = store_list(store, contract->folder, NULL, FALSE, NULL);
        const StoreObject *object = NULL;
        for (guint i = 0; i < taken; i++)
            assert_int_equal(store_list_next(list, &object, NULL), 1);
    }
}

const struct CMUnitTest *list_tests(size_t *count)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_that_of_the_bytes_of_keys),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_starting_after_a_key),
        cmocka_unit_test(test_listed_facts),
        cmocka_unit_test(test_more_than_one_page),
        cmocka_unit_test(test_a_list_may_be_left_early),
    };
    *count = G_N_ELEMENTS(tests);
    return tests;
}
