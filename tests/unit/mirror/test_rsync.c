#include "../base/cmocka_all.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "engine/mirror/rsync_args.h"
#include "engine/mirror/rsync_engine.h"
#include "engine/mirror/rsync_exit.h"
#include "engine/mirror/rsync_output.h"
#include "engine/mirror/rsync_process.h"

static void test_items(void **state)
{
    static const struct {
        const char *line, *action, *kind, *path;
        guint64 bytes;
        gboolean created, deleted, metadata_only, same_size_and_time;
    } rows[] = {
        {"@>f+++++++++ 12 a b", "create", "file", "a b", 12, TRUE, FALSE, FALSE, FALSE},
        {"@<f.st...... 1,234 x", "update", "file", "x", 1234, FALSE, FALSE, FALSE, FALSE},
        {"@>fc........ 5 same", "update", "file", "same", 5, FALSE, FALSE, FALSE, TRUE},
        {"@>fc.t...... 5 other", "update", "file", "other", 5, FALSE, FALSE, FALSE, FALSE},
        {"@.f...p..... 5 mode", "metadata", "file", "mode", 0, FALSE, FALSE, TRUE, FALSE},
        {"@cd+++++++++ 4096 d/", "create", "directory", "d", 0, TRUE, FALSE, FALSE, FALSE},
        {"@.d..t...... 4096 ./", "metadata", "directory", ".", 0, FALSE, FALSE, TRUE, FALSE},
        {"@cLc.t...... 3 link", "replace", "symlink", "link", 0, FALSE, FALSE, FALSE, FALSE},
        {"@hf+++++++++ 0 second", "link", "file", "second", 0, TRUE, FALSE, FALSE, FALSE},
        {"@cS+++++++++ 0 pipe", "create", "fifo", "pipe", 0, TRUE, FALSE, FALSE, FALSE},
        {"@cD+++++++++ 0 tty", "create", "device", "tty", 0, TRUE, FALSE, FALSE, FALSE},
        {"@*deleting   0 old/q", "delete", "file", "old/q", 0, FALSE, TRUE, FALSE, FALSE},
        {"@*deleting 0 old/", "delete", "directory", "old", 0, FALSE, TRUE, FALSE, FALSE},
        {"@>f+++++++++ 1  begins with a space", "create", "file", " begins with a space", 1, TRUE, FALSE, FALSE, FALSE},
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(RsyncLine) line = {0};
        rsync_output_read(rows[i].line, &line);
        assert_int_equal(line.kind, RSYNC_LINE_ITEM);
        assert_string_equal(line.item.action, rows[i].action);
        assert_string_equal(line.item.kind, rows[i].kind);
        assert_string_equal(line.item.path, rows[i].path);
        assert_int_equal(line.item.bytes, rows[i].bytes);
        assert_int_equal(line.created, rows[i].created);
        assert_int_equal(line.deleted, rows[i].deleted);
        assert_int_equal(line.metadata_only, rows[i].metadata_only);
        assert_int_equal(line.same_size_and_time, rows[i].same_size_and_time);
    }
}

static void test_no_items(void **state)
{
    static const char *const rows[] = {
        "@",         "@>f+++++++++",    "@>f+++++++++ 12",  "@>f+++++++++ 12 ",  "@>f 12 x",
        "@*del 0 x", "@*deletings 0 x", "@xf+++++++++ 1 x", "@>f+++++++++ -1 x", "@ 1 x"};
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(RsyncLine) line = {0};
        rsync_output_read(rows[i], &line);
        assert_int_equal(line.kind, RSYNC_LINE_MESSAGE);
        assert_string_equal(line.code, "note");
    }
}

