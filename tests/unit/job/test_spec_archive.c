/*
 * Job specs about archives: what is read and printed, and what is refused.
 */
#include "../base/cmocka_all.h"
#include "base/error.h"
#include "job/spec.h"

#include <string.h>

#define STORE         "\"destinations\":[{\"store\":{\"url\":\"s3://b/p\"}}]"
#define ARCHIVE(rest) "{\"version\":1,\"type\":\"direct-s3\",\"sources\":[\"/s\"]," rest "}"
#define NAMED(rest)   ARCHIVE(STORE ",\"options\":{\"archive\":{\"name\":\"n\"" rest "}}")
#define VERIFY(rest)  "{\"version\":1,\"type\":\"archive-verify\"" rest "}"

static JobSpec *parse(const char *line, GError **error)
{
    return job_spec_parse(line, strlen(line), error);
}

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
    g_autoptr(JobSpec) spec = parse(NAMED(""), &error);
    assert_null(error);
    const JobArchiveOptions *archive = &spec->options.archive;
    assert_int_equal(spec->type, JOB_ARCHIVE);
    assert_string_equal(archive->name, "n");
    assert_true(archive->compression);
    assert_false(archive->encryption || archive->full);
    assert_int_equal(archive->full_every_days, 30);
    assert_int_equal(archive->level + archive->volume_size + archive->time, 0);
    assert_false(archive->type || archive->codec || archive->storage_class || archive->state_dir || archive->at);
    assert_false(job_spec_has_secrets(spec));
}

static const char whole[] =
    ARCHIVE(STORE ",\"options\":{\"archive\":{\"name\":\"n\",\"type\":\"differential\",\"codec\":\"zstd\","
                  "\"compressionLevel\":19,\"encryption\":true,\"fullEveryDays\":7,\"volumeSize\":8388608,"
                  "\"storageClass\":\"GLACIER_IR\",\"time\":1795282483,\"stateDir\":\"/state\"}},"
                  "\"secrets\":{\"passphrase\":\"hush hush\"}");

static void check_whole(const JobSpec *spec)
{
    const JobArchiveOptions *archive = &spec->options.archive;
    assert_string_equal(archive->type, "differential");
    assert_string_equal(archive->codec, "zstd");
    assert_int_equal(archive->level, 19);
    assert_true(archive->encryption);
    assert_int_equal(archive->full_every_days, 7);
    assert_int_equal(archive->volume_size, 8388608);
    assert_string_equal(archive->storage_class, "GLACIER_IR");
    assert_int_equal(archive->time, 1795282483);
    assert_string_equal(archive->state_dir, "/state");
    assert_string_equal(spec->passphrase, "hush hush");
    assert_true(job_spec_has_secrets(spec));
}

static void test_everything_survives_printing(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(whole, &error);
    assert_null(error);
    check_whole(spec);
    g_autofree char *line = job_spec_print(spec);
    g_autoptr(JobSpec) again = parse(line, &error);
    assert_null(error);
    check_whole(again);
}

static void test_wrong_values_are_named(void **state)
{
    assert_refused(NAMED(",\"surprise\":1"), "options.archive.surprise");
    assert_refused(NAMED(",\"type\":\"weekly\""), "options.archive.type");
    assert_refused(NAMED(",\"codec\":\"lz4\""), "options.archive.codec");
    assert_refused(NAMED(",\"codec\":\"zstd\",\"compression\":false"), "options.archive.codec");
    assert_refused(NAMED(",\"compressionLevel\":10"), "options.archive.compressionLevel");
    assert_refused(NAMED(",\"codec\":\"zstd\",\"compressionLevel\":20"), "options.archive.compressionLevel");
    assert_refused(NAMED(",\"volumeSize\":8388607"), "options.archive.volumeSize");
    assert_refused(NAMED(",\"encryption\":1"), "options.archive.encryption");
    assert_refused(ARCHIVE(STORE), "options.archive.name");
    assert_refused(ARCHIVE("\"destinations\":[{\"path\":\"/d\"}],\"options\":{\"archive\":{\"name\":\"n\"}}"), "store");
    assert_refused("{\"version\":1,\"type\":\"direct-s3\"," STORE ",\"options\":{\"archive\":{\"name\":\"n\"}}}",
                   "sources");
    assert_refused(ARCHIVE("\"destinations\":[],\"options\":{\"archive\":{\"name\":\"n\"}}"), "exactly one");
}

static void test_reading_jobs(void **state)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = parse(VERIFY(",\"store\":{\"url\":\"s3://b/p\"},\"options\":{\"archive\":{\"name\":\"n\","
                                           "\"at\":\"2026-11-20\",\"full\":true}}"),
                                    &error);
    assert_null(error);
    assert_int_equal(spec->type, JOB_ARCHIVE_VERIFY);
    assert_string_equal(spec->options.archive.at, "2026-11-20");
    assert_true(spec->options.archive.full);
    assert_refused(VERIFY(",\"options\":{\"archive\":{\"name\":\"n\"}}"), "store");
    assert_refused(
        VERIFY(",\"store\":{\"url\":\"s3://b\"},\"sources\":[\"/s\"],\"options\":{\"archive\":{\"name\":\"n\"}}"),
        "sources");
    assert_refused(VERIFY(",\"store\":{\"url\":\"s3://b\"}," STORE ",\"options\":{\"archive\":{\"name\":\"n\"}}"),
                   "destinations");
    assert_refused("{\"version\":1,\"type\":\"archive-reindex\",\"store\":{\"url\":\"s3://b\"},"
                   "\"options\":{\"archive\":{\"name\":\"n\"}}}",
                   "options.archive.at");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_everything_survives_printing),
        cmocka_unit_test(test_wrong_values_are_named),
        cmocka_unit_test(test_reading_jobs),
    };
    return cmocka_run_group_tests_name("spec_archive", tests, NULL, NULL);
}
