#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "job/line_reader.h"
#include "job/message.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static gboolean parse(const char *line, Message *message)
{
    g_autoptr(GError) error = NULL;
    gboolean fine = message_parse(line, strlen(line), message, &error);
    assert_true(fine == (error == NULL));
    assert_true(fine || error_is(error, BACKAPP_ERROR_INVALID));
    return fine;
}

static void test_every_type_passes(void **state)
{
    for (int type = MESSAGE_CANCEL; type <= MESSAGE_PRESIGNED; type++) {
        const Message message = {(MessageType)type, MESSAGE_NOT_GIVEN, MESSAGE_NOT_GIVEN};
        g_autofree char *line = message_print(&message);
        Message again;
        assert_true(parse(line, &again));
        assert_int_equal(again.type, type);
        assert_true(again.bandwidth == MESSAGE_NOT_GIVEN && again.nice == MESSAGE_NOT_GIVEN);
    }
}

static void test_limits_are_what_was_given(void **state)
{
    Message message;
    assert_true(parse("{\"type\":\"limits\",\"bandwidth\":0}", &message));
    assert_int_equal(message.bandwidth, 0);
    assert_true(message.nice == MESSAGE_NOT_GIVEN);
    assert_true(parse("{\"type\":\"limits\",\"nice\":19}", &message));
    assert_true(message.bandwidth == MESSAGE_NOT_GIVEN);
    assert_int_equal(message.nice, 19);
}

static void test_credentials_may_hold_anything(void **state)
{
    Message message;
    assert_true(parse("{\"type\":\"credentials\",\"store\":{\"key\":[1]}}", &message));
    assert_int_equal(message.type, MESSAGE_CREDENTIALS);
}

static void test_what_is_no_message_is_refused(void **state)
{
    static const char *const lines[] = {
        "",
        "{}",
        "[]",
        "{\"type\":\"stop\"}",
        "{\"type\":null}",
        "{\"type\":\"cancel\",\"now\":true}",
        "{\"type\":\"limits\",\"nice\":20}",
        "{\"type\":\"limits\",\"nice\":-1}",
        "{\"type\":\"limits\",\"bandwidth\":\"1K\"}",
        "{\"type\":\"limits\",\"memory\":0}",
    };
    Message message;
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++)
        if (parse(lines[i], &message))
            fail_msg("taken: %s", lines[i]);
}

/* Feeds the bytes through a pipe, `piece` at a time, and joins the lines that come, each with '|' behind it ('!' for one
 * that was too long). */
static char *cut(const char *bytes, gsize piece, gsize max, gboolean take_rest)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    g_auto(LineReader) reader;
    line_reader_init(&reader, max, take_rest);
    GString *lines = g_string_new(NULL);
    for (gsize at = 0; !reader.end;) {
        gsize length = MIN(piece, strlen(bytes + at));
        if (length > 0)
            assert_int_equal(write(fds[1], bytes + at, length), (ssize_t)length);
        else
            close(fds[1]);
        at += length;
        assert_true(line_reader_fill(&reader, fds[0]) >= 0);
        const char *line;
        LineResult result;
        while ((result = line_reader_next(&reader, &line, &length)) != LINE_NONE) {
            if (result == LINE_READY)
                g_string_append_len(lines, line, (gssize)length);
            g_string_append_c(lines, result == LINE_READY ? '|' : '!');
        }
    }
    close(fds[0]);
    return g_string_free(lines, FALSE);
}

static void test_lines_in_pieces(void **state)
{
    static const char *const cases[][3] = {
        {"one\ntwo\n", "one|two|", "one|two|"},
        {"one\n\ntwo", "one||", "one||two|"},
        {"0123456789\n", "0123456789|", "0123456789|"},
        {"0123456789x\nnext\n", "!next|", "!next|"},
        {"0123456789012345678901234567890123456789\n\nnext\n", "!|next|", "!|next|"},
        {"0123456789012345678901234567890123456789", "!", "!"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        for (gsize piece = 1; piece < 50; piece++) {
            g_autofree char *whole = cut(cases[i][0], piece, 10, FALSE);
            assert_string_equal(whole, cases[i][1]);
            g_autofree char *with_rest = cut(cases[i][0], piece, 10, TRUE);
            assert_string_equal(with_rest, cases[i][2]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_passes),
        cmocka_unit_test(test_limits_are_what_was_given),
        cmocka_unit_test(test_credentials_may_hold_anything),
        cmocka_unit_test(test_what_is_no_message_is_refused),
        cmocka_unit_test(test_lines_in_pieces),
    };
    return cmocka_run_group_tests_name("job/message", tests, NULL, NULL);
}