static void test_names(void **state)
{
    static const struct {
        const char *printed, *name;
    } rows[] = {{"plain", "plain"},           {"new\\#012line", "new\nline"},
                {"\\#377\\#376", "\xff\xfe"}, {"back\\#134#012", "back\\#012"},
                {"\\#000", "\\#000"},         {"\\#400", "\\#400"},
                {"\\#08", "\\#08"},           {"\\#189", "\\#189"},
                {"end\\#01", "end\\#01"},     {"\\n", "\\n"}};
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *name = rsync_output_name(rows[i].printed, strlen(rows[i].printed));
        assert_string_equal(name, rows[i].name);
    }
    g_autofree char *cut = rsync_output_name("ab\\#101", 5);
    assert_string_equal(cut, "ab\\#1");
}

static void test_progress(void **state)
{
    static const struct {
        const char *line;
        guint64 bytes, left, total;
    } rows[] = {
        {"      3,145,734  99% 1000.00MB/s    0:00:00 (xfr#5, to-chk=3/10)", 3145734, 3, 10},
        {"        3145734  99% 1000.00MB/s    0:00:00 (xfr#5, ir-chk=3/10)", 3145734, 3, 0},
        {"              8   0%    0.00kB/s    0:00:00  ", 8, 0, 0},
        {" 99999999999999999999999999   0%", G_MAXUINT64, 0, 0},
        {"  1  2% (xfr#5, to-chk=11/10)", 1, 0, 0}, /* nonsense is left out */
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(RsyncLine) line = {0};
        rsync_output_read(rows[i].line, &line);
        assert_int_equal(line.kind, RSYNC_LINE_PROGRESS);
        assert_true(line.bytes == rows[i].bytes);
        assert_int_equal(line.files_left, rows[i].left);
        assert_int_equal(line.files_total, rows[i].total);
    }
}

static void test_stats(void **state)
{
    static const struct {
        const char *line;
        RsyncStat stat;
        guint64 value, directories;
    } rows[] = {
        {"Number of files: 1,010 (reg: 1,006, dir: 2, link: 1, special: 1)", RSYNC_STAT_FILES, 1010, 2},
        {"Number of files: 12 (dir: 1,234)", RSYNC_STAT_FILES, 12, 1234},
        {"Number of files: 3", RSYNC_STAT_FILES, 3, 0},
        {"Number of regular files transferred: 5", RSYNC_STAT_TRANSFERRED_FILES, 5, 0},
        {"Total file size: 3,145,740 bytes", RSYNC_STAT_TOTAL_BYTES, 3145740, 0},
        {"Total transferred file size: 3145734 bytes", RSYNC_STAT_TRANSFERRED_BYTES, 3145734, 0},
        {"Literal data: 8 bytes", RSYNC_STAT_LITERAL_BYTES, 8, 0},
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(RsyncLine) line = {0};
        rsync_output_read(rows[i].line, &line);
        assert_int_equal(line.kind, RSYNC_LINE_STAT);
        assert_int_equal(line.stat, rows[i].stat);
        assert_int_equal(line.value, rows[i].value);
        assert_int_equal(line.directories, rows[i].directories);
    }
    static const char *const nothing[] = {"",
                                          "  ",
                                          "Number of created files: 1 (dir: 1)",
                                          "sent 286 bytes  received 50",
                                          "total size is 1  speedup is 9362.34 (DRY RUN)",
                                          "sending incremental file list"};
    for (guint i = 0; i < G_N_ELEMENTS(nothing); i++) {
        g_auto(RsyncLine) line = {0};
        rsync_output_read(nothing[i], &line);
        assert_int_equal(line.kind, RSYNC_LINE_NOTHING);
    }
}

