#include "cmocka_all.h"

#include "base/error.h"

#include <errno.h>

static void test_names_are_those_of_the_specification(void **state)
{
    assert_string_equal(error_code_name(BACKAPP_ERROR_NOT_FOUND), "NOT_FOUND");
    assert_string_equal(error_code_name(BACKAPP_ERROR_DENIED), "DENIED");
    assert_string_equal(error_code_name(BACKAPP_ERROR_INVALID), "INVALID");
    assert_string_equal(error_code_name(BACKAPP_ERROR_CONFLICT), "CONFLICT");
    assert_string_equal(error_code_name(BACKAPP_ERROR_TRANSIENT), "TRANSIENT");
    assert_string_equal(error_code_name(BACKAPP_ERROR_CORRUPT), "CORRUPT");
    assert_string_equal(error_code_name(BACKAPP_ERROR_NO_SPACE), "NO_SPACE");
    assert_string_equal(error_code_name(BACKAPP_ERROR_LOCKED), "LOCKED");
    assert_string_equal(error_code_name(BACKAPP_ERROR_CANCELLED), "CANCELLED");
    assert_string_equal(error_code_name(BACKAPP_ERROR_INTERNAL), "INTERNAL");
    assert_string_equal(error_code_name((BackappError)999), "INTERNAL");
}

static void test_errno_gets_the_code_that_fits(void **state)
{
    static const struct {
        int errnum;
        BackappError code;
    } cases[] = {
        {ENOENT, BACKAPP_ERROR_NOT_FOUND},     {EACCES, BACKAPP_ERROR_DENIED},
        {EPERM, BACKAPP_ERROR_DENIED},         {EROFS, BACKAPP_ERROR_DENIED},
        {ENAMETOOLONG, BACKAPP_ERROR_INVALID}, {ENOTDIR, BACKAPP_ERROR_INVALID},
        {EEXIST, BACKAPP_ERROR_CONFLICT},      {ENOTEMPTY, BACKAPP_ERROR_CONFLICT},
        {EAGAIN, BACKAPP_ERROR_TRANSIENT},     {ETIMEDOUT, BACKAPP_ERROR_TRANSIENT},
        {ENOSPC, BACKAPP_ERROR_NO_SPACE},      {EDQUOT, BACKAPP_ERROR_NO_SPACE},
        {EBUSY, BACKAPP_ERROR_LOCKED},         {EBADMSG, BACKAPP_ERROR_CORRUPT},
        {ECANCELED, BACKAPP_ERROR_CANCELLED},  {EIO, BACKAPP_ERROR_INTERNAL},
        {0, BACKAPP_ERROR_INTERNAL},           {-1, BACKAPP_ERROR_INTERNAL},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        assert_int_equal(error_code_from_errno(cases[i].errnum), cases[i].code);
}

static void test_set_formats_and_returns_false(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_false(error_set(&error, BACKAPP_ERROR_LOCKED, "%s is locked by pid %d", "/mnt/backup", 7));
    assert_string_equal(error->message, "/mnt/backup is locked by pid 7");
    assert_true(error_is(error, BACKAPP_ERROR_LOCKED));
    assert_false(error_is(error, BACKAPP_ERROR_INTERNAL));
    assert_false(error_set(NULL, BACKAPP_ERROR_LOCKED, "nobody asked"));
}

static void test_errno_is_told_in_words(void **state)
{
    g_autoptr(GError) error = NULL;
    assert_false(error_set_errno(&error, ENOSPC, "cannot write %s", "a%sb"));
    g_autofree char *expected = g_strdup_printf("cannot write a%%sb: %s", g_strerror(ENOSPC));
    assert_string_equal(error->message, expected);
    assert_true(error_is(error, BACKAPP_ERROR_NO_SPACE));
    assert_false(error_set_errno(NULL, ENOSPC, "nobody asked"));
}

static void test_other_domains_are_told_apart(void **state)
{
    g_autoptr(GError) error =
        g_error_new_literal(g_quark_from_static_string("other"), (gint)BACKAPP_ERROR_NOT_FOUND, "x");
    assert_false(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    assert_false(error_is(NULL, BACKAPP_ERROR_NOT_FOUND));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_those_of_the_specification),
        cmocka_unit_test(test_errno_gets_the_code_that_fits),
        cmocka_unit_test(test_set_formats_and_returns_false),
        cmocka_unit_test(test_errno_is_told_in_words),
        cmocka_unit_test(test_other_domains_are_told_apart),
    };
    return cmocka_run_group_tests_name("unit/base/error", tests, NULL, NULL);
}
