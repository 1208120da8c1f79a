/*
 * What a worker reads from its parent, as any bytes: cut into lines (the first byte says how long a line may be), each
 * parsed. A message that is taken prints as one that is taken again. Also a name in JSON, which must come back.
 */
#include "job/json_name.h"
#include "job/line_reader.h"
#include "job/message.h"

#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(const char *line, gsize length)
{
    g_autoptr(GError) error = NULL;
    Message message, again;
    gboolean fine = message_parse(line, length, &message, &error);
    g_assert_true(fine == (error == NULL));
    if (!fine)
        return;
    g_autofree char *printed = message_print(&message);
    g_assert_true(message_parse(printed, strlen(printed), &again, &error));
    g_assert_true(message.type == again.type && message.nice == again.nice && message.bandwidth == again.bandwidth);
}

static void check_name(const char *bytes, gsize length)
{
    g_autofree char *name = g_strndup(bytes, length);
    json_t *json = json_name_new(name);
    g_autofree char *again = json_name_get(json, "name", 0, strlen(name), NULL);
    g_assert_cmpstr(name, ==, again);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)size - 1 || lseek(fd, 0, SEEK_SET) != 0)
        g_error("no memory file");
    g_auto(LineReader) reader;
    gsize max = (gsize)data[0] * 16;
    line_reader_init(&reader, max, data[0] & 1);
    while (line_reader_fill(&reader, fd) > 0 || reader.end) {
        const char *line;
        gsize length;
        LineResult result;
        while ((result = line_reader_next(&reader, &line, &length)) != LINE_NONE) {
            if (result == LINE_TOO_LONG)
                continue;
            g_assert_true(length <= max && !memchr(line, '\n', length));
            check_message(line, length);
            check_name(line, length);
        }
        if (reader.end)
            break;
    }
    (void)close(fd);
    return 0;
}