static void test_messages(void **state)
{
    static const struct {
        const char *line, *code, *path;
    } rows[] = {
        {"rsync: [sender] send_files failed to open \"/s/b\": Permission denied (13)", "unreadable", "/s/b"},
        {"rsync: send_files failed to open \"/s/say \"b\"\": Permission denied (13)", "unreadable", "/s/say \"b\""},
        {"rsync: [sender] opendir \"/s/d\" failed: Permission denied (13)", "unreadable", "/s/d"},
        {"rsync: [generator] opendir \"/d/d\" failed: Permission denied (13)", "skipped", "/d/d"},
        {"file has vanished: \"/s/a\\#012b\"", "vanished", "/s/a\nb"},
        {"directory has vanished: \"/s/x\"", "vanished", "/s/x"},
        {"rsync: [receiver] rsync_xal_set: lsetxattr(\"/d/x\",\"user.a\") failed: Operation not supported (95)",
         "metadata", "/d/x"},
        {"rsync: [generator] chown \"/d/x\" failed: Operation not permitted (1)", "metadata", "/d/x"},
        {"rsync: [receiver] mkstemp \"/d/.x.abc\" failed: No space left on device (28)", "skipped", "/d/.x.abc"},
        {"WARNING: x failed verification -- update discarded (will try again).", "changed", NULL},
        {"skipping non-regular file \"x\"", "skipped", "x"},
        {"IO error encountered -- skipping file deletion", "skipped", NULL},
        {"a banner of the host", "note", NULL},
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_auto(RsyncLine) line = {0};
        rsync_output_read_error(rows[i].line, &line);
        assert_int_equal(line.kind, RSYNC_LINE_MESSAGE);
        assert_string_equal(line.code, rows[i].code);
        assert_true(g_strcmp0(line.path, rows[i].path) == 0);
        assert_false(g_str_has_prefix(line.message, "rsync: "));
    }
    g_auto(RsyncLine) large = {0};
    rsync_output_read("a\\#012b is over max-size", &large);
    assert_int_equal(large.kind, RSYNC_LINE_MESSAGE);
    assert_string_equal(large.code, "skipped");
    assert_string_equal(large.path, "a\nb");
    g_auto(RsyncLine) end = {0};
    rsync_output_read_error("rsync error: some files could not be transferred (code 23) at main.c(1)", &end);
    assert_int_equal(end.kind, RSYNC_LINE_END);
    assert_true(g_str_has_prefix(end.message, "some files"));
}

static void test_versions(void **state)
{
    static const struct {
        const char *line;
        gboolean known;
        guint major, minor, patch;
    } rows[] = {{"rsync  version 3.2.7  protocol version 31", TRUE, 3, 2, 7},
                {"rsync  version v3.4.1  protocol version 32", TRUE, 3, 4, 1},
                {"rsync  version 3.5.0pre1  protocol version 32", TRUE, 3, 5, 0},
                {"rsync  version 2.6  protocol version 29", TRUE, 2, 6, 0},
                {"openrsync: protocol version 29", FALSE, 0, 0, 0},
                {"rsync  version unknown", FALSE, 0, 0, 0},
                {"rsync  version 3", FALSE, 0, 0, 0}};
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        guint major = 0;
        guint minor = 0;
        guint patch = 0;
        assert_int_equal(rsync_output_version(rows[i].line, &major, &minor, &patch), rows[i].known);
        if (rows[i].known)
            assert_true(major == rows[i].major && minor == rows[i].minor && patch == rows[i].patch);
    }
}

/* The options of a run from /s to `destination`. */
static MirrorOptions make_options(const char *destination)
{
    static const char *const sources[] = {"/s", NULL};
    MirrorOptions options;
    mirror_options_default(&options);
    options.sources = sources;
    options.destination = destination;
    options.engine = MIRROR_ENGINE_RSYNC;
    return options;
}

/* The argument vector, its arguments ended by newlines; the caller frees. */
static char *build(const MirrorOptions *options, guint version)
{
    static const char *const folders[] = {"", NULL};
    RsyncPass pass = {.program = "/usr/bin/rsync",
                      .version = version,
                      .folders = folders,
                      .dry_run = options->dry_run,
                      .delete_extraneous = options->delete_extraneous,
                      .checksum = options->checksum};
    g_auto(GStrv) argv = rsync_args_build(options, &pass, NULL);
    assert_non_null(argv);
    g_autofree char *joined = g_strjoinv("\n", argv);
    return g_strconcat(joined, "\n", NULL);
}

static gboolean has(const char *vector, const char *argument)
{
    g_autofree char *line = g_strdup_printf("\n%s\n", argument);
    return strstr(vector, line) != NULL;
}

