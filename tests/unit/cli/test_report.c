#include "../base/cmocka_all.h"

#include "cli/report.h"
#include "cli/summary.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

/* A report on streams in memory. */
typedef struct {
    char *out_text, *err_text;
    size_t out_length, err_length;
    FILE *out, *err;
    JobSpec *spec;
    Terminal *terminal;
    Report *report;
} Stage;

static void set_up(Stage *stage, JobType type, const char *destination, gboolean json)
{
    stage->out = open_memstream(&stage->out_text, &stage->out_length);
    stage->err = open_memstream(&stage->err_text, &stage->err_length);
    stage->spec = job_spec_new(type);
    JobDestination entry = {.path = g_strdup(destination)};
    g_array_append_val(stage->spec->destinations, entry);
    stage->terminal = terminal_new(stage->out, stage->err, FALSE);
    stage->report = report_new(stage->spec, json, stage->terminal);
}

static void send(Stage *stage, const char *line)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Event) event = event_parse(line, strlen(line), &error);
    if (!event)
        fail_msg("%s", error->message);
    report_event(stage->report, event);
}

static void finish(Stage *stage)
{
    report_free(stage->report);
    terminal_free(stage->terminal);
    job_spec_free(stage->spec);
    fclose(stage->out);
    fclose(stage->err);
}

static void clean(Stage *stage)
{
    free(stage->out_text);
    free(stage->err_text);
}

#define STATS                                                                                                          \
    "{\"type\":\"summary\",\"stats\":{\"stage1\":{\"filesTransferred\":3,\"bytesTransferred\":4096,\"duration\":2.0,"  \
    "\"localPath\":\"/m\",\"filesTotal\":1200,\"bytesTotal\":1048576,\"filesCreated\":2,\"filesChanged\":1,"           \
    "\"filesDeleted\":4,\"filesUnchanged\":1197},\"recovered\":false}}"

static void test_completed(void **state)
{
    Stage stage;
    set_up(&stage, JOB_MIRROR, "/nowhere", FALSE);
    send(&stage, "{\"type\":\"stage\",\"name\":\"scan\"}");
    send(&stage, "{\"type\":\"stage\",\"name\":\"x\\u001b[1m\"}");
    send(&stage, STATS);
    send(&stage, "{\"type\":\"done\",\"status\":\"completed\"}");
    finish(&stage);
    assert_string_equal(stage.out_text, "comparing ...\n"
                                        "x\\x1B[1m ...\n"
                                        "completed in 2.0 s\n"
                                        "  created 2, changed 1, deleted 4, unchanged 1,197\n"
                                        "  copied 3 files, 4.0 KiB (2.0 KiB/s); the source has 1,200 files, 1.0 MiB\n"
                                        "  the mirror is in /m\n");
    assert_string_equal(stage.err_text, "");
    clean(&stage);
}

static void test_dry_run(void **state)
{
    Stage stage;
    set_up(&stage, JOB_MIRROR, "/nowhere", FALSE);
    stage.spec->options.dry_run = TRUE;
    send(&stage, "{\"type\":\"item\",\"action\":\"create\",\"kind\":\"file\",\"path\":\"a\\nb\",\"bytes\":2048}");
    send(&stage, "{\"type\":\"item\",\"action\":\"delete\",\"kind\":\"directory\",\"path\":\"old\",\"files\":12}");
    send(&stage, "{\"type\":\"item\",\"action\":\"metadata\",\"kind\":\"directory\",\"path\":\"\"}");
    send(&stage, "{\"type\":\"item\",\"action\":\"link\",\"kind\":\"file\",\"path\":\"l\"}");
    send(&stage, STATS);
    send(&stage, "{\"type\":\"done\",\"status\":\"completed\"}");
    finish(&stage);
    assert_true(g_str_has_prefix(stage.out_text, "create   a\\nb (2.0 KiB)\n"
                                                 "delete   old/ (12 entries)\n"
                                                 "metadata ./\n"
                                                 "link     l\n"
                                                 "dry run in 2.0 s: nothing was changed\n"
                                                 "  would create 2, change 1, delete 4; unchanged 1,197\n"
                                                 "  would copy 3 files, 4.0 KiB;"));
    clean(&stage);
}

