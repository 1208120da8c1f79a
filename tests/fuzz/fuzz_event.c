/* An event from any bytes. What is taken prints as one line within the limit that is taken again and prints the same. */
#include "job/event.h"
#include "job/spec.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Event) event = event_parse((const char *)data, size, &error);
    g_assert_true(!event == (error != NULL));
    if (!event)
        return 0;
    g_autofree char *line = event_print(event);
    g_assert_true(strchr(line, '\n') == line + strlen(line) - 1);
    /* A summary is printed as it is; all other events are cut to fit. */
    if (event->type == EVENT_SUMMARY && strlen(line) > JOB_LINE_MAX)
        return 0;
    g_autoptr(Event) again = event_parse(line, strlen(line), &error);
    g_assert_no_error(error);
    g_autofree char *twice = event_print(again);
    g_assert_cmpstr(line, ==, twice);
    return 0;
}