static void test_arguments_follow_the_options(void **state)
{
    MirrorOptions options = make_options("/d");
    g_autofree char *plain = build(&options, 30207);
    static const char *const always[] = {
        "-a", "-H",  "-A", "-X", "--numeric-ids", "--delay-updates", "--filter=P /.backapp*", "--exclude=/.backapp*",
        "--", "/s/", "/d/"};
    static const char *const asked[] = {"--delete-delay",  "--checksum",  "--dry-run", "--one-file-system",
                                        "--max-size=4096", "--bwlimit=3", "--inplace"};
    for (guint i = 0; i < G_N_ELEMENTS(always); i++)
        assert_true(has(plain, always[i]));
    for (guint i = 0; i < G_N_ELEMENTS(asked); i++)
        assert_false(has(plain, asked[i]));
    assert_false(strstr(plain, "--rsh") || strstr(plain, "--bwlimit"));

    g_autoptr(Rate) rate = rate_new(2049);
    options.delete_extraneous = options.checksum = options.dry_run = options.one_file_system = options.inplace = TRUE;
    options.exclude_larger_than = 4096;
    options.hard_links = options.acls = options.xattrs = FALSE;
    options.rate = rate;
    g_autofree char *all = build(&options, 30207);
    for (guint i = 0; i < G_N_ELEMENTS(asked); i++)
        assert_true(has(all, asked[i]));
    assert_false(has(all, "-H") || has(all, "-A") || has(all, "-X") || has(all, "--delay-updates"));
}

static void test_arguments_keep_names_names(void **state)
{
    static const char *const sources[] = {"-n", NULL};
    MirrorOptions options = make_options("a:b");
    options.sources = sources;
    assert_int_equal(rsync_args_place("./a:b"), RSYNC_LOCAL);
    options.destination = "./a:b";
    g_autoptr(PatternList) patterns = pattern_list_new();
    assert_true(pattern_list_add(patterns, FALSE, "! x", NULL));
    assert_true(pattern_list_add(patterns, TRUE, "/- y", NULL));
    options.patterns = patterns;
    g_autofree char *vector = build(&options, 30207);
    assert_true(has(vector, "./-n/") && has(vector, "././a:b/"));
    assert_true(strstr(vector, "\n--filter=- ! x\n--filter=+ /- y\n") != NULL);
}

static void test_arguments_for_ssh(void **state)
{
    MirrorOptions options = make_options("host:some where");
    options.ssh = (MirrorSsh){.user = "me", .port = 2222, .identity_file = "/k/a b%d", .known_hosts = "/k/known"};
    options.rsync_password = "secret";
    assert_true(rsync_args_check(&options, NULL));
    g_autofree char *new = build(&options, 30204);
    g_autofree char *old = build(&options, 30203);
    assert_true(has(new, "host:some where/"));
    assert_false(has(new, "--protect-args"));
    assert_true(has(old, "--protect-args"));
    static const char *const parts[] = {"--rsh=ssh ",
                                        " -o BatchMode=yes ",
                                        " -o StrictHostKeyChecking=yes ",
                                        " -p 2222 ",
                                        " -l me ",
                                        " -o 'IdentityFile=\"/k/a b%%d\"' ",
                                        " -o IdentitiesOnly=yes ",
                                        " -o 'UserKnownHostsFile=\"/k/known\"' "};
    for (guint i = 0; i < G_N_ELEMENTS(parts); i++)
        assert_non_null(strstr(new, parts[i]));
    char **environment = rsync_args_environment(&options);
    assert_null(g_environ_getenv(environment, "RSYNC_PASSWORD"));
    rsync_args_free_environment(environment);

    options = make_options("host:");
    g_autofree char *home = build(&options, 30204);
    assert_true(has(home, "host:"));
}

