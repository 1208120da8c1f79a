#include "../base/cmocka_all.h"

#include "cli/terminal.h"

#include <stdlib.h>
#include <string.h>

static Event *progress(const char *path)
{
    Event *event = event_new(EVENT_PROGRESS);
    event->files_done = 1234;
    event->files_total = 5678;
    event->bytes_done = 3ULL << 30;
    event->bytes_total = 6ULL << 30;
    event->percentage = 50;
    event->rate = 10 << 20;
    event->eta = 75;
    event->path = g_strdup(path);
    return event;
}

static gboolean is_printable(const char *text)
{
    for (; *text; text++)
        if ((guchar)*text < 0x20 || *text == 0x7f)
            return FALSE;
    return TRUE;
}

static void test_bar_holds_everything(void **state)
{
    g_autoptr(Event) event = progress("some/folder/file.txt");
    g_autofree char *bar = terminal_format_bar("copying", event, 160);
    static const char *const pieces[] = {" 50% copying", "[==========>",   "1,234/5,678 files",   "3.0 GiB/6.0 GiB",
                                         "10.0 MiB/s",   "ETA 1 min 15 s", "some/folder/file.txt"};
    for (guint i = 0; i < G_N_ELEMENTS(pieces); i++)
        assert_non_null(strstr(bar, pieces[i]));
}

static void test_bar_fits_every_width(void **state)
{
    /* Wide, combining, invalid and dangerous characters at every place of the cut. */
    g_autoptr(Event) event = progress("日本語/e\xcc\x81"
                                      "e\xcc\x81/\xff\xfe/\033[2J/\xe2\x80\xae"
                                      "evil\xe2\x80\xac/ünï/中文.txt");
    for (guint columns = 0; columns <= 200; columns++) {
        g_autofree char *bar = terminal_format_bar("copying", event, columns);
        assert_true(g_utf8_validate(bar, -1, NULL));
        assert_true(terminal_columns(bar) <= columns);
        assert_true(is_printable(bar));
        if (columns >= 50) {
            assert_non_null(strstr(bar, "50%"));
            assert_non_null(strstr(bar, "files"));
            assert_non_null(strstr(bar, "/s"));
        }
        if (columns >= 80)
            assert_non_null(strstr(bar, "中文.txt"));
    }
}

static void test_bar_without_totals(void **state)
{
    g_autoptr(Event) event = event_new(EVENT_PROGRESS);
    event->files_done = 7;
    event->eta = -1;
    g_autofree char *bar = terminal_format_bar("comparing", event, 79);
    assert_string_equal(bar, "comparing  7 files");
    event->eta = 3;
    g_autofree char *soon = terminal_format_bar("comparing", event, 79);
    assert_string_equal(soon, "comparing  7 files  ETA 3 s");
    event->files_total = 1;
    event->percentage = 1e9;
    event->rate = 1e300;
    event->eta = 1e300;
    g_autofree char *odd = terminal_format_bar("comparing", event, 79);
    assert_non_null(strstr(odd, "100% comparing"));
}

static void test_words(void **state)
{
    g_autoptr(Event) event = progress("x");
    g_autofree char *words = terminal_format_words("copying", event);
    assert_string_equal(words, "copying: 50%, 1,234/5,678 files, 3.0 GiB/6.0 GiB, 10.0 MiB/s, about 1 min 15 s left");
}

