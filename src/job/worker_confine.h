/*
 * What a job needs of the file system, as rules of confinement (confine.h; docs/formats/worker.md lists them).
 */
#pragma once

#include "job/confine.h"
#include "job/spec.h"

/* The rules of this job: a new list, the caller's. remote: the destination is another host's, which rsync reaches. */
Confine *worker_confine_rules(const JobSpec *spec, gboolean remote);
