#include "../base/cmocka_all.h"

#include "base/error.h"
#include "cli/mirror_options.h"

#include <string.h>
#include <unistd.h>

static JobSpec *build_words(const char *const *words, GError **error)
{
    g_autoptr(OptionArgs) args =
        options_parse(mirror_option_defs, (int)g_strv_length((char **)words), (char **)words, error);
    return args ? mirror_options_build(args, error) : NULL;
}

/* The command line as one string, split at spaces. */
static JobSpec *build(const char *line, GError **error)
{
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    return build_words((const char *const *)words, error);
}

static void test_defaults(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = build("/a /b", &error);
    assert_non_null(spec);
    assert_int_equal(spec->type, JOB_MIRROR);
    assert_true(spec->run_id && strlen(spec->run_id) > 10);
    assert_int_equal(spec->sources->len, 1);
    assert_string_equal(g_ptr_array_index(spec->sources, 0), "/a");
    assert_string_equal(g_array_index(spec->destinations, JobDestination, 0).path, "/b");
    const JobOptions *options = &spec->options;
    assert_true(options->hard_links && options->acls && options->xattrs);
    assert_false(options->delete_extraneous || options->checksum || options->one_file_system ||
                 options->exclude_caches || options->inplace || options->verify || options->force || options->dry_run ||
                 options->items || options->engine_rsync);
    assert_int_equal(options->max_delete_percent, 50);
    assert_int_equal(spec->limits.bandwidth, 0);
}

static void test_flags(void **state)
{
    g_autoptr(JobSpec) spec = build("--delete --checksum --inplace --verify --no-acls --no-xattrs --no-hard-links "
                                    "--one-file-system --exclude-caches --force -v /a /b",
                                    NULL);
    assert_non_null(spec);
    const JobOptions *options = &spec->options;
    assert_true(options->delete_extraneous && options->checksum && options->inplace && options->verify &&
                options->one_file_system && options->exclude_caches && options->force && options->items);
    assert_false(options->acls || options->xattrs || options->hard_links || options->dry_run);
    g_autoptr(JobSpec) dry = build("--dry-run --engine rsync /a /b", NULL);
    assert_non_null(dry);
    assert_true(dry->options.dry_run && dry->options.items && dry->options.engine_rsync);
}

static void test_values(void **state)
{
    g_autoptr(JobSpec) spec =
        build("--keep-versions 30,5 --exclude-if-present .nobackup --exclude-larger-than 1.5G --max-delete 10 "
              "--confirm 0123456789abcdef --bwlimit 2048 --nice 7 --ionice best-effort --jobs 3 /a /c /b",
              NULL);
    assert_non_null(spec);
    const JobOptions *options = &spec->options;
    assert_int_equal(options->keep_versions_days, 30);
    assert_int_equal(options->keep_versions_count, 5);
    assert_string_equal(options->exclude_if_present, ".nobackup");
    assert_int_equal(options->exclude_larger_than, 3ULL << 29);
    assert_int_equal(options->max_delete_percent, 10);
    assert_string_equal(options->confirm, "0123456789abcdef");
    assert_int_equal(options->jobs, 3);
    assert_int_equal(spec->limits.bandwidth, 2048 * 1024);
    assert_int_equal(spec->limits.nice, 7);
    assert_int_equal(spec->limits.ionice_class, 2);
    assert_int_equal(spec->limits.ionice_level, 7);
    assert_int_equal(spec->sources->len, 2);
    g_autoptr(JobSpec) idle = build("--ionice idle --bwlimit 0 --keep-versions 0,5 /a /b", NULL);
    assert_non_null(idle);
    assert_int_equal(idle->limits.ionice_class, 3);
    assert_int_equal(idle->options.keep_versions_days, 0);
    assert_int_equal(idle->options.keep_versions_count, 5);
}

static void test_rules_keep_their_order(void **state)
{
    g_autoptr(JobSpec) spec = build("--include *.c --exclude * --include /x /a /b --exclude=y", NULL);
    assert_non_null(spec);
    const GArray *rules = spec->options.rules;
    static const JobRule expected[] = {{TRUE, "*.c"}, {FALSE, "*"}, {TRUE, "/x"}, {FALSE, "y"}};
    assert_int_equal(rules->len, G_N_ELEMENTS(expected));
    for (guint i = 0; i < rules->len; i++) {
        assert_int_equal(g_array_index(rules, JobRule, i).include, expected[i].include);
        assert_string_equal(g_array_index(rules, JobRule, i).pattern, expected[i].pattern);
    }
}

static void test_recover(void **state)
{
    g_autoptr(JobSpec) spec = build("--recover --json /b", NULL);
    assert_non_null(spec);
    assert_int_equal(spec->type, JOB_RECOVER);
    assert_int_equal(spec->sources->len, 0);
    assert_string_equal(g_array_index(spec->destinations, JobDestination, 0).path, "/b");
}

