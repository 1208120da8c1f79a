#include "../base/cmocka_all.h"

#include "base/error.h"
#include "fs/pattern.h"

#include <string.h>

/* What one excluding rule says of a path; a directory's ends in a slash. */
static gboolean hits(const char *pattern, const char *path)
{
    g_autoptr(PatternList) list = pattern_list_new();
    g_autoptr(GError) error = NULL;
    if (!pattern_list_add(list, FALSE, pattern, &error))
        fail_msg("%s: %s", pattern, error->message);
    gsize length = strlen(path);
    gboolean directory = g_str_has_suffix(path, "/");
    g_autofree char *name = g_strndup(path, length - (directory ? 1 : 0));
    return pattern_list_match(list, name, directory) == PATTERN_EXCLUDE;
}

/* All paths of the NULL-terminated list are matched, or none is. */
static void check_all(gboolean expected, const char *pattern, const char *const *paths)
{
    for (; *paths; paths++)
        if (hits(pattern, *paths) != expected)
            fail_msg("\"%s\" %s \"%s\"", pattern, expected ? "does not match" : "matches", *paths);
}

#define PATHS(...)           ((const char *const[]){__VA_ARGS__, NULL})
#define HITS(pattern, ...)   check_all(TRUE, pattern, PATHS(__VA_ARGS__))
#define MISSES(pattern, ...) check_all(FALSE, pattern, PATHS(__VA_ARGS__))

static void test_plain_names_match_the_last_component(void **state)
{
    HITS("foo", "foo", "foo/", "a/foo", "a/b/foo/");
    MISSES("foo", "foo/bar", "afoo", "fooa", "foo/bar/", "Foo");
    HITS("*.log", "x.log", ".log", "a/b/x.log", "d.log/");
    MISSES("*.log", "x.log/y", "xlog", "x.log2");
}

static void test_slashes_anchor(void **state)
{
    HITS("/foo", "foo", "foo/");
    MISSES("/foo", "a/foo", "foo/a");
    HITS("a/b", "a/b", "x/a/b", "x/y/a/b/");
    MISSES("a/b", "b", "xa/b", "a/b/c", "a/x/b");
    HITS("/a/*", "a/b", "a/c/");
    MISSES("/a/*", "a", "a/b/c", "x/a/b");
    HITS("*/b", "a/b", "x/a/b");
    MISSES("*/b", "b");
}

static void test_trailing_slash_means_directories(void **state)
{
    HITS("foo/", "foo/", "a/foo/");
    MISSES("foo/", "foo", "a/foo", "foo/a");
    HITS("a/*/", "a/b/");
    MISSES("a/*/", "a/b");
    MISSES("/", "a", "a/", "a/b/");
}

static void test_stars(void **state)
{
    HITS("a*b", "ab", "axb", "a*b", "x/axxb");
    MISSES("a*b", "a/b", "abc");
    HITS("a**b", "ab", "a/b", "a/x/y/b", "q/a/b");
    MISSES("a**b", "qa/b", "a/bc");
    HITS("**/b", "b", "a/b", "a/c/b");
    MISSES("**/b", "ab", "b/c");
    HITS("/a/**/b", "a/x/b", "a/x/y/b");
    MISSES("/a/**/b", "a/b", "x/a/x/b");
    HITS("/a/**", "a/b", "a/b/c");
    MISSES("/a/**", "a", "a/", "ab", "b/a/c");
    HITS("*a*b*", "ab", "xaxbx", "aab", "abab");
    MISSES("*a*b*", "ba", "a", "b");
    HITS("*a?b*", "axb", "xaxbx");
    MISSES("*a?b*", "axxb", "ab");
    HITS("**a*b/c**d", "xa/aqb/c/q/d", "a/x/ab/cd");
    MISSES("**a*b/c**d", "a/b/cd", "ab/c");
}

static void test_three_stars_match_the_directory_and_all_in_it(void **state)
{
    HITS("dir/***", "dir/", "dir/a", "dir/a/b", "x/dir/", "x/dir/a");
    MISSES("dir/***", "dir", "dirx/", "xdir/a");
    HITS("/dir/***", "dir/", "dir/a");
    MISSES("/dir/***", "dir", "x/dir/", "x/dir/a");
}

