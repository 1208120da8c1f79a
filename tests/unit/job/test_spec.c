#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "job/spec.h"

#include <string.h>

#define HEAD "{\"version\":1,\"type\":\"rsync-local\",\"sources\":[\"/s\"],\"destinations\":[{\"path\":\"/d\"}]"

static JobSpec *parse(const char *line, GError **error)
{
    return job_spec_parse(line, strlen(line), error);
}

/* The line is refused and the message holds the part. */
static void assert_refused(const char *line, const char *part)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(line, &error);
    if (spec)
        fail_msg("taken: %.200s", line);
    assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    if (!strstr(error->message, part))
        fail_msg("\"%s\" does not say \"%s\"", error->message, part);
}

static void test_defaults(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(HEAD "}", &error);
    assert_null(error);
    assert_int_equal(spec->type, JOB_MIRROR);
    assert_string_equal(g_ptr_array_index(spec->sources, 0), "/s");
    assert_string_equal(g_array_index(spec->destinations, JobDestination, 0).path, "/d");
    assert_true(spec->options.hard_links && spec->options.acls && spec->options.xattrs);
    assert_false(spec->options.delete_extraneous);
    assert_int_equal(spec->options.max_delete_percent, 50);
    assert_int_equal(spec->limits.nice, 0);
    assert_null(spec->run_id);
    assert_null(spec->rsync_password);
}

static const char full[] =
    "{\"version\":1,\"type\":\"rsync-local\",\"runId\":\"run-1\",\"sources\":[\"/s\",{\"b64\":\"L/8=\"}],"
    "\"destinations\":[{\"path\":\"/d\",\"expectedId\":\"id\"}],\"options\":{\"deleteExtraneous\":true,"
    "\"excludePatterns\":[\"*.log\",{\"b64\":\"/yo=\"}],\"includePatterns\":[\"*.c\"],\"hardLinks\":false,"
    "\"dryRun\":true,\"acls\":false,\"xattrs\":false,\"checksum\":true,\"maxDeletePercent\":7,"
    "\"keepVersions\":{\"days\":30,\"count\":5},\"inplace\":true,\"verify\":true,\"engine\":\"rsync\","
    "\"oneFileSystem\":true,\"excludeCaches\":true,\"excludeIfPresent\":\".nobackup\",\"excludeLargerThan\":123,"
    "\"force\":true,\"confirm\":\"abcd\",\"jobs\":4,\"items\":true,\"rsync\":{\"ssh\":{\"user\":\"u\",\"port\":2222,"
    "\"identityFile\":\"/k\",\"knownHosts\":\"/"
    "h\"}}},\"limits\":{\"nice\":19,\"ionice\":{\"class\":\"idle\",\"level\":3},"
    "\"memory\":67108864,\"bandwidth\":1000},\"secrets\":{\"rsyncPassword\":\"hush\"}}";

static void check_full(const JobSpec *spec)
{
    const JobOptions *options = &spec->options;
    assert_string_equal(spec->run_id, "run-1");
    assert_memory_equal(g_ptr_array_index(spec->sources, 1), "/\xff", 3);
    assert_string_equal(g_array_index(spec->destinations, JobDestination, 0).expected_id, "id");
    assert_string_equal(g_ptr_array_index(options->exclude_patterns, 1), "\xff*");
    assert_string_equal(g_ptr_array_index(options->include_patterns, 0), "*.c");
    assert_true(options->delete_extraneous && options->dry_run && options->checksum && options->inplace);
    assert_true(options->verify && options->engine_rsync && options->one_file_system && options->exclude_caches);
    assert_true(options->force && options->items);
    assert_false(options->hard_links || options->acls || options->xattrs);
    assert_int_equal(options->max_delete_percent, 7);
    assert_int_equal(options->keep_versions_days, 30);
    assert_int_equal(options->keep_versions_count, 5);
    assert_string_equal(options->exclude_if_present, ".nobackup");
    assert_int_equal(options->exclude_larger_than, 123);
    assert_string_equal(options->confirm, "abcd");
    assert_int_equal(options->jobs, 4);
    assert_string_equal(options->ssh_user, "u");
    assert_int_equal(options->ssh_port, 2222);
    assert_string_equal(options->ssh_identity_file, "/k");
    assert_string_equal(options->ssh_known_hosts, "/h");
    assert_int_equal(spec->limits.nice, 19);
    assert_int_equal(spec->limits.ionice_class, 3);
    assert_int_equal(spec->limits.ionice_level, 3);
    assert_int_equal(spec->limits.memory, 67108864);
    assert_int_equal(spec->limits.bandwidth, 1000);
    assert_string_equal(spec->rsync_password, "hush");
}

