#include "../fs/scratch.h"

#include "crypto/siv.h"
#include "engine/source/names.h"

#define QUOTE "\xe2\x80\x9b"

static char *key_of(const S3Names *names, const char *parent, const char *name)
{
    GString *key = g_string_new("before ");
    names_child_key(names, parent, name, key);
    assert_true(g_str_has_prefix(key->str, "before "));
    g_string_erase(key, 0, 7);
    return g_string_free(key, FALSE);
}

static void test_names_as_rclone_writes_them(void **state)
{
    static const struct {
        const char *name, *key;
    } CASES[] = {
        {"plain.txt", "plain.txt"},
        {"\x01\x1f\x7f\n", "\x01\x1f\x7f\n"},
        {"\xc3\xa9", "\xc3\xa9"},
        {"\xff", QUOTE "FF"},
        {"a\xc3", "a" QUOTE "C3"},
        {"\xed\xa0\x80", QUOTE "ED" QUOTE "A0" QUOTE "80"},
        {"\xef\xbf\xbd", "\xef\xbf\xbd"},
        {"\xef\xbc\x8f", "\xef\xbc\x8f"},
        {QUOTE "\xef\xbc\x8f", QUOTE "\xef\xbc\x8f"},
        {QUOTE QUOTE "FF", QUOTE QUOTE "FF"},
        {QUOTE "FF", QUOTE "E2" QUOTE "80" QUOTE "9BFF"},
        {QUOTE QUOTE QUOTE, QUOTE QUOTE QUOTE "E2" QUOTE "80" QUOTE "9B"},
        {QUOTE "\xef\xbc\x8e", QUOTE "\xef\xbc\x8e"},
        {"x" QUOTE "\xef\xbc\x8e", "x" QUOTE "E2" QUOTE "80" QUOTE "9B\xef\xbc\x8e"},
    };
    (void)state;
    g_autoptr(S3Names) names = names_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(CASES); i++) {
        g_autofree char *key = key_of(names, "", CASES[i].name);
        g_autofree char *path = names_path(names, CASES[i].key, NULL);
        assert_string_equal(key, CASES[i].key);
        assert_string_equal(path, CASES[i].name);
    }
    g_autofree char *child = key_of(names, "d/e", "f");
    assert_string_equal(child, "d/e/f");
}

static void test_keys_that_no_file_has(void **state)
{
    static const char *const KEYS[] = {
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "a/../b",
        "./a",
        QUOTE "41",
        QUOTE "2F",
        QUOTE "00",
        QUOTE "ff",
        "a" QUOTE,
        QUOTE "E2" QUOTE "80" QUOTE "9B" QUOTE,
        QUOTE "C3" QUOTE "A9",
    };
    (void)state;
    g_autoptr(S3Names) names = names_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(KEYS); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(names_path(names, KEYS[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
}

/* Names of the bytes that matter: each has a key of its own, valid UTF-8, and comes back. */
static void test_random_names_come_back(void **state)
{
    static const char *const PIECES[] = {"a", QUOTE, "\xff",         "\xe2",         "\x80", "\x9b",
                                         "F", "0",   "\xef\xbc\x8f", "\xef\xbc\x8e", "."};
    (void)state;
    g_autoptr(S3Names) names = names_new(NULL);
    g_autoptr(GRand) random = g_rand_new_with_seed(7);
    g_autoptr(GHashTable) keys = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    for (guint i = 0; i < 20000; i++) {
        g_autoptr(GString) name = g_string_new(NULL);
        for (gint n = g_rand_int_range(random, 1, 6); n > 0; n--)
            g_string_append(name, PIECES[g_rand_int_range(random, 0, G_N_ELEMENTS(PIECES))]);
        if (strcmp(name->str, ".") == 0 || strcmp(name->str, "..") == 0)
            continue;
        char *key = key_of(names, "", name->str);
        g_autofree char *path = names_path(names, key, NULL);
        assert_string_equal(path, name->str);
        assert_true(g_utf8_validate(key, -1, NULL));
        const char *other = g_hash_table_lookup(keys, key);
        assert_true(other == NULL || strcmp(other, name->str) == 0);
        g_hash_table_insert(keys, key, g_strdup(name->str));
    }
}

static void test_encrypted_names(void **state)
{
    static const guint8 KEY[SIV_KEY_BYTES] = {1, 2, 3};
    (void)state;
    g_autoptr(S3Names) names = names_new(KEY);
    g_autofree char *folder = key_of(names, "", "folder");
    g_autofree char *again = key_of(names, "", "folder");
    g_autofree char *inside = key_of(names, folder, "folder");
    g_autofree char *path = names_path(names, inside, NULL);
    assert_string_equal(folder, again);
    assert_true(g_str_has_prefix(inside, folder) && inside[strlen(folder)] == '/');
    assert_string_not_equal(inside + strlen(folder) + 1, folder);
    assert_string_equal(path, "folder/folder");
    assert_null(names_path(names, "folder", NULL));
}

static gpointer encrypt_many(gpointer data)
{
    for (guint i = 0; i < 500; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);
        g_autofree char *key = key_of(data, "", name);
        g_autofree char *path = names_path(data, key, NULL);
        g_assert_cmpstr(path, ==, name);
    }
    return NULL;
}

static void test_encrypted_names_in_several_threads(void **state)
{
    static const guint8 KEY[SIV_KEY_BYTES] = {9};
    GThread *threads[4];
    (void)state;
    g_autoptr(S3Names) names = names_new(KEY);
    for (guint i = 0; i < 4; i++)
        threads[i] = g_thread_new("names", encrypt_many, names);
    for (guint i = 0; i < 4; i++)
        g_thread_join(threads[i]);
}

static void test_long_and_own_keys(void **state)
{
    (void)state;
    g_autofree char *fits = g_strnfill(1014, 'x');
    g_autofree char *longer = g_strnfill(1015, 'x');
    assert_false(names_is_long(10, fits));
    assert_true(names_is_long(10, longer));
    g_autofree char *key = names_long_key(longer);
    assert_true(g_str_has_prefix(key, ".backapp/long/") && strlen(key) == 14 + 64 && names_is_own_key(key));
    assert_true(names_is_own_key(".trash/x") && !names_is_own_key(".trash") && !names_is_own_key(".backappx/y"));
    assert_true(names_is_own_root(".backapp") && names_is_own_root(".backapp-destination"));
    assert_true(names_is_own_root(".trash") && !names_is_own_root(".trash2") && !names_is_own_root("backapp"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_as_rclone_writes_them),
        cmocka_unit_test(test_keys_that_no_file_has),
        cmocka_unit_test(test_random_names_come_back),
        cmocka_unit_test(test_encrypted_names),
        cmocka_unit_test(test_encrypted_names_in_several_threads),
        cmocka_unit_test(test_long_and_own_keys),
    };
    return cmocka_run_group_tests_name("source/names", tests, NULL, NULL);
}