static void test_question_mark_is_one_byte_but_a_slash(void **state)
{
    HITS("a?c", "abc", "a?c");
    MISSES("a?c", "ac", "abbc", "a/c", "a\303\251c");
    HITS("/a??c", "a\303\251c");
}

static void test_sets(void **state)
{
    HITS("[abc]x", "ax", "cx");
    MISSES("[abc]x", "dx", "x", "abx");
    HITS("[a-c]", "a", "b", "c");
    MISSES("[a-c]", "d", "-");
    HITS("[a-c-e]", "b", "-", "e");
    MISSES("[a-c-e]", "d");
    HITS("[a-]", "a", "-");
    HITS("[-a]", "a", "-");
    HITS("[c-a]", "c"); /* the first byte of an empty range stands for itself */
    MISSES("[c-a]", "a", "b", "-");
    HITS("[]a]", "]", "a");
    HITS("[!a]", "b", "!", "^");
    MISSES("[!a]", "a");
    HITS("[^a]", "b");
    MISSES("[^a]", "a");
    HITS("[!]]", "a");
    MISSES("[!]]", "]");
    HITS("[a\\]]", "a", "]");
    MISSES("[a\\]]", "\\");
    HITS("[a\\-c]", "a", "-", "c");
    MISSES("[a\\-c]", "b");
    MISSES("/a[!b]c", "a/c");
    MISSES("/a[/]c", "a/c");
    MISSES("/a[.-0]c", "a/c");
    HITS("[\x80-\xff]?", "\xc3\xa9");
}

static void test_classes(void **state)
{
    HITS("[[:alpha:]]", "a", "Z");
    MISSES("[[:alpha:]]", "1", ":", "[", "\xe9");
    HITS("[[:digit:]_[:upper:]]", "5", "_", "Q");
    MISSES("[[:digit:]_[:upper:]]", "q", "-");
    HITS("[![:space:]]", "x");
    MISSES("[![:space:]]", " ", "\t", "\v");
    HITS("[[:alnum:]-z]", "a", "-", "z");
    MISSES("[[:alnum:]-z]", "~");
    HITS("[[:xdigit:]][[:punct:]][[:blank:]][[:cntrl:]]", "f! \x01");
    HITS("[a[:digit:]-z]", "a", "-", "z");
    MISSES("[a[:digit:]-z]", "m");
    HITS("[[:]", "[", ":");
    HITS("[[a]", "[", "a");
}

static void test_malformed_patterns_match_nothing(void **state)
{
    MISSES("[ab", "a", "[ab");
    MISSES("[", "[");
    MISSES("[]", "]", "[]");
    MISSES("[[:nope:]]", "n", "[", "n]");
    MISSES("[[:alpha:", "a");
    MISSES("[a\\", "a", "\\");
    MISSES("*\\", "a", "a\\", "\\");
}

static void test_backslash_escapes_only_beside_wildcards(void **state)
{
    HITS("a\\b", "a\\b");
    MISSES("a\\b", "ab");
    HITS("a\\b*", "ab", "abc");
    MISSES("a\\b*", "a\\b");
    HITS("\\*", "*");
    MISSES("\\*", "a", "\\*");
    HITS("\\[a\\]", "[a]");
    MISSES("\\[a\\]", "a");
    HITS("\\\\*", "\\", "\\x");
}