static void test_warnings_are_cut_off(void **state)
{
    Stage stage;
    set_up(&stage, JOB_MIRROR, "/nowhere", FALSE);
    for (guint i = 0; i < 1250; i++)
        send(&stage,
             "{\"type\":\"warning\",\"code\":\"unreadable\",\"path\":\"p\\u001b]0;x\\u0007\",\"message\":\"no\"}");
    send(&stage, "{\"type\":\"done\",\"status\":\"partial\"}");
    finish(&stage);
    g_auto(GStrv) lines = g_strsplit(stage.err_text, "\n", -1);
    assert_int_equal(g_strv_length(lines), 202);
    assert_string_equal(lines[0], "warning: p\\x1B]0;x\\x07: no");
    assert_string_equal(lines[200], "and 1,050 more warnings");
    assert_non_null(strstr(stage.out_text, "not all of the source could be read"));
    clean(&stage);
}

static void test_refused(void **state)
{
    Stage stage;
    set_up(&stage, JOB_MIRROR, "/nowhere", FALSE);
    send(&stage, "{\"type\":\"done\",\"status\":\"refused\",\"error\":{\"code\":\"CONFLICT\",\"message\":\"too many "
                 "deletions\"},\"planHash\":\"00ff\"}");
    finish(&stage);
    assert_true(g_str_has_prefix(stage.err_text, "backapp: refused: too many deletions\nNothing was changed."));
    assert_non_null(strstr(stage.err_text, "--confirm 00ff"));
    assert_non_null(strstr(stage.err_text, "--force"));
    clean(&stage);
}

#define REFUSED(message)                                                                                               \
    "{\"type\":\"done\",\"status\":\"refused\",\"error\":{\"code\":\"CONFLICT\",\"message\":\"" message                \
    "\"},\"planHash\":\"00ff\"}"

/* What is said of the state after a refusal; `lines` end with NULL. */
static char *refused_text(JobType type, gboolean only_s3, gboolean dry_run, const char *const *lines)
{
    Stage stage;
    set_up(&stage, type, "/nowhere", FALSE);
    stage.spec->options.s3.only_s3 = only_s3;
    stage.spec->options.dry_run = dry_run;
    for (; *lines; lines++)
        send(&stage, *lines);
    send(&stage, REFUSED("150 of 150 would be deleted: --force, or --confirm 00ff"));
    finish(&stage);
    char *text = g_strdup(strchr(stage.err_text, '\n') + 1);
    clean(&stage);
    return text;
}