static void test_cut(void **state)
{
    static const struct {
        const char *text;
        guint columns;
        const char *cut;
    } cases[] = {
        {"abcdefgh", 8, "abcdefgh"},
        {"abcdefgh", 7, "...efgh"},
        {"abcdefgh", 2, ".."},
        {"abcdefgh", 0, ""},
        {"日本語", 6, "日本語"},
        {"日本語", 5, "...語"},
        {"日本語", 4, "..."},
        /* The accent goes with its letter. */
        {"aaaae\xcc\x81"
         "b",
         4, "...b"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *cut = terminal_cut(cases[i].text, cases[i].columns);
        assert_string_equal(cut, cases[i].cut);
    }
}

static void test_safe(void **state)
{
    g_autofree char *safe = terminal_safe("cannot open a\\x1Bb: \033[0m\n\xff");
    assert_string_equal(safe, "cannot open a\\x1Bb: \\x1B[0m\\n\\xFF");
}

/* What a Terminal writes to its two streams. */
typedef struct {
    char *out_text, *err_text;
    size_t out_length, err_length;
    FILE *out, *err;
} Streams;

static void open_streams(Streams *streams)
{
    streams->out = open_memstream(&streams->out_text, &streams->out_length);
    streams->err = open_memstream(&streams->err_text, &streams->err_length);
}

static void close_streams(Streams *streams)
{
    fclose(streams->out);
    fclose(streams->err);
}

static void free_streams(Streams *streams)
{
    free(streams->out_text);
    free(streams->err_text);
}

static void test_live_line_is_cleared(void **state)
{
    Streams streams;
    open_streams(&streams);
    g_autoptr(Event) event = progress("file");
    Terminal *terminal = terminal_new(streams.out, streams.err, TRUE);
    terminal_progress(terminal, "copying", event);
    terminal_progress(terminal, "copying", event); /* too soon to be drawn again */
    terminal_line(terminal, "a %s", "line");
    terminal_free(terminal);
    close_streams(&streams);
    assert_true(g_str_has_prefix(streams.out_text, "\r 50% copying"));
    assert_true(g_str_has_suffix(streams.out_text, "\033[K\r\033[Ka line\n"));
    g_auto(GStrv) drawn = g_strsplit(streams.out_text, "copying", -1);
    assert_int_equal(g_strv_length(drawn), 2);
    free_streams(&streams);
}

static void test_error_clears_the_line_too(void **state)
{
    Streams streams;
    open_streams(&streams);
    g_autoptr(Event) event = progress("file");
    Terminal *terminal = terminal_new(streams.out, streams.err, TRUE);
    terminal_progress(terminal, "copying", event);
    terminal_error(terminal, "trouble");
    terminal_free(terminal);
    close_streams(&streams);
    assert_true(g_str_has_suffix(streams.out_text, "\r\033[K"));
    assert_string_equal(streams.err_text, "trouble\n");
    free_streams(&streams);
}

static void test_plain_has_no_escapes(void **state)
{
    Streams streams;
    open_streams(&streams);
    g_autoptr(Event) event = progress("file");
    Terminal *terminal = terminal_new(streams.out, streams.err, FALSE);
    terminal_progress(terminal, "copying", event); /* a run is not ten seconds old at its first progress */
    terminal_line(terminal, "done");
    terminal_free(terminal);
    close_streams(&streams);
    assert_string_equal(streams.out_text, "done\n");
    free_streams(&streams);
}

static void test_broken_stream_is_left_alone(void **state)
{
    FILE *full = fopen("/dev/full", "w");
    if (!full)
        skip();
    Streams streams;
    open_streams(&streams);
    Terminal *terminal = terminal_new(full, streams.err, FALSE);
    for (guint i = 0; i < 3; i++)
        terminal_line(terminal, "lost");
    terminal_error(terminal, "still said");
    terminal_free(terminal);
    assert_true(ferror(full));
    fclose(full);
    close_streams(&streams);
    assert_string_equal(streams.err_text, "still said\n");
    free_streams(&streams);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bar_holds_everything),
        cmocka_unit_test(test_bar_fits_every_width),
        cmocka_unit_test(test_bar_without_totals),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_safe),
        cmocka_unit_test(test_live_line_is_cleared),
        cmocka_unit_test(test_error_clears_the_line_too),
        cmocka_unit_test(test_plain_has_no_escapes),
        cmocka_unit_test(test_broken_stream_is_left_alone),
    };
    return cmocka_run_group_tests_name("unit/cli/terminal", tests, NULL, NULL);
}
