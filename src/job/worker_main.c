#include "job/worker_main.h"

#include "base/error.h"
#include "engine/mirror/rsync_engine.h"
#include "job/engine_common.h"

static Event *run_job(const JobSpec *spec, Rate *rate, const CancelFlag *cancel, Sink *sink)
{
    switch (spec->type) {
    case JOB_MIRROR:
        return engine_run_mirror(spec, rate, cancel, sink);
    case JOB_RECOVER:
        return engine_run_recover(spec, cancel, sink);
    case JOB_VERIFY:
        return spec->store.url ? engine_run_s3_verify(spec, rate, cancel, sink)
                               : engine_run_verify(spec, rate, cancel, sink);
    case JOB_TWO_STAGE:
        return engine_run_two_stage(spec, rate, cancel, sink);
    case JOB_S3_MIRROR:
        return engine_run_s3_mirror(spec, rate, cancel, sink);
    case JOB_RESTORE:
        return engine_run_restore(spec, rate, cancel, sink);
    case JOB_ARCHIVE_RETENTION:
        return engine_run_archive_retention(spec, rate, cancel, sink);
    case JOB_DRILL:
        return engine_run_drill(spec, rate, cancel, sink);
    case JOB_ARCHIVE:
        return engine_run_archive(spec, rate, cancel, sink);
    case JOB_ARCHIVE_VERIFY:
        return engine_run_archive_verify(spec, rate, cancel, sink);
    case JOB_ARCHIVE_REINDEX:
        return engine_run_archive_reindex(spec, rate, cancel, sink);
    }
    g_autoptr(GError) error = NULL;
    (void)error_set(&error, BACKAPP_ERROR_INVALID, "this program cannot run jobs of type %s",
                    job_type_name(spec->type));
    return worker_done_failed(error);
}

int worker_main(int in_fd, int out_fd)
{
    static const WorkerEngine engine = {.run = run_job, .is_remote = rsync_is_remote};
    return worker_process(in_fd, out_fd, &engine);
}
