/* Versions and locks, where a store has them; facts of the whole place. */
#include "contract.h"

#include <time.h>

static void test_facts(void **state)
{
    CONTRACT;
    StoreFacts facts;
    WORKS(store_facts(store, &facts, &error));
    assert_in_range(facts.versioning + 1, 0, 2);
    assert_in_range(facts.public_access + 1, 0, 2);
    assert_in_range(facts.clock_skew + 60, 0, 120);
}

static void test_without_versions_there_are_none(void **state)
{
    CONTRACT;
    if (store_can(store, STORE_VERSIONS)) {
        (void)printf("skipped: %s has versions\n", store->url);
        skip();
    }
    const char *key = key_of(contract, "k");
    put_text(store, key, "x");
    FAILS(store_list(store, "", NULL, TRUE, &error), BACKAPP_ERROR_INVALID);
    FAILS(store_head(store, key, "v1", &error), BACKAPP_ERROR_INVALID);
    FAILS(store_delete(store, key, "v1", &error), BACKAPP_ERROR_INVALID);
    FAILS(store_set_versioning(store, TRUE, &error), BACKAPP_ERROR_INVALID);
    assert_text(store, key, "x");
}

/* The versions below the test's folder, as "name:size", "name:-" for a delete marker, a star at the latest. */
static char *list_versions(Contract *contract, GPtrArray *ids)
{
    GString *text = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(StoreList) list = store_list(contract->store, contract->folder, NULL, TRUE, &error);
    const StoreObject *object = NULL;
    int got = 0;
    while (list && (got = store_list_next(list, &object, &error)) > 0) {
        g_string_append_printf(text, "%s%s:", text->len > 0 ? " " : "", object->key + strlen(contract->folder));
        if (object->delete_marker)
            g_string_append_c(text, '-');
        else
            g_string_append_printf(text, "%u", (guint)object->size);
        g_string_append(text, object->latest ? "*" : "");
        if (ids)
            g_ptr_array_add(ids, g_strdup(object->version));
    }
    if (!list || got < 0)
        fail_msg("cannot list versions: %s", error->message);
    return g_string_free(text, FALSE);
}

/* Switches versions on for one test; the test before could rely on none. */
static void keep_versions(Store *store)
{
    WORKS(store_set_versioning(store, TRUE, &error));
    StoreFacts facts;
    WORKS(store_facts(store, &facts, &error));
    assert_int_equal(facts.versioning, 1);
}

static void test_old_versions_stay(void **state)
{
    CONTRACT;
    NEEDS(STORE_VERSIONS);
    keep_versions(store);
    const char *key = key_of(contract, "b");
    put_text(store, key_of(contract, "a"), "a");
    put_text(store, key, "1");
    put_text(store, key, "22");
    StoreBody body = {.data = "333", .length = 3};
    g_auto(StoreResult) result = {0};
    WORKS(store_put(store, key, &body, NULL, &result, &error));
    assert_non_null(result.version);
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *all = list_versions(contract, ids);
    assert_string_equal(all, "a:1* b:3* b:2 b:1");
    assert_string_equal(g_ptr_array_index(ids, 1), result.version);
    const char *second = g_ptr_array_index(ids, 2);
    g_autoptr(GBytes) old = store_get_bytes(store, key, second, 9, NULL, NULL);
    assert_non_null(old);
    assert_memory_equal(g_bytes_get_data(old, NULL), "22", 2);
    g_autoptr(StoreObject) head = store_head(store, key, second, NULL);
    assert_int_equal(head->size, 2);
    assert_string_equal(head->version, second);
    WORKS(store_delete(store, key, NULL, &error));
    assert_no_object(store, key);
    g_autofree char *deleted = list_versions(contract, NULL);
    assert_string_equal(deleted, "a:1* b:-* b:3 b:2 b:1");
    g_autofree char *plain = list_names(contract, "", NULL);
    assert_string_equal(plain, "a");
    StoreSource source = {.key = key, .version = second, .size = 2};
    WORKS(store_copy(store, &source, key, NULL, NULL, &error));
    assert_text(store, key, "22");
    WORKS(store_delete(store, key, second, &error));
    FAILS(store_head(store, key, second, &error), BACKAPP_ERROR_NOT_FOUND);
    assert_text(store, key, "22");
}

static void test_delete_many_versions(void **state)
{
    CONTRACT;
    NEEDS(STORE_VERSIONS);
    keep_versions(store);
    put_text(store, key_of(contract, "k"), "1");
    put_text(store, key_of(contract, "k"), "22");
    WORKS(store_delete(store, key_of(contract, "k"), NULL, &error));
    g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *all = list_versions(contract, ids);
    assert_string_equal(all, "k:-* k:2 k:1");
    const char *keys[2] = {key_of(contract, "k"), key_of(contract, "k")};
    const char *versions[2] = {g_ptr_array_index(ids, 0), g_ptr_array_index(ids, 2)};
    WORKS(store_delete_many(store, keys, versions, 2, NULL, &error));
    g_autofree char *left = list_versions(contract, NULL);
    assert_string_equal(left, "k:2*");
    assert_text(store, key_of(contract, "k"), "22");
}

static void test_locks(void **state)
{
    CONTRACT;
    NEEDS(STORE_LOCK | STORE_VERSIONS);
    StoreFacts facts;
    WORKS(store_facts(store, &facts, &error));
    if (facts.lock != 1) {
        (void)printf("skipped: objects in %s cannot be locked\n", store->url);
        skip();
    }
    keep_versions(store);
    const char *key = key_of(contract, "locked");
    StoreBody body = {.data = "x", .length = 1};
    g_auto(StoreResult) result = {0};
    WORKS(store_put(store, key, &body, NULL, &result, &error));
    gint64 now = (gint64)time(NULL);
    WORKS(store_set_lock(store, key, result.version, "GOVERNANCE", now + 3600, &error));
    WORKS(store_set_lock(store, key, result.version, "GOVERNANCE", now + 7200, &error));
    /* Never shortened. */
    WORKS(store_set_lock(store, key, result.version, "GOVERNANCE", now + 1, &error));
    g_autoptr(GError) refused = NULL;
    assert_false(store_delete(store, key, result.version, &refused));
    assert_true(error_is(refused, BACKAPP_ERROR_CONFLICT) || error_is(refused, BACKAPP_ERROR_DENIED));
    assert_text(store, key, "x");
}

const struct CMUnitTest *version_tests(size_t *count)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_without_versions_there_are_none),
        cmocka_unit_test(test_old_versions_stay),
        cmocka_unit_test(test_delete_many_versions),
        cmocka_unit_test(test_locks),
    };
    *count = G_N_ELEMENTS(tests);
    return tests;
}
