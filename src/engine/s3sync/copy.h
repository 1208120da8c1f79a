/*
 * Objects that need no bytes from here: copied onto themselves with a new time or class, from the last date, or from
 * another name of the same file; and those that only have to be looked at.
 */
#pragma once

#include "engine/s3sync/job.h"

/* The object gets the job's time and class by a copy onto itself. row: its present one, for the hashes. *done is FALSE,
 * without an error, if the store does not do it (it changed, it is cold, ...): then it has to be uploaded. */
gboolean copy_touch(S3Job *job, const CatalogueRow *row, gboolean *done, GError **error);

/* A job of these kinds, in the workers; what cannot be copied is uploaded. Takes the job. */
void copy_from_base(S3Work *work);   /* COPY */
void copy_onto_itself(S3Work *work); /* TOUCH */
void copy_of_name(S3Work *work);     /* UPLOAD of a further name; job->source is the first name's key */
void check_object(S3Work *work);     /* CHECK */