static void test_everything_survives_printing(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(full, &error);
    assert_null(error);
    check_full(spec);
    g_autofree char *line = job_spec_print(spec);
    assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
    g_autoptr(JobSpec) again = parse(line, &error);
    assert_null(error);
    check_full(again);
    g_autofree char *twice = job_spec_print(again);
    assert_string_equal(line, twice);
}

static void test_rules_keep_order(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(HEAD ",\"options\":{\"rules\":[{\"include\":true,\"pattern\":\"a\"},"
                                         "{\"include\":false,\"pattern\":\"*\"}]}}",
                                    &error);
    assert_null(error);
    g_autofree char *line = job_spec_print(spec);
    g_autoptr(JobSpec) again = parse(line, &error);
    assert_int_equal(again->options.rules->len, 2);
    assert_true(g_array_index(again->options.rules, JobRule, 0).include);
    assert_false(g_array_index(again->options.rules, JobRule, 1).include);
    assert_string_equal(g_array_index(again->options.rules, JobRule, 1).pattern, "*");
}

static void test_versions_and_types(void **state)
{
    assert_refused("{\"version\":2,\"type\":\"rsync-local\"}", "version: 2");
    assert_refused("{\"version\":\"1\",\"type\":\"rsync-local\"}", "version");
    assert_refused("{\"type\":\"rsync-local\"}", "version");
    assert_refused("{\"version\":1,\"type\":\"teleport\"}", "type");
    assert_refused("{\"version\":1}", "type");
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) recover =
        parse("{\"version\":1,\"type\":\"recover\",\"destinations\":[{\"path\":\"/d\"}]}", &error);
    assert_int_equal(recover->type, JOB_RECOVER);
    g_autoptr(JobSpec) verify =
        parse("{\"version\":1,\"type\":\"verify\",\"destinations\":[{\"path\":\"/d\"}]}", &error);
    assert_int_equal(verify->type, JOB_VERIFY);
    assert_null(error);
}