static void test_wrong_lines(void **state)
{
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"/a", "DEST is missing"},
        {"/a ", "DEST is empty"},
        {" /b", "SOURCE is empty"},
        {"--recover", "--recover needs the destination"},
        {"--recover /a /b", "no sources"},
        {"--recover --delete /b", "--recover cannot be combined with --delete"},
        {"--keep-versions x /a /b", "DAYS of --keep-versions must be"},
        {"--keep-versions 1,x /a /b", "COUNT of --keep-versions must be"},
        {"--keep-versions 1, /a /b", "COUNT of --keep-versions must be"},
        {"--keep-versions 0 /a /b", "--keep-versions needs a number of days"},
        {"--keep-versions -1 /a /b", "DAYS of --keep-versions must be"},
        {"--exclude= /a /b", "the pattern of --exclude is empty"},
        {"--include= /a /b", "the pattern of --include is empty"},
        {"--exclude-if-present a/b /a /b", "without a slash"},
        {"--exclude-if-present= /a /b", "without a slash"},
        {"--exclude-larger-than big /a /b", "--exclude-larger-than: 'big' is not a size"},
        {"--exclude-larger-than 0 /a /b", "above 0"},
        {"--max-delete 101 /a /b", "--max-delete must be a whole number from 0 to 100, not '101'"},
        {"--confirm xyz /a /b", "--confirm needs the hash"},
        {"--bwlimit 1.5 /a /b", "--bwlimit must be"},
        {"--bwlimit 99999999999999999999 /a /b", "--bwlimit must be"},
        {"--nice -5 /a /b", "--nice must be a whole number from 0 to 19"},
        {"--ionice realtime /a /b", "--ionice must be idle or best-effort, not 'realtime'"},
        {"--engine tar /a /b", "--engine must be native or rsync, not 'tar'"},
        {"--jobs 0 /a /b", "--jobs must be a whole number from 1 to 256, not '0'"},
        {"--engine native /a host:/b", "needs --engine rsync"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        g_autoptr(JobSpec) spec = build(cases[i].line, &error);
        assert_null(spec);
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
        if (!strstr(error->message, cases[i].part))
            fail_msg("'%s' gives '%s'", cases[i].line, error->message);
    }
    const char *none[] = {NULL};
    g_autoptr(GError) error = NULL;
    assert_null(build_words(none, &error));
    assert_non_null(strstr(error->message, "SOURCE and a DEST"));
}

static void test_long_pattern(void **state)
{
    g_autofree char *pattern = g_strnfill(4096, 'x');
    const char *words[] = {"--exclude", pattern, "/a", "/b", NULL};
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = build_words(words, &error);
    assert_null(spec);
    assert_non_null(strstr(error->message, "too long"));
}

static void test_remote_takes_the_password_away(void **state)
{
    g_setenv("RSYNC_PASSWORD", "secret", TRUE);
    g_autoptr(JobSpec) local = build("/a ./x:y", NULL);
    assert_non_null(local);
    assert_false(local->options.engine_rsync);
    assert_null(local->rsync_password);
    g_autoptr(JobSpec) remote = build("/a host::module/path", NULL);
    assert_non_null(remote);
    assert_true(remote->options.engine_rsync);
    assert_string_equal(remote->rsync_password, "secret");
    assert_null(g_getenv("RSYNC_PASSWORD"));
    assert_string_equal(g_array_index(remote->destinations, JobDestination, 0).path, "host::module/path");
}

static void test_absolute(void **state)
{
    g_autofree char *before = g_get_current_dir();
    assert_int_equal(chdir("/usr"), 0);
    static const struct {
        const char *given, *absolute;
    } cases[] = {
        {"/x/../y", "/x/../y"}, {"lib", "/usr/lib"},   {".", "/usr"},        {"./", "/usr"},
        {"./a:b", "/usr/a:b"},  {"../x", "/usr/../x"}, {"host:x", "host:x"}, {"rsync://h/m", "rsync://h/m"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *absolute = mirror_options_absolute(cases[i].given);
        assert_string_equal(absolute, cases[i].absolute);
    }
    assert_int_equal(chdir(before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),     cmocka_unit_test(test_flags),
        cmocka_unit_test(test_values),       cmocka_unit_test(test_rules_keep_their_order),
        cmocka_unit_test(test_recover),      cmocka_unit_test(test_wrong_lines),
        cmocka_unit_test(test_long_pattern), cmocka_unit_test(test_remote_takes_the_password_away),
        cmocka_unit_test(test_absolute),
    };
    return cmocka_run_group_tests_name("unit/cli/mirror_options", tests, NULL, NULL);
}