static void test_what_a_refused_run_had_done(void **state)
{
    static const char FIRST[] = "{\"type\":\"summary\",\"stats\":{\"stage1\":{}}}";
    static const char BOTH[] = "{\"type\":\"summary\",\"stats\":{\"stage1\":{},\"stage2\":{}}}";
    static const char SENT[] = "{\"type\":\"stage\",\"name\":\"s3-sync\"}";
    static const char RECOVERED[] = "{\"type\":\"stage\",\"name\":\"recover\"}";
    static const struct {
        JobType type;
        gboolean only_s3, dry_run;
        const char *line, *said;
    } cases[] = {
        {JOB_TWO_STAGE, FALSE, FALSE, FIRST, "Nothing was changed."},
        {JOB_TWO_STAGE, FALSE, FALSE, BOTH, "The mirror was brought up to date; the store was not changed."},
        {JOB_TWO_STAGE, FALSE, TRUE, BOTH, "Nothing was changed."},
        {JOB_TWO_STAGE, TRUE, FALSE, BOTH, "Nothing was changed."},
        {JOB_MIRROR, FALSE, FALSE, RECOVERED, "An earlier run was completed; this one changed nothing."},
        {JOB_S3_MIRROR, FALSE, FALSE, FIRST, "Nothing was changed."},
        {JOB_S3_MIRROR, FALSE, FALSE, SENT, "That plan was not carried out"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        const char *const lines[] = {cases[i].line, NULL};
        g_autofree char *text = refused_text(cases[i].type, cases[i].only_s3, cases[i].dry_run, lines);
        if (!g_str_has_prefix(text, cases[i].said))
            fail_msg("case %u: %s", i, text);
        assert_int_equal(strstr(text, "--only-s3") != NULL,
                         cases[i].line == BOTH && !cases[i].only_s3 && !cases[i].dry_run);
    }
}

/* What is said of the destination after a cancel in this state. */
static char *cancelled_text(const char *destination, const char *stage_name)
{
    Stage stage;
    set_up(&stage, JOB_MIRROR, destination, FALSE);
    g_autofree char *line = g_strdup_printf("{\"type\":\"stage\",\"name\":\"%s\"}", stage_name);
    send(&stage, line);
    send(&stage, "{\"type\":\"done\",\"status\":\"cancelled\",\"error\":{\"code\":\"CANCELLED\",\"message\":"
                 "\"cancelled\"}}");
    finish(&stage);
    char *text = g_strdup(stage.err_text);
    clean(&stage);
    return text;
}

static void test_cancelled(void **state)
{
    g_autofree char *root = g_dir_make_tmp("backapp-report-XXXXXX", NULL);
    g_autofree char *folder = g_build_filename(root, ".backapp", NULL);
    g_autofree char *journal = g_build_filename(folder, "journal", NULL);
    g_autofree char *before = cancelled_text(root, "rsync");
    assert_string_equal(before, "backapp: cancelled\nThe destination is unchanged.\n");
    assert_int_equal(g_mkdir(folder, 0700), 0);
    assert_true(g_file_set_contents(journal, "x", 1, NULL));
    g_autofree char *between = cancelled_text(root, "commit");
    assert_non_null(strstr(between, "--recover"));
    assert_int_equal(g_unlink(journal), 0);
    g_autofree char *after = cancelled_text(root, "verify");
    assert_non_null(strstr(after, "holds the new state"));
    assert_int_equal(g_rmdir(folder), 0);
    assert_int_equal(g_rmdir(root), 0);
}

static void test_locked_says_nothing_of_the_state(void **state)
{
    Stage stage;
    set_up(&stage, JOB_MIRROR, "/nowhere", FALSE);
    send(&stage, "{\"type\":\"done\",\"status\":\"failed\",\"error\":{\"code\":\"LOCKED\",\"message\":\"busy\"}}");
    finish(&stage);
    assert_string_equal(stage.err_text, "backapp: failed: busy\n");
    clean(&stage);
}

static void test_verify(void **state)
{
    Stage stage;
    set_up(&stage, JOB_VERIFY, "/nowhere", FALSE);
    send(&stage, "{\"type\":\"summary\",\"stats\":{\"verify\":{\"files\":10,\"bytes\":2048,\"proven\":6,\"recorded\":1,"
                 "\"unproven\":2,\"damaged\":1,\"missing\":0,\"duration\":1.5}}}");
    send(&stage, "{\"type\":\"done\",\"status\":\"failed\",\"error\":{\"code\":\"CORRUPT\",\"message\":\"1 file is "
                 "damaged\"}}");
    finish(&stage);
    assert_non_null(strstr(stage.out_text, "6 equal to their recorded hash"));
    assert_non_null(strstr(stage.out_text, "1 damaged"));
    assert_non_null(strstr(stage.out_text, "NOT YET PROVEN: 2 files"));
    assert_non_null(strstr(stage.err_text, "backapp: failed: 1 file is damaged\n"));
    clean(&stage);
}

static void test_json_is_unchanged(void **state)
{
    Stage stage;
    set_up(&stage, JOB_MIRROR, "/nowhere", TRUE);
    g_autoptr(Event) event = event_new(EVENT_WARNING);
    event->code = g_strdup("unreadable");
    event->path = g_strdup("\xff\033");
    event->message = g_strdup("no");
    g_autofree char *line = event_print(event);
    report_event(stage.report, event);
    report_cancelling(stage.report, FALSE);
    finish(&stage);
    assert_string_equal(stage.out_text, line);
    assert_string_equal(stage.err_text, "");
    clean(&stage);
}

static void test_summary_is_lenient(void **state)
{
    json_t *odd = json_pack("{s:s, s:i, s:{s:i}}", "created", "x", "deleted", -5, "stage1", "changed", 7);
    assert_int_equal(summary_count(odd, "created"), 0);
    assert_int_equal(summary_count(odd, "deleted"), 0);
    assert_int_equal(summary_count(odd, "changed"), 7);
    assert_int_equal(summary_count(NULL, "changed"), 0);
    assert_null(summary_text(odd, "deleted"));
    json_decref(odd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_completed),
        cmocka_unit_test(test_dry_run),
        cmocka_unit_test(test_warnings_are_cut_off),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_what_a_refused_run_had_done),
        cmocka_unit_test(test_cancelled),
        cmocka_unit_test(test_locked_says_nothing_of_the_state),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_json_is_unchanged),
        cmocka_unit_test(test_summary_is_lenient),
    };
    return cmocka_run_group_tests_name("unit/cli/report", tests, NULL, NULL);
}