static void test_wrong_values_are_named(void **state)
{
    static const char *const cases[][2] = {
        {",\"surprise\":1", "surprise: unknown key"},
        {",\"options\":{\"surprise\":1}", "options.surprise: unknown key"},
        {",\"options\":[]", "options: must be an object"},
        {",\"options\":{\"checksum\":1}", "options.checksum"},
        {",\"options\":{\"checksum\":null}", "options.checksum"},
        {",\"options\":{\"maxDeletePercent\":101}", "options.maxDeletePercent"},
        {",\"options\":{\"maxDeletePercent\":-1}", "options.maxDeletePercent"},
        {",\"options\":{\"maxDeletePercent\":1.5}", "options.maxDeletePercent"},
        {",\"options\":{\"jobs\":99999999999}", "options.jobs"},
        {",\"options\":{\"jobs\":99999999999999999999999}", "not valid JSON"},
        {",\"options\":{\"engine\":\"cp\"}", "options.engine"},
        {",\"options\":{\"excludePatterns\":\"x\"}", "options.excludePatterns: must be an array"},
        {",\"options\":{\"excludePatterns\":[\"\"]}", "options.excludePatterns[0]: is empty"},
        {",\"options\":{\"excludePatterns\":[7]}", "options.excludePatterns[0]"},
        {",\"options\":{\"rules\":[{\"pattern\":\"x\"}]}", "options.rules[0]"},
        {",\"options\":{\"rules\":[{\"include\":true}]}", "options.rules[0]"},
        {",\"options\":{\"rules\":[{\"include\":true,\"pattern\":\"x\"}],\"excludePatterns\":[\"y\"]}",
         "options.rules: cannot"},
        {",\"options\":{\"keepVersions\":{\"weeks\":1}}", "options.keepVersions.weeks"},
        {",\"options\":{\"rsync\":{\"ssh\":{\"port\":65536}}}", "options.rsync.ssh.port"},
        {",\"options\":{\"excludeIfPresent\":\"a/b\"}", "options.excludeIfPresent"},
        {",\"limits\":{\"nice\":20}", "limits.nice"},
        {",\"limits\":{\"nice\":-5}", "limits.nice"},
        {",\"limits\":{\"memory\":1000}", "limits.memory"},
        {",\"limits\":{\"ionice\":{\"class\":\"realtime\"}}", "limits.ionice.class"},
        {",\"limits\":{\"ionice\":{\"level\":8}}", "limits.ionice.level"},
        {",\"secrets\":{\"password\":\"x\"}", "secrets.password"},
        {",\"runId\":\"../x\"", "runId"},
        {",\"runId\":\"\"", "runId"},
        {",\"runId\":\"a b\"", "runId"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *line = g_strconcat(HEAD, cases[i][0], "}", NULL);
        assert_refused(line, cases[i][1]);
    }
}

static void test_wrong_places(void **state)
{
    assert_refused("{\"version\":1,\"type\":\"rsync-local\",\"destinations\":[{\"path\":\"/d\"}]}", "sources");
    assert_refused("{\"version\":1,\"type\":\"rsync-local\",\"sources\":[\"/s\"]}", "destinations");
    assert_refused("{\"version\":1,\"type\":\"rsync-local\",\"sources\":[\"/s\"],\"destinations\":[\"/d\"]}",
                   "destinations[0]");
    assert_refused("{\"version\":1,\"type\":\"rsync-local\",\"sources\":[\"/s\"],\"destinations\":[{}]}",
                   "destinations[0]: needs either a path or a store");
    assert_refused("{\"version\":1,\"type\":\"rsync-local\",\"sources\":[\"/s\"],\"destinations\":[{\"path\":\"/a\"},"
                   "{\"path\":\"/b\"}]}",
                   "exactly one");
    assert_refused("{\"version\":1,\"type\":\"recover\",\"sources\":[\"/s\"],\"destinations\":[{\"path\":\"/d\"}]}",
                   "sources");
    assert_refused("{\"version\":1,\"type\":\"rsync-local\",\"sources\":[\"\"],\"destinations\":[{\"path\":\"/d\"}]}",
                   "sources[0]");
}

#define STORE "{\"store\":{\"url\":\"s3://b/p\",\"endpoint\":\"http://127.0.0.1:1\",\"pathStyle\":true}}"

static const char s3_full[] =
    "{\"version\":1,\"type\":\"s3-mirror\",\"sources\":[\"/s\"],\"destinations\":[" STORE
    ",{\"store\":{\"url\":\"file:///d\"}}],\"options\":{\"syncToS3\":{\"storageClass\":\"STANDARD_IA\","
    "\"s3Prefix\":\"x/YYYY-MM-DD/\",\"deleteFromS3\":true,\"trashDays\":7,\"classRules\":[{\"pattern\":\"*.iso\","
    "\"storageClass\":\"GLACIER\"}],\"relistDays\":3,\"time\":1763769600}},\"secrets\":{\"stores\":[{\"accessKey\":"
    "\"AK\",\"secretKey\":\"hush\"},null],\"encryptionKey\":\"quiet\"}}";

static void check_s3_full(const JobSpec *spec)
{
    const JobDestination *first = &g_array_index(spec->destinations, JobDestination, 0);
    const JobS3Options *s3 = &spec->options.s3;
    assert_int_equal(spec->type, JOB_S3_MIRROR);
    assert_null(first->path);
    assert_string_equal(first->store.url, "s3://b/p");
    assert_true(first->store.path_style);
    assert_string_equal(first->store.secret_key, "hush");
    assert_null(g_array_index(spec->destinations, JobDestination, 1).store.secret_key);
    assert_string_equal(s3->s3_prefix, "x/YYYY-MM-DD/");
    assert_int_equal(s3->trash_days, 7);
    assert_int_equal(s3->time, 1763769600);
    assert_string_equal(g_array_index(s3->class_rules, JobClassRule, 0).storage_class, "GLACIER");
    assert_string_equal(spec->encryption_key, "quiet");
    assert_true(job_spec_has_secrets(spec));
}

static void test_stores(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(s3_full, &error);
    assert_null(error);
    check_s3_full(spec);
    g_autofree char *line = job_spec_print(spec);
    g_autoptr(JobSpec) again = parse(line, &error);
    assert_null(error);
    check_s3_full(again);
}

static void test_restore(void **state)
{
    static const char line[] =
        "{\"version\":1,\"type\":\"restore\",\"store\":{\"url\":\"s3://b\"},\"destinations\":[{\"path\":"
        "\"/t\"}],\"options\":{\"restore\":{\"at\":\"latest\",\"paths\":[\"a\",{\"b64\":\"/w==\"}]}},"
        "\"secrets\":{\"stores\":[null,{\"accessKey\":\"A\",\"secretKey\":\"hush\"}]}}";
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(line, &error);
    assert_null(error);
    g_autofree char *printed = job_spec_print(spec);
    g_autoptr(JobSpec) again = parse(printed, &error);
    assert_null(error);
    assert_string_equal(again->store.url, "s3://b");
    assert_string_equal(again->store.secret_key, "hush");
    assert_string_equal(again->options.restore.at, "latest");
    assert_string_equal(g_ptr_array_index(again->options.restore.paths, 1), "\xff");
}

static void test_wrong_stores(void **state)
{
#define S3(rest)      "{\"version\":1,\"type\":\"s3-mirror\",\"sources\":[\"/s\"]," rest "}"
#define RESTORE(rest) "{\"version\":1,\"type\":\"restore\",\"destinations\":[{\"path\":\"/t\"}]" rest "}"
    assert_refused(S3("\"destinations\":[]"), "at least one");
    assert_refused(S3("\"destinations\":[{\"path\":\"/d\"}]"), "destinations[0].store.url");
    assert_refused(S3("\"destinations\":[{\"path\":\"/d\",\"store\":{\"url\":\"s3://b\"}}]"), "either");
    assert_refused(S3("\"destinations\":[" STORE "],\"store\":{\"url\":\"s3://b\"}"), "does not belong");
    assert_refused(S3("\"destinations\":[" STORE "],\"options\":{\"syncToS3\":{\"onlyS3\":true}}"), "rsync-to-s3");
    assert_refused(S3("\"destinations\":[" STORE "],\"options\":{\"syncToS3\":{\"trashDays\":-1}}"), "trashDays");
    assert_refused(S3("\"destinations\":[" STORE "],\"options\":{\"syncToS3\":{\"classRules\":[{\"pattern\":\"a\"}]}}"),
                   "needs both");
    assert_refused(S3("\"destinations\":[" STORE "],\"secrets\":{\"stores\":[{},{}]}"), "more than 1");
    assert_refused(S3("\"destinations\":[" STORE "],\"secrets\":{\"stores\":[{\"accessKey\":\"A\"}]}"),
                   "only of use together");
    assert_refused(RESTORE(""), "store.url");
    assert_refused(RESTORE(",\"sources\":[\"/s\"],\"store\":{\"url\":\"s3://b\"}"), "restore");
    assert_refused(RESTORE(",\"store\":{\"url\":\"s3://b\"},\"options\":{\"restore\":{\"conflict\":\"never\"}}"),
                   "conflict");
    assert_refused("{\"version\":1,\"type\":\"rsync-to-s3\",\"sources\":[\"/s\"],\"destinations\":[{\"path\":\"/d\"}]}",
                   "a directory and a store");
}

static void test_bad_names(void **state)
{
    static const char *const names[] = {
        "{\"b64\":\"!\"}",
        "{\"b64\":\"L\"}",
        "{\"b64\":\"\"}",
        "{\"b64\":\"LwAv\"}", /* a zero byte */
        "{\"b64\":\"L/8=\",\"x\":1}",
        "{\"b64\":7}",
        "{\"b64\":\"L/8\"}",
        "{\"b64\":\"L /8=\"}",
        "{\"b64\":\"L/9=\"}",
        "\"a\\u0000b\"",
        "[]",
    };
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *line = g_strdup_printf(
            "{\"version\":1,\"type\":\"rsync-local\",\"sources\":[%s],\"destinations\":[{\"path\":\"/d\"}]}", names[i]);
        assert_refused(line, "");
    }
}

