/* A worker program with the stub engine, which test_worker.c starts as the parent does. */
#include "job/worker_main.h"

#include <unistd.h>

int main(void)
{
    return worker_main(STDIN_FILENO, STDOUT_FILENO);
}