static void test_arguments_for_a_daemon(void **state)
{
    MirrorOptions options = make_options("rsync://host/module");
    options.rsync_password = "secret";
    assert_true(rsync_args_check(&options, NULL));
    g_autofree char *vector = build(&options, 30204);
    assert_true(has(vector, "rsync://host/module/"));
    assert_null(strstr(vector, "secret"));
    assert_null(strstr(vector, "--rsh"));
    assert_true(g_setenv("RSYNC_RSH", "false", TRUE) && g_setenv("RSYNC_PASSWORD", "other", TRUE));
    char **environment = rsync_args_environment(&options);
    assert_string_equal(g_environ_getenv(environment, "RSYNC_PASSWORD"), "secret");
    assert_string_equal(g_environ_getenv(environment, "LC_ALL"), "C");
    assert_null(g_environ_getenv(environment, "RSYNC_RSH"));
    rsync_args_free_environment(environment);
    g_unsetenv("RSYNC_RSH");
    g_unsetenv("RSYNC_PASSWORD");
}

static void test_arguments_of_several(void **state)
{
    static const char *const sources[] = {"/usr/lib//", "/usr/share", NULL};
    static const char *const folders[] = {"lib", "share", NULL};
    MirrorOptions options = make_options("/d");
    options.sources = sources;
    g_autoptr(PatternList) patterns = pattern_list_new();
    assert_true(pattern_list_add(patterns, FALSE, "/top", NULL));
    assert_true(pattern_list_add(patterns, FALSE, "*", NULL));
    options.patterns = patterns;
    RsyncPass pass = {.program = "rsync", .version = 30207, .folders = folders};
    g_auto(GStrv) argv = rsync_args_build(&options, &pass, NULL);
    assert_non_null(argv);
    g_autofree char *vector = g_strjoinv("\n", argv);
    assert_non_null(strstr(vector, "\n--include=/*/\n--filter=- /*/top\n--filter=- *\n--\n/usr/lib\n/usr/share\n/d/"));
}

static void test_checks(void **state)
{
    static const struct {
        const char *destination;
        gboolean good;
    } rows[] = {{"host:path", TRUE},       {"me@host:path", TRUE},  {"host:~/x y", TRUE},  {"[::1]:x", TRUE},
                {"me@[::1]:x", TRUE},      {"host:", TRUE},         {"host::mod", TRUE},   {"rsync://h:1/m/x", TRUE},
                {"RSYNC://u@h/m", TRUE},   {"/plain", TRUE},        {"./a:b", TRUE},       {":x", FALSE},
                {"-h:x", FALSE},           {"u@-h:x", FALSE},       {"@h:x", FALSE},       {"host:-x", FALSE},
                {"host:a*", FALSE},        {"host:a[b]", FALSE},    {"host:`id`", FALSE},  {"host:a;b", FALSE},
                {"host:$HOME", FALSE},     {"host:a\nb", FALSE},    {"ho st:x", FALSE},    {"host::", FALSE},
                {"host::/x", FALSE},       {"rsync://h", FALSE},    {"rsync://h/", FALSE}, {"rsync:///m", FALSE},
                {"rsync://-h/m/x", FALSE}, {"rsync://h/m/?", FALSE}};
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        MirrorOptions options = make_options(rows[i].destination);
        gboolean good = rsync_args_check(&options, &error);
        if (good != rows[i].good)
            fail_msg("%s: %s", rows[i].destination, error ? error->message : "taken");
        assert_true(good || error_is(error, BACKAPP_ERROR_INVALID));
    }
}