static void test_bad_json(void **state)
{
    assert_refused("", "not valid JSON");
    assert_refused("[1]", "must be a JSON object");
    assert_refused("{\"version\":1", "not valid JSON");
    assert_refused(HEAD "} {}", "not valid JSON");
    assert_refused("{\"version\":1,\"version\":1}", "twice");
    assert_refused("{\"version\":1,\"type\":\"\xff\"}", "not valid JSON");
}

static void test_bounds(void **state)
{
    g_autofree char *deep = g_strnfill(17, '[');
    assert_refused(deep, "nested");
    /* Brackets within a string nest nothing. */
    g_autofree char *flat = g_strconcat(HEAD ",\"options\":{\"confirm\":\"\\\"", deep, "\"}}", NULL);
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(flat, &error);
    assert_non_null(spec);
    g_autofree char *huge = g_strnfill(JOB_LINE_MAX + 1, ' ');
    assert_refused(huge, "longer than");
    g_autofree char *name = g_strnfill(4096, 'n');
    g_autofree char *line = g_strdup_printf(
        "{\"version\":1,\"type\":\"rsync-local\",\"sources\":[\"%s\"],\"destinations\":[{\"path\":\"/d\"}]}", name);
    assert_refused(line, "sources[0]: longer than 4095");
}

static void test_a_secret_is_never_shown(void **state)
{
    static const char *const lines[] = {
        HEAD ",\"secrets\":{\"rsyncPassword\":hunter2}}",
        HEAD ",\"secrets\":{\"rsyncPassword\":\"hunter2\"\"hunter2\"}}",
        HEAD ",\"secrets\":\"hunter2\"}",
        HEAD ",\"secrets\":{\"rsyncPassword\":[\"hunter2\"]}}",
    };
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        g_autoptr(GError) error = NULL;
        assert_null(parse(lines[i], &error));
        assert_null(strstr(error->message, "hunter2"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything_survives_printing),
        cmocka_unit_test(test_rules_keep_order),
        cmocka_unit_test(test_versions_and_types),
        cmocka_unit_test(test_wrong_values_are_named),
        cmocka_unit_test(test_wrong_places),
        cmocka_unit_test(test_stores),
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_wrong_stores),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_a_secret_is_never_shown),
    };
    return cmocka_run_group_tests_name("job/spec", tests, NULL, NULL);
}