static void test_first_match_decides(void **state)
{
    g_autoptr(PatternList) list = pattern_list_new();
    assert_int_equal(pattern_list_length(list), 0);
    assert_int_equal(pattern_list_match(list, "a", FALSE), PATTERN_NONE);
    assert_true(pattern_list_add(list, TRUE, "keep.log", NULL));
    assert_true(pattern_list_add(list, FALSE, "*.log", NULL));
    assert_true(pattern_list_add(list, TRUE, "b.log", NULL));
    assert_int_equal(pattern_list_match(list, "x/keep.log", FALSE), PATTERN_INCLUDE);
    assert_int_equal(pattern_list_match(list, "b.log", FALSE), PATTERN_EXCLUDE);
    assert_int_equal(pattern_list_match(list, "b.txt", FALSE), PATTERN_NONE);
    assert_int_equal(pattern_list_length(list), 3);
    gboolean include = FALSE;
    assert_string_equal(pattern_list_rule(list, 0, &include), "keep.log");
    assert_true(include);
    assert_string_equal(pattern_list_rule(list, 1, &include), "*.log");
    assert_false(include);
}

static void test_no_list_is_an_empty_one(void **state)
{
    assert_int_equal(pattern_list_length(NULL), 0);
    assert_int_equal(pattern_list_match(NULL, "a", FALSE), PATTERN_NONE);
    pattern_list_free(NULL);
}

static void test_limits(void **state)
{
    g_autoptr(PatternList) list = pattern_list_new();
    g_autoptr(GError) empty = NULL;
    assert_false(pattern_list_add(list, TRUE, "", &empty));
    assert_true(error_is(empty, BACKAPP_ERROR_INVALID));

    g_autofree char *longest = g_strnfill(4097, 'a');
    g_autoptr(GError) too_long = NULL;
    assert_false(pattern_list_add(list, TRUE, longest, &too_long));
    assert_true(error_is(too_long, BACKAPP_ERROR_INVALID));
    longest[4096] = '\0';
    assert_true(pattern_list_add(list, TRUE, longest, NULL));

    for (guint i = 1; i < 100000; i++)
        assert_true(pattern_list_add(list, TRUE, "a", NULL));
    g_autoptr(GError) too_many = NULL;
    assert_false(pattern_list_add(list, TRUE, "a", &too_many));
    assert_true(error_is(too_many, BACKAPP_ERROR_INVALID));
    assert_int_equal(pattern_list_length(list), 100000);
}

static void test_hard_patterns_end(void **state)
{
    /* Trying one way after the other would not end in the lifetime of a disk. */
    GString *pattern = g_string_new(NULL);
    for (guint i = 0; i < 1000; i++)
        g_string_append(pattern, i % 3 ? "*a" : "**a");
    g_string_append(pattern, "*b");
    g_autofree char *hard = g_string_free(pattern, FALSE);
    g_autofree char *path = g_strnfill(4000, 'a');
    assert_false(hits(hard, path));
    path[3999] = 'b';
    assert_true(hits(hard, path));

    g_autofree char *deep = g_strnfill(20000, 'a'); /* longer than any path that the kernel takes */
    for (gsize i = 1; i < 20000; i += 2)
        deep[i] = '/';
    deep[19999] = 'b';
    assert_true(hits("a/**/a/**/a/*b", deep));
    assert_false(hits("a/**/a/**/a/*c", deep));
    assert_false(hits("/*/*/*b", deep));
}

static void test_longest_patterns_match(void **state)
{
    g_autofree char *path = g_strnfill(4095, 'a');
    g_autofree char *marks = g_strnfill(4096, '?');
    marks[0] = '*';
    assert_true(hits(marks, path));
    marks[2000] = '*';
    assert_true(hits(marks, path));
    marks[4095] = '*';
    assert_true(hits(marks, path));
    path[4092] = '\0';
    assert_false(hits(marks, path));
}

/* A path in the config's meaning; a directory's ends in a slash. Directories above it are asked first. */
static gboolean taken(const PatternList *list, const char *path)
{
    for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
        g_autofree char *parent = g_strndup(path, (gsize)(slash - path));
        if (pattern_list_match(list, parent, TRUE) == PATTERN_EXCLUDE)
            return FALSE;
    }
    return g_str_has_suffix(path, "/") || pattern_list_match(list, path, FALSE) != PATTERN_EXCLUDE;
}

static PatternList *config_list(const char *const *includes, const char *const *excludes)
{
    PatternList *list = pattern_list_new();
    g_autoptr(GError) error = NULL;
    if (!pattern_list_add_config(list, includes, excludes, &error))
        fail_msg("%s", error->message);
    return list;
}

