/* A job spec from any bytes. What is taken prints as a line that is taken again and prints the same. */
#include "job/spec.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(JobSpec) spec = job_spec_parse((const char *)data, size, &error);
    g_assert_true(!spec == (error != NULL));
    if (!spec)
        return 0;
    g_autofree char *line = job_spec_print(spec);
    /* Escapes may make it longer than a line may be. */
    if (strlen(line) > JOB_LINE_MAX)
        return 0;
    g_autoptr(JobSpec) again = job_spec_parse(line, strlen(line), &error);
    g_assert_no_error(error);
    g_autofree char *twice = job_spec_print(again);
    g_assert_cmpstr(line, ==, twice);
    return 0;
}
