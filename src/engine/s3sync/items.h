/*
 * The plan as people see it.
 */
#pragma once

#include "base/run_sink.h"
#include "engine/s3sync/plan.h"

/* Hands each item of the plan that does something to the sink, if it wants them. */
gboolean items_show(S3Plan *plan, RunSink *sink, GError **error);
