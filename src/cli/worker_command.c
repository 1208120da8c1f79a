#include "cli/command.h"

#include "base/error.h"
#include "job/worker_main.h"

#include <unistd.h>

static const OptionDef options[] = {OPTION_HELP_ROW, OPTION_END};

static int run(const Command *command, const OptionArgs *args)
{
    if (args->operands->len > 0) {
        g_autoptr(GError) error = NULL;
        error_set(&error, BACKAPP_ERROR_INVALID, "worker takes no operands: it reads a job spec on standard input");
        return command_usage_error(command, error);
    }
    return worker_main(STDIN_FILENO, STDOUT_FILENO);
}

const Command worker_command = {
    .name = "worker",
    .usage = "worker",
    .summary = "run one job described on standard input (for the program itself)",
    .details = "Reads a job spec, one JSON object on a line, on standard input and writes\n"
               "events, one JSON object a line, on standard output. docs/formats/worker.md\n"
               "describes both.",
    .options = options,
    .run = run,
};
