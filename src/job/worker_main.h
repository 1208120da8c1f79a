/*
 * The worker process: reads a job spec from a descriptor, limits and confines itself, runs the engine, writes events.
 */
#pragma once

/* Runs the whole worker on these descriptors and returns the process's exit code (0, 1, 3, 4, 130). Never calls exit().
 */
int worker_main(int in_fd, int out_fd);