static void test_options_are_refused_by_name(void **state)
{
    MirrorOptions with[6];
    static const char *const names[] = {"--keep-versions", "--keep-versions",      "--exclude-caches",
                                        "--confirm",       "--exclude-if-present", "rsync.ssh"};
    for (guint i = 0; i < G_N_ELEMENTS(with); i++)
        with[i] = make_options("/d");
    with[0].keep_versions_days = 1;
    with[1].keep_versions_count = 1;
    with[2].exclude_caches = TRUE;
    with[3].confirm = "abc";
    with[4].exclude_if_present = "x";
    with[5].ssh.user = "x";
    for (guint i = 0; i < G_N_ELEMENTS(with); i++) {
        g_autoptr(GError) error = NULL;
        assert_false(rsync_args_check(&with[i], &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
        assert_non_null(strstr(error->message, names[i]));
    }
}

static void test_ssh_options_are_checked(void **state)
{
    static const MirrorSsh bad[] = {{.user = "-oX"},
                                    {.user = "a b"},
                                    {.user = ""},
                                    {.port = 65536},
                                    {.identity_file = "rel"},
                                    {.identity_file = "/a'b"},
                                    {.identity_file = "/a\"b"},
                                    {.known_hosts = "/a\\b"},
                                    {.known_hosts = "/${HOME}"},
                                    {.known_hosts = "/a\nb"}};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        MirrorOptions options = make_options("host:x");
        options.ssh = bad[i];
        assert_false(rsync_args_check(&options, &error));
        assert_true(error_is(error, BACKAPP_ERROR_INVALID));
    }
    MirrorOptions twice = make_options("me@host:x");
    twice.ssh.user = "you";
    assert_false(rsync_args_check(&twice, NULL));
}

/* What a process printed. */
typedef struct {
    GString *out, *err;
    CancelFlag *cancel; /* set at the first line */
} Heard;

static void hear(gpointer data, const char *line, gboolean is_error)
{
    Heard *heard = data;
    g_string_append_printf(is_error ? heard->err : heard->out, "[%s]", line);
    if (heard->cancel)
        cancel_set(heard->cancel);
}

static Heard heard_new(void)
{
    return (Heard){.out = g_string_new(NULL), .err = g_string_new(NULL)};
}

static void heard_clear(Heard *heard)
{
    g_string_free(heard->out, TRUE);
    g_string_free(heard->err, TRUE);
}

static int run_shell(const char *script, Heard *heard, const CancelFlag *cancel)
{
    char *argv[] = {(char *)"/bin/sh", (char *)"-c", (char *)script, NULL};
    char *envp[] = {(char *)"PATH=/usr/bin:/bin", (char *)"WORD=given", NULL};
    int status = -1;
    assert_true(rsync_process_run(argv, envp, hear, heard, cancel, &status, NULL));
    return status;
}

static void test_process_gives_lines(void **state)
{
    Heard heard = heard_new();
    int status =
        run_shell("printf 'a\\rb\\n\\nc'; echo e >&2; printf '%s' \"$WORD$HOME\" >&2; read x || exit 7", &heard, NULL);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_string_equal(heard.out->str, "[a][b][][c]");
    assert_string_equal(heard.err->str, "[e][given]");
    heard_clear(&heard);
}

static void test_process_is_apart(void **state)
{
    Heard heard = heard_new();
    assert_int_equal(dup2(STDERR_FILENO, 200), 200); /* not closed on exec: must not get through all the same */
    int status = run_shell("read -r a b c d e sid rest </proc/$$/stat; test $sid = $$ && echo leader; "
                           "test -e /proc/$$/fd/200 || echo closed; umask",
                           &heard, NULL);
    assert_int_equal(status, 0);
    assert_string_equal(heard.out->str, "[leader][closed][0022]");
    (void)close(200);
    heard_clear(&heard);
}

static void test_process_bounds_lines(void **state)
{
    Heard heard = heard_new();
    assert_int_equal(run_shell("head -c 300000 /dev/zero | tr '\\0' x; echo; echo end", &heard, NULL), 0);
    assert_int_equal(heard.out->len, 65536 + 2 + strlen("[end]"));
    assert_true(g_str_has_suffix(heard.out->str, "x][end]"));
    heard_clear(&heard);
}

static void test_process_that_cannot_start(void **state)
{
    Heard heard = heard_new();
    char *argv[] = {(char *)"/none/such", NULL};
    char *envp[] = {NULL};
    g_autoptr(GError) error = NULL;
    int status = 0;
    assert_false(rsync_process_run(argv, envp, hear, &heard, NULL, &status, &error));
    assert_true(error_is(error, BACKAPP_ERROR_NOT_FOUND));
    assert_non_null(strstr(error->message, "/none/such"));
    heard_clear(&heard);
}

static void test_process_does_not_wait_for_others(void **state)
{
    /* A grandchild in a session of its own keeps the pipes, as a shared connection of ssh does. */
    Heard heard = heard_new();
    gint64 start = g_get_monotonic_time();
    int status = run_shell("setsid sleep 60 & echo $!", &heard, NULL);
    assert_int_equal(status, 0);
    assert_true(g_get_monotonic_time() - start < 30 * G_USEC_PER_SEC);
    pid_t pid = (pid_t)g_ascii_strtoll(heard.out->str + 1, NULL, 10);
    assert_true(pid > 1);
    (void)kill(pid, SIGKILL);
    heard_clear(&heard);
}

static void test_process_is_cancelled(void **state)
{
    CancelFlag cancel = {0};
    Heard heard = heard_new();
    heard.cancel = &cancel;
    int status = run_shell("echo begun; sleep 60 & sleep 60", &heard, &cancel);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGTERM);
    heard_clear(&heard);
}