static void check_taken(const PatternList *list, gboolean expected, const char *const *paths)
{
    for (; *paths; paths++)
        if (taken(list, *paths) != expected)
            fail_msg("\"%s\" is %staken", *paths, expected ? "not " : "");
}

static void test_config_excludes_do_what_a_person_expects(void **state)
{
    g_autoptr(PatternList) list = config_list(NULL, PATHS("node_modules", ".git", "*.log"));
    check_taken(list, FALSE,
                PATHS("node_modules/", "node_modules/a/index.js", "web/node_modules/x.js", ".git/", "x/.git/HEAD",
                      "error.log", "var/log/a.log"));
    check_taken(list, TRUE,
                PATHS("src/", "src/main.c", ".gitignore", ".github/ci.yml", "log", "catalog", "a.log.txt",
                      "my_node_modules/x"));
}

static void test_config_includes_choose_files(void **state)
{
    g_autoptr(PatternList) list = config_list(PATHS("*.jpg", "/docs/**", "README"), PATHS("private", "*.tmp.jpg"));
    check_taken(list, TRUE,
                PATHS("a.jpg", "x/y/b.jpg", "docs/a.txt", "docs/x/b", "README", "x/README", "any/", "x/y/"));
    check_taken(list, FALSE,
                PATHS("a.txt", "x/b.png", "x/docs/a.txt", "private/a.jpg", "x/private/", "a.tmp.jpg", "docs/private/a",
                      "README.md"));
}

static void test_config_include_of_a_folder_takes_what_is_below(void **state)
{
    g_autoptr(PatternList) list = config_list(PATHS("photos/", "/a\\b/", "v[0-9]/"), PATHS("*.tmp"));
    check_taken(list, TRUE,
                PATHS("photos/", "photos/1.jpg", "x/photos/2026/1.jpg", "a\\b/x", "v1/x", "y/v2/x/z", "other/"));
    check_taken(list, FALSE, PATHS("photos", "photos/a.tmp", "x/1.jpg", "myphotos/1", "x/a\\b/x", "ab/x", "vx/x"));
}

static void test_config_without_patterns_takes_all(void **state)
{
    g_autoptr(PatternList) list = config_list(NULL, NULL);
    assert_true(pattern_list_add_config(list, (const char *const[]){NULL}, (const char *const[]){NULL}, NULL));
    assert_int_equal(pattern_list_length(list), 0);
}

static void test_config_failure_leaves_the_list(void **state)
{
    g_autoptr(PatternList) list = config_list(NULL, PATHS("a"));
    g_autoptr(GError) error = NULL;
    assert_false(pattern_list_add_config(list, PATHS("x", ""), PATHS("b"), &error));
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    assert_int_equal(pattern_list_length(list), 1);
    assert_int_equal(pattern_list_match(list, "b", FALSE), PATTERN_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_names_match_the_last_component),
        cmocka_unit_test(test_slashes_anchor),
        cmocka_unit_test(test_trailing_slash_means_directories),
        cmocka_unit_test(test_stars),
        cmocka_unit_test(test_three_stars_match_the_directory_and_all_in_it),
        cmocka_unit_test(test_question_mark_is_one_byte_but_a_slash),
        cmocka_unit_test(test_sets),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_malformed_patterns_match_nothing),
        cmocka_unit_test(test_backslash_escapes_only_beside_wildcards),
        cmocka_unit_test(test_first_match_decides),
        cmocka_unit_test(test_no_list_is_an_empty_one),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_hard_patterns_end),
        cmocka_unit_test(test_longest_patterns_match),
        cmocka_unit_test(test_config_excludes_do_what_a_person_expects),
        cmocka_unit_test(test_config_includes_choose_files),
        cmocka_unit_test(test_config_include_of_a_folder_takes_what_is_below),
        cmocka_unit_test(test_config_without_patterns_takes_all),
        cmocka_unit_test(test_config_failure_leaves_the_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
