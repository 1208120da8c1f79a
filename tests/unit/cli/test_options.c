#include "../base/cmocka_all.h"

#include "base/error.h"
#include "cli/options.h"

#include <string.h>

enum { DELETE = 1, EXCLUDE, VERBOSE, HELP };

static const OptionDef defs[] = {
    {"delete", 0, NULL, "Delete.", DELETE},
    {"exclude", 0, "PATTERN",
     "Leave out what matches; a help text that is long enough to be wrapped over more than one line of the screen.",
     EXCLUDE},
    {"verbose", 'v', NULL, "More.", VERBOSE},
    {"help", 'h', NULL, "Help.", HELP},
    {.name = NULL},
};

static OptionArgs *parse(const char *const *words, GError **error)
{
    return options_parse(defs, (int)g_strv_length((char **)words), (char **)words, error);
}

static void test_order_and_operands(void **state)
{
    const char *words[] = {"a", "--exclude", "x", "-v", "--exclude=y=z", "b", "--", "--delete", "-", NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(OptionArgs) args = parse(words, &error);
    assert_non_null(args);
    assert_int_equal(args->operands->len, 4);
    assert_string_equal(g_ptr_array_index(args->operands, 2), "--delete");
    assert_string_equal(g_ptr_array_index(args->operands, 3), "-");
    assert_int_equal(args->uses->len, 3);
    assert_string_equal(g_array_index(args->uses, OptionUse, 0).value, "x");
    assert_string_equal(g_array_index(args->uses, OptionUse, 2).value, "y=z");
    assert_string_equal(options_value(args, EXCLUDE), "y=z");
    assert_true(options_has(args, VERBOSE));
    assert_false(options_has(args, DELETE));
    assert_null(options_value(args, DELETE));
}

static void test_value_may_look_like_an_option(void **state)
{
    const char *words[] = {"--exclude", "--delete", "--exclude=", NULL};
    g_autoptr(OptionArgs) args = parse(words, NULL);
    assert_non_null(args);
    assert_string_equal(g_array_index(args->uses, OptionUse, 0).value, "--delete");
    assert_string_equal(g_array_index(args->uses, OptionUse, 1).value, "");
    assert_false(options_has(args, DELETE));
}

static void test_errors(void **state)
{
    static const struct {
        const char *word, *message;
    } cases[] = {
        {"--exlude", "unknown option --exlude: did you mean --exclude?"},
        {"--excl", "unknown option --excl: did you mean --exclude?"},
        {"--exlude=a", "unknown option --exlude: did you mean --exclude?"},
        {"--zzzzzz", "unknown option --zzzzzz"},
        {"--delete=yes", "option --delete takes no value"},
        {"--exclude", "option --exclude needs a value: --exclude PATTERN"},
        {"-x", "unknown option -x (a name that starts with a dash is written ./-x)"},
        {"-vx", "unknown option -vx (a name that starts with a dash is written ./-vx)"},
        {"--a\033[31m", "unknown option --a\\x1B[31m"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *words[] = {cases[i].word, NULL};
        g_autoptr(GError) error = NULL;
        g_autoptr(OptionArgs) args = parse(words, &error);
        assert_null(args);
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
        assert_string_equal(error->message, cases[i].message);
    }
}

static void test_nearest(void **state)
{
    const char *const words[] = {"mirror", "verify", "worker", "version", "help", NULL};
    assert_string_equal(options_nearest("miror", words), "mirror");
    assert_string_equal(options_nearest("mirrro", words), "mirror");
    assert_string_equal(options_nearest("ver", words), "verify");
    assert_string_equal(options_nearest("hlep", words), "help");
    assert_null(options_nearest("", words));
    assert_null(options_nearest("backup", words));
    g_autofree char *endless = g_strnfill(10000, 'm');
    assert_null(options_nearest(endless, words));
}

static void test_describe(void **state)
{
    g_autofree char *text = options_describe(defs);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (guint i = 0; lines[i]; i++)
        assert_true(strlen(lines[i]) < 80);
    assert_non_null(strstr(text, "  --exclude PATTERN "));
    assert_non_null(strstr(text, "  -v, --verbose "));
    assert_true(g_strv_length(lines) > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_operands),
        cmocka_unit_test(test_value_may_look_like_an_option),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_describe),
    };
    return cmocka_run_group_tests_name("unit/cli/options", tests, NULL, NULL);
}