static void test_cancelled_group_may_clean_up(void **state)
{
    /* The leader ends at once, the other one has something to remove. */
    CancelFlag cancel = {0};
    Heard heard = heard_new();
    heard.cancel = &cancel;
    int status =
        run_shell("(trap 'sleep 0.3; echo removed; exit' TERM; echo begun; while :; do sleep 0.05; done) & wait",
                  &heard, &cancel);
    assert_true(WIFSIGNALED(status));
    assert_non_null(strstr(heard.out->str, "[removed]"));
    heard_clear(&heard);
}

static int exit_status(int code)
{
    return code << 8;
}

static void test_exit_codes(void **state)
{
    static const struct {
        int status;
        const char *said;
        BackappError code;
        const char *advice;
    } rows[] = {
        {11, "write failed on \"/d/x\": No space left on device (28)", BACKAPP_ERROR_NO_SPACE, "make space"},
        {255, "me@h: Permission denied (publickey).", BACKAPP_ERROR_DENIED, "accept the key"},
        {12, "Host key verification failed.", BACKAPP_ERROR_DENIED, "known hosts"},
        {11, "mkdir \"/d\" failed: Permission denied (13)", BACKAPP_ERROR_INTERNAL, "could not be read or written"},
        {5, "@ERROR: auth failed on module m", BACKAPP_ERROR_DENIED, "RSYNC_PASSWORD"},
        {5, "@ERROR: Unknown module 'm'", BACKAPP_ERROR_NOT_FOUND, "no such module"},
        {127, "sh: 1: rsync: not found", BACKAPP_ERROR_NOT_FOUND, "install rsync"},
        {10, "failed to connect to h: Connection refused (111)", BACKAPP_ERROR_TRANSIENT, "cannot be reached"},
        {30, "", BACKAPP_ERROR_TRANSIENT, "in time"},
        {4, "", BACKAPP_ERROR_INVALID, "--no-acls"},
        {99, "", BACKAPP_ERROR_INTERNAL, "exit code 99"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(GError) error = NULL;
        gboolean partial = FALSE;
        RsyncTail *tail = rsync_tail_new();
        rsync_tail_add(tail, rows[i].said);
        assert_false(rsync_exit_check(exit_status(rows[i].status), tail, "h:\x1b[1m", &partial, &error));
        rsync_tail_free(tail);
        assert_int_equal(error->code, rows[i].code);
        assert_non_null(strstr(error->message, rows[i].advice));
        assert_null(strchr(error->message, '\x1b'));
    }
}

static void test_good_ends(void **state)
{
    RsyncTail *tail = rsync_tail_new();
    gboolean partial = TRUE;
    assert_true(rsync_exit_check(exit_status(0), tail, "d", &partial, NULL) && !partial);
    assert_true(rsync_exit_check(exit_status(24), tail, "d", &partial, NULL) && !partial);
    assert_true(rsync_exit_check(exit_status(23), tail, "d", &partial, NULL) && partial);
    g_autoptr(GError) error = NULL;
    assert_false(rsync_exit_check(SIGSEGV, tail, "d", &partial, &error));
    assert_non_null(strstr(error->message, "signal 11"));
    rsync_tail_free(tail);
}

static void test_tail_is_bounded(void **state)
{
    g_autoptr(GError) error = NULL;
    gboolean partial = FALSE;
    RsyncTail *tail = rsync_tail_new();
    g_autofree char *long_text = g_strnfill(100000, 'x');
    rsync_tail_add(tail, "the first");
    for (guint i = 0; i < 10; i++)
        rsync_tail_add(tail, long_text);
    rsync_tail_add(tail, "the last");
    assert_false(rsync_exit_check(exit_status(1), tail, "d", &partial, &error));
    assert_true(strlen(error->message) < 3000);
    assert_non_null(strstr(error->message, "the last"));
    assert_null(strstr(error->message, "the first"));
    rsync_tail_free(tail);
}

/* Whether the real rsync takes a destination for one on another host: then it starts the remote shell. */
static gboolean real_is_remote(char *program, const char *destination)
{
    char *argv[] = {
        program,      (char *)"-n",        (char *)"-r",        (char *)"--rsh=sh -c 'echo shell-was-started >&2'",
        (char *)"--", (char *)"/dev/null", (char *)destination, NULL};
    char *envp[] = {(char *)"PATH=/usr/bin:/bin", NULL};
    Heard heard = heard_new();
    int status = 0;
    assert_true(rsync_process_run(argv, envp, hear, &heard, NULL, &status, NULL));
    gboolean started = strstr(heard.err->str, "shell-was-started") != NULL;
    heard_clear(&heard);
    return started;
}

static void test_remote_as_rsync_decides(void **state)
{
    static const char *const rows[] = {
        "[]:x",     "[a]:c", "[a/b]:c", "@:x",   ":x",    "a@b@c:d", "a@[b]@c:d", "[::1]x",  "x]:y",   "[a][b]:y",
        "[a@b]:c",  "a:b",   "a:b/c",   "./a:b", "a/b:c", "u@h:x",   "u@h/x:y",   "[::1]:x", "[a]b:c", "[:]x",
        "u@[::1]:", "a",     "a:",      "/a:b",  "[a:b",  "a[b]:c",  "a[b:c]d",   "~/a:b",   "u@a"};
    g_autofree char *program = g_find_program_in_path("rsync");
    if (!program) {
        print_message("rsync is not installed\n");
        skip();
        return;
    }
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rsync_is_remote(rows[i]) != real_is_remote(program, rows[i]))
            fail_msg("%s: ours says %d", rows[i], rsync_is_remote(rows[i]));
    assert_int_equal(rsync_args_place("rsync://h/m"), RSYNC_DAEMON);
    assert_int_equal(rsync_args_place("h::m"), RSYNC_DAEMON);
    assert_int_equal(rsync_args_place("h:m"), RSYNC_SHELL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_items),
        cmocka_unit_test(test_no_items),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_arguments_follow_the_options),
        cmocka_unit_test(test_arguments_keep_names_names),
        cmocka_unit_test(test_arguments_for_ssh),
        cmocka_unit_test(test_arguments_for_a_daemon),
        cmocka_unit_test(test_arguments_of_several),
        cmocka_unit_test(test_checks),
        cmocka_unit_test(test_options_are_refused_by_name),
        cmocka_unit_test(test_ssh_options_are_checked),
        cmocka_unit_test(test_process_gives_lines),
        cmocka_unit_test(test_process_is_apart),
        cmocka_unit_test(test_process_bounds_lines),
        cmocka_unit_test(test_process_that_cannot_start),
        cmocka_unit_test(test_process_does_not_wait_for_others),
        cmocka_unit_test(test_process_is_cancelled),
        cmocka_unit_test(test_cancelled_group_may_clean_up),
        cmocka_unit_test(test_exit_codes),
        cmocka_unit_test(test_good_ends),
        cmocka_unit_test(test_tail_is_bounded),
        cmocka_unit_test(test_remote_as_rsync_decides),
    };
    return cmocka_run_group_tests_name("rsync", tests, NULL, NULL);
}
